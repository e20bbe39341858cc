package dissect

var (
	rplModes = []tok{{0, "nonstoring"}, {1, "storing"}, {2, "nonstoring-multicast"}, {3, "storing-multicast"}}

	rplOptions = []tok{
		{0, "pad1"}, {1, "padN"}, {2, "metrics"}, {3, "routinginfo"}, {4, "config"}, {5, "rpltarget"},
		{6, "transitinfo"}, {8, "destprefix"}, {9, "rpltargetdesc"},
	}
)

// rpl prints RFC 6550's messages. The base object begins behind the checksum.
func (p *Printer) rpl(code uint8, b []byte, length int) {
	if code&0x80 != 0 {
		p.str(", (SEC) [worktodo]")
		return
	}
	p.str(", (CLR)")
	b, length = from(b, 4), length-4
	body := func(string, []byte, int) {}
	switch code {
	case 0:
		p.str("DODAG Information Solicitation")
	case 1:
		p.str("DODAG Information Object")
		body = func(_ string, b []byte, length int) { p.rplObject(b, length) }
	case 2:
		p.str("Destination Advertisement Object")
		body = p.rplAdvert
	case 3:
		p.str("Destination Advertisement Object Ack")
		body = p.rplAdvert
	default:
		p.printf("RPL message, unknown code %d", code)
	}
	if p.opt.Verbose > 0 {
		body(flagStr(code == 3, "ack", ""), b, length)
	}
}

func (p *Printer) rplObject(b []byte, length int) {
	if uint32(length) < 24 {
		p.printf(" [length %d < 24]", uint32(length))
		p.invalid()
		return
	}
	p.addr6At(" [dagid:", b, 8)
	mode := uint32(b[4])
	p.printf(",seq:%d,instance:%d,rank:%d,%smop:%s,prf:%d]", b[5], b[0], p.u16(b, 2),
		flagStr(mode&0x80 != 0, "grounded,", ""), tokStr(rplModes, "mop%d", mode>>3&7), mode&7)
	if p.opt.Verbose > 1 {
		p.rplOptions(b[24:], length-24)
	}
}

// rplAdvert prints a destination advertisement or its acknowledgement, which differ in a byte.
func (p *Printer) rplAdvert(ack string, b []byte, length int) {
	const idLen = 16
	size := 4
	if ack == "" {
		size += idLen // tcpdump wants the identifier to be there even if it is elided
	}
	if len(b) < size {
		p.trunc()
		return
	}
	short := func() {
		p.str(flagStr(ack == "", " [|length too short]", " [|dao-length too short]"))
	}
	if uint32(length) < 4 {
		short()
		return
	}
	flags := uint32(b[1])
	withID := ack == "" && flags&0x40 != 0 || ack != "" && flags&0x80 != 0
	at := 4
	if withID {
		if len(b) < 4+idLen {
			p.trunc()
			return
		}
		if uint32(length) < 4+idLen {
			short()
			return
		}
		p.str(" [dagid:")
		p.addr(b[4 : 4+idLen])
		at += idLen
	} else {
		p.str(" [dagid:<elided>")
	}
	if ack == "" {
		p.printf(",seq:%d,instance:%d%s%s,%02x]", b[3], b[0],
			flagStr(flags&0x80 != 0, ",acK", ""), flagStr(withID, ",Dagid", ""), flags)
	} else {
		p.printf(",seq:%d,instance:%d,status:%d]", b[2], b[0], b[3])
	}
	if p.opt.Verbose > 1 {
		p.rplOptions(b[at:], length-at)
	}
}

func (p *Printer) rplOptions(b []byte, length int) {
	for length > 0 {
		kind := p.u8(b, 0)
		n := 1
		if kind == 0 {
			p.str(" opt:pad1")
		} else {
			if length < 2 {
				p.trunc()
				return
			}
			n = int(p.u8(b, 1)) + 2
			p.printf(" opt:%s len:%d ", tokStr(rplOptions, "subopt:%d", uint32(kind)), n)
			if len(b) < n || length < n {
				p.trunc()
				return
			}
			if p.opt.Verbose > 2 {
				p.hexLines(" ", b[2:n], 0)
			}
		}
		b, length = b[n:], length-n
	}
}
