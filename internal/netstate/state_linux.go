package netstate

import (
	"iter"
	"net/netip"
)

// A State is what the kernel has told so far. Its methods may be called only
// where Watcher.State says.
type State struct {
	links      map[int]Link
	addresses  addressLists
	rules      map[Family][]Rule // in the kernel's order, duplicates included
	neighbours map[neighbourKey]Neighbour
	nexthops   nexthopObjects
	routes     *routeTable
	bodies     bodyPool

	emit   func(Event) // nil: nobody listens yet
	untold untold
	stale  bool // the kernel may have dropped or changed routes silently

	replay   bool              // messages may be older than the last dump
	replaced map[routeKey]bool // by such a message

	route         Route // storage for parseRoute
	before, after []uint32
}

type neighbourKey struct {
	index int
	ip    netip.Addr
}

func (n *Neighbour) key() neighbourKey { return neighbourKey{n.Index, n.IP} }

func newState() *State {
	s := &State{
		links:      make(map[int]Link),
		addresses:  newAddressLists(),
		rules:      make(map[Family][]Rule),
		neighbours: make(map[neighbourKey]Neighbour),
		nexthops:   make(nexthopObjects),
		untold:     newUntold(),
	}
	s.routes = newRouteTable(&s.bodies, 0)
	return s
}

func (s *State) tell(ev Event) {
	if s.emit != nil {
		s.emit(ev)
	}
}

// Link returns the link with the index.
func (s *State) Link(index int) (Link, bool) {
	l, ok := s.links[index]
	return l, ok
}

// Links yields all links, in no order.
func (s *State) Links() iter.Seq[Link] { return values(s.links) }

// AddressSets yields the addresses of every link that has any, in no order of
// links and families.
func (s *State) AddressSets() iter.Seq[AddressSet] {
	return func(yield func(AddressSet) bool) {
		for k := range s.addresses.lists {
			if !yield(s.addresses.set(k)) {
				return
			}
		}
	}
}

// Neighbours yields all neighbours, in no order.
func (s *State) Neighbours() iter.Seq[Neighbour] { return values(s.neighbours) }

// Neighbour returns the entry for an address on a link.
func (s *State) Neighbour(index int, ip netip.Addr) (Neighbour, bool) {
	n, ok := s.neighbours[neighbourKey{index, ip}]
	return n, ok
}

// Rules returns the rules of a family.
func (s *State) Rules(f Family) RuleSet { return RuleSet{Family: f, Rules: distinct(s.rules[f])} }

// Routes returns the routes of a table to exactly dst, in the kernel's order.
func (s *State) Routes(table uint32, dst netip.Prefix) []Route {
	if !dst.Addr().Is4() {
		return nil
	}
	return s.routes.routes(keyOf(table, dst))
}

// RouteSets yields all routes, in no order of tables and destinations.
func (s *State) RouteSets() iter.Seq[RouteSet] {
	return func(yield func(RouteSet) bool) {
		for k := range s.routes.sets {
			if !yield(*s.routes.set(k)) {
				return
			}
		}
	}
}

// RouteCount is the number of routes of all tables.
func (s *State) RouteCount() int { return s.routes.count }

// all yields the State as Set events: links first, as the rest refers to them.
func (s *State) all() iter.Seq[Event] {
	return func(yield func(Event) bool) {
		for _, l := range s.links {
			if !yield(Event{Op: Set, Link: &l}) {
				return
			}
		}
		for set := range s.AddressSets() {
			if !yield(Event{Op: Set, Addresses: &set}) {
				return
			}
		}
		for f := range s.rules {
			set := s.Rules(f)
			if !yield(Event{Op: Set, Rules: &set}) {
				return
			}
		}
		for k := range s.routes.sets {
			if !yield(Event{Op: Set, Routes: s.routes.set(k)}) {
				return
			}
		}
		for _, n := range s.neighbours {
			if !yield(Event{Op: Set, Neighbour: &n}) {
				return
			}
		}
	}
}

func values[K comparable, V any](m map[K]V) iter.Seq[V] {
	return func(yield func(V) bool) {
		for _, v := range m {
			if !yield(v) {
				return
			}
		}
	}
}
