package route

import (
	"net/netip"
	"slices"
)

// classSet keeps Table.Class for all destinations in the form in which it can be
// looked up by the longest prefix: of all prefixes that tables, rules and
// Policy.Punt name, those whose class is not that of what surrounds them. What
// no prefix has is ToElsewhere, so that a full table of routes to uplinks takes
// no room. Where IPv6 is left to the kernel it has none of it.
type classSet struct {
	have    map[netip.Prefix]Class
	lengths [maxBits + 1]int // how many of have are so long, of whichever family
}

// touched is a prefix of a table whose routes have changed.
type touched struct {
	table  uint32
	prefix netip.Prefix
}

// longest is the class of the longest prefix of at most that many bits.
func (c *classSet) longest(dst netip.Addr, bits int) Class {
	for ; bits >= 0; bits-- {
		if c.lengths[bits] == 0 {
			continue
		}
		p, _ := dst.Prefix(bits) // an address has these bits
		if class, ok := c.have[p]; ok {
			return class
		}
	}
	return ToElsewhere
}

// classUpdate brings a classSet up to date with a table.
type classUpdate struct {
	*classSet
	t   *Table
	set func(netip.Prefix, Class)
}

// update looks again at what has changed, all of it if all is set, and calls set
// for each prefix whose class is another now; 0 is for one that is to be
// forgotten.
func (c *classSet) update(t *Table, changed []touched, all bool, set func(netip.Prefix, Class)) {
	if c.have == nil {
		c.have, all = make(map[netip.Prefix]Class), true
	}
	u := classUpdate{c, t, set}
	if all {
		u.everything()
		return
	}
	for _, p := range changed {
		if t.of(p.prefix.Addr()).refersTo(p.table) {
			u.settle(p.prefix, p.table)
		}
	}
}

func (u *classUpdate) everything() {
	for p := range u.have {
		u.look(p)
	}
	for _, all := range everythings {
		u.settle(all, 0)
		u.within(all, 0, func(p netip.Prefix) { u.settle(p, 0) })
	}
}

// settle looks at a prefix and at those in it whose class may hang on it: all
// where the prefix gains or loses an entry, else those that table has no routes
// for (0: none such, for who looks at all).
func (u *classUpdate) settle(p netip.Prefix, table uint32) {
	changed := u.look(p)
	if p.IsSingleIP() || !changed && table == 0 {
		return
	}
	except := table
	if changed {
		except = 0
	}
	var inside []netip.Prefix
	u.within(p, except, func(q netip.Prefix) { inside = append(inside, q) })
	slices.SortFunc(inside, func(a, b netip.Prefix) int { return a.Bits() - b.Bits() })
	for _, q := range inside {
		if changed {
			u.look(q)
		} else {
			u.settle(q, 0)
		}
	}
}

// look gives a prefix the entry that it needs, and reports whether that is
// another than before.
func (u *classUpdate) look(p netip.Prefix) bool {
	class := Class(0)
	if u.t.names(p) {
		if class = u.t.classOf(p); class == u.longest(p.Addr(), p.Bits()-1) {
			class = 0 // as its surroundings
		}
	}
	have := u.have[p]
	if class == have {
		return false
	}
	switch {
	case class == 0:
		delete(u.have, p)
		u.lengths[p.Bits()]--
	case have == 0:
		u.lengths[p.Bits()]++
		fallthrough
	default:
		u.have[p] = class
	}
	u.set(p, class)
	return true
}

// within calls fn for the prefixes inside of p, those of one table left out.
func (u *classUpdate) within(p netip.Prefix, except uint32, fn func(netip.Prefix)) {
	if !u.t.classifies(p) {
		return
	}
	for number, table := range u.t.of(p.Addr()).tables() {
		if except == 0 || number != except {
			table.within(p, func(q netip.Prefix, _ *Route) { fn(q) })
		}
	}
	for q := range u.t.namedByPolicy(FamilyOf(p.Addr())) {
		if q.Bits() > p.Bits() && p.Contains(q.Addr()) {
			fn(q)
		}
	}
}

// tables are those that rules lead to, by number. One may come twice.
func (w *routing) tables() func(func(uint32, *fib) bool) {
	return func(yield func(uint32, *fib) bool) {
		if w.simple {
			_ = yield(TableLocal, w.local) && yield(TableMain, w.main) && yield(TableDefault, w.fallback)
			return
		}
		for i := range w.rules {
			if r := &w.rules[i]; r.fib != nil && !yield(r.Table, r.fib) {
				return
			}
		}
	}
}

// namedByPolicy are the prefixes of a family that rules, the operator, and keptLocal
// name.
func (t *Table) namedByPolicy(family Family) func(func(netip.Prefix) bool) {
	return func(yield func(netip.Prefix) bool) {
		w := &t.v4
		if family == IPv6 {
			w = &t.v6
			for _, p := range hostsOnly6 {
				if !yield(p) {
					return
				}
			}
		}
		for i := range w.rules {
			if to := w.rules[i].To; to.IsValid() && !yield(to.Masked()) {
				return
			}
		}
		for _, p := range t.policy.Punt {
			if FamilyOf(p.Addr()) == family && !yield(p) {
				return
			}
		}
	}
}

func (w *routing) refersTo(table uint32) bool {
	for number := range w.tables() {
		if number == table {
			return true
		}
	}
	return false
}

// classifies reports whether destinations of a prefix's family have classes.
func (t *Table) classifies(p netip.Prefix) bool { return p.Addr().Is4() || t.policy.IPv6 }

// names reports whether a table, a rule or the operator names a prefix.
func (t *Table) names(p netip.Prefix) bool {
	if !t.classifies(p) {
		return false
	}
	for _, table := range t.of(p.Addr()).tables() {
		if table.lengths[p.Bits()] == 0 {
			continue
		}
		if _, ok := table.Get(p); ok {
			return true
		}
	}
	for q := range t.namedByPolicy(FamilyOf(p.Addr())) {
		if p == q {
			return true
		}
	}
	return false
}
