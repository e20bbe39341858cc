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

// TestFIBJoins: a node through which one way leads, too long for one path, is of no use any
// more when that way is parted.
func TestFIBJoins(t *testing.T) {
	var f fib
	insert := func(text string) netip.Prefix {
		p := netip.MustParsePrefix(text)
		f.Insert(p, new(Route))
		soundNodes(t, &f.root, 0)
		return p
	}
	insert("2001:db8::/128")
	beside := insert("2001:db9::/128")
	insert("2001:db8::1:0:0/128")
	f.Delete(beside)
	insert("2001:db8:1::/128")
}

// soundNodes checks a node, whose path must begin at an octet, and those below it.
func soundNodes(t *testing.T, n *fibNode, first int) {
	t.Helper()
	if n.path.first() != first || n.path.length() > maxPath {
		t.Fatalf("path %#x does not begin at %d", uint64(n.path), first)
	}
	if first > 0 {
		kept := len(n.nodes) > 0 && n.nodes[0].leaf == nil && n.path.length()+1+n.nodes[0].node.path.length() > maxPath
		if things := len(n.routes) + len(n.nodes); things == 0 || things == 1 && !kept {
			t.Fatalf("a node at %d that is of no use", n.path.depth())
		}
	}
	for o := range bitsIn(n.kids[:], 0, 256) {
		kid := n.kid(byte(o))
		if (kid.leaf == nil) == (kid.node == nil) {
			t.Fatalf("below %d: %+v", o, *kid)
		}
		if kid.node != nil {
			soundNodes(t, kid.node, n.path.depth()+1)
		} else if l := kid.leaf; l.last() <= n.path.depth() || l.key.octet(n.path.depth()) != byte(o) || l.key.before(l.last()+1) != l.key {
			t.Fatalf("below %d at %d: %+v", o, n.path.depth(), *l)
		}
	}
}
