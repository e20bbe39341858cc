package route

import (
	"maps"
	"net/netip"
	"slices"
)

// neighbours are those of a link by address. A workload's link has two or three,
// which are found and kept at less cost in a list than in a map.
type neighbours struct {
	few  []neighbour
	many map[netip.Addr]*Neighbour // all of them, once there have been more than fewNeighbours
}

type neighbour struct {
	addr netip.Addr
	is   *Neighbour
}

const fewNeighbours = 8

func (s *neighbours) get(a netip.Addr) *Neighbour {
	for i := range s.few {
		if n := &s.few[i]; n.addr == a {
			return n.is
		}
	}
	return s.many[a]
}

func (s *neighbours) set(a netip.Addr, n *Neighbour) {
	for i := range s.few {
		if s.few[i].addr == a {
			s.few[i].is = n
			return
		}
	}
	switch {
	case s.many != nil:
		s.many[a] = n
	case len(s.few) < fewNeighbours:
		s.few = append(s.few, neighbour{a, n})
	default:
		s.many = map[netip.Addr]*Neighbour{a: n}
		for _, n := range s.few {
			s.many[n.addr] = n.is
		}
		s.few = nil
	}
}

func (s *neighbours) delete(a netip.Addr) {
	s.few = slices.DeleteFunc(s.few, func(n neighbour) bool { return n.addr == a })
	delete(s.many, a)
}

func (s *neighbours) len() int { return len(s.few) + len(s.many) }

// clone gives a copy that is not changed with s.
func (s *neighbours) clone() neighbours { return neighbours{slices.Clone(s.few), maps.Clone(s.many)} }

func (s *neighbours) each(fn func(netip.Addr, *Neighbour)) {
	for i := range s.few {
		fn(s.few[i].addr, s.few[i].is)
	}
	for a, n := range s.many {
		fn(a, n)
	}
}
