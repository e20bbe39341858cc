package dissect

// Protocols of PPP whose packets are printed.
const (
	pppIPv4           = 0x0021
	pppUncompressedVJ = 0x002f
	pppIPv6           = 0x0057
	pppMPLS           = 0x0281
	pppMPLSMulti      = 0x0283
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

// ppp prints a frame of PPP, RFC 1661, with or without address and control.
func (p *Printer) ppp(b []byte, length int) {
	p.proto = "ppp"
	whole := length
	if length < 2 {
		p.trunc()
		return
	}
	switch p.u16(b, 0) {
	case 0x0003: // of pppd's own log: received
		p.sep(p.opt.Link, "In  ")
		b, length = b[2:], length-2
	case 0x0103: // and sent
		p.sep(p.opt.Link, "Out ")
		b, length = b[2:], length-2
	case 0xff03:
		b, length = b[2:], length-2
	}
	if length < 2 {
		p.trunc()
		return
	}
	n, proto := 1, uint32(p.u8(b, 0))
	if proto%2 == 0 { // not compressed, RFC 1661 6.5
		n, proto = 2, uint32(p.u16(b, 0))
	}
	b, length = b[n:], length-n
	if p.opt.Link {
		name := tokStr(pppNames, "unknown", proto)
		p.printf("%s (0x%04x), length %d", name, proto, whole)
		if name == "unknown" {
			return
		}
		p.str(": ")
	}
	p.pppPayload(proto, b, length)
}

func (p *Printer) pppPayload(proto uint32, b []byte, length int) {
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
	case pppBAP: // tcpdump knows it and prints nothing
	default:
		p.printf("%s ", tokStr(pppNames, "unknown PPP protocol (0x%04x)", proto))
		p.hexLines("\n\t", upto(b, length), 0)
	}
}
