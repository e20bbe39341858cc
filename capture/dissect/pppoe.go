package dissect

var (
	pppoeCodes = []tok{{0x09, "PADI"}, {0x07, "PADO"}, {0x19, "PADR"}, {0x65, "PADS"}, {0xa7, "PADT"}, {0, ""}}
	pppoeTags  = []tok{
		{0, "EOL"}, {0x0101, "Service-Name"}, {0x0102, "AC-Name"}, {0x0103, "Host-Uniq"}, {0x0104, "AC-Cookie"},
		{0x0105, "Vendor-Specific"}, {0x0110, "Relay-Session-ID"}, {0x0120, "PPP-Max-Payload"},
		{0x0201, "Service-Name-Error"}, {0x0202, "AC-System-Error"}, {0x0203, "Generic-Error"},
	}
)

// pppoe prints a packet of RFC 2516: its tags, or the session's payload.
func (p *Printer) pppoe(b []byte, length int) {
	const header, longestPADI = 6, 1484 - 6
	p.proto = "pppoe"
	if length < header {
		p.printf("truncated-pppoe %d", length)
		return
	}
	if len(b) < header {
		p.trunc()
		return
	}
	length -= header
	code, session, n := b[1], p.u16(b, 2), int(p.u16(b, 4))
	if v := b[0] >> 4; v != 1 {
		p.printf(" [ver %d]", v)
	}
	if t := b[0] & 15; t != 1 {
		p.printf(" [type %d]", t)
	}
	p.str("PPPoE ")
	p.str(tokStr(pppoeCodes, "PAD-%x", uint32(code)))
	if code == 0x09 && n > longestPADI {
		p.printf(" [len %d!]", n)
	}
	if n > length {
		p.printf(" [len %d > %d!]", n, length)
		n = length
	}
	if session != 0 {
		p.printf(" [ses 0x%x]", session)
	}
	if code == 0 {
		p.char(' ')
		p.ppp(b[header:], n)
	} else if !p.pppoeTags(b[header:], n) {
		p.trunc()
	}
}

// pppoeTags prints n bytes of tags, and says whether they were captured.
func (p *Printer) pppoeTags(b []byte, n int) bool {
	for n > 0 {
		if len(b) < 4 {
			return false
		}
		tag, size := p.u16(b, 0), int(p.u16(b, 2))
		b, n = b[4:], n-4
		if len(b) < size {
			return false
		}
		p.printf(" [%s", tokStr(pppoeTags, "TAG-0x%x", uint32(tag)))
		p.pppoeValue(b[:size])
		p.char(']')
		if tag == 0 {
			return true
		}
		b, n = b[size:], n-size
	}
	return true
}

// pppoeValue prints a tag's value as text if most of its first bytes are, else in hexadecimal.
func (p *Printer) pppoeValue(b []byte) {
	const longest = 79
	text := make([]byte, 0, longest)
	good := 0
	for _, c := range upto(b, longest) {
		if isPrint(c) {
			good++
		} else {
			c = '.'
		}
		text = append(text, c)
	}
	switch {
	case len(b) == 0:
	case good > len(text)-good:
		p.printf(" \"%s\"", text)
	default:
		p.printf(" 0x%X", b)
	}
}

// Protocols of PPP (https://www.iana.org/assignments/ppp-numbers).
const (
	pppIP     = 0x0021
	pppIPv6   = 0x0057
	pppMPLS   = 0x0281
	pppMPLS2  = 0x0283
	pppIPCP   = 0x8021
	pppIPv6CP = 0x8057
	pppCCP    = 0x80fd
	pppMPLSCP = 0x8281
	pppLCP    = 0xc021
)

