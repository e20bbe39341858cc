package forward

import (
	"math/rand/v2"
	"net/netip"

	"proxyarpd/forward/route"
	"proxyarpd/internal/wire"
)

// to6 gives an IPv4 address a place in 2001:db8::/96.
func to6(a netip.Addr) netip.Addr {
	if !a.IsValid() {
		return a
	}
	b := [16]byte{0x20, 0x01, 0x0d, 0xb8}
	v4 := a.As4()
	copy(b[12:], v4[:])
	return netip.AddrFrom16(b)
}

// prefix6 is to6 for a prefix; that of all destinations stays so.
func prefix6(p netip.Prefix) netip.Prefix {
	switch {
	case !p.IsValid():
		return p
	case p.Bits() == 0:
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return netip.PrefixFrom(to6(p.Addr()), 96+p.Bits())
}

// Publish6 is Publish for the world's likeness in IPv6.
func (w *TestWorld) Publish6(set func(netip.Prefix, route.Class)) *route.Table {
	policy := w.Policy
	policy.IPv6, policy.Punt = true, nil
	for _, p := range w.Policy.Punt {
		policy.Punt = append(policy.Punt, prefix6(p))
	}
	b := route.NewBuilder(policy)
	for i := range w.Links {
		l := w.Links[i]
		if !l.Known() {
			continue
		}
		if l.MTU6 = 1500; l.Flags&route.LinkKernelForwards != 0 {
			l.Flags |= route.LinkKernelForwards6
		}
		b.SetLink(l.Link)
	}
	type place struct {
		table  uint32
		prefix netip.Prefix
	}
	routes := map[place][]route.Route{}
	for _, r := range w.Routes {
		r.Source = to6(r.Source)
		for i := range r.Nexthops {
			r.Nexthops[i].Gateway = to6(r.Nexthops[i].Gateway)
		}
		at := place{r.InTable, prefix6(r.Prefix)}
		routes[at] = append(routes[at], r.Route)
	}
	for at, all := range routes {
		b.SetRoutes(at.table, at.prefix, all)
	}
	var rules []route.Rule
	for _, r := range w.Rules {
		r.From, r.To = prefix6(r.From), prefix6(r.To)
		rules = append(rules, r)
	}
	b.SetRules(route.IPv6, rules)
	t := b.Publish()
	b.UpdateClasses(func(p netip.Prefix, c route.Class) {
		w.told[p] = true
		set(p, c)
	})
	return t
}

// special6 are destinations at the borders of what is the host's alone, and others.
var special6 = []string{"::", "::1", "::2", "::ffff:10.0.0.1", "fe7f:ffff::1", "fe80::1", "febf:ffff::9", "fec0::1", "feff::1", "ff00::1", "ff02::1:ff00:1",
	"fd00::1", "1::", "2001:db8::", "2001:db8::1", "2001:db9::1"}

// Packet6 draws an IPv6 packet, and where it comes in; nil if the table has no such
// interface.
func (w *TestWorld) Packet6(rng *rand.Rand, t *route.Table) (in *route.Link, packet []byte) {
	probes := w.Probes(rng)
	address := func() netip.Addr {
		if rng.IntN(4) == 0 {
			return netip.MustParseAddr(special6[rng.IntN(len(special6))])
		}
		return to6(probes[rng.IntN(len(probes))])
	}
	packet = make([]byte, wire.IPv6Len+rng.IntN(40))
	next := []uint8{wire.ProtoUDP, wire.ProtoTCP, wire.ProtoICMPv6, wire.ProtoFragment, wire.ProtoHopByHop, 0xff}[rng.IntN(6)]
	wire.PutIPv6(packet, uint8(rng.Uint32()), rng.Uint32(), len(packet)-wire.IPv6Len, next, uint8(rng.IntN(3)*127+1), address().As16(), address().As16())
	return t.Link(w.Links[rng.IntN(len(w.Links))].Ifindex), packet
}
