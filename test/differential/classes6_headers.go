package differential

import (
	"encoding/binary"

	"proxyarpd/internal/wire"
)

// Types of options (IANA "Destination Options and Hop-by-Hop Options"). The two highest
// bits say what becomes of a packet if a node does not know the option (RFC 8200 section 4.2).
const (
	optPadN        = 1
	optTunnelLimit = 4
	optRouterAlert = 5
	optCALIPSO     = 7
	optIOAM        = 0x31
	optRPL         = 0x63
	optJumbo       = 0xc2
	optHome        = 0xc9
)

// hop puts options into a hop-by-hop header, the first.
func (p *packet6) hop(opts ...[]byte) {
	var all []byte
	for _, o := range opts {
		all = append(all, o...)
	}
	p.headers = append([]header6{options6(wire.ProtoHopByHop, all)}, p.headers...)
}

// pads are Pad1, or a PadN of up to n bytes.
func (g *gen) pads(n int) []byte {
	if n = g.IntN(n + 1); n < 2 {
		return make([]byte, n)
	}
	return append([]byte{optPadN, byte(n - 2)}, make([]byte, n-2)...)
}

// hopPad is padding, of which a host takes no more than seven bytes in a row, all 0.
func hopPad(g *gen) packet6 {
	p := g.plain6()
	g.errorHops(&p)
	pad := g.pads(7)
	switch g.IntN(6) {
	case 0:
		pad = append(pad, g.pads(9)...)
	case 1:
		pad = append([]byte{optPadN, 4}, g.data(4)...)
	case 2:
		pad = make([]byte, g.IntN(16))
	case 3:
		pad = append(pad, append(option6(optRouterAlert, 0, 1), g.pads(7)...)...)
	}
	p.hop(pad)
	return p
}

func hopAlert(g *gen) packet6 {
	p := g.plain6()
	g.errorHops(&p)
	opts := option6(optRouterAlert, g.data(2)...)
	switch g.IntN(5) {
	case 0:
		opts = option6(optRouterAlert, g.data(pick(g, 0, 1, 3, 4))...)
	case 1:
		opts = append(opts, opts...)
	}
	p.hop(g.pads(3), opts)
	if g.IntN(4) == 0 {
		p.dst = pick(g, ip6("ff02::1"), ip6("ff02::16"), ip6("ff05::3"))
	}
	return p
}

// hopUnknown has options that no node knows, and such that some know.
func hopUnknown(g *gen) packet6 {
	p := g.plain6()
	g.errorHops(&p)
	var opts []byte
	for range 1 + g.IntN(pick(g, 2, 4, 12)) {
		typ := pick[byte](g, 0x1e, 0x3e, 0x5e, 0x9e, 0xde, 0xfe, optTunnelLimit, optHome, optRPL, byte(g.Uint32()))
		if g.IntN(2) == 0 {
			typ = pick[byte](g, 0x1e, 0x3e, optTunnelLimit)
		}
		opts = append(opts, option6(typ, g.data(g.IntN(12))...)...)
	}
	p.hop(g.pads(3), opts)
	switch g.IntN(6) {
	case 0:
		p.dst = pick(g, ip6("ff02::1"), ip6("ff0e::1234"))
	case 1:
		p.dst = g.below(pick(g, unrouted6...))
	case 2:
		p.src = pick(g, ip6("fe80::77"), ip6("::"), ip6("ff02::5"), ip6("::1"))
	}
	return p
}

// hopBad has options whose lengths make no sense, and headers that are cut off.
func hopBad(g *gen) packet6 {
	p := g.plain6()
	g.errorHops(&p)
	switch g.IntN(6) {
	case 0:
		p.hop(g.data(6 + 8*g.IntN(3)))
	case 1:
		h := options6(wire.ProtoHopByHop, option6(pick[byte](g, optPadN, optRouterAlert, 0x1e, optJumbo, optCALIPSO, optIOAM), g.data(2+g.IntN(10))...))
		h.body[3] = byte(g.IntN(256)) // of the first option
		p.headers = []header6{h}
	case 2:
		p.hop(nil)
		p.headers[0].body[1] = byte(1 + g.IntN(255)) // of the header
		if g.IntN(2) == 0 {
			p.l4 = p.l4[:g.IntN(8)]
			p.l4sum = -1
		}
	case 3:
		p.hop(option6(pick[byte](g, optCALIPSO, optIOAM, optRPL), g.data(g.IntN(20))...))
	case 4: // the header is cut off by the end of the packet
		p.hop(g.pads(6))
		p.proto, p.l4, p.l4sum, p.partial = wire.ProtoNone, nil, -1, false
		p.padding = -(1 + g.IntN(8))
		if g.IntN(2) == 0 {
			p.longer = p.padding
		}
	default: // not the first, where it may not be
		p.headers = []header6{options6(wire.ProtoDestOpts, nil), options6(wire.ProtoHopByHop, option6(0x9e, 1))}
	}
	return p
}

