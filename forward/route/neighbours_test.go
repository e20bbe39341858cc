package route

import (
	"math/rand/v2"
	"net/netip"
	"testing"
)

// TestNeighbours: a set is what a map is, however many there are, and a snapshot stays
// what it was.
func TestNeighbours(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 8))
	for _, most := range []uint{3, fewNeighbours, 2 * fewNeighbours} {
		var s neighbours
		want := map[netip.Addr]*Neighbour{}
		for range 500 {
			b := [16]byte{0: 0xfe, 1: 0x80, 15: byte(rng.UintN(most))}
			a := netip.AddrFrom16(b)
			if rng.UintN(2) == 0 {
				a = netip.AddrFrom4([4]byte(b[12:]))
			}
			kept := s.snapshot()
			before := kept.get(a)
			if rng.UintN(3) == 0 {
				s.delete(a)
				delete(want, a)
			} else {
				n := new(Neighbour)
				s.set(a, n)
				want[a] = n
			}
			if kept.get(a) != before {
				t.Fatal("the snapshot has changed")
			}
			seen, now := 0, s.snapshot()
			now.each(func(a netip.Addr, n *Neighbour) {
				if seen++; want[a] != n {
					t.Errorf("%v: %p, want %p", a, n, want[a])
				}
			})
			if seen != len(want) || now.empty() != (seen == 0) {
				t.Fatalf("%d of %d", seen, len(want))
			}
			for a, n := range want {
				if s.get(a) != n || now.get(a) != n {
					t.Fatalf("%v: %p, want %p", a, s.get(a), n)
				}
			}
		}
	}
}

// TestNeighbourPlaces: neighbours whose addresses differ in some bits alone, as one may
// choose who has a subnet to itself, do not all come to stand in one place.
func TestNeighbourPlaces(t *testing.T) {
	defer func(by [3]uint64) { placeBy = by }(placeBy)
	for name, nth := range map[string]func(i int) netip.Addr{
		"low bits":                 func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}) },
		"high bits":                func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(i >> 1), byte(i << 7), 1}) },
		"IPv6, low bits":           func(i int) netip.Addr { return netip.AddrFrom16([16]byte{0xfd, 14: byte(i >> 8), 15: byte(i)}) },
		"IPv6, high bits":          func(i int) netip.Addr { return netip.AddrFrom16([16]byte{0xfd, 8: byte(i >> 8), 9: byte(i)}) },
		"IPv6, bits of the prefix": func(i int) netip.Addr { return netip.AddrFrom16([16]byte{0xfd, byte(i >> 8), byte(i), 15: 1}) },
	} {
		const n, draws = 512, 200
		var s neighbours
		for i := range n {
			s.set(nth(i), new(Neighbour))
		}
		far := 0
		for draw := range draws {
			rng := rand.New(rand.NewPCG(1, uint64(draw)))
			placeBy = [...]uint64{rng.Uint64() | 1, rng.Uint64() | 1, rng.Uint64() | 1}
			table, away := s.snapshot(), 0
			for i, at := range table.list {
				if at.addr.IsValid() {
					away += int((uint32(i) - table.place(at.addr)) & table.mask)
				}
			}
			if away > 8*n {
				far++
			}
		}
		if far > draws/50 {
			t.Errorf("%s: by %d of %d draws more than 8 steps to each", name, far, draws)
		}
	}
}
