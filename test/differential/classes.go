package differential

import (
	"hash/fnv"
	"math/rand/v2"
	"slices"

	"proxyarpd/internal/wire"
)

// class is one kind of frames. make gives the datagram of frame index, or frame
// the whole frame; all chance is g's.
type class struct {
	name   string
	weight int
	make   func(g *gen) packet
	frame  func(g *gen) *Frame
}

// gen is what a class makes a frame from.
type gen struct {
	*rand.Rand
	w     *world
	class string
	index int
}

func generate(seed uint64, w *world, c class, index int) *Frame {
	h := fnv.New64a()
	h.Write([]byte(c.name))
	g := &gen{Rand: rand.New(rand.NewPCG(seed, h.Sum64()+uint64(index))), w: w, class: c.name, index: index}
	if c.frame != nil {
		return c.frame(g)
	}
	p := c.make(g)
	g.spare(&p)
	return p.frame(c.name, index)
}

// spare has those speak who have not had many errors, where one may be due.
func (g *gen) spare(p *packet) {
	if g.likely(p.dst) {
		return
	}
	for i, own := range podAddrs {
		if p.src == own[0] || p.src == own[1] {
			p.src = g.wide(behind[i])
		}
	}
	if p.src[0] == 10 && p.src[1] == 2 && p.src[3] >= 16 && p.src[3] != 255 {
		p.src = g.wide(remoteB[1])
	}
}

// likely reports whether a destination has a route in every world.
func (g *gen) likely(a addr) bool {
	for _, known := range slices.Concat(podAddrs[pod0], podAddrs[pod1], remoteA, remoteB, narrow, hostOwn) {
		if a == known || known[3] == 0 && a[0] == known[0] && a[1] == known[1] {
			return true
		}
	}
	return a[0] == 10 && (a[1] == 1 && a[2] < 16 || a[1] == 2 && (a[2] == 0 || a[2] == 5))
}

func pick[T any](g *gen, all ...T) T { return all[g.IntN(len(all))] }

func (g *gen) data(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(g.Uint32())
	}
	return b
}

// within gives an address of a block whose last byte is chance.
func (g *gen) within(a addr) addr {
	a[3] = byte(1 + g.IntN(254))
	return a
}

// wide gives an address of a block of 2^15 or more.
func (g *gen) wide(a addr) addr {
	a[2] |= byte(g.IntN(128))
	return g.within(a)
}

// source gives an address that may speak at a port under any rp_filter.
func (g *gen) source(port int) addr {
	switch port {
	case pod0, pod1:
		if g.IntN(3) == 0 {
			return pick(g, podAddrs[port]...)
		}
		return g.wide(behind[port])
	case up0:
		return g.wide(pick(g, remoteA...))
	}
	if g.IntN(4) == 0 {
		return addr{10, 2, pick[byte](g, 0, 5), byte(16 + g.IntN(200))}
	}
	return g.wide(pick(g, remoteB...))
}

// destination gives an address that is reached by another port.
func (g *gen) destination(from int) addr {
	for {
		switch g.IntN(8) {
		case 0, 1:
			if from != pod0 {
				return pick(g, podAddrs[pod0]...)
			}
		case 2, 3:
			if from != pod1 {
				return pick(g, podAddrs[pod1]...)
			}
		case 4:
			if from != up0 {
				return g.wide(pick(g, remoteA...))
			}
		case 5:
			if from != up0 {
				return up0Station(4 + g.IntN(poolBegins-4))
			}
		case 6:
			if from != up1 {
				return g.wide(pick(g, remoteB...))
			}
		case 7:
			if from != up1 {
				return addr{10, 2, pick[byte](g, 0, 5), byte(16 + g.IntN(200))}
			}
		}
	}
}

// plain is a datagram that is forwarded.
func (g *gen) plain() packet {
	p := packet{port: g.IntN(len(ports)), ttl: 64, l4sum: -1}
	p.src, p.dst = g.source(p.port), g.destination(p.port)
	if g.IntN(4) == 0 {
		p.tos = byte(g.IntN(256))
	}
	if g.IntN(2) == 0 {
		p.frag = wire.IPv4DF
	}
	g.layer4(&p, g.IntN(64))
	return p
}

