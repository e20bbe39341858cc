package netstate

import (
	"slices"

	"golang.org/x/sys/unix"
)

// The functions here repeat, on the routes of one table and destination, what
// fib_table_insert and fib_table_delete (net/ipv4/fib_trie.c) did to them. The
// flags of the netlink header tell which insertion it was:
//
//	CREATE|EXCL    no route with this TOS and priority was there
//	CREATE         before the others with this TOS and priority
//	CREATE|APPEND  after them
//	REPLACE        in place of the first of them
//	none           the hardware flags of a present route changed
//
// Each also copes with a message about something that a dump has told already.

// volatileFlags change while the route stays the same one.
const volatileFlags = unix.RTNH_F_DEAD | unix.RTNH_F_LINKDOWN | unix.RTNH_F_OFFLOAD | unix.RTNH_F_TRAP |
	unix.RTM_F_NOTIFY | unix.RTM_F_OFFLOAD | unix.RTM_F_TRAP | rtmFOffloadFailed

const rtmFOffloadFailed = 0x20000000 // RTM_F_OFFLOAD_FAILED, include/uapi/linux/rtnetlink.h

// insertAlias returns list, which it may modify, with r in its place.
func insertAlias(list []Route, r Route, flags uint16) []Route {
	first, end := aliasGroup(list, &r)
	same := first + slices.IndexFunc(list[first:end], func(o Route) bool { return sameRoute(&o, &r) })
	known := same >= first
	switch {
	case flags&unix.NLM_F_REPLACE != 0 && first < end:
		return replaceAlias(list, r, first, end, same)
	case known: // already there, from a dump, and in its place
		list[same] = r
		return list
	case flags&unix.NLM_F_APPEND != 0:
		return slices.Insert(list, end, r)
	}
	return slices.Insert(list, first, r)
}

// replaceAlias puts r where the first of its group is. Two cases differ. If r
// belongs to a nexthop object that another alias of the group has, the object
// has changed (fib_info_notify_update) and that alias is the one. If r is
// known further back, the message is older than the dump that told of it: the
// kernel refuses to replace by a duplicate, so the first had gone by then.
func replaceAlias(list []Route, r Route, first, end, same int) []Route {
	if r.NHID != 0 {
		for i := first; i < end; i++ {
			o := &list[i]
			if o.NHID == r.NHID && o.Type == r.Type && o.Protocol == r.Protocol && o.Scope == r.Scope {
				list[i] = r
				return list
			}
		}
	}
	list[first] = r
	if same > first {
		list = slices.Delete(list, same, same+1)
	}
	return list
}

// removeAlias returns list, which it may modify, without the route that r
// describes. If that is not there, but others with its TOS, priority and type
// are, one of them may have changed since we heard of it: found is false.
func removeAlias(list []Route, r Route) (rest []Route, found bool) {
	first, end := aliasGroup(list, &r)
	found = true
	for i := first; i < end; i++ {
		if sameRoute(&list[i], &r) {
			return slices.Delete(list, i, i+1), true
		}
		found = found && list[i].Type != r.Type
	}
	return list, found
}

// aliasGroup is the range of list with the TOS and priority of r, empty at the
// place of insertion if there is none.
func aliasGroup(list []Route, r *Route) (first, end int) {
	for first < len(list) && before(&list[first], r) {
		first++
	}
	for end = first; end < len(list) && list[end].TOS == r.TOS && list[end].Priority == r.Priority; {
		end++
	}
	return first, end
}

// before is the order of fib_find_alias: TOS descending, priority ascending.
func before(a, b *Route) bool {
	if a.TOS != b.TOS {
		return a.TOS > b.TOS
	}
	return a.Priority < b.Priority
}

// sameRoute compares what the kernel compares to tell duplicates (fib_find_info
// and the type), that is everything but the volatile flags. Table and
// destination are equal already.
func sameRoute(a, b *Route) bool {
	return a.Type == b.Type && a.Protocol == b.Protocol && a.Scope == b.Scope && a.TOS == b.TOS &&
		a.Priority == b.Priority && a.From == b.From && a.Pref == b.Pref && a.HopLimit == b.HopLimit && a.PrefSrc == b.PrefSrc && a.NHID == b.NHID &&
		a.MTU == b.MTU && a.MTULocked == b.MTULocked && (a.Flags^b.Flags)&^volatileFlags == 0 &&
		slices.EqualFunc(a.Nexthops, b.Nexthops, func(x, y Nexthop) bool {
			x.Flags &^= volatileFlags
			y.Flags &^= volatileFlags
			return x == y
		})
}
