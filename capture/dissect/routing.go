package dissect

// Routing protocols that stand on IP of their own: what kind of message it is.

const (
	ospfHeaderLen  = 24
	ospfDigestAuth = 2 // RFC 2328 D.3
	ospfDigestLen  = 16
)

var (
	ospfTypes = []tok{
		{1, "Hello"}, {2, "Database Description"}, {3, "LS-Request"}, {4, "LS-Update"}, {5, "LS-Ack"},
	}
	pimTypes = []tok{
		{0, "Hello"}, {1, "Register"}, {2, "Register Stop"}, {3, "Join / Prune"}, {4, "Bootstrap"}, {5, "Assert"},
		{6, "Graft"}, {7, "Graft Acknowledgement"}, {8, "Candidate RP Advertisement"}, {9, "Prune Refresh"},
		{10, "DF Election"}, {11, "ECMP Redirect"},
	}
	eigrpOps     = []tok{{1, "Update"}, {3, "Query"}, {4, "Reply"}, {5, "Hello"}, {6, "IPX SAP"}, {7, "Probe"}}
	rsvpMessages = []tok{
		{1, "Path"}, {2, "Resv"}, {3, "PathErr"}, {4, "ResvErr"}, {5, "PathTear"}, {6, "ResvTear"}, {7, "ResvConf"},
		{12, "Bundle"}, {13, "Acknowledgement"}, {14, "Hello (Old)"}, {15, "Refresh"}, {20, "Hello"},
	}
	igrpOps = []tok{{1, "update"}, {2, "request"}}
)

// ospf prints version 2, RFC 2328, without the digest that follows some packets.
func (p *Printer) ospf(b []byte, length int) {
	p.proto = "ospf2"
	if p.u16(b, 14) == ospfDigestAuth {
		length -= ospfDigestLen
		b = upto(b, len(b)-ospfDigestLen)
	}
	kind := tokStr(ospfTypes, "unknown LS-type %d", uint32(p.u8(b, 1)))
	p.printf("OSPFv%d, %s, length %d", p.u8(b, 0), kind, uint32(length))
}

// ospf6 prints version 3, RFC 5340.
func (p *Printer) ospf6(b []byte, length int) {
	p.proto = "ospf3"
	kind := tokStr(ospfTypes, "unknown packet type (%d)", uint32(p.u8(b, 1)))
	p.printf("OSPFv%d, %s, length %d", b[0], kind, length)
}

// pim prints RFC 7761's messages.
func (p *Printer) pim(b []byte, length int) {
	p.proto = "pim"
	first := p.u8(b, 0)
	if version := first >> 4; version != 2 {
		p.printf("PIMv%d, length %d", version, length)
		return
	}
	p.printf("PIMv2, %s, length %d", tokStr(pimTypes, "Unknown Type", uint32(first&15)), length)
}

// eigrp prints RFC 7868's messages.
func (p *Printer) eigrp(b []byte, length int) {
	p.proto = "eigrp"
	if len(b) < 20 {
		p.trunc()
		return
	}
	if b[0] != 2 {
		p.printf("EIGRP version %d packet not supported", b[0])
		return
	}
	p.printf("EIGRP %s, length: %d", tokStr(eigrpOps, "unknown (%d)", uint32(b[1])), length)
}

// rsvp prints RFC 2205's messages.
func (p *Printer) rsvp(b []byte, length int) {
	p.proto = "rsvp"
	if len(b) < 8 {
		p.trunc()
		return
	}
	if version := b[0] >> 4; version != 1 {
		p.printf("ERROR: RSVP version %d packet not supported", version)
		return
	}
	p.printf("RSVPv1 %s Message, length: %d", tokStr(rsvpMessages, "unknown (%d)", uint32(b[1])), length)
}

