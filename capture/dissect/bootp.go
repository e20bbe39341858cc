package dissect

var bootpOps = []tok{{1, "Request"}, {2, "Reply"}}

// bootp prints BOOTP and DHCP, RFC 951 and 2131: who asks.
func (p *Printer) bootp(b []byte, length int) {
	p.proto = "bootp"
	op := p.u8(b, 0)
	p.str("BOOTP/DHCP, ")
	p.str(tokStr(bootpOps, "unknown (0x%02x)", uint32(op)))
	if p.u16(b, 1) == 0x0106 && op == 1 { // Ethernet
		mac := p.part(b, 28, 6)
		p.str(" from ")
		p.mac(mac)
	}
	p.printf(", length %d", length)
}
