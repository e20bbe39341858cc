package dissect

// Protocols of PPP whose packets are printed.
const (
	pppIPv4           = 0x0021
	pppUncompressedVJ = 0x002f
	pppIPv6           = 0x0057
	pppMPLS           = 0x0281
	pppMPLSMulti      = 0x0283
	pppOSI            = 0x0023
	pppIPX            = 0x002b
	pppCompressed     = 0x00fd
)

var (
	pppNames = []tok{
		{0x21, "IP"}, {0x23, "OSI"}, {0x25, "NS"}, {0x27, "DECNET"}, {0x29, "APPLE"}, {0x2b, "IPX"},
		{0x2d, "VJC IP"}, {0x2f, "VJNC IP"}, {0x31, "BRPDU"}, {0x33, "STII"}, {0x35, "VINES"}, {0x281, "MPLS"},
		{0x283, "MPLS"}, {0xfd, "Compressed"}, {0x3d, "MLPPP"}, {0x57, "IP6"}, {0x201, "HELLO"},
		{0x231, "LUXCOM"}, {0x233, "SNS"}, {0x8021, "IPCP"}, {0x8023, "OSICP"}, {0x8025, "NSCP"},
		{0x8027, "DECNETCP"}, {0x8029, "APPLECP"}, {0x802b, "IPXCP"}, {0x8033, "STIICP"}, {0x8035, "VINESCP"},
		{0x8057, "IP6CP"}, {0x8281, "MPLSCP"}, {0xc021, "LCP"}, {0xc023, "PAP"}, {0xc025, "LQM"},
		{0xc223, "CHAP"}, {0xc227, "EAP"}, {0xc027, "SPAP"}, {0xc123, "Old-SPAP"}, {0xc02b, "BACP"},
		{0xc02d, "BAP"}, {0xc03d, "MLPPP-CP"}, {0x80fd, "CCP"},
	}
)

// ppp prints a frame of PPP, RFC 1661, with or without address and control, and returns the length of its header.
func (p *Printer) ppp(b []byte, length int) int {
	p.proto = "ppp"
	whole, header := length, 0
	if length < 2 {
		p.trunc()
		return 0
	}
	switch p.u16(b, 0) {
	case 0x0003: // of pppd's own log: received
		p.sep(p.opt.Link, "In  ")
		header = 2
	case 0x0103: // and sent
		p.sep(p.opt.Link, "Out ")
		header = 2
	case 0xff03:
		header = 2
	}
	b, length = b[header:], length-header
	if length < 2 {
		p.trunc()
		return 0
	}
	n, proto := 1, uint32(p.u8(b, 0))
	if proto%2 == 0 { // not compressed, RFC 1661 6.5
		n, proto = 2, uint32(p.u16(b, 0))
	}
	b, length, header = b[n:], length-n, header+n
	if p.opt.Link {
		name := tokStr(pppNames, "unknown", proto)
		p.printf("%s (0x%04x), length %d", name, proto, whole)
		if name == "unknown" {
			return header
		}
		p.str(": ")
	}
	p.pppPayload(proto, b, length)
	return header
}

// pppFrame prints a frame of a capture of PPP, and returns the length of its header.
func (p *Printer) pppFrame(b []byte, length int) int {
	const header = 4
	p.proto = "ppp"
	if len(b) < header {
		p.trunc()
		return len(b)
	}
	p.ppp(b, length)
	return header
}

// Addresses of Cisco's HDLC, where PPP has 0xff.
const (
	chdlcUnicast   = 0x0f
	chdlcBroadcast = 0x8f
)

// pppSerial prints a frame of PPP in HDLC-like framing, RFC 1662, or of Cisco's, and returns the length of its header.
func (p *Printer) pppSerial(b []byte, length int) int {
	p.proto = "ppp_hdlc"
	if len(b) < 2 {
		p.trunc()
		return len(b)
	}
	address := b[0]
	if address == chdlcUnicast || address == chdlcBroadcast {
		return p.chdlc(b, length)
	}
	if len(b) < 4 {
		p.trunc()
		return len(b)
	}
	if p.opt.Link {
		p.printf("%02x %02x %d ", address, b[1], length)
	}
	if address != 0xff {
		p.printf("unknown addr %02x; ctrl %02x", b[2], b[3]) // tcpdump's are those behind
		return 2
	}
	proto := uint32(p.u16(b, 2))
	p.str(tokStr(pppNames, "unknown PPP protocol (0x%04x)", proto))
	p.str(": ")
	p.pppPayload(proto, b[4:], length-4)
	return 4
}

