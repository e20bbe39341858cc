package dissect

var eapolTypes = []tok{
	{0, "EAP packet"}, {1, "EAPOL start"}, {2, "EAPOL logoff"}, {3, "EAPOL key"}, {4, "Encapsulated ASF alert"},
}

var eapCodes = []tok{{1, "Request"}, {2, "Response"}, {3, "Success"}, {4, "Failure"}}

// eapol prints a frame of IEEE 802.1X, with -v the header of what it carries.
func (p *Printer) eapol(b []byte, length int) {
	p.proto = "eap"
	if length < 4 || len(b) < 4 {
		p.trunc()
		return
	}
	kind := p.u8(b, 1)
	n := p.u16(b, 2)
	p.printf("%s (%d) v%d, len %d", tokStr(eapolTypes, "unknown", uint32(kind)), kind, b[0], n)
	if p.opt.Verbose == 0 || kind != 0 {
		return
	}
	if n == 0 {
		p.trunc()
		return
	}
	p.str(", ")
	p.need(b, 8)
	if p.u16(b, 6) != n {
		p.str("EAP fragment?")
		return
	}
	p.printf("%s (%d), id %d, len %d", tokStr(eapCodes, "unknown", uint32(b[4])), b[4], b[5], p.u16(b, 6))
}