// igrp prints Cisco's gateway protocol of old: all its routes.
func (p *Printer) igrp(b []byte, length int) {
	const headerLen, routeLen = 12, 14
	p.proto = "igrp"
	p.str("igrp:")
	inside, system, outside := p.u16(b, 4), p.u16(b, 6), p.u16(b, 8)
	p.printf(" %s V%d edit=%d AS=%d (%d/%d/%d)", tokStr(igrpOps, "op-#%d", uint32(b[0]&15)), b[0]>>4, b[1],
		p.u16(b, 2), inside, system, outside)
	sum := p.u16(b, 10)
	if p.opt.Verbose > 0 {
		p.printf(" checksum=0x%04x", sum)
	}
	left := length - headerLen
	for at := headerLen; left >= routeLen; at += routeLen {
		net := p.part(b, at, 3)
		switch {
		case inside > 0:
			inside--
			p.printf(" *.%d.%d.%d", net[0], net[1], net[2])
		case system > 0:
			system--
			p.printf(" %d.%d.%d.0", net[0], net[1], net[2])
		case outside > 0:
			outside--
			p.printf(" X%d.%d.%d.0", net[0], net[1], net[2])
		default:
			p.printf(" [extra bytes %d]", left)
			p.invalid()
			return
		}
		p.igrpMetric(b[at:])
		left -= routeLen
	}
	if inside > 0 || system > 0 || outside > 0 || left != 0 {
		p.invalid()
	}
}

func (p *Printer) igrpMetric(b []byte) {
	delay, bandwidth := p.u24(b, 3), p.u24(b, 6)
	rate := uint32(0)
	if bandwidth > 0 {
		rate = 10000000 / bandwidth
	}
	mtu := p.u16(b, 9)
	hops := p.u8(b, 13)
	p.printf(" d=%d b=%d r=%d l=%d M=%d mtu=%d in %d hops", 10*delay, rate, b[11], b[12],
		min(bandwidth+delay, 0xffffff), mtu, hops)
}

// egp prints RFC 904's messages.
func (p *Printer) egp(b []byte, length int) {
	const headerLen = 16
	p.proto = "egp"
	if length < headerLen || len(b) < headerLen {
		p.trunc()
		return
	}
	p.printf("EGPv%d, AS %d, seq %d, length %d", b[0], p.u16(b, 6), p.u16(b, 8), length)
}

// mobile prints RFC 2004's minimal encapsulation.
func (p *Printer) mobile(b []byte, length int) {
	p.proto = "mobile"
	if length < 8 || len(b) < 12 {
		p.trunc()
		return
	}
	n := 8
	p.str("mobile: ")
	if b[1]&0x80 != 0 { // the original source is there
		n = 12
		p.str("[S] ")
		if p.opt.Verbose > 0 {
			p.addr(b[8:12])
			p.char(' ')
		}
	} else {
		p.str("[] ")
	}
	if p.opt.Verbose > 0 {
		p.addr4At("> ", b, 4)
		p.printf(" (oproto=%d)", b[0])
	}
	if checksum(b[:n]) != 0 {
		p.printf(" (bad checksum %d)", p.u16(b, 2))
	}
}

// pgm prints RFC 3208's messages.
func (p *Printer) pgm(b []byte, h *ipHeader) {
	p.proto = "pgm"
	if len(b) < 4 {
		p.fromTo(h)
		p.char(':')
		p.trunc()
		return
	}
	p.endpoints("tcp", p.u16(b, 0), p.u16(b, 2), h)
	if len(b) < 16 {
		p.trunc()
		return
	}
	p.printf("PGM, length %d", p.u16(b, 14))
}

// olsr prints the header of RFC 3626.
func (p *Printer) olsr(b []byte, length int, h *ipHeader) {
	p.proto = "olsr"
	p.printf("OLSRv%d", h.version)
	if length < 4 || len(b) < 4 {
		p.trunc()
		return
	}
	p.printf(", seq 0x%04x, length %d", p.u16(b, 2), min(length, int(p.u16(b, 0))))
}
