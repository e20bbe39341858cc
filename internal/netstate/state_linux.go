package netstate

import (
	"iter"
	"net/netip"
	"time"
)

// A state is what the kernel has told so far. It is Run's.
type state struct {
	links      map[int]Link
	addresses  addressLists
	rules      map[Family][]Rule // in the kernel's order, duplicates included
	neighbours map[neighbourKey]Neighbour
	nexthops   nexthopObjects
	v4, v6     fib

	// ipv6: IPv6 is followed. forwards6 is then net.ipv6.conf.all.forwarding, and
	// unasked are links whose IPv6 settings may have changed without a message.
	ipv6      bool
	forwards6 bool
	// recheck is when links with force_forwarding are looked at again; zero: there are none.
	unasked map[int]bool
	recheck time.Time

	emit   func(Event) // nil: nobody listens yet
	untold untold
	// unordered: what a dump told of addresses and rules may have come apart from
	// the kernel's by messages that are older than it.
	unordered bool
	replay    bool // messages about others than routes may be older than the last dump

	route         Route // storage for parseRoute
	before, after []uint32
}

type neighbourKey struct {
	index int
	ip    netip.Addr
}

func (n *Neighbour) key() neighbourKey { return neighbourKey{n.Index, n.IP} }

func newState(ipv6 bool) *state {
	s := &state{
		ipv6:       ipv6,
		unasked:    make(map[int]bool),
		links:      make(map[int]Link),
		addresses:  newAddressLists(),
		rules:      make(map[Family][]Rule),
		neighbours: make(map[neighbourKey]Neighbour),
		nexthops:   make(nexthopObjects),
		untold:     newUntold(),
	}
	s.v4.routes = newRouteTable(&s.v4.bodies, 0)
	s.v6.routes = newRouteTable(&s.v6.bodies, 0)
	return s
}

// fibs are those of all families.
func (s *state) fibs() [2]*fib { return [...]*fib{&s.v4, &s.v6} }

func (s *state) fib(f Family) *fib {
	if f == IPv6 {
		return &s.v6
	}
	return &s.v4
}

// incomplete reports whether the kernel has to be asked.
func (s *state) incomplete() bool { return s.v4.stale || s.v6.stale || s.unordered }

// replaying reports whether messages that follow may be older than a dump.
func (s *state) replaying() bool { return s.replay || s.v4.replay || s.v6.replay }

// endReplay notes that all those messages have been applied.
func (s *state) endReplay() {
	s.replay = false
	s.v4.endReplay()
	s.v6.endReplay()
}

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
		for _, t := range s.fibs() {
			for k := range t.routes.keys() {
				if !yield(Event{Op: Set, Routes: t.routes.routeSet(k)}) {
					return
				}
			}
		}
		for _, n := range s.neighbours {
			if !yield(Event{Op: Set, Neighbour: &n}) {
				return
			}
		}
	}
}
