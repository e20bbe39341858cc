package dissect

// Control protocols of PPP: what their packets say of the link, of its ends and of who they are.
const (
	pppMulti  = 0x003d
	pppIPCP   = 0x8021
	pppOSICP  = 0x8023
	pppIP6CP  = 0x8057
	pppCCP    = 0x80fd
	pppMPLSCP = 0x8281
	pppLCP    = 0xc021
	pppPAP    = 0xc023
	pppLQM    = 0xc025
	pppSPAP   = 0xc027
	pppBACP   = 0xc02b
	pppBAP    = 0xc02d
	pppOldPAP = 0xc123
	pppCHAP   = 0xc223
	pppEAP    = 0xc227
)

// Codes of control packets.
const (
	pppVendor    = 0
	pppRequest   = 1
	pppReject    = 4
	pppTermAck   = 6
	pppCodeRej   = 7
	pppProtoRej  = 8
	pppEcho      = 9
	pppDiscard   = 11
	pppIdent     = 12
	pppRemaining = 13
)

var (
	pppCodes = []tok{
		{pppVendor, "Vendor-Extension"}, {pppRequest, "Conf-Request"}, {2, "Conf-Ack"}, {3, "Conf-Nack"},
		{pppReject, "Conf-Reject"}, {5, "Term-Request"}, {pppTermAck, "Term-Ack"}, {pppCodeRej, "Code-Reject"},
		{pppProtoRej, "Prot-Reject"}, {pppEcho, "Echo-Request"}, {10, "Echo-Reply"}, {pppDiscard, "Disc-Req"},
		{pppIdent, "Ident"}, {pppRemaining, "Time-Rem"}, {14, "Reset-Req"}, {15, "Reset-Ack"},
	}
	lcpOptions = [...]string{
		"Vend-Ext", "MRU", "ACCM", "Auth-Prot", "Qual-Prot", "Magic-Num", "deprecated(6)", "PFC", "ACFC", "FCS-Alt",
		"SDP", "Num-Mode", "deprecated(12)", "Call-Back", "deprecated(14)", "deprecated(15)", "deprecated(16)", "MRRU",
		"12-Bit seq #", "End-Disc", "Proprietary", "DCE-Id", "MP+", "Link-Disc", "LCP-Auth-Opt", "COBS",
		"Prefix-elision", "Multilink-header-Form", "I18N", "SDL-over-SONET/SDH", "PPP-Muxing",
	}
	pppAlgorithms = []tok{{5, "MD5"}, {128, "MS-CHAPv1"}, {129, "MS-CHAPv2"}}
	pppCallbacks  = []tok{
		{0, "UserAuth"}, {1, "DialString"}, {2, "LocalID"}, {3, "E.164"}, {4, "X.500"}, {6, "CBCP"},
	}
	ipcpOptions = []tok{
		{1, "IP-Addrs"}, {2, "IP-Comp"}, {3, "IP-Addr"}, {4, "Home-Addr"}, {129, "Pri-DNS"}, {130, "Pri-NBNS"},
		{131, "Sec-DNS"}, {132, "Sec-NBNS"},
	}
	ipcpCompressions = []tok{{0x2d, "VJ-Comp"}, {0x61, "IP Header Compression"}}
	ipcpSuboptions   = []tok{{1, "RTP-Compression"}, {2, "Enhanced RTP-Compression"}}
	ip6cpOptions     = []tok{{1, "Interface-ID"}}
	ccpOptions       = []tok{
		{0, "OUI"}, {1, "Pred-1"}, {2, "Pred-2"}, {3, "Puddle"}, {16, "HP-PPC"}, {17, "Stac-LZS"}, {18, "MPPC"},
		{19, "Gand-FZA"}, {20, "V.42bis"}, {21, "BSD-Comp"}, {23, "LZS-DCP"}, {24, "MVRCA"}, {25, "DEC"},
		{26, "Deflate"}, {255, "Reserved"},
	}
	bacpOptions = []tok{{1, "Favored-Peer"}}
	chapCodes   = []tok{{1, "Challenge"}, {2, "Response"}, {3, "Success"}, {4, "Fail"}}
	papCodes    = []tok{{1, "Auth-Req"}, {2, "Auth-ACK"}, {3, "Auth-NACK"}}
	pppMLFlags  = []tok{{0x80, "begin"}, {0x40, "end"}}
)

