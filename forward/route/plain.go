package route

import (
	"net/netip"
	"slices"
)

// What a copy of the tables needs that is kept elsewhere, in another form and by
// differences: an engine's that forwards in the kernel.

// Plain reports whether the IPv4 rules are the kernel's three default ones, so that
// the destination, and sometimes the TOS, is all that a packet's way hangs on.
func (t *Table) Plain() bool { return t.v4.simple }

// Serves reports whether IPv4 packets can be sent out of a link.
func (l *Link) Serves() bool { return l.serves(IPv4) }

// EachNeighbour calls fn for what is known of a link's neighbours.
func (l *Link) EachNeighbour(fn func(netip.Addr, *Neighbour)) { l.neighbours.each(fn) }

// LinkChanges calls fn for each link that t and old, which may be nil, have not
// in common: was or is may be nil. A link whose neighbours alone differ is one.
func (t *Table) LinkChanges(old *Table, fn func(was, is *Link)) {
	if old != nil && len(t.links.slots) > 0 && len(old.links.slots) > 0 && &t.links.slots[0] == &old.links.slots[0] {
		return
	}
	for _, l := range t.links.slots {
		if l == nil {
			continue
		}
		var was *Link
		if old != nil {
			was = old.Link(l.Ifindex)
		}
		if was != l {
			fn(was, l)
		}
	}
	if old == nil {
		return
	}
	for _, l := range old.links.slots {
		if l != nil && t.Link(l.Ifindex) == nil {
			fn(l, nil)
		}
	}
}

// RouteChanges calls fn for the IPv4 prefixes whose destinations may have another
// route in t than in old, which may be nil: each prefix stands for those of its
// destinations that no longer prefix has; gone says that a table has it no more.
// Both must be Plain. It skips what the two share.
func (t *Table) RouteChanges(old *Table, fn func(p netip.Prefix, gone bool)) {
	now, was := [...]*fib{t.v4.local, t.v4.main, t.v4.fallback}, [3]*fib{}
	var punted []netip.Prefix
	if old != nil {
		was, punted = [...]*fib{old.v4.local, old.v4.main, old.v4.fallback}, old.policy.Punt
	}
	if !slices.Equal(punted, t.policy.Punt) {
		for _, p := range slices.Concat(punted, t.policy.Punt) {
			if p.Addr().Is6() {
				continue
			}
			fn(p, false)
			for _, f := range now {
				f.within(p, func(q netip.Prefix, _ *Route) { fn(q, false) })
			}
		}
	}
	for i := range now {
		if now[i] == was[i] {
			continue
		}
		before := was[i]
		if before == nil {
			before = noRoutes
		}
		now[i].diff(before, everythingV4.Addr(), func(p netip.Prefix, gone bool) {
			fn(p, gone)
			for _, behind := range now[i+1:] { // what it hid there, or hides now
				behind.within(p, func(q netip.Prefix, _ *Route) { fn(q, false) })
			}
		})
	}
}

// OneRoute gives the route that all packets to an IPv4 address take, as far as
// prefixes of up to 8*(level+1) bits say. own says that such a prefix has it that
// is longer than 8*level bits, or, of level 0, any. r is nil if there is no route, or if it
// is not the same one for all. The table must be Plain.
func (t *Table) OneRoute(a netip.Addr, level int) (r *Route, own bool) {
	k, sure := keyOf(a), true
	for _, table := range [...]*fib{t.v4.local, t.v4.main, t.v4.fallback} {
		got, depth := table.upTo(k, level)
		own = own || got != nil && depth == level
		switch {
		case got == nil || r != nil || !sure:
		case got.special:
			sure = false // it depends on the TOS, or on what another table has in all of it
		default:
			r = got
		}
	}
	for _, p := range t.policy.Punt {
		if p.Bits() <= 8*(level+1) && p.Contains(a) {
			r, own = nil, own || p.Bits() > 8*level
		}
	}
	return r, own
}

// HasAddresses reports whether a link has IPv4 addresses of this host.
func (l *Link) HasAddresses() bool { return len(l.addresses[IPv4]) > 0 }
