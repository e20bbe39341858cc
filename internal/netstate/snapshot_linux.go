package netstate

import (
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// A snapshot collects dumps, apart from the State until all are complete.
type snapshot struct {
	links      map[int]Link
	addresses  addressLists
	rules      map[Family][]Rule
	neighbours map[neighbourKey]Neighbour
	nexthops   nexthopObjects // before the routes, which refer to them
	routes     [2]*routeTable // of IPv4 and IPv6; nil if not dumped
	expiry     [2]expiry
	begun      time.Time // the last dump
	forwards6  bool      // net.ipv6.conf.all.forwarding
	route      Route
}

// fibAt is where arrays have a family.
func fibAt(f Family) int {
	if f == IPv6 {
		return 1
	}
	return 0
}

// clear gives back what the routes hold.
func (n *snapshot) clear() {
	for _, t := range n.routes {
		if t != nil {
			t.clear()
		}
	}
}

// begin forgets what an interrupted dump of one kind has told.
func (n *snapshot) begin(k kind, s *state) {
	n.begun = time.Now()
	switch k.typ {
	case unix.RTM_GETLINK:
		n.links = make(map[int]Link, len(s.links))
	case unix.RTM_GETADDR:
		if n.addresses.lists == nil {
			n.addresses = newAddressLists()
		}
		n.addresses.forgetFamily(k.family)
	case unix.RTM_GETRULE:
		if n.rules == nil {
			n.rules = make(map[Family][]Rule)
		}
		delete(n.rules, k.family)
	case unix.RTM_GETNEIGH:
		n.neighbours = make(map[neighbourKey]Neighbour, len(s.neighbours))
	case unix.RTM_GETNEXTHOP:
		n.nexthops = make(nexthopObjects)
	case unix.RTM_GETROUTE:
		t, at := s.fib(k.family), fibAt(k.family)
		if n.routes[at] != nil {
			n.routes[at].clear()
		}
		n.routes[at], n.expiry[at] = newRouteTable(&t.bodies, t.routes.size()), expiry{}
	}
}

// add takes one message of a dump. What is of another family than was asked for is
// ignored: a kernel without IPv6 tells of IPv4 instead.
func (n *snapshot) add(s *state, family Family, typ uint16, b []byte) outcome {
	if family != unspecified && Family(familyOf(b)) != family {
		return ignored
	}
	o := ignored
	switch typ {
	case unix.RTM_NEWLINK:
		var l Link
		if l, o = readLink(b); o == applied {
			n.links[l.Index] = l
		}
	case unix.RTM_NEWADDR:
		var a Address
		if a, o = s.readAddress(b); o == applied {
			n.addresses.add(a)
		}
	case unix.RTM_NEWRULE:
		var r Rule
		if r, o = s.readRule(b); o == applied {
			f := Family(familyOf(b))
			n.rules[f] = append(n.rules[f], r)
		}
	case unix.RTM_NEWNEIGH:
		var nb Neighbour
		if nb, o = readNeighbour(b); o == applied {
			n.neighbours[nb.key()] = nb
		}
	case unix.RTM_NEWNEXTHOP:
		obj, err := parseNexthopObject(b)
		if o = outcomeOf(err); o == applied {
			n.nexthops[obj.id] = obj
		}
	case unix.RTM_NEWROUTE:
		if o = s.readRoute(b, &n.route); o == applied && !n.expiry[fibAt(family)].noteRoute(&n.route, n.begun) {
			n.nexthops.complete(&n.route)
			n.routes[fibAt(family)].add(&n.route)
		}
	case unix.RTM_NEWNETCONF:
		n.forwards6, o = readForwards6(b), applied
	}
	return o
}

// adopt makes a complete snapshot the State and tells the differences: first
// what is gone, what refers before what is referred to; then what is new, the
// other way round.
func (s *state) adopt(n *snapshot) {
	old := *s
	s.links, s.addresses, s.neighbours = n.links, n.addresses, n.neighbours
	s.nexthops, s.forwards6, s.unordered = n.nexthops, n.forwards6, false
	for index, l := range s.links {
		s.completeInet6(&l)
		s.links[index] = l
	}
	for i, t := range s.fibs() {
		t.take(n.routes[i], n.expiry[i])
	}
	s.replay = true
	tellGone(s, old.neighbours, s.neighbours, func(v *Neighbour) Event { return Event{Op: Delete, Neighbour: v} })
	s.tellGoneRoutes(&s.v4, old.v4.routes)
	s.tellGoneRoutes(&s.v6, old.v6.routes)
	for _, f := range []Family{IPv4, IPv6} {
		s.setRules(f, n.rules[f])
	}
	for k := range old.addresses.lists {
		if len(s.addresses.of(k)) == 0 {
			s.tellAddresses(k)
		}
	}
	s.settle() // what comes after may be another link's
	for index, l := range old.links {
		if now, ok := s.links[index]; !ok || anotherLink(l, now) {
			s.tell(Event{Op: Delete, Link: &l})
			delete(old.links, index)
		}
	}
	tellNew(s, old.links, s.links, func(v *Link) Event { return Event{Op: Set, Link: v} })
	for k := range s.addresses.lists {
		// Those of a link that is another one went with the old one.
		if _, same := old.links[k.index]; !same || !slices.Equal(s.addresses.of(k), old.addresses.of(k)) {
			s.tellAddresses(k)
		}
	}
	s.tellNewRoutes(&s.v4, old.v4.routes)
	s.tellNewRoutes(&s.v6, old.v6.routes)
	tellNew(s, old.neighbours, s.neighbours, func(v *Neighbour) Event { return Event{Op: Set, Neighbour: v} })
	old.v4.routes.clear()
	old.v6.routes.clear()
}

// adoptSets is adopt for the addresses and rules alone.
func (s *state) adoptSets(n *snapshot) {
	old := s.addresses
	s.addresses, s.unordered, s.replay = n.addresses, false, true
	for _, f := range []Family{IPv4, IPv6} {
		s.setRules(f, n.rules[f])
	}
	for k := range old.lists {
		if len(s.addresses.of(k)) == 0 {
			s.tellAddresses(k)
		}
	}
	for k := range s.addresses.lists {
		if !slices.Equal(s.addresses.of(k), old.of(k)) {
			s.tellAddresses(k)
		}
	}
}

// adoptRoutes is adopt for the nexthop objects, and the routes of those families
// that were dumped.
func (s *state) adoptRoutes(n *snapshot) {
	s.nexthops = n.nexthops
	for i, t := range s.fibs() {
		if n.routes[i] == nil {
			continue
		}
		old := t.routes
		t.take(n.routes[i], n.expiry[i])
		s.tellGoneRoutes(t, old)
		s.tellNewRoutes(t, old)
		old.clear()
	}
}

// take makes routes that were dumped those of the family; nil are none.
func (t *fib) take(routes *routeTable, e expiry) {
	if routes == nil {
		routes = newRouteTable(&t.bodies, 0)
	}
	t.routes, t.stale, t.expiry = routes, false, e
	t.beginReplay()
}

// tellGoneRoutes tells the destinations of old that are no more. Both tables
// hold their bodies, so equal routes have equal numbers.
func (s *state) tellGoneRoutes(t *fib, old *routeTable) {
	for k := range old.keys() {
		if _, ok := t.routes.get(k); !ok {
			s.tellRoutes(k)
		}
	}
}

func (s *state) tellNewRoutes(t *fib, old *routeTable) {
	for k := range t.routes.keys() {
		if s.emit == nil {
			return
		}
		s.before = old.appendIDs(s.before[:0], k)
		s.after = t.routes.appendIDs(s.after[:0], k)
		if !slices.Equal(s.before, s.after) {
			s.tellRoutes(k)
		}
	}
}

func tellGone[K, V comparable](s *state, old, now map[K]V, event func(*V) Event) {
	for k, v := range old {
		if _, ok := now[k]; !ok {
			s.tell(event(&v))
		}
	}
}

func tellNew[K, V comparable](s *state, old, now map[K]V, event func(*V) Event) {
	for k, v := range now {
		if was, ok := old[k]; !ok || was != v {
			s.tell(event(&v))
		}
	}
}
