package route

import (
	"cmp"
	"net/netip"
	"slices"
)

// appendChain6 appends of the IPv6 routes to one destination those that some packet
// takes, in the order in which choose6 looks at them: by the length of From, the
// longest first, and of each From those of the best metric alone, for one of these
// takes all of its packets. Unicast routes without a usable nexthop are passed over.
//
// Beside routes with a From, those without one are out of reach but for the default
// route: where no From has the source, the kernel goes on with a shorter prefix
// (net/ipv6/ip6_fib.c, fib6_node_lookup_1). bits is the length of the destination's.
func appendChain6(list, routes []Route, bits int) []Route {
	for i := range routes {
		r := &routes[i]
		if r.Type == TypeUnicast && len(r.Nexthops) == 0 {
			continue
		}
		list = append(list, *r)
		last := &list[len(list)-1]
		if last.TOS = 0; r.Type != TypeUnicast {
			last.Nexthops = nil
		}
		if last.From.Bits() <= 0 {
			last.From = netip.Prefix{}
		}
	}
	slices.SortStableFunc(list, func(a, b Route) int {
		return cmp.Or(b.From.Bits()-a.From.Bits(), a.From.Addr().Compare(b.From.Addr()), cmp.Compare(a.Metric, b.Metric))
	})
	kept := list[:0]
	for i := range list {
		if bits > 0 && list[0].From.IsValid() && !list[i].From.IsValid() {
			break
		}
		if last := len(kept) - 1; last < 0 || list[i].From != kept[last].From || list[i].Metric == kept[last].Metric {
			kept = append(kept, list[i])
		}
	}
	return kept
}

// choose6 gives the one of the routes to a destination that a flow takes: of those
// for its source and with the best metric the one of the highest score, the first of
// several (net/ipv6/route.c, find_rr_leaf). What the kernel knows of gateways'
// neighbours counts for hosts alone, not where it forwards (rt6_score_route).
func (r *Route) choose6(f *flow) *Route {
	src := f.src
	if !src.IsValid() {
		src = everythingV6.Addr()
	}
	for ; r != nil; r = r.next {
		if r.From.IsValid() && !r.From.Contains(src) {
			continue
		}
		best, most := r, -1
		for o := r; o != nil && o.From == r.From; o = o.next {
			if o.Object && o.Type == TypeBlackhole {
				return o // a blackhole nexthop has the first word
			}
			if s := o.score(f.near, most); s > most {
				best, most = o, s
			}
		}
		return best
	}
	return nil
}

// score is rt6_score_route: that a route leads over a given interface counts beside the
// router's preference. Of a nexthop object the kernel takes the first score that is more than
// what it has (rt6_nh_find_match), of other multipath routes the best.
func (r *Route) score(near int32, most int) int {
	rank := r.Pref.rank() << 2
	switch {
	case near == 0 || r.Object && len(r.Nexthops) > 1 && rank <= most && r.leadsOver(near):
		return rank | 2
	case r.Object && len(r.Nexthops) > 1:
		if r.Nexthops[0].Ifindex == near {
			return rank | 2
		}
		return rank
	case r.leadsOver(near):
		return rank | 2
	}
	return rank
}

// leadsOver reports whether a route is one over an interface. Local routes are, too.
func (r *Route) leadsOver(ifindex int32) bool {
	for i := range r.Nexthops {
		if r.Nexthops[i].Ifindex == ifindex {
			return true
		}
	}
	return r.Nexthops == nil && r.Dev == ifindex
}
