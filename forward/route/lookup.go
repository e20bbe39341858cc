package route

import "net/netip"

// tosMask are the bits of the TOS byte that a route or rule with the keyword
// tos is compared with (include/net/ip_fib.h, fib_dscp_masked_match): the kernel
// takes values with others, and they match nothing.
const tosMask = 0x1c

// Lookup finds the route for dst as the kernel's fib_lookup does: rules by
// priority, the longest prefix in each rule's table. iif is the index of the
// ingress link, 1 (lo) for what this host sends itself. The result is nil where
// nothing matches; rules that end in an error give a Route of that type. Rules
// by protocol or port match as for a packet that has neither.
func (t *Table) Lookup(dst, src netip.Addr, iif int32, tos uint8) *Route {
	route, _ := t.lookup(&flow{dst: dst, src: src, iif: iif, tos: tos})
	return route
}

// lookup finds the route of a flow, and the rule that led to it.
func (t *Table) lookup(f *flow) (*Route, *Rule) { return t.of(f.dst).lookup(f) }

// lookup is Table.lookup for a flow of the family.
func (w *routing) lookup(f *flow) (*Route, *Rule) { return w.lookupKey(f, keyOf(f.dst)) }

// lookupKey is lookup where the key of f.dst is known.
func (w *routing) lookupKey(f *flow, k fibKey) (*Route, *Rule) {
	if !w.simple {
		return w.decide(f)
	}
	if r := w.local.root.find(k); r != nil {
		if !r.special {
			return r, &w.rules[0]
		}
	} else if r := w.main.root.find(k); r != nil && !r.special {
		return r, &w.rules[1]
	}
	return w.lookupSpecial(f)
}

// lookupSpecial is lookup in the default tables where a route needs a second
// look, or there is none.
func (w *routing) lookupSpecial(f *flow) (*Route, *Rule) {
	for i, table := range [...]*fib{w.local, w.main, w.fallback} {
		if r := table.forFlow(f); r != nil && r.Type != TypeThrow {
			return r, &w.rules[i]
		}
	}
	return nil, nil
}

// forFlow is fib_table_lookup (net/ipv4/fib_trie.c, net/ipv6/route.c: fib6_table_lookup):
// the longest prefix that has a route for this flow.
func (table *fib) forFlow(f *flow) *Route {
	r, ok := table.Lookup(f.dst)
	if !ok {
		return nil
	}
	for bits := int(r.Bits); ; {
		if got := r.forFlow(f); got != nil {
			return got
		}
		for ok = false; !ok; {
			if bits--; bits < 0 {
				return nil
			}
			if table.lengths[bits] == 0 {
				continue
			}
			shorter, _ := f.dst.Prefix(bits) // an address has these bits
			r, ok = table.Get(shorter)
		}
	}
}

// forFlow gives the one of the routes to a destination that a flow takes; nil if
// there is none for it.
func (r *Route) forFlow(f *flow) *Route {
	if f.dst.Is6() {
		return r.choose6(f)
	}
	tos := f.tos & tosMask
	for r != nil && r.TOS != 0 && r.TOS != tos {
		r = r.next
	}
	return r
}

// refuses reports whether the route is an error to the kernel (fib_props in
// net/ipv4/fib_semantics.c).
func (r *Route) refuses() bool {
	return r.Type == TypeBlackhole || r.Type == TypeUnreachable || r.Type == TypeProhibit
}

// appendChain appends of the IPv4 routes to one destination, in the kernel's order,
// those that some packet takes. It leaves out what forFlow would never come to,
// and unicast routes without a usable nexthop, which the kernel passes over.
func appendChain(list, routes []Route) []Route {
	for i := range routes {
		r := &routes[i]
		hidden := r.TOS&^tosMask != 0
		for j := range list {
			hidden = hidden || list[j].TOS == r.TOS || list[j].TOS == 0
		}
		if hidden || r.Type == TypeUnicast && len(r.Nexthops) == 0 {
			continue
		}
		list = append(list, *r)
		if r.Type != TypeUnicast {
			list[len(list)-1].Nexthops = nil
		}
	}
	return list
}

// link makes a chain of what appendChain gave, for a destination of that many bits.
func link(list []Route, bits uint8) *Route {
	var next *Route
	for i := len(list) - 1; i >= 0; i-- {
		r := list[i]
		r.Bits, r.next = bits, next
		r.Nexthops = balanced(r.Nexthops)
		r.special = next != nil || r.TOS != 0 || r.From.IsValid() || r.Type == TypeThrow
		next = &r
	}
	return next
}
