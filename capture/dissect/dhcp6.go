package dissect

var dhcp6Messages = []tok{
	{1, "solicit"}, {2, "advertise"}, {3, "request"}, {4, "confirm"}, {5, "renew"}, {6, "rebind"}, {7, "reply"},
	{8, "release"}, {9, "decline"}, {10, "reconfigure"}, {11, "inf-req"}, {12, "relay-fwd"}, {13, "relay-reply"},
	{14, "leasequery"}, {15, "leasequery-reply"},
}

// dhcp6 prints DHCPv6, RFC 8415: which message.
func (p *Printer) dhcp6(b []byte) {
	p.proto = "dhcp6"
	p.str("dhcp6")
	if len(b) < 4 {
		p.trunc()
		return
	}
	p.char(' ')
	p.str(tokStr(dhcp6Messages, "msgtype-%d", uint32(b[0])))
}
