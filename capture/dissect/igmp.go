package dissect

// igmp prints a message of RFC 1112, RFC 2236 or RFC 3376.
func (p *Printer) igmp(b []byte, length int) {
	p.proto = "igmp"
	if p.opt.Quiet > 0 {
		p.str("igmp")
		return
	}
	switch kind := p.u8(b, 0); kind {
	case 0x11:
		p.str("igmp query")
		if length >= 12 {
			p.igmp3Query(b, length)
		} else {
			p.igmpQuery(b, length)
		}
	case 0x12:
		p.addr4At("igmp v1 report ", b, 4)
		if length != 8 {
			p.printf(" [len %d]", length)
		}
	case 0x16:
		p.addr4At("igmp v2 report ", b, 4)
	case 0x22:
		p.str("igmp v3 report")
		p.igmp3Report(b, length)
	case 0x17:
		p.addr4At("igmp leave ", b, 4)
	case 0x13:
		p.str("igmp dvmrp")
		if length < 8 {
			p.printf(" [len %d]", length)
		} else {
			p.dvmrp(b, length)
		}
	case 0x14:
		p.str("igmp pimv1")
		p.pim1(b, length)
	case 0x1e:
		p.mtrace("mresp", b, length)
	case 0x1f:
		p.mtrace("mtrace", b, length)
	default:
		p.printf("igmp-%d", kind)
	}
	if p.opt.Verbose > 0 && length >= 4 && length <= len(b) && checksum(b[:length]) != 0 {
		p.printf(" bad igmp cksum %x!", p.u16(b, 2))
	}
}

// igmpQuery is a query of version 1 or 2; tenths of a second in the second byte make the difference.
func (p *Printer) igmpQuery(b []byte, length int) {
	if wait := p.u8(b, 1); wait == 0 {
		p.str(" v1")
	} else {
		p.str(" v2")
		if wait != 100 {
			p.printf(" [max resp time %d]", wait)
		}
	}
	if p.u32(b, 4) != 0 {
		p.str(" [gaddr ")
		p.addr(b[4:8])
		p.char(']')
	}
	if length != 8 {
		p.printf(" [len %d]", length)
	}
}

// igmp3Query is RFC 3376, section 4.1.
func (p *Printer) igmp3Query(b []byte, length int) {
	p.str(" v3")
	if length%4 != 0 {
		p.printf(" [invalid len %d]", length)
		return
	}
	code := uint32(p.u8(b, 1))
	wait := code
	if code >= 128 {
		wait = (code&15 | 16) << (code>>4&7 + 3)
	}
	if code != 100 {
		p.str(" [max resp time ")
		if wait < 600 {
			p.printf("%.1fs", float64(wait)*0.1)
		} else {
			p.relativeTime(wait / 10)
		}
		p.char(']')
	}
	if p.u32(b, 4) == 0 {
		return
	}
	p.str(" [gaddr ")
	p.addr(b[4:8])
	if n := int(p.u16(b, 10)); n > 0 {
		switch {
		case length < 12+4*n:
			p.str(" [invalid number of sources]")
		case p.opt.Verbose > 1:
			p.groupSources(b, 12, n, 4)
		default:
			p.printf(", %d source(s)", n)
		}
	}
	p.char(']')
}

// igmp3Report is RFC 3376, section 4.2.
func (p *Printer) igmp3Report(b []byte, length int) {
	if length < 16 || length%4 != 0 {
		p.printf(" [invalid len %d]", length)
		return
	}
	p.groupReport(b, length, 4, " [v3-report-#%d]")
}

// mtrace prints a query or a response of multicast traceroute.
func (p *Printer) mtrace(name string, b []byte, length int) {
	if length < 24 {
		p.printf(" [invalid len %d]", length)
		return
	}
	p.need(b, 24)
	p.printf("%s %d: ", name, p.u24(b, 21))
	p.addr(b[8:12])
	p.str(" to ")
	p.addr(b[12:16])
	p.str(" reply-to ")
	p.addr(b[16:20])
	if b[16]>>4 == 14 { // a multicast address
		p.printf(" with-ttl %d", b[20])
	}
}