// chdlc prints a frame of Cisco's HDLC, and returns the length of its header.
func (p *Printer) chdlc(b []byte, length int) int {
	const header = 4
	p.proto = "chdlc"
	if length < header {
		p.trunc()
		return len(b)
	}
	proto := p.u16(b, 2)
	if p.opt.Link {
		p.printf("%s, ethertype %s (0x%04x), length %d: ", tokStr(chdlcCasts, "0x%02x", uint32(b[0])),
			tokStr(etherTypes, "Unknown", uint32(proto)), proto, length)
	}
	b, length = b[header:], length-header
	switch proto {
	case typeIPv4:
		p.ipv4(b, length)
	case typeIPv6:
		p.ip6(b, length)
	case typeMPLS, typeMPLSMulti:
		p.mpls(b, length)
	case typeSLARP:
		p.slarp(b, length)
	case typeOSI:
		p.chdlcOSI(b, length)
	default:
		if !p.opt.Link {
			p.printf("unknown CHDLC protocol (0x%04x)", proto)
		}
	}
	return header
}

// chdlcOSI prints a packet of OSI, with a byte before it or without.
func (p *Printer) chdlcOSI(b []byte, length int) {
	if length < 2 {
		p.trunc()
		return
	}
	if second := p.u8(b, 1); second >= nlpidCLNP && second <= nlpidISIS {
		b, length = b[1:], length-1
	}
	p.osi(b, length)
}

const typeSLARP = 0x8035 // where Ethernet has reverse ARP

var chdlcCasts = []tok{{chdlcUnicast, "unicast"}, {chdlcBroadcast, "bcast"}}

// slarp prints Cisco's Serial Line ARP.
func (p *Printer) slarp(b []byte, length int) {
	const least, most = 14, 18
	p.proto = "chdlc_slarp"
	p.printf("SLARP (length: %d), ", length)
	if length < least || len(b) < least {
		p.trunc()
		return
	}
	at := 4
	dump := func() { p.hexLines("\n\t", upto(from(b, at), length-4), 0) }
	switch code := p.u32(b, 0); code {
	case 0:
		p.str("request")
	case 1:
		p.str("reply ")
		p.addr(b[4:8])
		p.char('/')
		p.addr(b[8:12])
	case 2:
		p.printf("keepalive: mineseen=0x%08x, yourseen=0x%08x, reliability=0x%04x", p.u32(b, 4), p.u32(b, 8), p.u16(b, 12))
		if length >= most {
			s := p.u32(b, least) / 1000
			at += least
			p.printf(", link uptime=%dd%dh%dm%ds", s/86400, s/3600%24, s/60%60, s%60)
		}
	default:
		p.printf("0x%02x unknown", code)
		if p.opt.Verbose <= 1 {
			dump()
		}
	}
	if length > most && p.opt.Verbose > 0 {
		p.printf(", (trailing junk: %d bytes)", length-most)
	}
	if p.opt.Verbose > 1 {
		dump()
	}
}

func (p *Printer) pppPayload(proto uint32, b []byte, length int) {
	if proto>>8 == pppFlag {
		p.pppEscaped(append([]byte{byte(proto)}, b...), length)
		return
	}
	switch proto {
	case pppIPv4, pppUncompressedVJ, typeIPv4:
		p.ipv4(b, length)
	case pppIPv6, typeIPv6:
		p.ip6(b, length)
	case pppMPLS, pppMPLSMulti:
		p.mpls(b, length)
	case pppCompressed:
		p.str("compressed PPP data")
	case pppLCP, pppIPCP, pppOSICP, pppMPLSCP, pppIP6CP, pppCCP, pppBACP:
		p.pppControl(proto, b, length)
	case pppMulti:
		p.pppMultilink(b, length)
	case pppCHAP:
		p.chap(b, length)
	case pppPAP:
		p.pap(b, length)
	case pppIPX, typeIPX:
		p.ipx(b)
	case pppOSI:
		p.osi(b, length)
	case pppBAP: // tcpdump knows it and prints nothing
	default:
		p.printf("%s ", tokStr(pppNames, "unknown PPP protocol (0x%04x)", proto))
		p.hexLines("\n\t", upto(b, length), 0)
	}
}

// A flag begins a frame, and an escape goes before an octet that is changed: RFC 1662, section 4.
const (
	pppFlag   = 0x7e
	pppEscape = 0x7d
)

// pppEscaped prints a frame whose octets are escaped, as it is on a serial line.
func (p *Printer) pppEscaped(b []byte, length int) {
	if len(b) == 0 || length == 0 {
		return
	}
	plain := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		c := b[i]
		if c == pppEscape {
			if i++; i == len(b) {
				break
			}
			c = b[i] ^ 0x20
		}
		plain = append(plain, c)
	}
	payload := func(proto uint32, b []byte) {
		if proto>>8 == pppFlag {
			p.printf("(protocol 0x%04x invalid)", proto)
			return
		}
		p.pppPayload(proto, b, len(b))
	}
	switch n := len(plain); {
	case n < 1:
		p.trunc()
	case plain[0] == pppIPv4:
		p.ipv4(plain[1:], n-1)
	case plain[0] == pppIPv6:
		p.ip6(plain[1:], n-1)
	case n < 2:
		p.trunc()
	case plain[0] != 0xff || plain[1] != 0x03:
		payload(uint32(p.u16(plain, 0)), plain[2:])
	case n < 4:
		p.trunc()
	default:
		payload(uint32(p.u16(plain, 2)), plain[4:])
	}
}