// pppControl prints a packet of LCP and its like, RFC 1661 section 5.
func (p *Printer) pppControl(proto uint32, b []byte, length int) {
	name := tokStr(pppNames, "", proto)
	p.str(name + ", ")
	if length < 4 || len(b) < 2 {
		p.str("[|" + name + "]")
		return
	}
	code := uint32(b[0])
	p.printf("%s (0x%02x), id %d, length %d", tokStr(pppCodes, "Unknown Opcode", code), code, b[1], length+2)
	if p.opt.Verbose == 0 {
		return
	}
	n := int(p.u16(b, 2))
	switch {
	case n < 4:
		p.printf("\n\tencoded length %d (< 4))", n)
		return
	case n > length:
		p.printf("\n\tencoded length %d (> packet length %d))", n, length)
		return
	}
	p.printf("\n\tencoded length %d (=Option(s) length %d)", n, n-4)
	if n == 4 {
		return
	}
	whole := append([]byte{byte(proto >> 8), byte(proto)}, b...)
	if p.opt.Verbose > 1 {
		p.hexLines("\n\t", upto(whole, 6), 0)
	}
	switch {
	case code == pppVendor:
		if n >= 11 {
			p.pppMagic(b)
			vendor := p.u24(b, 8)
			p.printf(" Vendor: %s (%d)", tokStr(ouiNames, "Unknown", vendor), vendor)
		}
	case code <= pppReject:
		p.pppOptions(proto, b, n)
	case code <= pppCodeRej:
	case code == pppProtoRej:
		if n < 6 {
			break
		}
		rejected := uint32(p.u16(b, 4))
		p.printf("\n\t  Rejected %s Protocol (0x%04x)", tokStr(pppNames, "unknown", rejected), rejected)
		if n > 6 {
			p.str("\n\t  Rejected Packet")
			p.hexLines("\n\t    ", upto(b[6:], n-2), 0)
		}
	case code <= pppDiscard:
		if n < 8 {
			break
		}
		p.pppMagic(b)
		if n > 8 {
			p.str("\n\t  -----trailing data-----")
			if len(b) < n {
				p.str("[|" + name + "]")
				break
			}
			p.hexLines("\n\t  ", b[8:n], 0)
		}
	case code == pppIdent:
		if n < 8 {
			break
		}
		p.pppMagic(b)
		if n > 8 {
			p.str("\n\t  Message\n\t    ")
			p.safe(upto(b[8:], n-4))
			if len(b) < n+4 {
				p.str("[|" + name + "]")
			}
		}
	case code == pppRemaining:
		if n >= 12 {
			p.pppMagic(b)
			p.printf(", Seconds-Remaining %ds", p.u32(b, 8))
		}
	case p.opt.Verbose == 1:
		p.hexLines("\n\t  ", upto(whole, n+2), 0)
	}
}

// pppOption is what became of an option: the known are dumped with -vv, the unknown always, the bogus never, and after
// some of these nothing more is printed.
type pppOption int

const (
	pppKnown pppOption = iota
	pppUnknown
	pppBogus
	pppStop
)

func (p *Printer) pppMagic(b []byte) {
	p.printf("\n\t  Magic-Num 0x%08x", p.u32(b, 4))
}

// pppOptions prints the options of a packet that is n bytes long.
func (p *Printer) pppOptions(proto uint32, b []byte, n int) {
	var option func(b []byte, kind, n int) pppOption
	var name string
	switch proto {
	case pppLCP:
		option, name = p.lcpOption, "lcp"
	case pppIPCP:
		option, name = p.ipcpOption, "ipcp"
	case pppIP6CP:
		option, name = p.ip6cpOption, "ip6cp"
	case pppCCP:
		option, name = p.ccpOption, "ccp"
	case pppBACP:
		option, name = p.bacpOption, "bacp"
	default:
		return
	}
	for left, rest := n-4, b[4:]; left > 0; {
		if len(rest) < 2 {
			p.str("[|" + name + "]")
			return
		}
		kind, size := int(rest[0]), int(rest[1])
		if size > n || !p.pppOptionHead(proto, kind, size) {
			return
		}
		if proto != pppLCP || kind < len(lcpOptions) {
			switch was := option(rest, kind, size); {
			case was == pppStop:
				return
			case was == pppUnknown, was == pppKnown && p.opt.Verbose > 1:
				p.hexLines("\n\t    ", upto(rest[2:], size-2), 0)
			}
		}
		if left < size {
			p.printf(" [remaining options length %d < %d]", left, size)
			p.invalid()
			return
		}
		left, rest = left-size, from(rest, size)
	}
}

