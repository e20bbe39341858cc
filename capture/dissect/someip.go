package dissect

var (
	someipTypes = []tok{
		{0, "REQUEST"}, {1, "REQUEST_NO_RETURN"}, {2, "NOTIFICATION"}, {128, "RESPONSE"}, {129, "ERROR"},
		{32, "TP_REQUEST"}, {33, "TP_REQUEST_NO_RETURN"}, {34, "TP_NOTIFICATION"}, {160, "TP_RESPONSE"},
		{161, "TP_ERROR"},
	}
	someipReturns = []tok{
		{0, "E_OK"}, {1, "E_NOT_OK"}, {2, "E_UNKNOWN_SERVICE"}, {3, "E_UNKNOWN_METHOD"}, {4, "E_NOT_READY"},
		{5, "E_NOT_REACHABLE"}, {6, "E_TIMEOUT"}, {7, "E_WRONG_PROTOCOL_VERSION"}, {8, "E_WRONG_INTERFACE_VERSION"},
		{9, "E_MALFORMED_MESSAGE"}, {10, "E_WRONG_MESSAGE_TYPE"}, {11, "E_E2E_REPEATED"},
		{12, "E_E2E_WRONG_SEQUENCE"}, {13, "E_E2E"}, {14, "E_E2E_NOT_AVAILABLE"}, {15, "E_E2E_NO_NEW_DATA"},
	}
)

// someip prints the header of AUTOSAR's SOME/IP, and as tcpdump an empty line after it.
func (p *Printer) someip(b []byte, length int) {
	p.proto = "someip"
	p.str("SOMEIP")
	if length < 16 {
		p.invalid()
		return
	}
	id := p.u32(b, 0)
	p.printf(", service %d, %s %d", id>>16, flagStr(id&0x8000 != 0, "event", "method"), id&0x7fff)
	p.printf(", len %d", p.u32(b, 4))
	request := p.u32(b, 8)
	p.printf(", client %d, session %d", request>>16, request&0xffff)
	p.printf(", pver %d", p.u8(b, 12))
	p.printf(", iver %d", p.u8(b, 13))
	p.printf(", msgtype %s", tokStr(someipTypes, "Unknown", uint32(p.u8(b, 14))))
	p.printf(", retcode %s\n", tokStr(someipReturns, "Unknown", uint32(p.u8(b, 15))))
}