// jumbo is a jumbogram (RFC 2675), or what looks like one.
func jumbo(g *gen) packet6 {
	p := g.plain6()
	g.errorHops(&p)
	n := uint32(8 + len(p.l4))
	switch g.IntN(6) {
	case 0, 1:
		n = pick[uint32](g, 0, 1, 65535, 65536, 65537, 70000, 1<<31)
	case 2:
		n = 65536
		if p.port == pod0 {
			p.l4, p.proto, p.l4sum, p.partial = g.data(3000), 253, -1, false
		}
	}
	p.hop(option6(optJumbo, binary.BigEndian.AppendUint32(nil, n)...))
	switch g.IntN(5) {
	case 0:
		p.hop(g.pads(4), option6(optJumbo, binary.BigEndian.AppendUint32(nil, n)...)) // misplaced: at n*4+2 only
		p.headers = p.headers[:1]
	case 1:
		p.headers = nil
	}
	p.jumbo = g.IntN(4) != 0
	return p
}

// destOptions are not a router's.
func destOptions(g *gen) packet6 {
	p := g.plain6()
	g.errorHops(&p)
	opts := option6(pick[byte](g, 0x1e, 0x5e, 0x9e, 0xde, optTunnelLimit, optHome), g.data(g.IntN(20))...)
	p.headers = []header6{options6(wire.ProtoDestOpts, opts)}
	if g.IntN(4) == 0 {
		p.headers[0].body[1] = byte(g.IntN(256))
	}
	return p
}

// routingHeader is one that is not for this host, unless the destination is.
func routingHeader(g *gen) packet6 {
	p := g.plain6()
	g.errorHops(&p)
	n := g.IntN(4)
	data := g.data(4 + 16*n)
	for i := range n {
		a := pick(g, podAddrs6[0][0], hostOwn6[0], g.below(remoteA6[0]), ip6("ff02::1"))
		copy(data[4+16*i:], a[:])
	}
	p.headers = []header6{routing6(pick[byte](g, 0, 0, 2, 3, 4, 99), byte(g.IntN(n+2)), data)}
	if g.IntN(4) == 0 {
		p.dst = pick(g, hostOwn6...)
	}
	return p
}

// chain has several headers, known and unknown, whole and cut off.
func chain(g *gen) packet6 {
	p := g.plain6()
	g.errorHops(&p)
	for range 1 + g.IntN(4) {
		switch g.IntN(6) {
		case 0:
			p.headers = append(p.headers, options6(wire.ProtoDestOpts, option6(0x1e, g.data(g.IntN(9))...)))
		case 1:
			p.headers = append(p.headers, fragment6(pick[uint16](g, 0, 0, 1, 185), g.IntN(2) == 0, g.Uint32()))
		case 2:
			p.headers = append(p.headers, routing6(pick[byte](g, 0, 2, 4), byte(g.IntN(2)), g.data(4+16*g.IntN(2))))
		case 3: // authentication, whose length is in units of four bytes (RFC 4302)
			b := g.data(12 + 4*g.IntN(4))
			b[1] = byte(len(b)/4 - 2)
			p.headers = append(p.headers, header6{wire.ProtoAH, b})
		case 4:
			p.headers = append(p.headers, header6{pick[byte](g, wire.ProtoMobility, 139, 140, 253, wire.ProtoESP), append([]byte{0, 0}, g.data(6)...)})
		default:
			p.hop(g.pads(6))
		}
	}
	if g.IntN(3) == 0 {
		p.proto, p.l4, p.l4sum, p.partial = pick(g, p.proto, wire.ProtoNone), p.l4[:g.IntN(min(8, len(p.l4)+1))], -1, false
	}
	if g.IntN(5) == 0 {
		p.dst = g.below(pick(g, unrouted6...))
	}
	if g.IntN(6) == 0 {
		p.partial, p.padding = false, -(1 + g.IntN(p.length()-wire.IPv6Len+len(p.l4)))
	}
	p.fits()
	return p
}

func noNext(g *gen) packet6 {
	p := g.plain6()
	g.errorHops(&p)
	p.proto, p.l4, p.l4sum, p.partial = wire.ProtoNone, g.data(g.IntN(40)), -1, false
	return p
}
