package ebpf

import (
	"net/netip"
	"slices"

	"proxyarpd/forward/claim"
	"proxyarpd/forward/route"
	"proxyarpd/internal/wire"
)

// change is a prefix whose routes have changed.
type change struct {
	prefix netip.Prefix
	gone   bool
}

// setRoutes brings the destinations of a family up to date. Each goes from what it was to
// what it is, and to nothing in between: longer prefixes come before shorter
// ones, and go after them.
func (m *mirror) setRoutes(family route.Family, t *route.Table) {
	of, refresh := &m.of[family], m.refresh
	if family == route.IPv6 {
		refresh = m.refresh6
	}
	was := of.table
	m.changed = m.changed[:0]
	if was == nil {
		t.RouteChanges(family, nil, func(p netip.Prefix, _ bool) { refresh(t, p) }) // nothing is carried yet
		of.table = t
		return
	}
	of.table = t
	t.RouteChanges(family, was, func(p netip.Prefix, gone bool) { m.changed = append(m.changed, change{p, gone}) })
	if len(m.changed) > 1 {
		slices.SortStableFunc(m.changed, func(a, b change) int {
			switch {
			case a.gone != b.gone && b.gone:
				return -1
			case a.gone != b.gone:
				return 1
			case a.gone:
				return a.prefix.Bits() - b.prefix.Bits()
			}
			return b.prefix.Bits() - a.prefix.Bits()
		})
	}
	for _, c := range m.changed {
		refresh(t, c.prefix)
	}
	if cap(m.changed) > 4096 {
		m.changed = nil
	}
}

// refresh looks anew at the destinations of an IPv4 prefix that no longer one has.
func (m *mirror) refresh(t *route.Table, p netip.Prefix) {
	level := max(p.Bits()-1, 0) / 8
	first := number(p.Addr())
	for i := range uint32(1) << (8*(level+1) - p.Bits()) {
		if m.failed != nil || m.of[route.IPv4].failed != nil {
			return
		}
		a := first | i<<(24-8*level)
		r, own := t.OneRoute(address(a), level)
		word := m.word(address(a), r, own)
		switch level {
		case 0:
			m.store(&m.mem.Chunk(0).Word[a>>24], word)
		case 1:
			m.store(&m.mem.Root(uint16(a>>16)).Hop, word)
		case 2:
			m.setThird(a, word)
		case 3:
			m.setFourth(a, word)
		}
	}
}

func number(a netip.Addr) uint32 {
	b := a.As4()
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

func address(a uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(a >> 24), byte(a >> 16), byte(a >> 8), byte(a)})
}

// key6 is an IPv6 prefix, as short as may be: there are as many as routes.
type key6 struct {
	addr [16]byte
	bits uint8
}

// refresh6 is refresh for an IPv6 prefix.
func (m *mirror) refresh6(t *route.Table, p netip.Prefix) {
	if m.failed != nil || m.of[route.IPv6].failed != nil {
		return
	}
	r, own := t.PrefixRoute(p)
	key, word := key6{p.Addr().As16(), uint8(p.Bits())}, m.word(p.Addr(), r, own)
	old := m.words6[key]
	if old == word {
		m.drop(word)
		return
	}
	if m.of[route.IPv6].on && begins(old, word) {
		m.freshen()
	}
	if err := m.mem.SetRoute6(p, word); err != nil {
		m.drop(word)
		m.failOf(route.IPv6, err)
		return
	}
	if word == claim.AsAbove {
		delete(m.words6, key)
	} else {
		m.words6[key] = word
	}
	m.drop(old)
}

// forget6 lets go of all destinations of IPv6. Nothing of it is carried meanwhile.
func (m *mirror) forget6() {
	for key, word := range m.words6 {
		if err := m.mem.SetRoute6(netip.PrefixFrom(netip.AddrFrom16(key.addr), int(key.bits)), claim.AsAbove); err != nil {
			m.failOf(route.IPv6, err)
		}
		m.drop(word)
	}
	m.words6 = map[key6]uint32{}
}

// begins reports whether packets may begin to be carried when one word takes the place
// of another.
func begins(old, word uint32) bool {
	return old <= claim.ToRing && word != claim.ToRing && word != old
}

// word is what is said of the destinations of an address by the route that prefixes of a
// length, or of a level, name; own: they say something. It comes with a hold on what it names.
func (m *mirror) word(a netip.Addr, r *route.Route, own bool) uint32 {
	switch {
	case !own:
		return claim.AsAbove
	case r == nil || r.Type != route.TypeUnicast:
		return claim.ToRing
	case len(r.Nexthops) != 1:
		return m.several(r)
	case r.Nexthops[0].Encap:
		return claim.ToRing
	}
	nh := &r.Nexthops[0]
	key := hopKey{ifindex: nh.Ifindex, next: nh.Gateway, mtu: r.MTU}
	if a.Is6() && r.MTULock && r.MTU != 0 {
		key.mtu = max(r.MTU, wire.IPv6MinMTU) // checkForward6 of forward/route
	}
	switch {
	case key.next.IsValid():
	case int(r.Bits) == a.BitLen():
		key.next = a
	default:
		key.family = route.FamilyOf(a)
	}
	return m.hold(key)
}

// several is the word for a route with several next hops.
func (m *mirror) several(r *route.Route) uint32 {
	var all []int32
	for i := range r.Nexthops {
		if by := r.Nexthops[i].Ifindex; !slices.Contains(all, by) {
			all = append(all, by)
		}
	}
	if len(all) == 0 || len(all) > 3 {
		return claim.ToRing
	}
	slices.Sort(all)
	key := hopKey{ifindex: all[0], several: true}
	copy(key.others[:], all[1:])
	return m.hold(key)
}
