package routetest

import (
	"math/rand/v2"
	"net/netip"
	"slices"

	"proxyarpd/forward/route"
	"proxyarpd/internal/wire"
)

// New6 draws a random host with IPv6 alone: New's, with each address and prefix in its
// place (To6), and what IPv6 has beside.
func New6(rng *rand.Rand) *World {
	w := New(rng)
	w.Family, w.Policy.IPv6 = route.IPv6, true
	for i := range w.Policy.Punt {
		w.Policy.Punt[i] = prefix6(w.Policy.Punt[i])
	}
	for i := range w.Links {
		l := &w.Links[i]
		if l.MTU6 = l.MTU; l.MTU < wire.IPv6MinMTU {
			l.MTU6 = pick(rng, []int{0, wire.IPv6MinMTU, 1400})
		}
		l.Conf6.RPFilter = l.Conf.RPFilter
		if l.Flags&route.LinkKernelForwards != 0 {
			l.Flags ^= route.LinkKernelForwards | route.LinkKernelForwards6
		}
		for j := range l.Addrs {
			a := &l.Addrs[j]
			a.Local, a.Prefix = To6(a.Local), prefix6(a.Prefix)
		}
		if oneIn(rng, 2) {
			l.Addrs = append(l.Addrs, route.Address{Local: netip.MustParseAddr("fe80::1"), Prefix: netip.MustParsePrefix("fe80::/64"), Scope: 253})
		}
		neigh := map[netip.Addr]Neighbour{}
		for a, n := range l.Neigh {
			neigh[To6(a)] = n
		}
		l.Neigh = neigh
	}
	w.Routes = slices.DeleteFunc(w.Routes, func(r Route) bool { return r.Type == route.TypeBroadcast })
	for i := range w.Routes {
		w.Routes[i] = w.route6(rng, w.Routes[i])
	}
	w.rules6()
	return w
}

// To6 is the IPv6 address that stands for an IPv4 address of a world: each octet at
// another depth, so that prefixes meet at all lengths.
func To6(a netip.Addr) netip.Addr {
	if !a.Is4() {
		return a
	}
	b := a.As4()
	return netip.AddrFrom16([16]byte{0: 0x20 | b[0]&0x1f, 1: b[0], 5: b[1], 8: b[2], 15: b[3]})
}

// prefix6 is the prefix of all that To6 gives for a prefix.
func prefix6(p netip.Prefix) netip.Prefix {
	bits := p.Bits()
	switch {
	case !p.Addr().Is4():
		return p
	case bits == 0:
	case bits <= 8:
		bits += 8
	case bits <= 16:
		bits += 40 - 8
	case bits <= 24:
		bits += 64 - 16
	default:
		bits += 120 - 24
	}
	return netip.PrefixFrom(To6(p.Addr()), bits).Masked()
}

// route6 is the route that stands for an IPv4 one: the more for a TOS is one for sources.
func (w *World) route6(rng *rand.Rand, r Route) Route {
	r.Prefix = prefix6(r.Prefix)
	if r.Source.IsValid() {
		r.Source = To6(r.Source)
	}
	if r.TOS != 0 {
		r.TOS, r.From = 0, prefix6(pick(rng, worldPrefixes))
	}
	r.Pref = pick(rng, []route.Pref{route.PrefMedium, route.PrefMedium, route.PrefHigh, route.PrefLow})
	r.MTULock = oneIn(rng, 2)
	for i := range r.Nexthops {
		r.Nexthops[i].Input = r.Nexthops[i].Encap && oneIn(rng, 3)
		if g := &r.Nexthops[i].Gateway; g.IsValid() {
			*g = To6(*g)
		}
		r.Dev = r.Nexthops[0].Ifindex
	}
	return r
}

// rules6 turns the rules that newRules has drawn into IPv6's.
func (w *World) rules6() {
	w.Rules = slices.DeleteFunc(w.Rules, func(r route.Rule) bool { return r.Priority == 32767 })
	for i := range w.Rules {
		r := &w.Rules[i]
		for _, p := range []*netip.Prefix{&r.From, &r.To} {
			if p.IsValid() {
				*p = prefix6(*p)
			}
		}
	}
}

// special6 are destinations that no router forwards to, and others with them.
var special6 = parseAll(netip.MustParseAddr, "::", "::1", "fe80::1", "febf::1", "fec0::1", "ff02::1", "ff0e::5", "::2", "100::1")

// Packet6 draws an IPv6 packet and where it comes in: most are sound.
func (w *World) Packet6(c *Choices) (in *Link, ip []byte) {
	in = &w.Links[c.Next()%len(w.Links)]
	ip = make([]byte, wire.IPv6Len+Choose(c, []int{8, 20, 100, 1240, 1360, 1460})+c.Next()%4)
	src, dst := To6(address(c)), To6(address(c))
	if c.OneIn(16) {
		src = Choose(c, special6)
	}
	if c.OneIn(16) {
		dst = Choose(c, special6)
	}
	wire.PutIPv6(ip, Choose(c, []byte{0, 0, 4, 8, 16, 0xf0}), uint32(c.Next()*c.Next()), len(ip)-wire.IPv6Len,
		Choose(c, []byte{17, 6, 58, 0, 44, 41}), Choose(c, []byte{64, 255, 2, 1, 0, 3}), src.As16(), dst.As16())
	for i := range ip[wire.IPv6Len:] {
		ip[wire.IPv6Len+i] = byte(i * 5)
	}
	return in, ip
}
