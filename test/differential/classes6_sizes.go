package differential

import "proxyarpd/internal/wire"

// mtus6 are those of interfaces and routes in IPv6 worlds.
var mtus6 = []int{1000, 1280, 1300, 1350, 1400, 1500, 4000}

func (g *gen) nearMTU6() int { return pick(g, mtus6...) + g.IntN(19) - 9 }

// fits keeps a packet small enough to enter by its port.
func (p *packet6) fits() {
	if most := ports[p.port].mtu6 - p.length(); p.gsoSize == 0 && len(p.l4) > most {
		p.l4 = p.l4[:max(most, 0)]
	}
}

// narrowed6 leads a packet to where the MTU may be smaller.
func (g *gen) narrowed6() packet6 {
	p := g.plain6()
	p.port = pick(g, pod0, pod0, pod1, up0)
	p.src, p.dst = g.source6(p.port), g.destination6(p.port)
	if g.IntN(3) == 0 && p.port != up0 {
		p.dst = g.below(pick(g, narrow6...))
	}
	return p
}

func sizes6(g *gen) packet6 {
	p := g.narrowed6()
	g.upper6(&p, max(0, g.nearMTU6()-wire.IPv6Len-8))
	if g.IntN(6) == 0 {
		g.upper6(&p, g.IntN(3900))
	}
	if g.IntN(8) == 0 { // about which none is sent
		p.src = pick(g, ip6("ff02::1"), ip6("::"), ip6("fe80::20"))
	}
	p.fits()
	return p
}

func sizesWithHeaders(g *gen) packet6 {
	headers := pick(g, hopPad, hopAlert, destOptions, routingHeader, chain)(g).headers
	p := g.narrowed6()
	p.headers = headers
	g.upper6(&p, max(0, g.nearMTU6()-p.length()-8))
	if g.IntN(4) == 0 {
		p.proto, p.l4 = wire.ProtoICMPv6, icmp6(pick[byte](g, 1, 2, 3, 4, 137, 128), 0, 0, p.l4)
		p.l4sum, p.partial = 2, false
	}
	p.fits()
	return p
}

// fragments6 are pieces of a packet.
func fragments6(g *gen) packet6 {
	p := g.narrowed6()
	g.errorHops(&p)
	p.proto, p.l4 = pick[byte](g, wire.ProtoUDP, wire.ProtoTCP, wire.ProtoICMPv6, wire.ProtoESP), g.data(pick(g, 0, 1, 7, 8, 16, 100, 1232, 1240, 1300, 1440))
	p.l4sum, p.partial = -1, false
	if p.proto == wire.ProtoICMPv6 && len(p.l4) > 0 {
		p.l4[0] = pick[byte](g, 1, 2, 128, 137, 200)
	}
	p.headers = []header6{fragment6(pick[uint16](g, 0, 0, 0, 1, 2, 185, 0x1fff, uint16(g.Uint32())&0x1fff), g.IntN(2) == 0, g.Uint32())}
	switch g.IntN(6) {
	case 0:
		p.hop(g.pads(6))
	case 1:
		p.headers[0].body[3] |= 6 // reserved bits
	case 2: // the header is cut off
		p.l4, p.padding = nil, -(1 + g.IntN(8))
		p.longer = p.padding
	}
	if g.IntN(4) == 0 {
		p.dst = g.below(pick(g, unrouted6...))
	}
	p.fits()
	return p
}

// gsoTCP6 is a super-packet as a sender with segmentation offload hands over.
func gsoTCP6(g *gen) packet6 {
	p := g.narrowed6()
	p.hops = pick[byte](g, 1, 2, 64, 64, 64, 64)
	var opts []byte
	if g.IntN(2) == 0 {
		opts = append([]byte{1, 1, 8, 10}, g.data(8)...)
	}
	if g.IntN(8) == 0 {
		p.hop(pick(g, g.pads(6), option6(optRouterAlert, 0, 0)))
	}
	p.gsoSize = max(8, g.nearMTU6()-p.length()-20-len(opts)-pick(g, 0, 0, 4))
	p.proto, p.l4sum, p.partial = wire.ProtoTCP, 16, true
	p.l4 = tcp(uint16(1024+g.IntN(60000)), 5201, pick[byte](g, 0x10, 0x18, 0x19, 0x90, 0xd8, 0x50), opts, g.data(g.segments(p.gsoSize)))
	return p
}

// segments is how much data makes two to seven segments of size bytes.
func (g *gen) segments(size int) int {
	return min(size*(1+g.IntN(6))+1+g.IntN(size), 60000)
}

func gsoUDP6(g *gen) packet6 {
	p := g.narrowed6()
	p.hops = pick[byte](g, 1, 2, 64, 64, 64, 64)
	p.gsoSize = max(8, g.nearMTU6()-p.length()-8-pick(g, 0, 0, 4))
	p.proto, p.l4, p.l4sum, p.partial = wire.ProtoUDP, udp(uint16(1024+g.IntN(60000)), 5201, g.data(g.segments(p.gsoSize))), 6, true
	return p
}

// gsoHeaders6 is a super-packet with extension headers. Behind others than hop-by-hop options
// the kernel compares another length with the MTU (docs/DIFFERENCES.md), by up to 60 bytes.
func gsoHeaders6(g *gen) packet6 {
	p := pick(g, gsoTCP6, gsoUDP6)(g)
	p.headers = nil
	switch n := g.IntN(6); n {
	case 0:
		p.hop(pick(g, g.pads(6), option6(optRouterAlert, 0, 0), option6(0x1e, 1, 2, 3)))
		return p
	case 1:
		p.headers = []header6{routing6(pick[byte](g, 0, 2, 3, 4), byte(g.IntN(2)), g.data(20))}
	case 2:
		p.headers = []header6{options6(wire.ProtoDestOpts, nil), routing6(4, 0, g.data(20))}
	default:
		p.headers = []header6{options6(wire.ProtoDestOpts, option6(0x1e, g.data(g.IntN(12))...))}
		if n == 3 {
			p.hop(g.pads(6))
		}
	}
	p.gsoSize = pick(g, 100, 500, 900, 1100, 1800, 3000) - p.length() + wire.IPv6Len
	data := g.data(min(g.segments(p.gsoSize), 16*p.gsoSize))
	if p.proto == wire.ProtoUDP {
		p.l4 = udp(uint16(1024+g.IntN(60000)), 5201, data)
	} else {
		p.l4 = tcp(uint16(1024+g.IntN(60000)), 5201, pick[byte](g, 0x10, 0x18, 0x90), nil, data)
	}
	return p
}

// lengths6 are payload lengths that do not fit the frame.
func lengths6(g *gen) packet6 {
	p := g.plain6()
	p.hops = pick[byte](g, 1, 64, 64)
	switch g.IntN(5) {
	case 0:
		p.padding = 1 + g.IntN(60)
	case 1:
		p.padding = -(1 + g.IntN(len(p.l4)+wire.IPv6Len))
	case 2:
		p.longer = -(1 + g.IntN(len(p.l4)))
	case 3:
		p.longer = 1 + g.IntN(100)
	default:
		p.longer = -g.IntN(min(10, len(p.l4)))
		p.padding = g.IntN(20)
	}
	return p
}
