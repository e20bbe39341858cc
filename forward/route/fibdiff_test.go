package route

import (
	"math/rand/v2"
	"net/netip"
	"testing"
)

// TestFIBDiff: what diff tells of two snapshots is what is not the same in them, each
// prefix once, in whatever family; and nodes are as find takes them to be.
func TestFIBDiff(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	for _, all := range everythings {
		addr := func() netip.Addr {
			b := all.Addr().AsSlice()
			b[0], b[1], b[len(b)/2], b[len(b)-1] = 32, byte(rng.UintN(2))<<7, byte(rng.UintN(3)), byte(rng.UintN(8))
			a, _ := netip.AddrFromSlice(b)
			return a
		}
		var f fib
		have := map[netip.Prefix]*Route{}
		was, had := noRoutes, map[netip.Prefix]*Route{}
		for range 400 {
			for range rng.IntN(12) {
				p := randomPrefix(rng, addr())
				if have[p] != nil && rng.UintN(3) > 0 {
					f.Delete(p)
					delete(have, p)
				} else {
					have[p] = new(Route)
					f.Insert(p, have[p])
				}
			}
			soundNodes(t, &f.root, 0)
			now, old := f.snapshot(), map[netip.Prefix]*Route{}
			for p, r := range have {
				old[p] = r
			}
			told := map[netip.Prefix]bool{}
			now.diff(was, all.Addr(), func(p netip.Prefix, gone bool) {
				if told[p] || had[p] == have[p] || gone != (have[p] == nil) {
					t.Errorf("%v: gone %t, told %t; it was %p and is %p", p, gone, told[p], had[p], have[p])
				}
				told[p] = true
			})
			for p := range had {
				if have[p] != had[p] && !told[p] {
					t.Errorf("%v: nothing said", p)
				}
			}
			for p := range have {
				if have[p] != had[p] && !told[p] {
					t.Errorf("%v: nothing said", p)
				}
			}
			if rng.UintN(2) == 0 {
				was, had = now, old
			}
		}
		if t.Failed() {
			return
		}
	}
}

// soundNodes checks a node, whose path must begin at an octet, and those below it.
func soundNodes(t *testing.T, n *fibNode, first int) {
	t.Helper()
	if n.path.first() != first || n.path.length() > maxPath {
		t.Fatalf("path %#x does not begin at %d", uint64(n.path), first)
	}
	if first > 0 && len(n.routes) == 0 && len(n.nodes) == 0 {
		t.Fatalf("a node at %d with nothing in it", n.path.depth())
	}
	if first > 0 && len(n.routes) == 0 && len(n.nodes) == 1 && n.path.length()+1+n.nodes[0].path.length() <= maxPath {
		t.Fatalf("a node at %d that is of no use", n.path.depth())
	}
	if m := n.path; n.path.depth() != first+m.length() {
		t.Fatalf("path %#x", uint64(m))
	}
	for _, kid := range n.nodes {
		soundNodes(t, kid, n.path.depth()+1)
	}
}
