package netstate

import (
	"iter"
	"net/netip"
)

// A State is what the kernel has told so far. Its methods may be called only
// where Watcher.State says.
type State struct {
	links      map[int]Link
	addresses  map[addressKey]Address
	order      []addressKey // of the addresses, as the kernel told of them
	rules      []Rule       // in the kernel's order, duplicates included
	neighbours map[neighbourKey]Neighbour
	nexthops   nexthopObjects
	routes     *routeTable
	bodies     bodyPool

	emit  func(Event) // nil: nobody listens yet
	stale bool        // the kernel may have dropped or changed routes silently

	replay   bool              // messages may be older than the last dump
	replaced map[routeKey]bool // by such a message

	route         Route // storage for parseRoute
	before, after []uint32
}

// addressKey is what the kernel allows once a link (inet_insert_ifa in
// net/ipv4/devinet.c): a local address in a network.
type addressKey struct {
	index  int
	local  netip.Addr
	prefix netip.Prefix
}

type neighbourKey struct {
	index int
	ip    netip.Addr
}

func (a *Address) key() addressKey     { return addressKey{a.Index, a.Local, a.Prefix} }
func (n *Neighbour) key() neighbourKey { return neighbourKey{n.Index, n.IP} }

func newState() *State {
	s := &State{
		links:      make(map[int]Link),
		addresses:  make(map[addressKey]Address),
		neighbours: make(map[neighbourKey]Neighbour),
		nexthops:   make(nexthopObjects),
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

// Addresses yields all addresses, those of a link in the kernel's order, by
// which it chooses among them (inet_select_addr in net/ipv4/devinet.c).
func (s *State) Addresses() iter.Seq[Address] {
	return func(yield func(Address) bool) {
		for _, k := range s.order {
			if !yield(s.addresses[k]) {
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

// Rules returns the rules in the order in which the kernel tries them.
func (s *State) Rules() []Rule { return distinct(s.rules) }

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
		for a := range s.Addresses() {
			if !yield(Event{Op: Set, Address: &a}) {
				return
			}
		}
		for _, r := range s.Rules() {
			if !yield(Event{Op: Set, Rule: &r}) {
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
