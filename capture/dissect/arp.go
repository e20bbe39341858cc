package dissect

var arpHardware = []tok{
	{1, "Ethernet"}, {6, "TokenRing"}, {7, "ArcNet"}, {15, "FrameRelay"}, {23, "Strip"}, {24, "IEEE 1394"},
	{19, "ATM"}, {32, "InfiniBand"},
}

var arpOperations = []tok{
	{1, "Request"}, {2, "Reply"}, {3, "Reverse Request"}, {4, "Reverse Reply"}, {8, "Inverse Request"},
	{9, "Inverse Reply"}, {10, "NACK Reply"},
}

// arp prints a packet of RFC 826, RFC 903 (reverse) or RFC 2390 (inverse).
func (p *Printer) arp(b []byte, length int) {
	p.proto = "arp"
	p.need(b, 8)
	hardware, proto, hlen, plen, op := p.u16(b, 0), p.u16(b, 2), int(b[4]), int(b[5]), p.u16(b, 6)
	p.need(b, 8+2*hlen+2*plen)
	sha, spa := b[8:8+hlen], b[8+hlen:][:plen]
	tha, tpa := b[8+hlen+plen:][:hlen], b[8+2*hlen+plen:][:plen]
	if !p.opt.Link {
		p.str("ARP, ")
	}
	isIP := proto == typeIPv4 || proto == typeTrail
	verbose := p.opt.Verbose > 0
	if !isIP || plen != 4 || hlen == 0 || verbose {
		p.printf("%s (len %d), %s (len %d)", tokStr(arpHardware, "Unknown Hardware (%d)", uint32(hardware)), hlen,
			tokStr(etherTypes, "Unknown Protocol (0x%04x)", uint32(proto)), plen)
		if !verbose {
			p.arpLength(length)
			return
		}
		p.str(", ")
	}
	p.str(tokStr(arpOperations, "Unknown (%d)", uint32(op)))
	p.char(' ')
	ip := func(a []byte) {
		switch {
		case !isIP:
			p.str("<wrong proto type>")
		case plen != 4:
			p.str("<wrong len>")
		default:
			p.addr(a)
		}
	}
	switch op {
	case 1:
		p.str("who-has ")
		ip(tpa)
		if !isZero(tha) {
			p.str(" (")
			p.hardware(tha)
			p.char(')')
		}
		p.str(" tell ")
		ip(spa)
	case 2:
		ip(spa)
		p.str(" is-at ")
		p.hardware(sha)
	case 3, 8:
		p.str("who-is ")
		p.hardware(tha)
		p.str(" tell ")
		p.hardware(sha)
	case 4:
		p.hardware(tha)
		p.str(" at ")
		ip(tpa)
	case 9:
		p.hardware(sha)
		p.str(" at ")
		ip(spa)
	default:
		p.hexASCII("\n\t", b, 0)
		return
	}
	p.arpLength(length)
}

func (p *Printer) arpLength(length int) {
	p.str(", length ")
	p.num(length)
}

// hardware prints an address of the link level of any length.
func (p *Printer) hardware(a []byte) {
	switch len(a) {
	case 0:
		p.str("<empty>")
	case 6:
		p.mac(a)
	default:
		p.colons(a)
	}
}

func isZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
