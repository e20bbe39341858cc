package differential

import (
	"encoding/binary"

	"proxyarpd/internal/wire"
)

// scopes puts addresses where none of that kind may stand, or where they do not reach.
func scopes(g *gen) packet6 {
	p := g.plain6()
	p.hops = pick[byte](g, 1, 64, 64)
	a := pick(g, ip6("::"), ip6("::1"), ip6("fe80::2"), ip6("fe80::77"), linkLocal6[p.port], ip6("ff01::1"), ip6("ff02::1"), ip6("ff02::3"), ip6("ff02::fb"),
		ip6("ff05::3"), ip6("ff0e::101"), ip6("ff00::1"), ip6("ff0f::1"), ip6("fec0::1"), ip6("::ffff:10.1.2.3"), ip6("::10.1.2.3"), ip6("::ffff:127.0.0.1"), ip6("::ffff:169.254.1.1"), ip6("::ffff:224.0.0.1"),
		ip6("64:ff9b::a01:203"), ip6("2002:a00:1::1"), ip6("2001:0:1::1"), ip6("100::1"), ip6("fc00::1"), ip6("3fff:1::1"), ip6("2001:db8:ff::1"), ip6("5f00::1"), pick(g, hostOwn6...), ip6("febf::1"))
	switch g.IntN(4) {
	case 0, 1:
		p.src = a
	case 2:
		p.dst = a
	default: // where not the source decides, but that there is no route
		p.src, p.dst = a, g.below(pick(g, unrouted6...))
	}
	return p
}

