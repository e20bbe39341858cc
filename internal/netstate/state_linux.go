package netstate

import (
	"iter"
	"net/netip"
)

// A state is what the kernel has told so far. It is Run's.
type state struct {
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
	// unordered: what a dump told of addresses and rules may have come apart from
	// the kernel's by messages that are older than it.
	unordered bool

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

func newState() *state {
	s := &state{
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

// incomplete reports whether the kernel has to be asked.
func (s *state) incomplete() bool { return s.stale || s.unordered }

func (s *state) tell(ev Event) {
	if s.emit != nil {
		s.emit(ev)
	}
}

// ruleSet returns the rules of a family as they are told.
func (s *state) ruleSet(f Family) RuleSet { return RuleSet{Family: f, Rules: distinct(s.rules[f])} }

// all yields the state as Set events: links first, as the rest refers to them.
func (s *state) all() iter.Seq[Event] {
	return func(yield func(Event) bool) {
		for _, l := range s.links {
			if !yield(Event{Op: Set, Link: &l}) {
				return
			}
		}
		for k := range s.addresses.lists {
			set := s.addresses.set(k)
			if !yield(Event{Op: Set, Addresses: &set}) {
				return
			}
		}
		for f := range s.rules {
			set := s.ruleSet(f)
			if !yield(Event{Op: Set, Rules: &set}) {
				return
			}
		}
		for k := range s.routes.keys() {
			if !yield(Event{Op: Set, Routes: s.routes.routeSet(k)}) {
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