var (
	pppNames = []tok{
		{pppIP, "IP"}, {0x23, "OSI"}, {0x25, "NS"}, {0x27, "DECNET"}, {0x29, "APPLE"}, {0x2b, "IPX"}, {0x2d, "VJC IP"},
		{0x2f, "VJNC IP"}, {0x31, "BRPDU"}, {0x33, "STII"}, {0x35, "VINES"}, {pppMPLS, "MPLS"}, {pppMPLS2, "MPLS"},
		{0x0201, "HELLO"}, {0x0231, "LUXCOM"}, {0x0233, "SNS"}, {pppIPCP, "IPCP"}, {0x8023, "OSICP"}, {0x8025, "NSCP"},
		{0x8027, "DECNETCP"}, {0x8029, "APPLECP"}, {0x802b, "IPXCP"}, {0x8033, "STIICP"}, {0x8035, "VINESCP"},
		{pppIPv6CP, "IP6CP"}, {pppMPLSCP, "MPLSCP"}, {pppLCP, "LCP"}, {0xc023, "PAP"}, {0xc025, "LQM"},
		{0xc027, "SPAP"}, {0xc223, "CHAP"}, {0xc02b, "BACP"}, {0xc02d, "BAP"}, {0x3d, "MLPPP"}, {pppIPv6, "IP6"},
		{0xfd, "COMP"}, {pppCCP, "CCP"},
	}
	pppCodes = []tok{
		{0, "Vendor-Extension"}, {1, "Conf-Request"}, {2, "Conf-Ack"}, {3, "Conf-Nack"}, {4, "Conf-Reject"},
		{5, "Term-Request"}, {6, "Term-Ack"}, {7, "Code-Reject"}, {8, "Prot-Reject"}, {9, "Echo-Request"},
		{10, "Echo-Reply"}, {11, "Disc-Req"}, {12, "Ident"}, {13, "Time-Remaining"}, {14, "Reset-Req"}, {15, "Reset-Ack"},
	}
)

// ppp prints a frame of RFC 1661, with or without address, control and a long protocol field.
func (p *Printer) ppp(b []byte, length int) {
	p.proto = "ppp"
	whole := length
	if length < 2 {
		p.trunc()
		return
	}
	switch p.u16(b, 0) {
	case 0x0003, 0x8f03, 0x0f03, 0xff03:
		b, length = b[2:], length-2
	}
	if length < 2 {
		p.trunc()
		return
	}
	n := 2
	proto := uint16(p.u8(b, 0))
	if proto%2 == 1 {
		n = 1
	} else {
		proto = p.u16(b, 0)
	}
	b, length = b[n:], length-n
	if p.opt.Link {
		name := tokStr(pppNames, "unknown", uint32(proto))
		p.printf("%s (0x%04x), length %d", name, proto, whole)
		if name == "unknown" {
			return
		}
		p.str(": ")
	}
	p.pppPayload(proto, b, length)
}

func (p *Printer) pppPayload(proto uint16, b []byte, length int) {
	switch proto {
	case pppIP, typeIPv4:
		p.ipv4(b, length)
	case pppIPv6, typeIPv6:
		p.ip6(b, length)
	case pppMPLS, pppMPLS2:
		p.mpls(b, length)
	case pppLCP, pppIPCP, 0x8023, pppMPLSCP, pppIPv6CP, pppCCP, 0xc02b:
		p.pppControl(proto, b, length)
	default:
		p.str(tokStr(pppNames, "unknown PPP protocol (0x%04x)", uint32(proto)))
		p.char(' ')
		p.hexLines("\n\t", upto(b, length), 0)
	}
}

// pppControl prints the header of a control protocol (RFC 1661, section 5).
func (p *Printer) pppControl(proto uint16, b []byte, length int) {
	p.str(tokStr(pppNames, "", uint32(proto)))
	p.str(", ")
	if length < 4 || len(b) < 2 {
		p.trunc()
		return
	}
	p.printf("%s (0x%02x), id %d, length %d", tokStr(pppCodes, "Unknown Opcode", uint32(b[0])), b[0], b[1], length+2)
}