// pppOptionHead prints an option's name, and says whether there is an option.
func (p *Printer) pppOptionHead(proto uint32, kind, size int) bool {
	var name string
	switch proto {
	case pppLCP:
		if kind >= len(lcpOptions) {
			p.printf("\n\tunknown LCP option 0x%02x", kind)
			return size >= 2
		}
		name = lcpOptions[kind]
	case pppIPCP:
		name = tokStr(ipcpOptions, "unknown", uint32(kind))
	case pppIP6CP:
		name = tokStr(ip6cpOptions, "unknown", uint32(kind))
	case pppCCP:
		name = tokStr(ccpOptions, "Unknown", uint32(kind))
	default:
		name = tokStr(bacpOptions, "Unknown", uint32(kind))
	}
	p.printf("\n\t  %s Option (0x%02x), length %d", name, kind, size)
	if size < 2 {
		p.str(" (length bogus, should be >= 2)")
	}
	return size >= 2
}

// pppLength says that an option's length is bogus.
func (p *Printer) pppLength(relation string, want int, then pppOption) pppOption {
	p.printf(" (length bogus, should be %s %d)", relation, want)
	return then
}

// lcpOption prints an option of RFC 1661 and its successors.
func (p *Printer) lcpOption(b []byte, kind, n int) pppOption {
	switch kind {
	case 0: // vendor extension
		if n < 6 {
			return p.pppLength(">=", 6, pppBogus)
		}
		vendor := p.u24(b, 2)
		p.printf(": Vendor: %s (%d)", tokStr(ouiNames, "Unknown", vendor), vendor)
	case 1: // largest unit to receive
		if n != 4 {
			return p.pppLength("=", 4, pppBogus)
		}
		p.printf(": %d", p.u16(b, 2))
	case 2: // characters to escape
		if n != 6 {
			return p.pppLength("=", 6, pppBogus)
		}
		p.printf(": 0x%08x", p.u32(b, 2))
	case 3: // authentication
		if n < 4 {
			return p.pppLength(">=", 4, pppBogus)
		}
		proto := uint32(p.u16(b, 2))
		p.printf(": %s", tokStr(pppNames, "Unknown Auth Proto (0x04x)", proto))
		switch proto {
		case pppCHAP:
			p.printf(", %s", tokStr(pppAlgorithms, "Unknown Auth Alg %d", uint32(p.u8(b, 4))))
		case pppPAP, pppEAP, pppSPAP, pppOldPAP:
		default:
			p.hexLines("\n\t", upto(b, n), 0)
		}
	case 4: // quality
		if n < 4 {
			return p.pppLength(">=", 4, pppStop)
		}
		p.str(": " + flagStr(p.u16(b, 2) == pppLQM, "LQR", "unknown"))
	case 5: // magic number
		if n != 6 {
			return p.pppLength("=", 6, pppStop)
		}
		p.printf(": 0x%08x", p.u32(b, 2))
	case 7, 8: // compressed headers
	case 13: // call back
		if n < 3 {
			return p.pppLength(">=", 3, pppStop)
		}
		operation := uint32(p.u8(b, 2))
		p.printf(": : Callback Operation %s (%d)", tokStr(pppCallbacks, "Unknown", operation), operation)
	case 17: // largest unit to put together
		if n != 4 {
			return p.pppLength("=", 4, pppStop)
		}
		p.printf(": %d", p.u16(b, 2))
	case 19:
		return p.lcpEndpoint(b, n)
	case 23: // number of the link
		if n != 4 {
			return p.pppLength("=", 4, pppStop)
		}
		p.printf(": 0x%04x", p.u16(b, 2))
	default:
		return pppUnknown
	}
	return pppKnown
}

