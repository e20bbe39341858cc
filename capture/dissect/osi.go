package dissect

// Network layer protocol identifiers of ISO/IEC TR 9577.
const (
	nlpidNull = 0x00
	nlpidCLNP = 0x81
	nlpidESIS = 0x82
	nlpidISIS = 0x83
	nlpidIPv6 = 0x8e
	nlpidIPv4 = 0xcc
	nlpidPPP  = 0xcf
)

var (
	nlpids = []tok{
		{nlpidNull, "NULL"}, {0x08, "Q.933"}, {0x09, "LMI"}, {0x80, "SNAP"}, {nlpidCLNP, "CLNP"}, {nlpidESIS, "ES-IS"},
		{nlpidISIS, "IS-IS"}, {0x84, "CONS"}, {0x85, "IDRP"}, {0xc1, "ISIS_SPB"}, {0xb1, "FRF.15"}, {nlpidIPv4, "IPv4"},
		{nlpidPPP, "PPP"}, {0x8a, "X25 ES-IS"}, {nlpidIPv6, "IPv6"},
	}
	clnpTypes = []tok{{1, "Error Report"}, {29, "MD"}, {28, "Data"}, {30, "Echo Request"}, {31, "Echo Response"}}
	esisTypes = []tok{{6, "redirect"}, {2, "ESH"}, {4, "ISH"}}
)

// osiEthernet prints what follows the Ethernet type of OSI: a byte, and a packet.
func (p *Printer) osiEthernet(b []byte, length int) {
	if length == 0 || len(b) == 0 {
		p.proto = "isoclns"
		p.trunc()
		return
	}
	p.osi(b[1:], length-1)
}

// osi prints a packet of a network layer of ISO's, by its first byte: of its own protocols the line that is printed
// without -v.
func (p *Printer) osi(b []byte, length int) {
	p.proto = "isoclns"
	id := p.u8(b, 0)
	comma := ", "
	if p.opt.Link {
		p.printf("OSI NLPID %s (0x%02x): ", tokStr(nlpids, "Unknown", uint32(id)), id)
		comma = ""
	}
	known := true
	switch id {
	case nlpidCLNP:
		known = p.clnp(b, length, comma)
	case nlpidESIS:
		p.esis(b, length, comma)
	case nlpidISIS:
		known = p.isis(b, length, comma)
	case nlpidNull:
		p.printf("%slength: %d", comma, length)
	case nlpidIPv4:
		p.ipv4(b[1:], length-1)
	case nlpidIPv6:
		p.ip6(b[1:], length-1)
	case nlpidPPP:
		p.ppp(b[1:], length-1)
	default:
		if !p.opt.Link {
			p.printf("OSI NLPID 0x%02x unknown", id)
		}
		p.printf("%slength: %d", comma, length)
		known = length <= 1
	}
	if !known {
		p.hexLines("\n\t", upto(b, length), 0)
	}
}

// nsap prints an address of a network service access point.
func (p *Printer) nsap(a []byte) {
	const most = 20
	if len(a) < 1 || len(a) > most {
		p.str("isonsap_string: illegal length")
		return
	}
	for i, c := range a {
		p.hex(uint64(c), 2)
		p.sep(i%2 == 0 && i+1 < len(a), ".")
	}
}

// shortPDU prints a header that is too short.
func (p *Printer) shortPDU(b []byte, length int) {
	p.printf(" length indicator %d < min PDU size:%X", length, b)
}

// clnp prints who sends what to whom in ISO 8473; false is that it is to be dumped.
func (p *Printer) clnp(b []byte, length int, comma string) bool {
	const header = 9
	p.proto = "clnp"
	if len(b) < header {
		p.trunc()
		return true
	}
	p.sep(!p.opt.Link, "CLNP")
	size, version, kind := int(b[1]), b[2], uint32(b[4]&0x1f)
	switch {
	case version != 1:
		p.printf("version %d packet not supported", version)
		return false
	case size > length:
		p.printf(" length indicator(%d) > PDU size (%d)!", size, length)
		return false
	case size < header:
		p.shortPDU(b, size)
		return false
	}
	var addresses [2][]byte // destination, source
	at := header
	for i := range addresses {
		n := 0
		if size > at {
			n = int(p.u8(b, at))
		}
		if size <= at || size < at+1+n {
			p.str("li < size of fixed part of CLNP header and addresses")
			return false
		}
		if len(b) < at+1+n {
			p.trunc()
			return true
		}
		addresses[i] = b[at+1 : at+1+n]
		at += 1 + n
	}
	p.str(comma)
	p.nsap(addresses[1])
	p.str(" > ")
	p.nsap(addresses[0])
	p.printf(", %s, length %d", tokStr(clnpTypes, "unknown (%d)", kind), length)
	return true
}

