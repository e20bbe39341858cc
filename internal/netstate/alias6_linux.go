package netstate

import (
	"cmp"
	"slices"

	"golang.org/x/sys/unix"
)

// The functions here repeat, on the IPv6 routes of one table and destination,
// what fib6_add_rt2node and fib6_del_route (net/ipv6/ip6_fib.c) did to them. The
// kernel has a route for each nexthop, and links those with a gateway that have
// one metric as siblings; it tells siblings as one multipath route. Here that is
// one Route, too.
//
// A message says what there is of the siblings when it is sent. What a list
// becomes follows from it but where the list was not the kernel's, or where it
// can't be seen whether routes are siblings: then sure is false.

// insertRoute6 returns list, which it may modify, with r in its place: behind
// those of its metric. The flags of the netlink header are
//
//	CREATE|EXCL    the first of its metric
//	CREATE         behind others, or as one more sibling
//	CREATE|APPEND  the same
//	REPLACE        in place of one of its metric, and of that one's siblings; the
//	               list is shorter if another is the same
//	none           the hardware flags of a present route changed
func insertRoute6(list []Route, r Route, flags uint16) (with []Route, sure bool) {
	first, end := group6(list, &r)
	same := first + slices.IndexFunc(list[first:end], func(o Route) bool { return sameRoute(&o, &r) })
	known := same >= first
	switch {
	case first == end:
		// That nothing was there is said of a single route; of several nexthops without
		// a gateway the kernel tells the first only (ip6_route_mpath_notify).
		return slices.Insert(list, first, r), flags&(unix.NLM_F_EXCL|unix.NLM_F_REPLACE) != 0 || mayHaveSiblings(&r)
	case flags&unix.NLM_F_REPLACE != 0:
		return replaceRoute6(list, r, first, end)
	case flags&unix.NLM_F_EXCL != 0:
		return slices.Replace(list, first, end, r), known && end-first == 1
	case known:
		list[same] = r
		return list, true
	}
	if len(r.Nexthops) > 1 && r.NHID == 0 {
		return addSiblings(list, r, first, end)
	}
	// A sibling would have been told with the others.
	alone := !mayHaveSiblings(&r) || !slices.ContainsFunc(list[first:end], func(o Route) bool { return mayHaveSiblings(&o) })
	return slices.Insert(list, end, r), alone && flags&unix.NLM_F_CREATE != 0
}

// replaceRoute6 puts r where the kernel has it: in place of the first of its
// metric that may have siblings like r, or may not, and else of the first.
func replaceRoute6(list []Route, r Route, first, end int) (with []Route, sure bool) {
	group := list[first:end]
	at := max(0, slices.IndexFunc(group, func(o Route) bool { return mayHaveSiblings(&o) == mayHaveSiblings(&r) }))
	sure = len(group) == 1 || !slices.ContainsFunc(group, func(o Route) bool { return o.Protocol == unix.RTPROT_RA })
	group[at] = r
	for i := end - 1; i >= first; i-- { // the kernel has it twice, or a later dump has told of it
		if i != first+at && sameRoute(&list[i], &r) {
			list = slices.Delete(list, i, i+1)
		}
	}
	return list, sure
}

// addSiblings takes a message about a route that has become a sibling, which is
// told first, and those behind it in the ring of all.
func addSiblings(list []Route, r Route, first, end int) (with []Route, sure bool) {
	for i := first; i < end; i++ {
		o := &list[i]
		if o.NHID != 0 || len(o.Nexthops) == 0 {
			continue
		}
		at := indexNexthop(r.Nexthops, &o.Nexthops[0])
		if at < 0 {
			continue
		}
		o.Nexthops = append(slices.Clone(r.Nexthops[at:]), r.Nexthops[:at]...)
		return list, true
	}
	alone := !slices.ContainsFunc(list[first:end], func(o Route) bool { return mayHaveSiblings(&o) })
	return slices.Insert(list, end, r), alone
}

// removeRoute6 returns list, which it may modify, without the route that r
// describes, or without that sibling of a route. If there is none, but others of
// its metric are, sure is false.
func removeRoute6(list []Route, r Route) (rest []Route, sure bool) {
	first, end := group6(list, &r)
	if first == end {
		return list, true
	}
	for i := first; i < end; i++ {
		if sameRoute(&list[i], &r) {
			return slices.Delete(list, i, i+1), true
		}
	}
	if len(r.Nexthops) != 1 || r.NHID != 0 {
		return list, false
	}
	for i := first; i < end; i++ {
		o := &list[i]
		at := indexNexthop(o.Nexthops, &r.Nexthops[0])
		if o.NHID != 0 || len(o.Nexthops) < 2 || at < 0 {
			continue
		}
		if o.Nexthops = slices.Delete(slices.Clone(o.Nexthops), at, at+1); len(o.Nexthops) == 1 {
			o.Nexthops[0].Weight = 1 // of one alone it is not told
		}
		return list, true
	}
	return list, false
}

// mayHaveSiblings is rt6_qualify_for_ecmp (include/net/ip6_route.h), but that
// the kernel goes by how a route was made: one that an advertisement made has
// none, one that a program made under that name may.
func mayHaveSiblings(r *Route) bool {
	return r.NHID == 0 && r.Protocol != unix.RTPROT_RA && len(r.Nexthops) > 0 && r.Nexthops[0].Gateway.IsValid()
}

// indexNexthop is where a nexthop of the same link and gateway is, or -1.
func indexNexthop(all []Nexthop, nh *Nexthop) int {
	return slices.IndexFunc(all, func(o Nexthop) bool { return o.Index == nh.Index && o.Gateway == nh.Gateway })
}

// group6 is the range of list with the source prefix and the metric of r, empty
// at the place of insertion if there is none.
func group6(list []Route, r *Route) (first, end int) {
	for first < len(list) && order6(&list[first], r) < 0 {
		first++
	}
	for end = first; end < len(list) && order6(&list[end], r) == 0; {
		end++
	}
	return first, end
}

// order6 has routes from a prefix before those from anywhere, and those of a
// smaller metric first.
func order6(a, b *Route) int {
	return cmp.Or(cmp.Compare(b.From.Bits(), a.From.Bits()), b.From.Addr().Compare(a.From.Addr()), cmp.Compare(a.Priority, b.Priority))
}
