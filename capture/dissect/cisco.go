package dissect

var (
	hsrpOps    = []tok{{0, "hello"}, {1, "coup"}, {2, "resign"}}
	hsrpStates = []tok{{0, "initial"}, {1, "learn"}, {2, "listen"}, {4, "speak"}, {8, "standby"}, {16, "active"}}
	vqpTypes   = []tok{
		{1, "Request, Join Port"}, {2, "Response, VLAN"}, {3, "Request, Reconfirm"}, {4, "Response, Reconfirm"},
	}
	vqpErrors  = []tok{{0, "No error"}, {3, "Access denied"}, {4, "Shutdown port"}, {5, "Wrong VTP domain"}}
	lwappFlags = []tok{{1, "Last Fragment Bit"}, {2, "Fragment Bit"}, {4, "Control Bit"}}
)

// hsrp prints RFC 2281.
func (p *Printer) hsrp(b []byte, length int) {
	p.proto = "hsrp"
	version := p.u8(b, 0)
	p.printf("HSRPv%d", version)
	if version != 0 {
		return
	}
	p.char('-')
	p.printf("%s ", tokStr(hsrpOps, "unknown (%d)", uint32(p.u8(b, 1))))
	p.printf("%d: ", length)
	p.printf("state=%s ", tokStr(hsrpStates, "Unknown (%d)", uint32(p.u8(b, 2))))
	p.printf("group=%d ", p.u8(b, 6))
	if rsv := p.u8(b, 7); rsv != 0 {
		p.printf("[reserved=%d!] ", rsv)
	}
	p.addr4At("addr=", b, 16)
	if p.opt.Verbose == 0 {
		return
	}
	p.str(" hellotime=")
	p.relativeTime(uint32(b[3]))
	p.str(" holdtime=")
	p.relativeTime(uint32(b[4]))
	p.printf(" priority=%d auth=\"", b[5])
	p.paddedStr(b, 8, 8)
	p.char('"')
}

// autoRP prints how Cisco's routers tell of rendezvous points.
func (p *Printer) autoRP(b []byte, length int) {
	p.proto = "cisco_autorp"
	if length < 8 {
		p.trunc()
		return
	}
	p.str(" auto-rp ")
	p.str(tokStr([]tok{{0x11, "candidate-advert"}, {0x12, "mapping"}}, "type-0x%02x", uint32(p.u8(b, 0))))
	n := int(p.u8(b, 1))
	p.str(" Hold ")
	if hold := p.u16(b, 2); hold != 0 {
		p.relativeTime(uint32(hold))
	} else {
		p.str("FOREVER")
	}
	b, length = from(b, 8), length-8
	for range n {
		size := p.autoRPEntry(b, length)
		if size == 0 {
			p.trunc()
			return
		}
		b, length = from(b, size), length-size
	}
}

var autoRPVersions = [4]string{" PIMv?", " PIMv1", " PIMv2", " PIMv1+2"}

// autoRPEntry prints a rendezvous point and its groups; 0 is that they are cut.
func (p *Printer) autoRPEntry(b []byte, length int) int {
	if length < 4 {
		return 0
	}
	p.addr4At(" RP ", b, 0)
	if length < 5 {
		return 0
	}
	flags := p.u8(b, 4)
	p.str(autoRPVersions[flags&3])
	if flags&0xfc != 0 {
		p.printf(" [rsvd=0x%02x]", flags&0xfc)
	}
	if length < 6 {
		return 0
	}
	at, sep := 6, " "
	for range p.u8(b, 5) {
		if length < at+6 {
			return 0
		}
		group := p.part(b, at, 6)
		p.str(sep)
		p.sep(group[0]&1 != 0, "!")
		p.addr(group[2:])
		p.printf("/%d", group[1])
		p.sep(group[0]&2 != 0, " bidir")
		if group[0]&0xfc != 0 {
			p.printf("[rsvd=0x%02x]", group[0]&0xfc)
		}
		at, sep = at+6, ","
	}
	return at
}

// vqp prints Cisco's VLAN query protocol.
func (p *Printer) vqp(b []byte, length int) {
	p.proto = "vqp"
	switch {
	case len(b) < 8:
		p.trunc()
	case length < 8:
		p.invalid()
	case b[0] != 1:
		p.printf("VQP version %d packet not supported", b[0])
	default:
		p.printf("VQPv1 %s Message, error-code %s (%d), length %d", tokStr(vqpTypes, "unknown (%d)", uint32(b[1])),
			tokStr(vqpErrors, "unknown", uint32(b[2])), b[2], length)
	}
}

// lwapp prints RFC 5412; the transport header begins at off.
func (p *Printer) lwapp(name string, b []byte, off, length int) {
	p.proto = name
	if len(b) < off+6 {
		p.trunc()
		return
	}
	flags := b[off]
	if version := flags >> 6; version != 0 {
		p.printf("LWAPP version %d packet not supported", version)
		return
	}
	p.printf("LWAPPv0, %s frame, Flags [%s], length %d", flagStr(flags&4 != 0, "Control", "Data"),
		bitStr(lwappFlags, "none", uint32(flags&7), ", "), length)
}
