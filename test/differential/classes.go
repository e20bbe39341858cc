package differential

import (
	"encoding/binary"
	"hash/fnv"
	"math/rand/v2"
	"slices"

	"proxyarpd/internal/wire"
)

// class is one kind of frames. make gives frame index of it; all chance is r's.
type class struct {
	name   string
	weight int
	make   func(g *gen) packet
}

// gen is what a class makes a frame from.
type gen struct {
	*rand.Rand
	w     *world
	index int
}

func generate(seed uint64, w *world, c class, index int) *Frame {
	h := fnv.New64a()
	h.Write([]byte(c.name))
	g := &gen{Rand: rand.New(rand.NewPCG(seed, h.Sum64()+uint64(index))), w: w, index: index}
	if c.name == "mutated" {
		return mutated(g)
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

// to gives the datagram another destination.
func (p packet) to(a addr) packet {
	p.dst = a
	return p
}

var classes = []class{
	{"plain", 10, (*gen).plain},
	{"protocol", 4, func(g *gen) packet {
		p := g.plain()
		p.proto, p.l4, p.l4sum, p.partial = pick[byte](g, 0, 2, 4, 41, 47, 50, 51, 58, 132, 136, 253, 255), g.data(g.IntN(80)), -1, false
		return p
	}},
	{"ttl", 6, func(g *gen) packet {
		p := g.plain()
		p.ttl = [...]byte{0, 1, 2, 64, 255}[g.index%5]
		return p
	}},
	{"ttl-error", 6, func(g *gen) packet { // all that an error quotes
		p := g.plain()
		p.ttl, p.tos = pick[byte](g, 0, 1, 1, 1), byte(g.IntN(256))
		g.layer4(&p, pick(g, 0, 1, 7, 100, 500, 519, 520, 521, 548, 600, 900))
		return p
	}},
	{"tos", 4, func(g *gen) packet {
		p := g.plain()
		p.tos = byte(g.index)
		return p
	}},
	{"length", 6, lengths},
	{"checksum", 4, func(g *gen) packet {
		p := g.plain()
		p.wrongSum = pick[uint16](g, 1, 0x100, 0xffff, 0x8000, uint16(g.Uint32()))
		p.ttl = pick[byte](g, 1, 2, 64)
		return p
	}},
	{"version", 3, func(g *gen) packet {
		p := g.plain()
		p.first = byte(g.index)
		return p
	}},
	{"opt-pad", 4, optPad},
	{"opt-rr", 8, optRecordRoute},
	{"opt-ts", 8, optTimestamp},
	{"opt-srr", 6, optSourceRoute},
	{"opt-other", 6, optOther},
	{"opt-bad", 6, optBad},
	{"opt-error", 8, optError},
	{"fragment", 8, fragment},
	{"size", 12, sizes},
	{"size-opt", 8, sizesWithOptions},
	{"gso-tcp", 8, gsoTCP},
	{"gso-udp", 8, gsoUDP},
	{"icmp-error", 6, icmpError},
	{"martian", 8, martian},
	{"layer2", 6, layer2},
	{"route", 10, routeTypes},
	{"redirect", 6, redirect},
	{"spoof", 10, spoof},
	{"local", 4, local},
	{"mutated", 20, nil},
}

// lengths are total lengths that do not fit the frame.
func lengths(g *gen) packet {
	p := g.plain()
	p.ttl = pick[byte](g, 1, 64, 64)
	real := 20 + len(p.l4)
	switch g.IntN(6) {
	case 0:
		p.padding = 1 + g.IntN(60)
	case 1:
		p.padding = -(1 + g.IntN(len(p.l4)+20))
	case 2:
		p.total = max(1, real-1-g.IntN(real))
	case 3:
		p.total = real + 1 + g.IntN(100)
	case 4:
		p.total = pick(g, 1, 19, 20, 21, 27, 28, 65535)
	default:
		p.padding, p.total = g.IntN(20), max(20, real-g.IntN(10))
	}
	return p
}

// martian puts addresses where none of that kind may stand.
func martian(g *gen) packet {
	p := g.plain()
	p.ttl = pick[byte](g, 1, 64, 64)
	a := pick(g, ip("0.0.0.0"), ip("0.1.2.3"), ip("127.0.0.1"), ip("127.255.255.255"), ip("224.0.0.1"), ip("224.0.0.251"), ip("239.1.2.3"),
		ip("255.255.255.255"), ip("240.0.0.1"), ip("250.1.1.1"), ip("10.1.15.255"), ip("10.2.0.255"), ip("10.1.0.0"), ip("10.2.0.0"),
		pick(g, hostOwn...), ip("169.254.1.1"), ip("10.65.0.255"), ip("192.0.0.8"))
	switch g.IntN(3) {
	case 0:
		p.src = a
	case 1:
		p.dst = a
	default: // where not the source decides, but that there is no route
		p.src = pick(g, addr{0}, addr{127}, addr{224}, addr{240}, addr{250}, addr{10, 1, 15, 255}, addr{255, 255, 255, 255})
		if p.src[3] == 0 {
			copy(p.src[1:], g.data(3))
		}
		p.dst = pick(g, unrouted...)
	}
	return p
}

// layer2 are frames that are not for the host, or no IPv4.
func layer2(g *gen) packet {
	p := g.plain()
	p.ttl = pick[byte](g, 1, 64)
	if g.IntN(3) == 0 {
		p.dst = pick(g, ip("224.0.0.5"), ip("255.255.255.255"), g.within(pick(g, unrouted...)))
	}
	m := pick(g, [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, [6]byte{1, 0, 0x5e, 0, 0, 1}, [6]byte{2, 9, 9, 9, 9, 9}, ports[(p.port+2)%4].mac, [6]byte{}, ports[p.port].mac)
	p.dstMAC = &m
	p.etherType = pick[uint16](g, 0x0800, 0x0800, 0x0800, 0x86dd, 0x88b5, 100)
	return p
}

// routeTypes goes to every kind of route, from everywhere.
func routeTypes(g *gen) packet {
	p := g.plain()
	p.ttl = pick[byte](g, 1, 2, 64, 64, 64)
	switch g.IntN(4) {
	case 0, 1:
		p.dst = g.within(pick(g, unrouted...))
	case 2:
		p.dst = g.within(pick(g, narrow...))
	default:
		p.dst = pick(g, ip("203.0.113.9"), ip("8.8.8.8"), ip("10.65.0.99"), g.within(ip("10.66.200.0")), g.within(ip("172.20.0.0")))
	}
	return p
}

// redirect goes back out of the interface that it came in by.
func redirect(g *gen) packet {
	p := g.plain()
	p.ttl = pick[byte](g, 1, 2, 64, 64, 64)
	switch n := g.index % 8; {
	case n < 5 && poolBegins+g.index < up0Hosts-1:
		p.port, p.src = up0, up0Station(poolBegins+g.index)
		p.dst = pick(g, g.wide(pick(g, remoteA...)), up0Station(4+g.IntN(200)), g.within(ip("10.66.200.0")))
		if g.IntN(8) == 0 {
			p.opts = []byte{7, 7, 4, 0, 0, 0, 0, 0}
		}
	case n == 5:
		p.port = g.IntN(2) // a pod to itself, or to what is behind it
		p.src, p.dst = g.wide(behind[p.port]), podAddrs[p.port][g.IntN(2)]
		if g.IntN(4) == 0 && g.index < 64 { // the kernel sends a few redirects to one who ignores them
			p.src = podAddrs[p.port][0]
		}
	default:
		p.port, p.src, p.dst = up0, g.wide(pick(g, remoteA...)), g.wide(pick(g, remoteA...))
	}
	return p
}

// spoof speaks with sources that are elsewhere, or nowhere.
func spoof(g *gen) packet {
	p := g.plain()
	p.ttl = pick[byte](g, 1, 64, 64, 64)
	p.src = pick(g, podAddrs[pod0][0], podAddrs[pod1][0], g.wide(pick(g, remoteA...)), g.wide(pick(g, remoteB...)), g.within(pick(g, unrouted...)),
		g.within(pick(g, narrow...)), pick(g, hostOwn...), addr{10, 2, 0, byte(16 + g.IntN(100))}, ip("8.8.4.4"), ip("10.65.0.77"))
	if g.IntN(4) == 0 {
		p.dst = g.within(pick(g, unrouted...))
		p.src = pick(g, g.wide(pick(g, remoteA...)), g.wide(pick(g, remoteB...)), g.wide(behind[pod0]), g.wide(behind[pod1]), addr{8, byte(g.Uint32()), byte(g.Uint32()), 4})
	}
	return p
}

// local is for the host itself.
func local(g *gen) packet {
	p := g.plain()
	p.frag &= wire.IPv4DF
	p.dst = pick(g, hostOwn...)
	p.ttl = pick[byte](g, 1, 64)
	return p
}

// icmpError bears an ICMP message, mostly of those about which no error is sent.
func icmpError(g *gen) packet {
	p := g.plain()
	inner := packet{port: p.port, src: p.dst, dst: p.src, ttl: 60, proto: wire.ProtoUDP, l4: udp(1, 2, g.data(8)), l4sum: 6}
	quoted := inner.frame("", 0).Bytes[14:]
	p.proto, p.l4sum, p.partial = wire.ProtoICMP, -1, false
	p.l4 = icmp(byte(g.index%44), byte(g.IntN(16)), g.Uint32(), quoted)
	if g.IntN(6) == 0 {
		p.l4 = p.l4[:g.IntN(9)]
	}
	p.ttl = pick[byte](g, 1, 64)
	switch g.IntN(3) {
	case 0:
		p.dst = g.within(pick(g, unrouted...))
	case 1:
		p.frag = wire.IPv4DF
	}
	return p
}

// mutated flips bits of what another class made.
func mutated(g *gen) *Frame {
	c := classes[g.IntN(len(classes)-1)]
	p := c.make(g)
	if g.spare(&p); p.src == podAddrs[p.port/2][0] || p.port < up0 {
		p.src = g.wide(behind[p.port%2])
	}
	f := p.frame("mutated", g.index)
	end := min(len(f.Bytes), 14+60)
	if end <= 14+20 {
		return f
	}
	h := f.Bytes[14:]
	for range 1 + g.IntN(3) {
		at := g.IntN(end - 14)
		if at == 4 || at == 5 || f.Vnet[1] != 0 && (at >= 20 || at == 2 || at == 3) {
			continue // no device makes super-packets whose parts do not fit together
		}
		h[at] ^= 1 << g.IntN(8)
	}
	if g.IntN(4) != 0 {
		repair(h)
	}
	if hlen := int(f.Bytes[14]&15) * 4; f.Vnet[0] != 0 && hlen == 20+(len(p.opts)+3)&^3 && len(h) >= hlen+p.l4sum+2 {
		// What a sender leaves to a device it leaves in a state to be completed.
		at, length := hlen+p.l4sum, len(h)-hlen
		binary.BigEndian.PutUint16(h[at:], ^wire.Fold(wire.PseudoSum4(addr(h[12:]), addr(h[16:]), p.proto, length)))
	}
	return f
}

func repair(h []byte) {
	hlen := int(h[0]&15) * 4
	if hlen < 20 || hlen > len(h) {
		return
	}
	binary.BigEndian.PutUint16(h[10:], 0)
	binary.BigEndian.PutUint16(h[10:], wire.Checksum(h[:hlen]))
}
