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
func (t *Table) lookup(f *flow) (*Route, *Rule) {
	if !t.simple {
		return t.decide(f)
	}
	if r, ok := t.local.Lookup(f.dst); ok {
		if !r.special {
			return r, &t.rules[0]
		}
	} else if r, ok := t.main.Lookup(f.dst); ok && !r.special {
		return r, &t.rules[1]
	}
	return t.lookupSpecial(f)
}

// lookupSpecial is lookup in the default tables where a route needs a second
// look, or there is none.
func (t *Table) lookupSpecial(f *flow) (*Route, *Rule) {
	for i, table := range [...]*fib{t.local, t.main, t.fallback} {
		if r := table.find(f); r != nil && r.Type != TypeThrow {
			return r, &t.rules[i]
		}
	}
	return nil, nil
}

// find is fib_table_lookup (net/ipv4/fib_trie.c): the longest prefix that has a
// route for this TOS, or for any.
func (table *fib) find(f *flow) *Route {
	r, ok := table.Lookup(f.dst)
	if !ok {
		return nil
	}
	for bits := int(r.Bits); ; {
		if got := r.forTOS(f.tos & tosMask); got != nil {
			return got
		}
		for ok = false; !ok; {
			if bits--; bits < 0 {
				return nil
			}
			if table.lengths[bits] == 0 {
				continue
			}
			shorter, _ := f.dst.Prefix(bits) // an IPv4 address has these bits
			r, ok = table.Get(shorter)
		}
	}
}

// forTOS gives the first of the routes to a destination that a TOS may take.
func (r *Route) forTOS(tos uint8) *Route {
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

// appendChain appends of the routes to one destination, in the kernel's order,
// those that some packet takes. It leaves out what forTOS would never come to,
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
		r.special = next != nil || r.TOS != 0 || r.Type == TypeThrow
		next = &r
	}
	return next
}
