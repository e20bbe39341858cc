package route

import (
	"net/netip"

	"proxyarpd/internal/wire"
)

// Class is where packets to a destination may lead, as a set: of one packet it
// has one member, of a destination alone one for each way that a packet to it
// might take by its source, TOS, ports or mark, or by a multipath route's hash.
//
// By the class and by where a packet came in, owner says whose the packet is.
// The ring's filter and the claim (claim/bpf/claim.c, whose) ask the same of a
// destination's class, for that is all that they know.
type Class uint8

// The members. The eBPF programs share them.
const (
	ToLocal     Class = 1 << iota // to this host, or to a broadcast address
	ToPunt                        // to where the operator wants the kernel's way (Policy.Punt)
	ToWorkload                    // out of an interface that leads to a workload
	ToElsewhere                   // out of an uplink, or nowhere: what no table names
	ToUnserved                    // out of an interface that packets can't be sent to from here
)

// owner says of a packet of that class that came in by a link whose it is:
// NotSpecified if it is ours - we send it on, or refuse it in the kernel's
// stead -, else the verdict of what the kernel has. A set of several members is
// left to the kernel if one of them is its, where the kernel forwards.
func (p *Policy) owner(c Class, in *Link, family Family) Verdict {
	switch {
	case c == ToLocal:
		return Local
	case c&ToPunt != 0:
		return Punt
	case !in.kernelForwards(family):
		return NotSpecified
	}
	served := ToWorkload
	if in.Workload() || p.Transit {
		served |= ToElsewhere
	}
	if c&^served != 0 {
		return PuntTransit
	}
	return NotSpecified
}

// serves reports whether packets of a family can be sent out of a link.
func (l *Link) serves(family Family) bool {
	return l != nil && l.Flags&(LinkWorkload|LinkUplink) != 0 && l.Flags&(LinkLeft|LinkReceiveOnly) == 0 &&
		(family == IPv4 || l.MTU6 != 0)
}

// class is the class of packets to a unicast route's next hop, which is on the
// link out; nil is one that the table has not.
func (nh *Nexthop) class(out *Link, family Family) Class {
	switch {
	case nh.Input:
		return ToLocal
	case nh.Encap || !out.serves(family):
		return ToUnserved
	case out.Workload():
		return ToWorkload
	}
	return ToElsewhere
}

// class is the class of all packets that take a route; nil is none.
func (t *Table) class(r *Route, family Family) (c Class) {
	switch {
	case r == nil:
		return ToElsewhere
	case r.delivers():
		return ToLocal
	case r.Type != TypeUnicast:
		return ToElsewhere
	}
	for i := range r.Nexthops {
		nh := &r.Nexthops[i]
		c |= nh.class(t.Link(nh.Ifindex), family)
	}
	return c
}

// delivers reports whether packets that take the route end on this host, or are
// the kernel's for another reason than that it forwards them.
func (r *Route) delivers() bool {
	switch r.Type {
	case TypeLocal, TypeBroadcast, TypeAnycast, TypeMulticast:
		return true
	}
	return false
}

// inputs reports whether all packets that take an IPv6 route end in the kernel, by what is
// done at its input. As for the host's own addresses no Policy.Punt changes that.
func (r *Route) inputs() bool {
	for i := range r.Nexthops {
		if !r.Nexthops[i].Input {
			return false
		}
	}
	return len(r.Nexthops) > 0
}

// Class is the class of a destination, exactly. Builder.UpdateClasses tells the
// same of all destinations.
func (t *Table) Class(dst netip.Addr) Class {
	p, err := dst.Prefix(dst.BitLen())
	if err != nil {
		return ToElsewhere
	}
	return t.classOf(p)
}

// Owner says whose a packet is that came in by a link: NotSpecified, or the
// verdict with which it is left to the kernel. Of a packet that no sound header
// begins it goes by the destination alone, as the ring's filter does.
func (t *Table) Owner(packet []byte, in *Link) Verdict {
	if len(packet) > 0 && packet[0]>>4 == 6 {
		return t.owner6(packet, in)
	}
	ip := wire.IPv4(packet)
	if len(ip) < wire.IPv4MinLen || !forwardable(ip.DstAddr()) {
		return Local
	}
	dst := ip.DstAddr()
	if !ip.HeaderValid() {
		return t.policy.owner(t.Class(dst), in, IPv4)
	}
	f := flow{dst: dst, src: ip.SrcAddr(), iif: in.Ifindex, tos: ip.TOS()}
	var keys *flowKeys
	if t.v4.dissect {
		k := dissect(ip, headerIPv4, false)
		f.setPorts(&k)
		keys = &k
	}
	route, _ := t.v4.lookup(&f)
	switch {
	case route != nil && route.delivers():
		return Local
	case t.punted(dst):
		return Punt
	case route == nil || route.Type != TypeUnicast:
		return t.policy.owner(ToElsewhere, in, IPv4)
	}
	nh := t.nexthopFor(route, ip, keys)
	return t.policy.owner(nh.class(t.Link(nh.Ifindex), IPv4), in, IPv4)
}

