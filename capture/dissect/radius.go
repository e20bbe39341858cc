package dissect

var radiusCodes = []tok{
	{1, "Access-Request"}, {2, "Access-Accept"}, {3, "Access-Reject"}, {4, "Accounting-Request"},
	{5, "Accounting-Response"}, {11, "Access-Challenge"}, {12, "Status-Server"}, {13, "Status-Client"},
	{40, "Disconnect-Request"}, {41, "Disconnect-ACK"}, {42, "Disconnect-NAK"}, {43, "CoA-Request"}, {44, "CoA-ACK"},
	{45, "CoA-NAK"}, {255, "Reserved"},
}

// radius prints RFC 2865's messages: their code.
func (p *Printer) radius(b []byte, length int) {
	const headerLen = 20
	p.proto = "radius"
	if len(b) < headerLen || p.u16(b, 2) < headerLen {
		p.trunc()
		return
	}
	p.printf("RADIUS, %s (%d), id: 0x%02x length: %d",
		tokStr(radiusCodes, "Unknown Command", uint32(b[0])), b[0], b[1], min(int(p.u16(b, 2)), length))
}
