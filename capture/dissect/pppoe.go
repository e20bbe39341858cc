package dissect

var (
	pppoeCodes = []tok{{0x09, "PADI"}, {0x07, "PADO"}, {0x19, "PADR"}, {0x65, "PADS"}, {0xa7, "PADT"}, {0, ""}}
	pppoeTags  = []tok{
		{0, "EOL"}, {0x0101, "Service-Name"}, {0x0102, "AC-Name"}, {0x0103, "Host-Uniq"}, {0x0104, "AC-Cookie"},
		{0x0105, "Vendor-Specific"}, {0x0110, "Relay-Session-ID"}, {0x0120, "PPP-Max-Payload"},
		{0x0201, "Service-Name-Error"}, {0x0202, "AC-System-Error"}, {0x0203, "Generic-Error"},
	}
)

// pppoe prints a packet of RFC 2516: its tags, or the session's payload. It returns the length of its headers.
func (p *Printer) pppoe(b []byte, length int) int {
	const header, longestPADI = 6, 1484 - 6
	p.proto = "pppoe"
	if length < header {
		p.printf(" (length %d < %d)", length, header)
		p.invalid()
		return 0
	}
	if len(b) < header {
		p.trunc()
		return 0
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
		return header + p.ppp(b[header:], n)
	}
	p.pppoeTags(b[header:], n)
	return header
}

// pppoeTags prints n bytes of tags.
func (p *Printer) pppoeTags(b []byte, n int) {
	for n > 0 {
		p.need(b, 4)
		tag, size := p.u16(b, 0), int(p.u16(b, 2))
		b, n = b[4:], n-4
		p.need(b, size)
		p.printf(" [%s", tokStr(pppoeTags, "TAG-0x%x", uint32(tag)))
		p.pppoeValue(b[:size])
		p.char(']')
		if tag == 0 {
			return
		}
		b, n = b[size:], n-size
	}
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