// OwnerOf says whose all packets are that come in by a link for a destination, as
// the ring's filter knows it: NotSpecified, or the verdict with which they are left
// to the kernel. Where several ways lead to the destination it may be the kernel's
// although Owner says of some of its packets that they are ours.
func (t *Table) OwnerOf(dst netip.Addr, in *Link) Verdict {
	family := FamilyOf(dst)
	if family == IPv6 && !t.Serves6(in) {
		return IgnoreProto
	}
	return t.policy.owner(t.Class(dst), in, family)
}

// certainty is what can be said of a condition when only the destination of a
// packet is known.
type certainty uint8

const (
	excluded certainty = iota
	possible
	certain
)

// meets says whether the rule applies to packets to p, as far as no longer
// prefix that some rule names has them.
func (r *Rule) meets(p netip.Prefix) certainty {
	c := r.selects(p)
	if r.Invert {
		return certain - c
	}
	return c
}

func (r *Rule) selects(p netip.Prefix) certainty {
	switch {
	case r.To.IsValid() && !(r.To.Bits() <= p.Bits() && r.To.Contains(p.Addr())):
		return excluded
	case r.Undecided:
		return possible
	case r.Never || r.IIF == "lo":
		return excluded
	case r.IIF != "" || r.From.IsValid() || r.TOS != 0 || r.DSCPMask != 0 || r.FlowLabelMask != 0 || r.Proto != 0 ||
		r.SPort != PortMatch{} || r.DPort != PortMatch{}:
		return possible
	}
	return certain
}

// classOf is the class of the destinations of p that no longer prefix has,
// among those of tables and rules.
func (t *Table) classOf(p netip.Prefix) Class {
	c := t.waysTo(p)
	if p.Addr().Is6() && (!t.policy.IPv6 || keptLocal(p)) {
		c = ToLocal
	}
	if c != ToLocal {
		for _, punt := range t.policy.Punt {
			if punt.Bits() <= p.Bits() && punt.Contains(p.Addr()) {
				return ToPunt
			}
		}
	}
	return c
}

// waysTo walks the rules as decide does, and both ways where it can't be told
// whether a rule applies.
func (t *Table) waysTo(p netip.Prefix) (c Class) {
	w := t.of(p.Addr())
	if w.simple {
		for _, table := range [...]*fib{w.local, w.main, w.fallback} {
			got, more := t.found(table, nil, p)
			if c |= got; !more {
				return c
			}
		}
		return c | ToElsewhere
	}
	var few [64]bool
	reached := few[:]
	if n := len(w.rules) + 1; n > len(reached) {
		reached = make([]bool, n)
	}
	reached[0] = true
	for i := range w.rules {
		if !reached[i] {
			continue
		}
		r := &w.rules[i]
		applies := r.meets(p)
		if applies != certain {
			reached[i+1] = true
		}
		if applies == excluded {
			continue
		}
		switch r.Action {
		case RuleGoto:
			reached[min(r.target, len(w.rules))] = true
		case RuleNop:
			reached[i+1] = true
		case RuleUnreachable, RuleProhibit, RuleBlackhole:
			c |= ToElsewhere
		default:
			if r.fib == nil {
				reached[i+1] = true
				continue
			}
			got, more := t.found(r.fib, r, p)
			c |= got
			reached[i+1] = reached[i+1] || more
		}
	}
	if reached[len(w.rules)] {
		c |= ToElsewhere
	}
	return c
}

// found is what a table may have for packets to p; more says that some of them
// go on to the next rule. r is the rule that asks, nil is one that suppresses
// nothing.
func (t *Table) found(table *fib, r *Rule, p netip.Prefix) (c Class, more bool) {
	family, groups := FamilyOf(p.Addr()), t.of(p.Addr()).groups
	for bits := p.Bits(); bits >= 0; bits-- {
		if table.lengths[bits] == 0 {
			continue
		}
		shorter, _ := p.Addr().Prefix(bits) // it has these bits
		route, _ := table.Get(shorter)
		decided := false // some route is for all packets
		for ; route != nil; route = route.next {
			if route.Type == TypeThrow || r != nil && r.suppresses(groups, route) {
				more = true
			} else {
				c |= t.class(route, family)
			}
			decided = decided || route.TOS == 0 && !route.From.IsValid()
		}
		if decided {
			return c, more
		}
	}
	return c, true
}