// lcpEndpoint prints who is at the other end of several links, RFC 1990 section 5.1.3.
func (p *Printer) lcpEndpoint(b []byte, n int) pppOption {
	if n < 3 {
		return p.pppLength(">=", 3, pppStop)
	}
	switch class := p.u8(b, 2); class {
	case 0:
		p.str(": Null")
	case 1:
		p.str(": Local")
	case 2:
		if n != 7 {
			return p.pppLength("=", 7, pppStop)
		}
		p.addr4At(": IPv4 ", b, 3)
	case 3:
		if n != 9 {
			return p.pppLength("=", 9, pppStop)
		}
		a := p.part(b, 3, 6)
		p.str(": MAC ")
		p.mac(a)
	case 4:
		p.str(": Magic-Num-Block")
	case 5:
		p.str(": PSNDN")
	default:
		p.printf(": Unknown class %d", class)
	}
	return pppKnown
}

// ipcpOption prints an option of RFC 1332 and RFC 1877.
func (p *Printer) ipcpOption(b []byte, kind, n int) pppOption {
	switch kind {
	case 1: // both addresses
		if n != 10 {
			return p.pppLength("=", 10, pppBogus)
		}
		dst := p.part(b, 6, 4)
		p.addr4At(": src ", b, 2)
		p.str(", dst ")
		p.addr(dst)
	case 2:
		return p.ipcpCompression(b, n)
	case 3, 4, 129, 130, 131, 132: // an address
		if n != 6 {
			return p.pppLength("=", 6, pppStop)
		}
		p.addr4At(": ", b, 2)
	default:
		return pppUnknown
	}
	return pppKnown
}

// ipcpCompression prints how headers may be compressed, RFC 3544. As in tcpdump, -vv dumps what follows the sizes.
func (p *Printer) ipcpCompression(b []byte, n int) pppOption {
	const sizes = 14
	if n < 4 {
		return p.pppLength(">=", 4, pppStop)
	}
	method := uint32(p.u16(b, 2))
	p.printf(": %s (0x%02x):", tokStr(ipcpCompressions, "Unknown", method), method)
	if method != 0x61 {
		return pppKnown
	}
	if n < sizes {
		return p.pppLength(">=", sizes, pppStop)
	}
	if len(b) < 2+sizes {
		p.str("[|ipcp]")
		return pppStop
	}
	p.printf("\n\t    TCP Space %d, non-TCP Space %d, maxPeriod %d, maxTime %d, maxHdr %d", p.u16(b, 4), p.u16(b, 6),
		p.u16(b, 8), p.u16(b, 10), p.u16(b, 12))
	if n == sizes {
		return pppKnown
	}
	left, b := n-sizes, b[sizes:]
	p.printf("\n\t      Suboptions, length %d", left)
	for left >= 2 {
		if len(b) < 2 {
			p.str("[|ipcp]")
			return pppStop
		}
		kind, size := uint32(b[0]), int(b[1])
		if kind == 0 || size == 0 {
			break
		}
		p.printf("\n\t\t%s Suboption #%d, length %d", tokStr(ipcpSuboptions, "Unknown", kind), kind, size)
		if left < size {
			p.printf(" [remaining suboptions length %d < %d]", left, size)
			p.invalid()
			break
		}
		left, b = left-size, from(b, size)
	}
	switch {
	case p.opt.Verbose < 2:
	case len(b) < 2:
		p.str("\n\t    Dissector error: print_unknown_data called with pointer past end of packet")
	default:
		p.hexLines("\n\t    ", upto(b[2:], n-2), 0)
	}
	return pppBogus
}

// ip6cpOption prints an option of RFC 5072.
func (p *Printer) ip6cpOption(b []byte, kind, n int) pppOption {
	if kind != 1 {
		return pppUnknown
	}
	if n != 10 {
		return p.pppLength("=", 10, pppBogus)
	}
	if len(b) < 10 {
		p.str("[|ip6cp]")
		return pppStop
	}
	p.printf(": %04x:%04x:%04x:%04x", p.u16(b, 2), p.u16(b, 4), p.u16(b, 6), p.u16(b, 8))
	return pppKnown
}