// layer26 are frames that are not for the host, or no IPv6.
func layer26(g *gen) packet6 {
	p := g.plain6()
	p.hops = pick[byte](g, 1, 64)
	if g.IntN(3) == 0 {
		p.dst = pick(g, ip6("ff02::5"), ip6("ff0e::5"), g.below(pick(g, unrouted6...)))
	}
	m := pick(g, [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, [6]byte{0x33, 0x33, 0, 0, 0, 1}, [6]byte{0x33, 0x33, 0xff, 0, 0, 1}, [6]byte{2, 9, 9, 9, 9, 9},
		ports[(p.port+2)%4].mac, [6]byte{}, ports[p.port].mac)
	p.dstMAC = &m
	p.etherType = pick[wire.EtherType](g, wire.EtherTypeIPv6, wire.EtherTypeIPv6, wire.EtherTypeIPv6, wire.EtherTypeIPv4, 0x88b5, 100)
	return p
}

// routeTypes6 goes to every kind of route, from everywhere.
func routeTypes6(g *gen) packet6 {
	p := g.plain6()
	p.hops = pick[byte](g, 1, 2, 64, 64, 64)
	switch g.IntN(4) {
	case 0, 1:
		p.dst = g.below(pick(g, unrouted6...))
	case 2:
		p.dst = g.below(pick(g, narrow6...))
	default:
		p.dst = pick(g, ip6("3fff::9"), ip6("2001:4860:4860::8888"), ip6("fd00:65::99"), ip6("2001:db8:66:20::1"), ip6("2001:db8:66:40::1"), ip6("2001:db8:66:60::1"), ip6("2001:db8:66:80::1"))
	}
	return p
}

// redirect6 goes back out of the interface that it came in by.
func redirect6(g *gen) packet6 {
	p := g.plain6()
	p.hops = pick[byte](g, 1, 2, 64, 64, 64)
	switch n := g.index % 8; {
	case n < 5 && poolBegins+g.index < up0Hosts6:
		p.port, p.src = up0, up0Station6(poolBegins+g.index)
		// By a gateway with a link-local address, with another, and without any.
		p.dst = pick(g, g.below(remoteA6[2]), g.below(remoteA6[2]), g.below(remoteA6[0]), up0Station6(4+g.IntN(200)))
		g.upper6(&p, pick(g, 0, 30, 500, 1100, 1200, 1300))
	case n == 5:
		p.port = g.IntN(2) // a pod to itself, or to what is behind it
		p.src, p.dst = g.below(behind6[p.port]), pick(g, podAddrs6[p.port]...)
		if g.IntN(2) == 0 {
			p.src, p.dst = p.dst, p.src
		}
	default:
		p.port, p.src, p.dst = up0, g.below(pick(g, remoteA6...)), g.below(pick(g, remoteA6...))
	}
	return p
}

// spoof6 speaks with sources that are elsewhere, or nowhere.
func spoof6(g *gen) packet6 {
	p := g.plain6()
	p.hops = pick[byte](g, 1, 64, 64, 64)
	p.src = pick(g, podAddrs6[pod0][0], podAddrs6[pod1][0], g.below(pick(g, remoteA6...)), g.below(pick(g, remoteB6...)), g.below(pick(g, unrouted6...)),
		g.below(pick(g, narrow6...)), pick(g, hostOwn6...), up1Station6("2001:db8:2::", 16+g.IntN(100)), ip6("2001:4860:4860::8844"), ip6("fd00:65::77"))
	if g.IntN(4) == 0 {
		p.dst = g.below(pick(g, unrouted6...))
	}
	return p
}

// local6 is for the host itself.
func local6(g *gen) packet6 {
	p := g.plain6()
	p.dst = pick(g, hostOwn6...)
	p.hops = pick[byte](g, 1, 64)
	return p
}

// quoted6 is a packet as an error quotes it.
func (g *gen) quoted6(p *packet6) []byte {
	inner := packet6{port: p.port, src: p.dst, dst: p.src, hops: 60, proto: wire.ProtoUDP, l4: udp(1, 2, g.data(8)), l4sum: 6}
	f := inner.frame("", 0)
	return f.Bytes[ethernetLen:]
}

// icmpError6 bears an ICMPv6 message, mostly of those about which no error is sent.
func icmpError6(g *gen) packet6 {
	p := g.plain6()
	p.proto, p.l4sum, p.partial = wire.ProtoICMPv6, 2, false
	p.l4 = icmp6(pick[byte](g, 1, 2, 3, 4, 5, 100, 127, 128, 133, 137, byte(g.Uint32())), byte(g.IntN(8)), g.Uint32(), g.quoted6(&p))
	if g.IntN(6) == 0 {
		p.l4 = p.l4[:g.IntN(9)]
		p.l4sum = -1
	}
	p.hops = pick[byte](g, 1, 64)
	switch g.IntN(4) {
	case 0:
		p.dst = g.below(pick(g, unrouted6...))
	case 1:
		p.headers = []header6{fragment6(pick[uint16](g, 0, 7), true, 7)}
	case 2:
		p.headers = []header6{options6(wire.ProtoDestOpts, nil)}
	}
	return p
}

// neighbourMessages are those of neighbour and multicast listener discovery in places
// where a router meets none; those for the link itself are none of these.
func neighbourMessages(g *gen) packet6 {
	p := g.plain6()
	p.proto, p.l4sum, p.partial = wire.ProtoICMPv6, 2, false
	target := g.destination6(p.port)
	p.l4 = icmp6(pick[byte](g, 130, 131, 132, 133, 134, 135, 136, 143), 0, 0, append(target[:], g.data(8)...))
	p.hops = pick[byte](g, 1, 64, 255, 255)
	if g.IntN(4) == 0 {
		p.dst = g.below(pick(g, unrouted6...))
	}
	return p
}

// encapsulated6 bears a packet in a packet, as encapsulated.
func encapsulated6(g *gen) packet6 {
	p := g.plain6()
	p.hops = pick[byte](g, 1, 64, 64, 64)
	p.l4sum, p.partial = -1, false
	p.proto, p.l4 = g.tunnel(1 + g.IntN(3))
	if g.IntN(5) == 0 {
		p.l4 = p.l4[:g.IntN(min(len(p.l4), 100))]
	}
	return p
}

// mutated6 flips bits of what another class made.
func mutated6(g *gen) *Frame {
	c := classes6[g.IntN(len(classes6)-1)] // mutated is the last
	f := c.frame(g)
	h := f.Bytes[ethernetLen:]
	end := min(len(h), wire.IPv6Len+48)
	if end < wire.IPv6Len {
		return f
	}
	for range 1 + g.IntN(3) {
		at := g.IntN(end)
		if at > 0 && at < 4 || f.Vnet[1] != 0 && (at >= wire.IPv6Len || at >= 4 && at < 7) {
			continue // the mark, and no device makes super-packets whose parts do not fit together
		}
		h[at] ^= 1 << g.IntN(8)
	}
	if start := int(binary.NativeEndian.Uint16(f.Vnet[6:])) - ethernetLen; f.Vnet[0] != 0 && start >= wire.IPv6Len {
		// What a sender leaves to a device it leaves in a state to be completed.
		proto, at := byte(wire.ProtoUDP), start+int(binary.NativeEndian.Uint16(f.Vnet[8:]))
		if at-start == 16 {
			proto = wire.ProtoTCP
		}
		p := wire.IPv6(h)
		if at+2 > len(h) {
			return f
		}
		binary.BigEndian.PutUint16(h[at:], ^wire.Fold(wire.PseudoSum6(p.Src(), p.Dst(), proto, len(h)-start)))
	}
	return f
}
