package netstate

import (
	"slices"

	"golang.org/x/sys/unix"
)

// A fib holds the routes of one family, and what is known of how far they are
// the kernel's.
type fib struct {
	routes *routeTable
	bodies bodyPool
	stale  bool // the kernel may have dropped or changed routes silently
	expiry expiry

	replay   bool              // messages may be older than the last dump
	replaced map[routeKey]bool // by such a message
	deleted  bool              // by such a message
	inARow   int               // dumps of routes during which routes were deleted
}

// maxInARow bounds how often IPv6 routes are read again because some were
// deleted meanwhile.
const maxInARow = 5

// beginReplay notes that a dump was taken: of the messages that follow, those
// queued meanwhile may be older than what the dump said.
//
// To apply such a message again is harmless while a destination has one route:
// the last message about it decides. It is not where the place among several
// routes matters, nor where a route that replaced an unknown one goes. Then the
// routes are read once more.
func (t *fib) beginReplay() { t.replay, t.deleted, t.replaced = true, false, make(map[routeKey]bool) }

// endReplay notes that all those messages have been applied. A dump of IPv6
// routes that goes on after a deletion skips as many routes as it has told
// (fib6_dump_table in net/ipv6/ip6_fib.c), so it may leave out some that nothing
// has happened to, and does not say so as other dumps do (NLM_F_DUMP_INTR).
func (t *fib) endReplay() {
	if !t.replay {
		return
	}
	if t.deleted && t.inARow < maxInARow {
		t.stale = true
		t.inARow++
	} else {
		t.inARow = 0
	}
	t.replay, t.replaced, t.deleted = false, nil, false
}

// putRoutes makes routes those of a destination, and tells if that is a change.
func (s *state) putRoutes(k routeKey, routes []Route) (changed bool) {
	t := s.fib(k.family).routes
	s.before = t.appendIDs(s.before[:0], k)
	t.put(k, routes)
	s.after = t.appendIDs(s.after[:0], k)
	if slices.Equal(s.before, s.after) {
		return false
	}
	s.tellRoutes(k)
	return true
}

// tellRoutes tells what a destination has now.
func (s *state) tellRoutes(k routeKey) {
	if s.emit == nil {
		return
	}
	set := s.fib(k.family).routes.routeSet(k)
	if len(set.Routes) == 0 {
		s.emit(Event{Op: Delete, Routes: set})
		return
	}
	s.emit(Event{Op: Set, Routes: set})
}

// routed reports whether any route goes over the link, or may: of a nexthop
// object we may not know the links.
func (t *fib) routed(index int) bool {
	return t.bodies.match(func(r *Route) bool {
		return opaque(r) || slices.ContainsFunc(r.Nexthops, func(nh Nexthop) bool { return nh.Index == index })
	}) != nil
}

// dead reports whether a nexthop over the link is dead.
func (t *fib) dead(index int) bool {
	return t.any(func(r *Route) bool {
		return slices.ContainsFunc(r.Nexthops, func(nh Nexthop) bool {
			return nh.Index == index && nh.Flags&unix.RTNH_F_DEAD != 0
		})
	})
}

// any reports whether there is a route that yes accepts.
func (t *fib) any(yes func(*Route) bool) bool { return t.bodies.match(yes) != nil }

func opaque(r *Route) bool { return r.NHID != 0 && len(r.Nexthops) == 0 }
