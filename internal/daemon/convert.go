package daemon

import (
	"golang.org/x/sys/unix"

	"proxyarpd/forward"
	"proxyarpd/internal/netstate"
)

// neighbour says of a kernel entry what the datapath needs.
func neighbour(n *netstate.Neighbour) *forward.Neighbour {
	return &forward.Neighbour{
		MAC:    n.MAC,
		Valid:  n.State.Valid() && n.HasMAC,
		Stale:  n.State&unix.NUD_STALE != 0,
		Failed: n.State&unix.NUD_FAILED != 0,
		Fixed:  n.State&(unix.NUD_PERMANENT|unix.NUD_NOARP) != 0 || n.Flags&unix.NTF_EXT_LEARNED != 0,
	}
}

// routeScratch is what routes are turned in, again and again: a full table is
// a million of them, and the builder keeps copies.
type routeScratch struct {
	routes   []forward.Route
	nexthops []forward.Nexthop
}

// convert gives a table's routes for one prefix, until the next call, without
// nexthops that the kernel would not use. Nexthops with an IPv6 gateway or an
// encapsulation are not the datapath's either: such a route is unusable here.
func (s *routeScratch) convert(set *netstate.RouteSet) []forward.Route {
	s.routes, s.nexthops = s.routes[:0], s.nexthops[:0]
	for i := range set.Routes {
		r := &set.Routes[i]
		first := len(s.nexthops)
		for _, nh := range r.Nexthops {
			if nh.Flags&unix.RTNH_F_DEAD != 0 || nh.Encap != 0 || (nh.Gateway.IsValid() && !nh.Gateway.Is4()) {
				continue
			}
			s.nexthops = append(s.nexthops, forward.Nexthop{Ifindex: int32(nh.Index), Gateway: nh.Gateway, Weight: nh.Weight})
		}
		s.routes = append(s.routes, forward.Route{
			Table: r.Table, Type: forward.RouteType(r.Type), Protocol: uint8(r.Protocol),
			Scope: uint8(r.Scope), TOS: r.TOS, Metric: r.Priority, MTU: int(r.MTU), Source: r.PrefSrc,
			Nexthops: s.nexthops[first:],
		})
	}
	return s.routes
}

// rule says of a policy rule what the datapath needs. Forwarded packets bear
// no mark and come from no socket of this host.
func rule(r *netstate.Rule) forward.Rule {
	return forward.Rule{
		Priority: r.Priority, Action: forward.RuleAction(r.Action), Table: r.Table, Goto: r.Goto,
		From: r.From, To: r.To, IIF: r.IIF, TOS: r.TOS, Invert: r.Invert,
		Never:             r.OIF != "" || r.Mark&r.Mask != 0 || r.Unsupported(),
		SuppressPrefixLen: int(r.SuppressPrefixLen),
	}
}
