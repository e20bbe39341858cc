package netstate

import (
	"slices"

	"golang.org/x/sys/unix"
)

func (s *state) setRoute(r Route, flags uint16) {
	k := keyOf(r.Table, r.Dst)
	list := insertAlias(s.routes.routes(k), r, flags)
	changed := s.putRoutes(k, list)
	if s.replay && len(list) > 1 {
		s.stale = true
	} else if s.replay && changed && flags&unix.NLM_F_REPLACE != 0 {
		s.replaced[k] = true
	}
}

func (s *state) deleteRoute(r Route) {
	k := keyOf(r.Table, r.Dst)
	list := s.routes.routes(k)
	several := len(list) > 1
	rest, found := removeAlias(list, r)
	if s.replay {
		s.stale = s.stale || several || s.replaced[k]
	} else {
		s.stale = s.stale || !found
	}
	s.putRoutes(k, rest)
}

// beginReplay notes that a dump was taken: of the messages that follow, those
// queued meanwhile may be older than what the dump said.
//
// To apply such a message again is harmless while a destination has one route:
// the last message about it decides. It is not where the place among several
// routes matters, nor where a route that replaced an unknown one goes. Then the
// routes are read once more.
func (s *state) beginReplay() { s.replay, s.replaced = true, make(map[routeKey]bool) }

// endReplay notes that all those messages have been applied.
func (s *state) endReplay() { s.replay, s.replaced = false, nil }

// putRoutes makes routes those of a destination, and tells if that is a change.
func (s *state) putRoutes(k routeKey, routes []Route) (changed bool) {
	s.before = s.routes.appendIDs(s.before[:0], k)
	s.routes.put(k, routes)
	s.after = s.routes.appendIDs(s.after[:0], k)
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
	set := s.routes.routeSet(k)
	if len(set.Routes) == 0 {
		s.emit(Event{Op: Delete, Routes: set})
		return
	}
	s.emit(Event{Op: Set, Routes: set})
}

// routed reports whether any route goes over the link, or may: of a nexthop
// object we may not know the links.
func (s *state) routed(index int) bool {
	return s.bodies.match(func(r *Route) bool {
		return opaque(r) || slices.ContainsFunc(r.Nexthops, func(nh Nexthop) bool { return nh.Index == index })
	}) != nil
}

func opaque(r *Route) bool { return r.NHID != 0 && len(r.Nexthops) == 0 }

// disableLink is fib_sync_down_dev (net/ipv4/fib_semantics.c), which runs in
// silence right after the message that leads here: nexthops over the link die,
// and routes with no other nexthop are dropped. Without force, routes of scope
// host (those to the machine's own addresses) stay. Nexthops already dead are
// old news, unless a dump fell between their death and the route's.
func (s *state) disableLink(index int, force bool) {
	alive := func(nh Nexthop) bool { return nh.Flags&unix.RTNH_F_DEAD == 0 }
	spared := func(r *Route) bool { return !force && r.Scope == unix.RT_SCOPE_HOST }
	touched := s.bodies.match(func(r *Route) bool {
		return opaque(r) || !spared(r) && slices.ContainsFunc(r.Nexthops, func(nh Nexthop) bool {
			return nh.Index == index && (s.replay || alive(nh))
		})
	})
	if touched == nil {
		return
	}
	for id := range touched {
		r := &s.bodies.all[id].route
		// Of several nexthops some may be left: ask. With a full table that takes
		// seconds, so not for a route of one.
		s.stale = s.stale || s.replay || opaque(r) || len(r.Nexthops) > 1
		if opaque(r) || slices.ContainsFunc(r.Nexthops, func(nh Nexthop) bool { return nh.Index != index && alive(nh) }) {
			delete(touched, id)
		}
	}
	s.dropBodies(touched, 0)
}

// dropBodies removes all routes with these bodies, from one table or, with 0,
// from all.
func (s *state) dropBodies(gone map[uint32]bool, table uint32) {
	if len(gone) == 0 {
		return
	}
	var keys []routeKey
	var ids []uint32
	left := 0 // references that are still to be found
	for id := range gone {
		left += s.bodies.all[id].refs
	}
	for k := range s.routes.keys() {
		if left == 0 {
			break
		}
		ids = s.routes.appendIDs(ids[:0], k)
		if (table == 0 || k.table == table) && slices.ContainsFunc(ids, func(id uint32) bool { return gone[id] }) {
			keys = append(keys, k)
		}
	}
	for _, k := range keys {
		ids = s.routes.appendIDs(ids[:0], k)
		var rest []Route
		for i, r := range s.routes.routes(k) {
			if !gone[ids[i]] {
				rest = append(rest, r)
			}
		}
		s.putRoutes(k, rest)
	}
}
