package route

import (
	"math/bits"
	"math/rand/v2"
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
	addr netip.Addr // invalid: there is none
	is   *Neighbour
}

const fewNeighbours = 8

func (s *neighbours) get(a netip.Addr) *Neighbour {
	for i := range s.few {
		if s.few[i].addr == a {
			return s.few[i].is
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

// snapshot gives them as they are now, for who looks them up for each packet.
func (s *neighbours) snapshot() neighbourTable {
	if s.many == nil {
		return neighbourTable{list: slices.Clone(s.few)}
	}
	size := fewNeighbours
	for size < 2*len(s.many) {
		size *= 2
	}
	t := neighbourTable{list: make([]neighbour, size), mask: uint32(size - 1), shift: uint8(64 - bits.TrailingZeros(uint(size)))}
	for a, n := range s.many {
		i := t.place(a)
		for t.list[i].addr.IsValid() {
			i = (i + 1) & t.mask
		}
		t.list[i] = neighbour{a, n}
	}
	return t
}

// neighbourTable is a snapshot of neighbours, immutable: a list or, with a mask, an
// open-addressed table that is half empty.
type neighbourTable struct {
	list  []neighbour
	mask  uint32
	shift uint8 // of a hash of 64 bits, for a place
}

// Nobody outside is to know which neighbours come to stand in one place.
var placeBy = [3]uint64{rand.Uint64() | 1, rand.Uint64() | 1, rand.Uint64() | 1}

// place is where an address is looked for first. The uppermost bits of a product are what
// all bits of its factors count for; to lower ones the bits above them do not. By one
// factor alone addresses that follow each other would stand a step of one width apart,
// which some factors make close to nothing.
func (t *neighbourTable) place(a netip.Addr) uint32 {
	k := keyOf(a)
	h := (k.high*placeBy[0] ^ k.low) * placeBy[1]
	return uint32((h ^ h>>29) * placeBy[2] >> (t.shift & 63))
}

func (t *neighbourTable) get(a netip.Addr) *Neighbour {
	if t.mask != 0 {
		return t.find(a)
	}
	for i := range t.list {
		if t.list[i].addr == a {
			return t.list[i].is
		}
	}
	return nil
}

func (t *neighbourTable) find(a netip.Addr) *Neighbour {
	for i := t.place(a); ; i = (i + 1) & t.mask {
		if n := &t.list[i]; n.addr == a || !n.addr.IsValid() {
			return n.is
		}
	}
}

// empty reports whether there are none: a table has more than a list.
func (t *neighbourTable) empty() bool {
	return !slices.ContainsFunc(t.list, func(n neighbour) bool { return n.addr.IsValid() })
}

func (t *neighbourTable) each(fn func(netip.Addr, *Neighbour)) {
	for i := range t.list {
		if n := &t.list[i]; n.addr.IsValid() {
			fn(n.addr, n.is)
		}
	}
}