// ccpOption prints an option of RFC 1962 and its successors.
func (p *Printer) ccpOption(b []byte, kind, n int) pppOption {
	least := 4
	switch kind {
	case 21:
		least = 3
	case 24, 26:
	default:
		return pppUnknown
	}
	if n < least {
		return p.pppLength(">=", least, pppBogus)
	}
	v := p.u8(b, 2)
	switch kind {
	case 21:
		p.printf(": Version: %d, Dictionary Bits: %d", v>>5, v&0x1f)
	case 24:
		p.printf(": Features: %d, PxP: %s, History: %d, #CTX-ID: %d", v>>6,
			flagStr(v&0x20 != 0, "Enabled", "Disabled"), v&0x1f, p.u8(b, 3))
	default:
		check := p.u8(b, 3)
		p.printf(": Window: %dK, Method: %s (0x%x), MBZ: %d, CHK: %d", v>>4, flagStr(v&0xf == 8, "zlib", "unknown"),
			v&0xf, check>>2, check&3)
	}
	return pppKnown
}

// bacpOption prints an option of RFC 2125.
func (p *Printer) bacpOption(b []byte, kind, n int) pppOption {
	if kind != 1 {
		return pppUnknown
	}
	if n != 6 {
		return p.pppLength("=", 6, pppBogus)
	}
	p.printf(": Magic-Num 0x%08x", p.u32(b, 2))
	return pppKnown
}

// pppMultilink prints the header of RFC 1990 with sequence numbers of 12 bits.
func (p *Printer) pppMultilink(b []byte, length int) {
	if !p.opt.Link {
		p.str("MLPPP, ")
	}
	if length < 2 || len(b) < 2 {
		p.str("[|mlppp]")
		return
	}
	p.printf("seq 0x%03x, Flags [%s], length %d", p.u16(b, 0)&0xfff,
		bitStr(pppMLFlags, "none", uint32(b[0]&0xc0), ", "), length)
}

// pppText prints n bytes from off on; a length below 0 is beyond any packet.
func (p *Printer) pppText(label string, b []byte, off, n int) {
	p.str(label)
	b = from(b, off)
	if n < 0 {
		n = len(b) + 1
	}
	p.safe(upto(b, n))
	p.need(b, n)
}

// pppAuthHead prints the header of CHAP or PAP; it is the code, and false if the packet is too short.
func (p *Printer) pppAuthHead(name string, codes []tok, b []byte, length int) (uint32, bool) {
	lower := map[string]string{"CHAP": "chap", "PAP": "pap"}[name]
	if length < 1 {
		p.str("[|" + lower + "]")
		return 0, false
	}
	code := uint32(p.u8(b, 0))
	if length < 4 {
		p.printf("[|%s 0x%02x]", lower, code)
		return 0, false
	}
	p.printf("%s, %s (0x%02x)", name, tokStr(codes, "unknown", code), code)
	p.printf(", id %d", p.u8(b, 1))
	p.u16(b, 2)
	return code, true
}

// chap prints a packet of RFC 1994.
func (p *Printer) chap(b []byte, length int) {
	code, ok := p.pppAuthHead("CHAP", chapCodes, b, length)
	if !ok {
		return
	}
	n := int(p.u16(b, 2))
	switch code {
	case 1, 2:
		if length < 5 {
			return
		}
		size := int(p.u8(b, 4))
		if length-5 < size {
			return
		}
		p.str(", Value ")
		p.hexBytes(upto(b[5:], size))
		p.need(b, 5+size)
		p.pppText(", Name ", b, 5+size, n-5-size)
	case 3, 4:
		p.pppText(", Msg ", b, 4, n-4)
	}
}

// pap prints a packet of RFC 1334.
func (p *Printer) pap(b []byte, length int) {
	code, ok := p.pppAuthHead("PAP", papCodes, b, length)
	if !ok {
		return
	}
	n := int(p.u16(b, 2))
	switch {
	case n > length:
		p.printf(", length %d > packet size", n)
		return
	case n < 4:
		p.printf(", length %d < PAP header length", n)
		return
	case code == 1 && n < 6, (code == 2 || code == 3) && n < 5:
		p.str("[|pap]")
		return
	}
	labels := [][]string{1: {", Peer ", ", Name "}, 2: {", Msg "}, 3: {", Msg "}}
	if code == 0 || int(code) >= len(labels) {
		return
	}
	at := 4
	for _, label := range labels[code] {
		if n-at < 1 {
			return
		}
		size := int(p.u8(b, at))
		at++
		if n-at < size {
			return
		}
		p.pppText(label, b, at, size)
		at += size
	}
}
