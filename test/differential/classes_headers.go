package differential

import (
	"encoding/binary"

	"proxyarpd/internal/wire"
)

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
	c := classes[g.IntN(len(classes)-1)] // mutated is the last
	p := c.make(g)
	if g.spare(&p); p.port < up0 {
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
