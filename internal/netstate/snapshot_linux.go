package netstate

import (
	"slices"

	"golang.org/x/sys/unix"
)

// A snapshot collects dumps, apart from the State until all are complete.
type snapshot struct {
	links      map[int]Link
	addresses  addressLists
	rules      map[Family][]Rule
	neighbours map[neighbourKey]Neighbour
	nexthops   nexthopObjects // before the routes, which refer to them
	routes     *routeTable
	route      Route
}

// begin forgets what an interrupted dump of one kind has told.
func (n *snapshot) begin(typ uint16, s *state) {
	switch typ {
	case unix.RTM_GETLINK:
		n.links = make(map[int]Link, len(s.links))
	case unix.RTM_GETADDR:
		n.addresses = newAddressLists()
	case unix.RTM_GETRULE:
		n.rules = make(map[Family][]Rule)
	case unix.RTM_GETNEIGH:
		n.neighbours = make(map[neighbourKey]Neighbour, len(s.neighbours))
	case unix.RTM_GETNEXTHOP:
		n.nexthops = make(nexthopObjects)
	case unix.RTM_GETROUTE:
		if n.routes != nil {
			n.routes.clear()
		}
		n.routes = newRouteTable(&s.bodies, s.routes.size())
	}
}

// add takes one message of a dump.
func (n *snapshot) add(typ uint16, b []byte) outcome {
	o := ignored
	switch typ {
	case unix.RTM_NEWLINK:
		var l Link
		if l, o = readLink(b); o == applied {
			n.links[l.Index] = l
		}
	case unix.RTM_NEWADDR:
		var a Address
		if a, o = readAddress(b); o == applied {
			n.addresses.add(a)
		}
	case unix.RTM_NEWRULE:
		var r Rule
		if r, o = readRule(b); o == applied {
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
		if o = readRoute(b, &n.route); o == applied {
			n.nexthops.complete(&n.route)
			n.routes.add(&n.route)
		}
	}
	return o
}

// adopt makes a complete snapshot the State and tells the differences: first
// what is gone, what refers before what is referred to; then what is new, the
// other way round.
func (s *state) adopt(n *snapshot) {
	old := *s
	s.links, s.addresses, s.neighbours = n.links, n.addresses, n.neighbours
	s.nexthops, s.routes, s.stale, s.unordered = n.nexthops, n.routes, false, false
	s.beginReplay()
	tellGone(s, old.neighbours, s.neighbours, func(v *Neighbour) Event { return Event{Op: Delete, Neighbour: v} })
	s.tellGoneRoutes(old.routes)
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
	s.tellNewRoutes(old.routes)
	tellNew(s, old.neighbours, s.neighbours, func(v *Neighbour) Event { return Event{Op: Set, Neighbour: v} })
	old.routes.clear()
}

// adoptSets is adopt for the addresses and rules alone.
func (s *state) adoptSets(n *snapshot) {
	old := s.addresses
	s.addresses, s.unordered = n.addresses, false
	s.beginReplay()
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

// adoptRoutes is adopt for the routes and nexthop objects alone.
func (s *state) adoptRoutes(n *snapshot) {
	old := s.routes
	s.nexthops, s.routes, s.stale = n.nexthops, n.routes, false
	s.beginReplay()
	s.tellGoneRoutes(old)
	s.tellNewRoutes(old)
	old.clear()
}

// tellGoneRoutes tells the destinations of old that are no more. Both tables
// hold their bodies, so equal routes have equal numbers.
func (s *state) tellGoneRoutes(old *routeTable) {
	for k := range old.keys() {
		if _, ok := s.routes.get(k); !ok {
			s.tellRoutes(k)
		}
	}
}

func (s *state) tellNewRoutes(old *routeTable) {
	for k := range s.routes.keys() {
		if s.emit == nil {
			return
		}
		s.before = old.appendIDs(s.before[:0], k)
		s.after = s.routes.appendIDs(s.after[:0], k)
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
