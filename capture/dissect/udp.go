package dissect

// udp prints a datagram of RFC 768.
func (p *Printer) udp(b []byte, length int, h *ipHeader) {
	p.proto = "udp"
	if len(b) < 4 {
		if h.direct {
			p.fromTo(h)
			p.str(": ")
		}
		p.trunc()
		return
	}
	sport, dport := p.u16(b, 0), p.u16(b, 2)
	before := len(p.out)
	p.endpoints("udp", sport, dport, h)
	if length < 8 {
		p.printf("truncated-udp %d", length)
		return
	}
	if len(b) < 6 {
		p.trunc()
		return
	}
	says := int(p.u16(b, 4))
	if says == 0 && length > 65535 {
		says = length // a jumbogram (RFC 2675, section 4)
	}
	if says < 8 {
		p.printf("truncated-udplength %d", says)
		return
	}
	if len(b) < 8 {
		p.trunc()
		return
	}
	says -= 8
	length = min(length-8, says)
	if p.opt.Type != "" {
		p.udpType(b[8:], length, h, before)
		return
	}
	if p.opt.Quiet == 0 && p.nfs("", sport, dport, b[8:], length, h) {
		return
	}
	p.udpChecksum(b, length+8, h)
	if p.opt.Quiet == 0 && p.udpPort(sport, dport, b[8:], length, h) {
		return
	}
	if says > length && !h.fragment {
		p.printf("UDP, bad length %d > %d", says, length)
		return
	}
	p.str("UDP, length ")
	p.num(says)
}

// udpChecksum verifies the checksum with -vv, and over IPv6, where it must not be missing, with -v.
func (p *Printer) udpChecksum(b []byte, length int, h *ipHeader) {
	if p.opt.Verbose == 0 || p.opt.NoChecksum || h.fragment || h.version == 4 && p.opt.Verbose < 2 {
		return
	}
	was := p.u16(b, 6)
	if h.version == 4 && was == 0 {
		p.str("[no cksum] ")
		return
	}
	sum, whole := pseudoChecksum(h, protoUDP, b, length)
	switch {
	case !whole:
	case sum == 0:
		p.str("[udp sum ok] ")
	default:
		p.printf("[bad udp cksum 0x%04x -> 0x%04x!] ", was, shouldBe(was, sum))
	}
}
