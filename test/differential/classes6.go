package differential

import (
	"net/netip"

	"proxyarpd/internal/wire"
)

// ipv6Class is a class of IPv6 packets.
func ipv6Class(name string, weight int, make func(g *gen) packet6) class {
	return class{name: name, weight: weight, frame: func(g *gen) *Frame {
		p := make(g)
		g.spare6(&p)
		return p.frame(g.class, g.index)
	}}
}

// classes6 are those of IPv6 worlds.
var classes6 = []class{
	ipv6Class("plain", 10, (*gen).plain6),
	ipv6Class("protocol", 4, func(g *gen) packet6 {
		p := g.plain6()
		p.proto, p.l4, p.l4sum, p.partial = pick[byte](g, 1, 2, 4, 41, 47, 50, 89, 132, 136, 253, 255), g.data(g.IntN(80)), -1, false
		return p
	}),
	ipv6Class("hops", 6, func(g *gen) packet6 {
		p := g.plain6()
		p.hops = [...]byte{0, 1, 2, 64, 255}[g.index%5]
		return p
	}),
	ipv6Class("hops-error", 6, func(g *gen) packet6 { // all that an error quotes
		p := g.plain6()
		p.hops, p.class = pick[byte](g, 0, 1, 1, 1), byte(g.IntN(256))
		g.upper6(&p, pick(g, 0, 1, 7, 100, 1100, 1180, 1183, 1184, 1185, 1192, 1200, 1220))
		return p
	}),
	ipv6Class("class", 4, func(g *gen) packet6 {
		p := g.plain6()
		p.class = byte(g.index)
		return p
	}),
	ipv6Class("length", 6, lengths6),
	ipv6Class("version", 3, func(g *gen) packet6 {
		p := g.plain6()
		p.version = byte(1 + g.index%15)
		return p
	}),
	ipv6Class("checksum", 2, func(g *gen) packet6 { // a router does not look at it
		p := g.plain6()
		p.wrongSum, p.hops = uint16(1+g.IntN(65534)), pick[byte](g, 1, 64)
		return p
	}),
	ipv6Class("hbh-pad", 6, hopPad),
	ipv6Class("hbh-alert", 6, hopAlert),
	ipv6Class("hbh-unknown", 10, hopUnknown),
	ipv6Class("hbh-bad", 8, hopBad),
	ipv6Class("jumbo", 5, jumbo),
	ipv6Class("dest-opts", 6, destOptions),
	ipv6Class("routing", 8, routingHeader),
	ipv6Class("fragment", 8, fragments6),
	ipv6Class("chain", 10, chain),
	ipv6Class("no-next", 3, noNext),
	ipv6Class("size", 12, sizes6),
	ipv6Class("size-ext", 8, sizesWithHeaders),
	ipv6Class("gso-tcp", 8, gsoTCP6),
	ipv6Class("gso-udp", 8, gsoUDP6),
	ipv6Class("gso-ext", 8, gsoHeaders6),
	ipv6Class("icmp-error", 8, icmpError6),
	ipv6Class("neighbour", 6, neighbourMessages),
	ipv6Class("encap", 10, encapsulated6),
	ipv6Class("scope", 14, scopes),
	ipv6Class("layer2", 6, layer26),
	ipv6Class("route", 12, routeTypes6),
	ipv6Class("redirect", 8, redirect6),
	ipv6Class("spoof", 10, spoof6),
	ipv6Class("local", 6, local6),
}

func init() { classes6 = append(classes6, class{name: "mutated", weight: 20, frame: mutated6}) }

// spare6 leaves those alone who are to have a redirect: it is refused to whoever has had
// an error (inet_peer_xrlim_allow in net/ipv4/inetpeer.c).
func (g *gen) spare6(p *packet6) {
	if g.class != "redirect" && up0Pool6.Contains(netip.AddrFrom16(p.src)) && int(p.src[14])<<8|int(p.src[15]) >= poolBegins {
		p.src[14] = 0
	}
}

var up0Pool6 = netip.MustParsePrefix("2001:db8:1::/64")

// below gives an address of a prefix, all other bits by chance.
func (g *gen) below(p netip.Prefix) addr6 {
	a := p.Addr().As16()
	for i, b := range g.data(16) {
		switch rest := p.Bits() - 8*i; {
		case rest <= 0:
			a[i] = b
		case rest < 8:
			a[i] |= b & (0xff >> rest)
		}
	}
	return a
}

// source6 gives an address that belongs behind a port.
func (g *gen) source6(port int) addr6 {
	switch port {
	case pod0, pod1:
		if g.IntN(3) == 0 {
			return pick(g, podAddrs6[port]...)
		}
		return g.below(behind6[port])
	case up0:
		return g.below(pick(g, remoteA6...))
	}
	if g.IntN(4) == 0 {
		return up1Station6(pick(g, "2001:db8:2::", "fd00:2:5::"), 16+g.IntN(200))
	}
	return g.below(pick(g, remoteB6...))
}

// destination6 gives an address that is reached by another port.
func (g *gen) destination6(from int) addr6 {
	for {
		switch to := g.IntN(4); {
		case to == from:
		case to < up0:
			if g.IntN(4) == 0 {
				return g.below(behind6[to])
			}
			return pick(g, podAddrs6[to]...)
		case to == up0 && g.IntN(3) == 0:
			return up0Station6(4 + g.IntN(poolBegins-4))
		default:
			return g.source6(to)
		}
	}
}

// plain6 is a packet that is forwarded.
func (g *gen) plain6() packet6 {
	p := packet6{port: g.IntN(len(ports)), hops: 64, l4sum: -1}
	p.src, p.dst = g.source6(p.port), g.destination6(p.port)
	if g.IntN(4) == 0 {
		p.class = byte(g.IntN(256))
	}
	g.upper6(&p, g.IntN(64))
	return p
}

// upper6 puts n bytes of data into UDP, TCP or ICMPv6.
func (g *gen) upper6(p *packet6, n int) {
	p.partial = false
	switch data := g.data(n); g.IntN(3) {
	case 0:
		p.proto, p.l4, p.l4sum = wire.ProtoUDP, udp(uint16(1024+g.IntN(60000)), uint16(33434+g.IntN(100)), data), 6
		switch g.IntN(8) {
		case 0:
			p.l4sum = -1 // none, which is not allowed (RFC 8200 section 8.1)
		case 1:
			p.partial = true
		}
	case 1:
		p.proto, p.l4, p.l4sum = wire.ProtoTCP, tcp(uint16(1024+g.IntN(60000)), 80, pick[byte](g, 2, 0x10, 0x18, 0x11, 4), nil, data), 16
		p.partial = g.IntN(4) == 0
	default:
		p.proto, p.l4, p.l4sum = wire.ProtoICMPv6, icmp6(pick[byte](g, 128, 128, 129, 138, 139, 144, 200), 0, g.Uint32(), data), 2
	}
}

// errorHops makes some of the packets be answered with an error.
func (g *gen) errorHops(p *packet6) { p.hops = pick[byte](g, 1, 2, 64, 64, 64) }
