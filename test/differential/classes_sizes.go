package differential

import "proxyarpd/internal/wire"

// mtus are those of interfaces and routes; the generator keeps near to them.
var mtus = []int{68, 576, 600, 800, 1000, 1200, 1500, 4000}

func (g *gen) nearMTU() int { return pick(g, mtus...) + g.IntN(19) - 9 }

// fits keeps a datagram small enough to enter by its port.
func (p *packet) fits() {
	if most := ports[p.port].mtu - 20 - (len(p.opts)+3)&^3; p.gsoSize == 0 && len(p.l4) > most {
		p.l4 = p.l4[:most]
	}
}

// narrowed leads a datagram to where the MTU may be smaller.
func (g *gen) narrowed() packet {
	p := g.plain()
	p.port = pick(g, pod0, pod0, pod1, up0)
	p.src, p.dst = g.source(p.port), g.destination(p.port)
	if g.IntN(3) == 0 && p.port != up0 {
		p.dst = g.within(pick(g, narrow...))
	}
	p.frag = pick[uint16](g, 0, wire.IPv4DF)
	return p
}

func sizes(g *gen) packet {
	p := g.narrowed()
	g.layer4(&p, max(0, g.nearMTU()-28))
	if g.IntN(6) == 0 {
		g.layer4(&p, g.IntN(3900))
	}
	p.fits()
	return p
}

func sizesWithOptions(g *gen) packet {
	p := pick(g, optPad, optRecordRoute, optTimestamp, optOther, optSourceRoute)(g)
	opts := p.opts
	if g.IntN(3) == 0 {
		opts = limit(append([]byte{148, 4, 0, 0, 7, 7, 4, 0, 0, 0, 0}, opts...))
	}
	p = g.narrowed()
	p.opts = opts
	g.layer4(&p, max(0, g.nearMTU()-28-g.IntN(40)))
	p.fits()
	return p
}

// fragment is a piece of a datagram.
func fragment(g *gen) packet {
	p := g.narrowed()
	p.ttl = pick[byte](g, 1, 64, 64, 64)
	n := pick(g, 0, 1, 7, 8, 16, 100, 576, 980, 1200, 1480)
	p.proto, p.l4, p.l4sum, p.partial = pick[byte](g, wire.ProtoUDP, wire.ProtoTCP, wire.ProtoICMP, 50), g.data(n), -1, false
	p.frag = pick[uint16](g, 0x2000, 0x2000, 0x2001, 1, 2, 0x20b9, 185, 0x1fff, 0x3fff, 0x6000, 0x4001, 0x8000, 0xa000, 0xffff, uint16(g.Uint32()))
	if g.IntN(4) == 0 {
		p.dst = g.within(pick(g, unrouted...))
	}
	if g.IntN(4) == 0 {
		p.opts = pick(g, []byte{1, 1, 1, 1}, []byte{148, 4, 0, 0}, []byte{7, 7, 4, 0, 0, 0, 0}, []byte{94, 4, 1, 2})
	}
	p.fits()
	return p
}

// gsoTCP is a super-packet as a sender with segmentation offload hands over.
func gsoTCP(g *gen) packet {
	p := g.narrowed()
	p.ttl = pick[byte](g, 1, 2, 64, 64, 64, 64)
	var opts []byte
	if g.IntN(2) == 0 {
		opts = append([]byte{1, 1, 8, 10}, g.data(8)...)
	}
	p.gsoSize = max(8, g.nearMTU()-40-len(opts)-pick(g, 0, 0, 4))
	if g.IntN(8) == 0 {
		p.opts = pick(g, []byte{1, 1, 1, 1}, []byte{148, 4, 0, 0}, []byte{7, 7, 4, 0, 0, 0, 0})
	}
	segments := 2 + g.IntN(6)
	n := min(p.gsoSize*(segments-1)+1+g.IntN(p.gsoSize), 60000)
	flags := pick[byte](g, 0x10, 0x18, 0x19, 0x90, 0xd8, 0x50)
	p.proto, p.l4, p.l4sum, p.partial = wire.ProtoTCP, tcp(uint16(1024+g.IntN(60000)), 5201, flags, opts, g.data(n)), 16, true
	return p
}

func gsoUDP(g *gen) packet {
	p := g.narrowed()
	p.ttl = pick[byte](g, 1, 2, 64, 64, 64, 64)
	p.gsoSize = max(8, g.nearMTU()-28-pick(g, 0, 0, 4))
	segments := 2 + g.IntN(6)
	n := min(p.gsoSize*(segments-1)+1+g.IntN(p.gsoSize), 60000)
	p.proto, p.l4, p.l4sum, p.partial = wire.ProtoUDP, udp(uint16(1024+g.IntN(60000)), 5201, g.data(n)), 6, true
	return p
}
