package route

import "net/netip"

// toWorkload is the workload interface that packets for an address lead to which
// come in by an uplink from nobody in particular, and the route; nil if none does.
func (t *Table) toWorkload(f *flow) (*Route, *Link) {
	r, _ := t.lookup(f)
	if r == nil || r.Type != TypeUnicast {
		return r, nil
	}
	nh := t.SelectFor(r, f.src, f.dst)
	if nh == nil || nh.Ifindex == f.iif {
		return r, nil
	}
	out := t.Link(nh.Ifindex)
	if out == nil || !out.Workload() {
		return r, nil
	}
	if in, family := t.Link(f.iif), FamilyOf(f.dst); !out.serves(family) && (in == nil || !in.kernelForwards(family)) {
		return r, nil // nobody would forward it
	}
	return r, out
}

// ToWorkload is the workload interface that packets from src to dst lead to which
// come in by an uplink, nil if there is none; local says that dst is an address of
// this host. src may be 0.0.0.0 or ::.
func (t *Table) ToWorkload(dst, src netip.Addr, uplink int32) (out *Link, local bool) {
	r, out := t.toWorkload(&flow{dst: dst, src: src, iif: uplink})
	return out, r != nil && r.Type == TypeLocal
}

// HasHost reports whether the way to dst, by an uplink, is a route to this address
// alone that leads to a workload.
func (t *Table) HasHost(dst netip.Addr, uplink int32) bool {
	r, out := t.toWorkload(&flow{dst: dst, src: zero(dst), iif: uplink})
	return out != nil && int(r.Bits) == dst.BitLen()
}

// HasHostRoute reports whether some table has a route to an address alone, of whatever
// type.
func (t *Table) HasHostRoute(dst netip.Addr) bool {
	p := netip.PrefixFrom(dst, dst.BitLen())
	for _, f := range t.of(dst).fibs() {
		if _, ok := f.Get(p); ok {
			return true
		}
	}
	return false
}

// Returns reports whether packets of a workload's at dst to src leave by an uplink:
// whether the uplink is the way back to who asks for dst there.
func (t *Table) Returns(dst, src netip.Addr, workload *Link, uplink int32) bool {
	r := t.Lookup(src, dst, workload.Ifindex, 0)
	if r == nil || r.Type != TypeUnicast {
		return false
	}
	nh := t.SelectFor(r, dst, src)
	return nh != nil && nh.Ifindex == uplink
}

// Beside is the uplink by which an address would be sought if no workload had it:
// that of the longest prefix that a unicast route over an uplink has for it, in the
// first of the rules' tables that has one. Of several uplinks on one segment it is one, and the
// same for all who ask. Without any it is the first uplink that resolves addresses, nil if none does.
func (t *Table) Beside(dst netip.Addr) *Link {
	for _, f := range t.of(dst).fibs() {
		for bits := dst.BitLen(); bits >= 0; bits-- {
			if f.lengths[bits] == 0 {
				continue
			}
			p, err := dst.Prefix(bits)
			if err != nil {
				return nil
			}
			r, _ := f.Get(p)
			for ; r != nil; r = r.next {
				if l := t.overUplink(r); l != nil {
					return l
				}
			}
		}
	}
	return t.uplink
}

// overUplink is the first uplink that a unicast route leads over.
func (t *Table) overUplink(r *Route) *Link {
	if r.Type != TypeUnicast {
		return nil
	}
	for i := range r.Nexthops {
		if l := t.Link(r.Nexthops[i].Ifindex); l != nil && l.resolves() {
			return l
		}
	}
	return nil
}

// resolves reports whether addresses are resolved on an uplink.
func (l *Link) resolves() bool {
	return l.Flags&(LinkUplink|LinkEthernet|LinkNoARP) == LinkUplink|LinkEthernet
}

// fibs are the tables of all rules, in their order.
func (w *routing) fibs() []*fib {
	if w.simple {
		return []*fib{w.local, w.main, w.fallback}
	}
	var all []*fib
	for i := range w.rules {
		if f := w.rules[i].fib; f != nil {
			all = append(all, f)
		}
	}
	return all
}

// Hosts calls fn for each address within a prefix that some table has a route of its
// own for, whatever its type. It walks the tables.
func (t *Table) Hosts(within netip.Prefix, fn func(netip.Addr)) {
	for _, f := range t.of(within.Addr()).fibs() {
		if _, ok := f.Get(within); ok && within.IsSingleIP() {
			fn(within.Addr())
		}
		f.within(within, func(p netip.Prefix, _ *Route) {
			if p.IsSingleIP() {
				fn(p.Addr())
			}
		})
	}
}
