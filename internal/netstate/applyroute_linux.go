package netstate

import (
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

func (s *state) setRoute(r Route, flags uint16) {
	k := keyOf(r.Table, r.Dst)
	t := s.fib(k.family)
	if r.expires != 0 {
		t.expiry.noteRoute(&r, time.Now())
	}
	list, sure := t.routes.routes(k), true
	if k.family == IPv6 {
		had := len(list)
		list, sure = insertRoute6(list, r, flags)
		if len(list) < had {
			t.routes.double(k)
		}
	} else {
		list = insertAlias(list, r, flags)
	}
	changed := s.putRoutes(k, list)
	if t.replay && several(list) {
		t.stale = true
	} else if t.replay && changed && flags&unix.NLM_F_REPLACE != 0 {
		t.replaced[k] = true
	} else if !t.replay && !sure {
		t.stale = true
	}
}

func (s *state) deleteRoute(r Route) {
	k := keyOf(r.Table, r.Dst)
	t := s.fib(k.family)
	rest, found := t.routes.routes(k), true
	ambiguous := several(rest) || len(r.Nexthops) > 1
	if k.family == IPv6 {
		rest, found = removeRoute6(rest, r)
		t.deleted = t.deleted || t.replay
	} else {
		rest, found = removeAlias(rest, r)
	}
	if t.replay {
		t.stale = t.stale || ambiguous || t.replaced[k]
	} else {
		t.stale = t.stale || !found || t.routes.doubled[k]
	}
	s.putRoutes(k, rest)
}

// several reports whether a message about one route or nexthop of a destination
// leaves open what becomes of others.
func several(list []Route) bool {
	return len(list) > 1 || len(list) == 1 && len(list[0].Nexthops) > 1
}

// disableLink is fib_sync_down_dev (net/ipv4/fib_semantics.c), which runs in
// silence right after the message that leads here: nexthops over the link die,
// and routes with no other nexthop are dropped. Without force, routes of scope
// host (those to the machine's own addresses) stay. Nexthops already dead are
// old news, unless a dump fell between their death and the route's, or the route
// has no other: then it was dead for want of a carrier alone.
//
// Of IPv6 it is rt6_sync_down_dev (net/ipv6/route.c), which spares no scope. It
// tells of routes that are dropped, unless net.ipv6.route.skip_notify_on_dev_down
// is set, and of no nexthop.
func (s *state) disableLink(t *fib, index int, force bool) {
	alive := func(nh Nexthop) bool { return nh.Flags&unix.RTNH_F_DEAD == 0 }
	spared := func(r *Route) bool { return !force && r.Scope == unix.RT_SCOPE_HOST }
	touched := t.bodies.match(func(r *Route) bool {
		return opaque(r) || !spared(r) && slices.ContainsFunc(r.Nexthops, func(nh Nexthop) bool {
			return nh.Index == index && (t.replay || alive(nh) || len(r.Nexthops) == 1)
		})
	})
	if touched == nil {
		return
	}
	for id := range touched {
		r := &t.bodies.all[id].route
		// Of several nexthops some may be left: ask. With a full table that takes
		// seconds, so not for a route of one.
		t.stale = t.stale || t.replay || opaque(r) || len(r.Nexthops) > 1
		if opaque(r) || slices.ContainsFunc(r.Nexthops, func(nh Nexthop) bool { return nh.Index != index && alive(nh) }) {
			delete(touched, id)
		}
	}
	s.dropBodies(t, touched, 0)
}

// dropBodies removes all routes with these bodies, from one table or, with 0,
// from all.
func (s *state) dropBodies(t *fib, gone map[uint32]bool, table uint32) {
	if len(gone) == 0 {
		return
	}
	var keys []routeKey
	var ids []uint32
	left := 0 // references that are still to be found
	for id := range gone {
		left += t.bodies.all[id].refs
	}
	for k := range t.routes.keys() {
		if left == 0 {
			break
		}
		ids = t.routes.appendIDs(ids[:0], k)
		if (table == 0 || k.table == table) && slices.ContainsFunc(ids, func(id uint32) bool { return gone[id] }) {
			keys = append(keys, k)
		}
	}
	for _, k := range keys {
		ids = t.routes.appendIDs(ids[:0], k)
		var rest []Route
		for i, r := range t.routes.routes(k) {
			if !gone[ids[i]] {
				rest = append(rest, r)
			}
		}
		s.putRoutes(k, rest)
	}
}
