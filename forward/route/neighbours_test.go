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
