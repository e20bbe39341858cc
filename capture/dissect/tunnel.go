package dissect

// vxlan prints a header of RFC 7348, and the frame in it on a line of its own.
func (p *Printer) vxlan(b []byte, length int) {
	p.proto = "vxlan"
	p.str("VXLAN")
	if length < 8 {
		p.invalid()
		return
	}
	flags := p.u8(b, 0)
	p.str(", ")
	p.instanceFlag(flags, "invalid")
	vni := p.u24(b, 4)
	p.str("vni ")
	p.dec(uint64(vni))
	p.char('\n')
	p.need(b, 8)
	p.ethernet(b[8:], length-8)
}

// instanceFlag prints the flags of VXLAN and OTV, of which one says that there is an identifier.
func (p *Printer) instanceFlag(flags uint8, without string) {
	p.str("flags [")
	if flags&0x08 != 0 {
		p.char('I')
	} else {
		p.str(without)
	}
	p.str("] (0x")
	p.hex(uint64(flags), 2)
	p.str("), ")
}

// otv prints a header of Overlay Transport Virtualization, which has the form of VXLAN's; on its port, 8472, Linux
// speaks VXLAN by default.
func (p *Printer) otv(b []byte, length int) {
	p.proto = "otv"
	p.str("OTV, ")
	if length < 8 {
		p.tooShort(length, 8)
		return
	}
	p.instanceFlag(p.u8(b, 0), ".")
	overlay := p.u24(b, 1)
	p.str("overlay ")
	p.dec(uint64(overlay))
	p.str(", ")
	instance := p.u24(b, 4)
	p.str("instance ")
	p.dec(uint64(instance))
	p.char('\n')
	p.need(b, 8)
	p.ethernet(b[8:], length-8)
}

// tooShort prints that a header does not fit into what the enclosing one says is there.
func (p *Printer) tooShort(length, header int) {
	p.printf("[length %d < %d]", length, header)
	p.invalid()
}

var geneveFlags = []tok{
	{0x80, "O"}, {0x40, "C"}, {0x20, "R1"}, {0x10, "R2"}, {0x08, "R3"}, {0x04, "R4"}, {0x02, "R5"}, {0x01, "R6"},
}

// geneve prints a header of RFC 8926 and what follows it.
func (p *Printer) geneve(b []byte, length int) {
	p.proto = "geneve"
	p.str("Geneve")
	if length < 8 {
		p.char(' ')
		p.tooShort(length, 8)
		return
	}
	if len(b) < 8 {
		p.trunc()
		return
	}
	if version := b[0] >> 6; version != 0 {
		p.printf(" ERROR: unknown-version %d", version)
		return
	}
	proto := p.u16(b, 2)
	p.str(", Flags [")
	p.str(bitStr(geneveFlags, "none", uint32(b[1]), ""))
	p.str("], vni 0x")
	p.hex(uint64(p.u24(b, 4)), 1)
	if b[7] != 0 {
		p.printf(", rsvd 0x%x", b[7])
	}
	if p.opt.Link {
		p.printf(", proto %s (0x%04x)", tokStr(etherTypes, "unknown", uint32(proto)), proto)
	}
	n := int(b[0]&0x3f) * 4
	b, length = b[8:], length-8
	if length < n {
		p.printf(" truncated-geneve - %d bytes missing", n-length)
		return
	}
	if len(b) < n {
		p.trunc()
		return
	}
	if n > 0 {
		p.str(", options [")
		if p.opt.Verbose > 0 {
			p.geneveOptions(b[:n])
		} else {
			p.printf("%d bytes", n)
		}
		p.char(']')
	}
	b, length = b[n:], length-n
	if p.opt.Verbose > 0 {
		p.str("\n\t")
	} else {
		p.str(": ")
	}
	switch {
	case p.etherType(proto, b, length, frame{}):
	case proto == typeTEB:
		p.ethernet(b, length)
	default:
		p.printf("geneve-proto-0x%x", proto)
	}
}

// geneveOptions prints the options of RFC 8926, section 3.5.
func (p *Printer) geneveOptions(b []byte) {
	for first := true; len(b) > 0; first = false {
		if !first {
			p.str(", ")
		}
		class, kind, size := p.u16(b, 0), b[2], 4+int(b[3]&0x1f)*4
		critical := ""
		if kind&0x80 != 0 {
			critical = "(C)"
		}
		p.printf("class %s (0x%x) type 0x%x%s len %d", geneveClass(class), class, kind, critical, size)
		if size > len(b) {
			p.str(" [bad length]")
			return
		}
		if p.opt.Verbose > 1 && size > 4 {
			p.str(" data")
			for i := 4; i < size; i += 4 {
				p.printf(" %08x", p.u32(b, i))
			}
		}
		b = b[size:]
	}
}

// geneveClass names who assigns the types of an option.
func geneveClass(class uint16) string {
	switch {
	case class <= 0x00ff:
		return "Standard"
	case class >= 0xfff0:
		return "Experimental"
	}
	return tokStr([]tok{
		{0x0100, "Linux"}, {0x0101, "Open vSwitch"}, {0x0102, "Open Virtual Networking (OVN)"},
		{0x0103, "In-band Network Telemetry (INT)"}, {0x0104, "VMware"},
	}, "Unknown", uint32(class))
}
