package ebpf

import (
	"net/netip"
	"slices"

	"proxyarpd/forward/claim"
	"proxyarpd/forward/route"
)

// change is a prefix whose routes have changed.
type change struct {
	prefix netip.Prefix
	gone   bool
}

// setRoutes brings the destinations up to date. Each goes from what it was to
// what it is, and to nothing in between: longer prefixes come before shorter
// ones, and go after them.
func (m *mirror) setRoutes(t *route.Table) {
	begin := m.table == nil
	was := m.table
	m.changed = m.changed[:0]
	if begin {
		t.RouteChanges(nil, func(p netip.Prefix, _ bool) { m.refresh(t, p) }) // nothing is carried yet
		m.table = t
		return
	}
	m.table = t
	t.RouteChanges(was, func(p netip.Prefix, gone bool) { m.changed = append(m.changed, change{p, gone}) })
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
		m.refresh(t, c.prefix)
	}
	if cap(m.changed) > 4096 {
		m.changed = nil
	}
}

// refresh looks anew at the destinations of a prefix that no longer one has.
func (m *mirror) refresh(t *route.Table, p netip.Prefix) {
	level := max(p.Bits()-1, 0) / 8
	first := number(p.Addr())
	for i := range uint32(1) << (8*(level+1) - p.Bits()) {
		a := first | i<<(24-8*level)
		word := m.word(t, address(a), level)
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
		if m.failed != nil {
			return
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

// word is what prefixes of a level say of an address, with a hold on what it names.
func (m *mirror) word(t *route.Table, a netip.Addr, level int) uint32 {
	r, own := t.OneRoute(a, level)
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
	if !key.next.IsValid() && r.Bits == 32 {
		key.next = a
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
