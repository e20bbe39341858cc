package route

import (
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/gaissmai/bart"

	"proxyarpd/internal/fulltable"
	"proxyarpd/internal/nstest"
)

// TestFIBSame changes a fib and another's trie alike, and has snapshots looked
// up in while the changes go on: they stay what they were.
func TestFIBSame(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	// Few bits vary, so that prefixes meet at all lengths.
	testFIB(t, rng, func() netip.Addr {
		a := [4]byte{10, byte(rng.UintN(4)) << 6, byte(rng.UintN(8)), byte(rng.UintN(256))}
		if rng.UintN(8) == 0 {
			a = [4]byte{byte(rng.UintN(256)), byte(rng.UintN(256)), 0, 0}
		}
		return netip.AddrFrom4(a)
	})
}

// TestFIBSame6 is TestFIBSame for IPv6. An address that stands for an IPv4 one is one.
func TestFIBSame6(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 2))
	testFIB(t, rng, func() netip.Addr {
		a := [16]byte{0xfd, byte(rng.UintN(4)) << 6, 7: byte(rng.UintN(8)), 8: byte(rng.UintN(2)), 15: byte(rng.UintN(256))}
		switch rng.UintN(8) {
		case 0:
			a = [16]byte{byte(rng.UintN(256)), byte(rng.UintN(256))}
		case 1:
			a = [16]byte{10: 0xff, 11: 0xff, 12: 10, 15: byte(rng.UintN(256))}
		}
		return netip.AddrFrom16(a)
	})
}

func testFIB(t *testing.T, rng *rand.Rand, addr func() netip.Addr) {
	var f fib
	model := new(bart.Table[*Route])
	same := func(f *fib, model *bart.Table[*Route]) {
		t.Helper()
		for range 50 {
			a := addr()
			got, ok := f.Lookup(a)
			want, wanted := model.Lookup(a)
			if got != want || ok != wanted {
				t.Fatalf("%v: %v, %v; want %v, %v", a, got, ok, want, wanted)
			}
		}
	}
	type pair struct {
		fib   *fib
		model *bart.Table[*Route]
	}
	var old []pair
	for i := range nstest.Rounds(20000) {
		p := randomPrefix(rng, addr())
		got, ok := f.Get(p)
		if want, wanted := model.Get(p); got != want || ok != wanted {
			t.Fatalf("%v: %v, %v; want %v, %v", p, got, ok, want, wanted)
		}
		switch {
		case ok && (rng.UintN(2) == 0 || i%4000 > 2500):
			f.Delete(p)
			model = model.DeletePersist(p)
		case i%4000 <= 2500:
			r := new(Route)
			f.Insert(p, r)
			model = model.InsertPersist(p, r)
		}
		if rng.UintN(20) == 0 {
			same(&f, model)
			old = append(old, pair{f.snapshot(), model})
			o := old[rng.IntN(len(old))]
			same(o.fib, o.model)
		}
	}
	for p := range model.All() {
		f.Delete(p)
	}
	if f.root.has != [8]uint64{} || f.root.kids != [4]uint64{} {
		t.Error("something is left")
	}
	for _, o := range old {
		same(o.fib, o.model)
	}
	if _, ok := f.Lookup(netip.Addr{}); ok {
		t.Error("no address has a route")
	}
}

// TestFIBWithin: the prefixes inside of one are those of a walk over all, in whatever family.
func TestFIBWithin(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	for _, all := range everythings {
		var f fib
		have := map[netip.Prefix]*Route{}
		addr := func() netip.Addr {
			b := all.Addr().AsSlice()
			b[0], b[1], b[2], b[len(b)-1] = 32, byte(rng.UintN(3)), byte(rng.UintN(256)), byte(rng.UintN(256))
			a, _ := netip.AddrFromSlice(b)
			return a
		}
		for range 2000 {
			p, r := randomPrefix(rng, addr()), new(Route)
			f.Insert(p, r)
			have[p] = r
		}
		for range 300 {
			p := randomPrefix(rng, addr())
			want := 0
			for q := range have {
				if q.Bits() > p.Bits() && p.Contains(q.Addr()) {
					want++
				}
			}
			seen := map[netip.Prefix]bool{}
			f.within(p, func(q netip.Prefix, r *Route) {
				if seen[q] || have[q] != r || q.Bits() <= p.Bits() || !p.Contains(q.Addr()) {
					t.Errorf("within %v: %v, %v", p, q, r)
				}
				seen[q] = true
			})
			if len(seen) != want {
				t.Errorf("within %v: %d, want %d", p, len(seen), want)
			}
		}
	}
}

func randomPrefix(rng *rand.Rand, a netip.Addr) netip.Prefix {
	return netip.PrefixFrom(a, rng.IntN(a.BitLen()+1)).Masked()
}

// TestRoutesShared: equal routes are one, and go with the last that uses them.
func TestRoutesShared(t *testing.T) {
	b := NewBuilder(Policy{})
	prefixes := []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("10.2.0.0/16"), netip.MustParsePrefix("10.3.0.0/24")}
	for _, p := range prefixes {
		setVia(b, p, 1)
	}
	table := b.Publish()
	at := func(dst string) *Route { return table.Lookup(netip.MustParseAddr(dst), netip.Addr{}, 1, 0) }
	if a, b, c := at("10.1.0.1"), at("10.2.0.1"), at("10.3.0.1"); a != b || a == c || a.Bits != 16 || c.Bits != 24 {
		t.Errorf("%+v, %+v, %+v", a, b, c)
	}
	if n := len(b.pool.byKey); n != 2 {
		t.Errorf("%d different routes, want 2", n)
	}
	setVia(b, prefixes[0], 1) // the same again
	if b.Dirty() {
		t.Error("no change is a change")
	}
	for _, p := range prefixes {
		setVia(b, p, 2)
		b.SetRoutes(TableMain, p, nil)
		b.SetRoutes(TableMain, p, nil)
	}
	if len(b.pool.byKey) != 0 || len(b.UsedLinks()) != 0 || b.Publish().routes != 0 {
		t.Errorf("left: %v, links %v, %d routes", b.pool.byKey, b.UsedLinks(), b.routes)
	}
	if r := at("10.3.0.1"); r == nil || r.Nexthops[0].Gateway != netip.AddrFrom4([4]byte{192, 168, 1, 2}) {
		t.Errorf("the published table has changed: %+v", r)
	}
}

// TestFIBReaders: who looks up in published tables is not disturbed by those
// who change the next; for the race detector.
func TestFIBReaders(t *testing.T) {
	b := NewBuilder(Policy{})
	prefixes := fulltable.Prefixes(2000, 1)
	addrs := fulltable.Addrs(prefixes, 1000, 1)
	var table atomic.Pointer[Table]
	table.Store(b.Publish())
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for range 50 {
				now := table.Load()
				for _, a := range addrs {
					if r := now.Lookup(a, netip.Addr{}, 1, 0); r != nil && len(r.Nexthops) != 1 {
						t.Errorf("%v: %+v", a, r)
					}
				}
			}
		})
	}
	for i := range 20 * len(prefixes) {
		if p := prefixes[i*7%len(prefixes)]; i%3 == 2 {
			b.SetRoutes(TableMain, p, nil)
		} else {
			setVia(b, p, i)
		}
		if i%10 == 0 {
			table.Store(b.Publish())
		}
	}
	readers.Wait()
}
