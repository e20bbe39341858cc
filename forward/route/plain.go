package route

import (
	"math/bits"
	"net/netip"
	"slices"
)

// What a copy of the tables needs that is kept elsewhere, in another form and by
// differences: an engine's that forwards in the kernel.

// Plain reports whether a family's packets are forwarded, and by the kernel's default
// rules, so that the destination is all that a packet's way hangs on, and sometimes the
// TOS, of IPv6 the source and the ingress interface.
func (t *Table) Plain(family Family) bool {
	if family == IPv6 {
		return t.policy.IPv6 && t.v6.simple
	}
	return t.v4.simple
}

// Serves reports whether packets of a family can be sent out of a link.
func (l *Link) Serves(family Family) bool { return l.serves(family) }

// EachNeighbour calls fn for what is known of a link's neighbours.
func (l *Link) EachNeighbour(fn func(netip.Addr, *Neighbour)) {
	for a, n := range l.neighbours {
		fn(a, n)
	}
}

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

// defaults are the tables of the default rules, in their order.
func (w *routing) defaults() [3]*fib { return [...]*fib{w.local, w.main, w.fallback} }

// RouteChanges calls fn for the prefixes of a family whose destinations may have another
// route in t than in old, which may be nil: each prefix stands for those of its
// destinations that no longer prefix has; gone says that a table has it no more.
// Both must be Plain. It skips what the two share.
func (t *Table) RouteChanges(family Family, old *Table, fn func(p netip.Prefix, gone bool)) {
	like := everythings[family].Addr()
	now, was := t.of(like).defaults(), [3]*fib{}
	var punted []netip.Prefix
	if old != nil {
		was, punted = old.of(like).defaults(), old.policy.Punt
	}
	if !slices.Equal(punted, t.policy.Punt) {
		for _, p := range slices.Concat(punted, t.policy.Punt) {
			if FamilyOf(p.Addr()) != family {
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
		var none fibNode
		before := &none
		if was[i] != nil {
			before = &was[i].root
		}
		now[i].root.diff(before, like, fibKey{}, 0, func(p netip.Prefix, gone bool) {
			fn(p, gone)
			for _, behind := range now[i+1:] { // what it hid there, or hides now
				behind.within(p, func(q netip.Prefix, _ *Route) { fn(q, false) })
			}
		})
	}
}

// diff calls fn for the prefixes that have another route in n than in o: of each node
// first what it decides about. a is the way to both, in fibs of the family of like.
func (n *fibNode) diff(o *fibNode, like netip.Addr, a fibKey, depth int, fn func(p netip.Prefix, gone bool)) {
	in, io := 0, 0
	for w := range n.has {
		for set := n.has[w] | o.has[w]; set != 0; set &= set - 1 {
			bit := set & -set
			var rn, ro *Route
			if n.has[w]&bit != 0 {
				rn = n.routes[in]
				in++
			}
			if o.has[w]&bit != 0 {
				ro = o.routes[io]
				io++
			}
			if rn != ro {
				i := uint(w*64 + bits.TrailingZeros64(bit))
				length := bits.Len(i) - 1
				b := a
				b[depth] = byte(i << (8 - length))
				fn(netip.PrefixFrom(b.addr(like), depth*8+length), rn == nil)
			}
		}
	}
	in, io = 0, 0
	for w := range n.kids {
		for set := n.kids[w] | o.kids[w]; set != 0; set &= set - 1 {
			bit := set & -set
			kn, ko := &noFibNode, &noFibNode
			if n.kids[w]&bit != 0 {
				kn = n.nodes[in]
				in++
			}
			if o.kids[w]&bit != 0 {
				ko = o.nodes[io]
				io++
			}
			if kn != ko {
				b := a
				b[depth] = byte(w*64 + bits.TrailingZeros64(bit))
				kn.diff(ko, like, b, depth+1, fn)
			}
		}
	}
}

var noFibNode fibNode // nobody writes it

// OneRoute gives the route that all packets to an IPv4 address take, as far as
// prefixes of up to 8*(level+1) bits say. own says that such a prefix has it that
// is longer than 8*level bits, or, of level 0, any. r is nil if there is no route, or if it
// is not the same one for all. The table must be Plain.
func (t *Table) OneRoute(a netip.Addr, level int) (r *Route, own bool) {
	shorter := 8 * level
	if level == 0 {
		shorter = -1
	}
	return t.oneRoute(netip.PrefixFrom(a, 8*(level+1)), shorter)
}

// PrefixRoute is OneRoute for the destinations of a prefix that no longer prefix has. own
// says that this very prefix has a route, or is punted.
func (t *Table) PrefixRoute(p netip.Prefix) (r *Route, own bool) { return t.oneRoute(p, p.Bits()-1) }

// oneRoute gives the route for p's address by prefixes no longer than p; own says that
// there is one longer than that many bits.
func (t *Table) oneRoute(p netip.Prefix, shorter int) (r *Route, own bool) {
	sure := true
	for _, table := range t.of(p.Addr()).defaults() {
		got, length := table.upTo(p)
		own = own || got != nil && length > shorter
		switch {
		case got == nil || r != nil || !sure:
		case got.special:
			sure = false // it depends on more, or on what another table has in all of it
		default:
			r = got
		}
	}
	for _, q := range t.policy.Punt {
		if q.Bits() <= p.Bits() && q.Contains(p.Addr()) {
			r, own = nil, own || q.Bits() > shorter
		}
	}
	return r, own
}

// upTo is Lookup of p's address among the prefixes that are no longer than p, with the
// length of the one that has it.
func (f *fib) upTo(p netip.Prefix) (r *Route, length int) {
	a, n := keyOf(p.Addr()), &f.root
	for d := 0; n != nil; d++ {
		octet := a[d&15]
		if rest := p.Bits() - 8*d; rest <= 8 {
			for ; rest >= 0; rest-- {
				if i := baseIndex(octet, rest); n.has[i>>6]>>(i&63)&1 != 0 {
					return n.routes[rank(n.has[:], i)], 8*d + rest
				}
			}
			return r, length
		}
		if got := n.match(octet); got != nil {
			r, length = got, int(got.Bits)
		}
		n = n.kid(octet)
	}
	return r, length
}

// HasAddresses reports whether a link has IPv4 addresses of this host.
func (l *Link) HasAddresses() bool { return len(l.addresses[IPv4]) > 0 }
