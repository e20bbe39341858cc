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

// routes gives a table's routes for one prefix without nexthops that the
// kernel would not use. Nexthops with an IPv6 gateway or an encapsulation are
// not the datapath's either: such a route is unusable here.
func routes(set *netstate.RouteSet) []forward.Route {
	all := make([]forward.Route, 0, len(set.Routes))
	for i := range set.Routes {
		r := &set.Routes[i]
		f := forward.Route{
			Table: r.Table, Type: forward.RouteType(r.Type), Protocol: uint8(r.Protocol),
			Scope: uint8(r.Scope), TOS: r.TOS, Metric: r.Priority, MTU: int(r.MTU), Source: r.PrefSrc,
		}
		for _, nh := range r.Nexthops {
			if nh.Flags&unix.RTNH_F_DEAD != 0 || nh.Encap != 0 || (nh.Gateway.IsValid() && !nh.Gateway.Is4()) {
				continue
			}
			f.Nexthops = append(f.Nexthops, forward.Nexthop{Ifindex: int32(nh.Index), Gateway: nh.Gateway, Weight: nh.Weight})
		}
		all = append(all, f)
	}
	return all
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