// layer4 puts n bytes of data into UDP, TCP or ICMP.
func (g *gen) layer4(p *packet, n int) {
	switch data := g.data(n); g.IntN(3) {
	case 0:
		p.proto, p.l4, p.l4sum = wire.ProtoUDP, udp(uint16(1024+g.IntN(60000)), uint16(33434+g.IntN(100)), data), 6
		switch g.IntN(8) {
		case 0:
			p.l4sum = -1 // none
		case 1:
			p.partial = true
		}
	case 1:
		p.proto, p.l4, p.l4sum = wire.ProtoTCP, tcp(uint16(1024+g.IntN(60000)), 80, pick[byte](g, 2, 0x10, 0x18, 0x11, 4), nil, data), 16
		p.partial = g.IntN(4) == 0
	default:
		p.proto, p.l4, p.l4sum = wire.ProtoICMP, icmp(pick[byte](g, 8, 0, 13, 14, 17), 0, g.Uint32(), data), -1
	}
}

var classes = []class{
	{name: "plain", weight: 10, make: (*gen).plain},
	{name: "protocol", weight: 4, make: func(g *gen) packet {
		p := g.plain()
		p.proto, p.l4, p.l4sum, p.partial = pick[byte](g, 0, 2, 4, 41, 47, 50, 51, 58, 132, 136, 253, 255), g.data(g.IntN(80)), -1, false
		return p
	}},
	{name: "ttl", weight: 6, make: func(g *gen) packet {
		p := g.plain()
		p.ttl = [...]byte{0, 1, 2, 64, 255}[g.index%5]
		return p
	}},
	{name: "ttl-error", weight: 6, make: func(g *gen) packet { // all that an error quotes
		p := g.plain()
		p.ttl, p.tos = pick[byte](g, 0, 1, 1, 1), byte(g.IntN(256))
		g.layer4(&p, pick(g, 0, 1, 7, 100, 500, 519, 520, 521, 548, 600, 900))
		return p
	}},
	{name: "tos", weight: 4, make: func(g *gen) packet {
		p := g.plain()
		p.tos = byte(g.index)
		return p
	}},
	{name: "length", weight: 6, make: lengths},
	{name: "checksum", weight: 4, make: func(g *gen) packet {
		p := g.plain()
		p.wrongSum = pick[uint16](g, 1, 0x100, 0xffff, 0x8000, uint16(g.Uint32()))
		p.ttl = pick[byte](g, 1, 2, 64)
		return p
	}},
	{name: "version", weight: 3, make: func(g *gen) packet {
		p := g.plain()
		p.first = byte(g.index)
		return p
	}},
	{name: "opt-pad", weight: 4, make: optPad},
	{name: "opt-rr", weight: 8, make: optRecordRoute},
	{name: "opt-ts", weight: 8, make: optTimestamp},
	{name: "opt-srr", weight: 6, make: optSourceRoute},
	{name: "opt-other", weight: 6, make: optOther},
	{name: "opt-bad", weight: 6, make: optBad},
	{name: "opt-error", weight: 8, make: optError},
	{name: "fragment", weight: 8, make: fragment},
	{name: "size", weight: 12, make: sizes},
	{name: "size-opt", weight: 8, make: sizesWithOptions},
	{name: "gso-tcp", weight: 8, make: gsoTCP},
	{name: "gso-udp", weight: 8, make: gsoUDP},
	{name: "icmp-error", weight: 6, make: icmpError},
	{name: "encap", weight: 10, make: encapsulated},
	{name: "martian", weight: 8, make: martian},
	{name: "layer2", weight: 6, make: layer2},
	{name: "route", weight: 10, make: routeTypes},
	{name: "redirect", weight: 6, make: redirect},
	{name: "spoof", weight: 10, make: spoof},
	{name: "local", weight: 4, make: local},
}

func init() { classes = append(classes, class{name: "mutated", weight: 20, frame: mutated}) }