// esis prints what a packet of ISO 9542 is.
func (p *Printer) esis(b []byte, length int, comma string) {
	const header = 9
	p.proto = "esis"
	p.sep(!p.opt.Link, "ES-IS")
	if length <= 2 {
		p.str(flagStr(p.opt.Quiet > 0, "bad pkt!", "no header at all!"))
		return
	}
	if len(b) < header {
		p.trunc()
		return
	}
	size, version := int(b[1]), b[2]
	switch {
	case version != 1:
		p.printf(" version %d packet not supported", version)
	case size > length:
		p.printf(" length indicator(%d) > PDU size (%d)!", size, length)
	case size < header+2:
		p.shortPDU(b, size)
	default:
		p.printf("%s%s, length %d", comma, tokStr(esisTypes, "unknown type (%d)", uint32(b[4]&0x1f)), length)
	}
}

// isisType is a type of IS-IS packet, and how long its fixed header is behind the common one.
type isisType struct {
	name   string
	header int
}

var isisTypes = map[uint8]isisType{
	isisL1Hello: {"L1 Lan IIH", 19}, isisL2Hello: {"L2 Lan IIH", 19}, isisPTP: {"p2p IIH", 12}, isisL1LSP: {"L1 LSP", 19},
	isisL2LSP: {"L2 LSP", 19}, 24: {"L1 CSNP", 25}, 25: {"L2 CSNP", 25}, 26: {"L1 PSNP", 9}, 27: {"L2 PSNP", 9},
}

const (
	isisL1Hello = 15
	isisL2Hello = 16
	isisPTP     = 17
	isisL1LSP   = 18
	isisL2LSP   = 20
	isisCommon  = 8 // bytes of the header that all have
)

// isis prints what a packet of ISO 10589 is and who sends it; false is that it is to be dumped.
func (p *Printer) isis(b []byte, length int, comma string) bool {
	p.proto = "isis"
	if len(b) < isisCommon || length < isisCommon {
		p.trunc()
		return true
	}
	p.sep(!p.opt.Link, "IS-IS")
	fixed, idLength := int(b[1]), b[3]
	switch {
	case b[2] != 1:
		p.printf("version %d packet not supported", b[2])
	case idLength != 6 && idLength != 0:
		p.printf("system ID length of %d is not supported", idLength)
	case b[5] != 1:
		p.printf("version %d packet not supported", b[5])
	case length < fixed:
		p.printf("fixed header length %d > packet length %d", fixed, length)
	case fixed < isisCommon:
		p.printf("fixed header length %d < minimum header size %d", fixed, isisCommon)
	case b[7] == 255:
		p.str("bad packet -- 255 areas")
	default:
		return p.isisPDU(b, length, fixed, comma)
	}
	return false
}

func (p *Printer) isisPDU(b []byte, length, fixed int, comma string) bool {
	code := b[4]
	kind, known := isisTypes[code]
	p.str(comma)
	if !known {
		p.printf("unknown PDU-Type %d, length %d", code, length)
		return true
	}
	p.str(kind.name)
	if want := isisCommon + kind.header; fixed != want {
		isLSP := code == isisL1LSP || code == isisL2LSP
		if isLSP { // tcpdump's mistake
			want = kind.header
		}
		p.printf("%s bogus fixed header length %d should be %d", flagStr(code >= 26, "-", ","), fixed, want)
		return false
	}
	if len(b) < fixed || length < fixed {
		p.trunc()
		return true
	}
	body := b[isisCommon:]
	switch code {
	case isisL1Hello, isisL2Hello:
		p.isisID(", src-id ", body[1:7])
		p.isisID(", lan-id ", body[12:19])
		p.printf(", prio %d", body[11])
	case isisPTP:
		p.isisID(", src-id ", body[1:7])
	case isisL1LSP, isisL2LSP:
		p.isisID(", lsp-id ", body[4:12])
		p.printf(", seq 0x%08x, lifetime %5ds", p.u32(body, 12), p.u16(body, 2))
	default:
		p.isisID(", src-id ", body[2:9])
	}
	p.printf(", length %d", length)
	return true
}

// isisID prints the ID of a system, a node of it, or a fragment of its link state.
func (p *Printer) isisID(before string, id []byte) {
	p.str(before)
	for i, c := range id {
		switch i {
		case 2, 4, 6:
			p.char('.')
		case 7:
			p.char('-')
		}
		p.hex(uint64(c), 2)
	}
}
