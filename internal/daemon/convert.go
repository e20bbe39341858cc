package daemon

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"proxyarpd/forward/route"
	"proxyarpd/internal/netstate"
)

// family is a family in the words of the tables.
func family(f netstate.Family) route.Family {
	if f == netstate.IPv6 {
		return route.IPv6
	}
	return route.IPv4
}

// neighbour says of a kernel entry what the datapath needs.
func neighbour(n *netstate.Neighbour) *route.Neighbour {
	return &route.Neighbour{
		MAC:    n.MAC,
		Valid:  n.State.Valid() && n.HasMAC,
		Stale:  n.State&unix.NUD_STALE != 0,
		Failed: n.State&unix.NUD_FAILED != 0,
		Fixed:  n.Fixed(),
	}
}

// routeScratch is what routes are turned in, again and again: a full table is
// a million of them, and the builder keeps copies.
type routeScratch struct {
	routes   []route.Route
	nexthops []route.Nexthop
}

// convert gives a table's routes for one prefix, until the next call.
func (s *routeScratch) convert(set *netstate.RouteSet) []route.Route {
	s.routes, s.nexthops = s.routes[:0], s.nexthops[:0]
	for i := range set.Routes {
		r := &set.Routes[i]
		f := route.Route{
			Table: r.Table, Type: route.Type(r.Type), Protocol: uint8(r.Protocol),
			Scope: uint8(r.Scope), TOS: r.TOS, Metric: r.Priority, MTU: int(r.MTU), Source: r.PrefSrc,
			Object: r.NHID != 0, Nexthops: s.usable(r),
			From: r.From, Pref: route.Pref(r.Pref), MTULock: r.MTULocked, HopLimit: r.HopLimit,
		}
		if len(r.Nexthops) > 0 {
			f.Dev = int32(r.Nexthops[0].Index)
		}
		if byLoopback6(set.Dst, r) {
			f.Type, f.Nexthops = route.TypeUnreachable, nil
		}
		s.routes = append(s.routes, f)
	}
	return s.routes
}

// byLoopback6 reports an IPv6 route by lo: the kernel makes it one that refuses, so that no packet goes
// round in it, and tells of it as unicast (net/ipv6/route.c, fib6_is_reject).
func byLoopback6(dst netip.Prefix, r *netstate.Route) bool {
	const lo = 1 // of each network namespace
	return dst.Addr().Is6() && !dst.Addr().IsLoopback() && r.Type == unix.RTN_UNICAST && r.NHID == 0 && len(r.Nexthops) == 1 && r.Nexthops[0].Index == lo
}

// usable leaves out nexthops that are dead, or without carrier where that counts
// as dead: the kernel says so by one flag.
func (s *routeScratch) usable(r *netstate.Route) []route.Nexthop {
	first := len(s.nexthops)
	for _, nh := range r.Nexthops {
		if nh.Flags&unix.RTNH_F_DEAD == 0 {
			s.nexthops = append(s.nexthops, route.Nexthop{Ifindex: int32(nh.Index), Gateway: nh.Gateway, Weight: nh.Weight, Encap: nh.Encap != 0,
				Input: r.Dst.Addr().Is6() && nh.Input()})
		}
	}
	return s.nexthops[first:]
}

// addresses says of an interface's addresses what the datapath needs.
func addresses(set *netstate.AddressSet) []route.Address {
	all := make([]route.Address, 0, len(set.Addresses))
	for i := range set.Addresses {
		a := &set.Addresses[i]
		has := func(flag uint32) bool { return a.Flags&flag != 0 }
		all = append(all, route.Address{Local: a.Local, Prefix: a.Prefix, Scope: uint8(a.Scope), Secondary: has(unix.IFA_F_SECONDARY),
			Deprecated: has(unix.IFA_F_DEPRECATED), Tentative: has(unix.IFA_F_TENTATIVE), Optimistic: has(unix.IFA_F_OPTIMISTIC)})
	}
	return all
}

// rule says of a policy rule what the datapath needs. Forwarded packets bear no
// mark, come from no tunnel's metadata and from no interface of a VRF, and count
// as user 0's (sock_net_uid in include/net/sock.h). In the kernel netfilter may
// give them a mark, and the device they came by a tunnel's metadata.
func rule(r *netstate.Rule) route.Rule {
	return route.Rule{
		Priority: r.Priority, Action: route.RuleAction(r.Action), Table: r.Table, Goto: r.Goto,
		From: r.From, To: r.To, IIF: r.IIF, TOS: r.TOS, Invert: r.Invert,
		DSCP: r.DSCP << 2, DSCPMask: r.DSCPMask << 2, Proto: r.IPProto,
		SPort:             route.PortMatch{Low: r.SPort.First, High: r.SPort.Last, Mask: r.SPort.Mask},
		DPort:             route.PortMatch{Low: r.DPort.First, High: r.DPort.Last, Mask: r.DPort.Mask},
		Undecided:         r.Mask != 0 || r.Unsupported(),
		Never:             r.OIF != "" || r.Mark&r.Mask != 0 || r.L3MDev || r.UIDs.Set && r.UIDs.First > 0 || r.Unsupported(),
		SuppressPrefixLen: int(r.SuppressPrefixLen), SuppressByGroup: r.SuppressGroup >= 0, SuppressGroup: uint32(max(r.SuppressGroup, 0)),
	}
}

// rules gives policy rules as the datapath wants them.
func rules(set *netstate.RuleSet) []route.Rule {
	all := make([]route.Rule, 0, len(set.Rules))
	for i := range set.Rules {
		all = append(all, rule(&set.Rules[i]))
	}
	return all
}
