package daemon

import (
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/netstate"
)

// TestAsking: a neighbour that is removed before it is resolved is asked for
// again, once, and no other.
func TestAsking(t *testing.T) {
	var a asking
	h := hop{7, netip.MustParseAddr("192.0.2.1")}
	if a.answered(h, true) {
		t.Error("one that nobody asked for")
	}
	q := a.add(h)
	if a.add(h) != q {
		t.Error("two questions")
	}
	if !a.answered(h, true) || !q.gone {
		t.Error("removed, and not asked for again")
	}
	if a.answered(h, true) {
		t.Error("asked for again twice")
	}
	q = a.add(h)
	if !a.answered(h, false) || q.gone || a.answered(h, true) {
		t.Error("resolved, and then removed: nobody waits")
	}
	a.add(h)
	a.add(hop{8, h.addr})
	a.forget(7)
	if len(a.hops) != 1 {
		t.Errorf("%d questions about one interface that is left", len(a.hops))
	}
	for i := range 2 * maxAsking {
		a.add(hop{int32(100 + i), h.addr})
	}
	if len(a.hops) != maxAsking || a.add(hop{1, h.addr}) != nil {
		t.Errorf("%d questions", len(a.hops))
	}
}

// What is removed soon after it was resolved, or has failed, is asked for again: the
// datapath may have seen neither. One that goes later is not.
func TestAnsweredAndGone(t *testing.T) {
	b := newBench(t, nil)
	asked := 0
	b.resolve = func(int32, netip.Addr) { asked++ }
	if err := b.begins(nil, pod(7)); err != nil {
		t.Fatal(err)
	}
	h := hop{7, netip.MustParseAddr("192.0.2.1")}
	failed := netstate.Event{Neighbour: &netstate.Neighbour{Index: 7, IP: h.addr, State: unix.NUD_FAILED}}
	found := netstate.Event{Neighbour: &netstate.Neighbour{Index: 7, IP: h.addr, State: unix.NUD_REACHABLE, HasMAC: true}}
	gone := netstate.Event{Op: netstate.Delete, Neighbour: &netstate.Neighbour{Index: 7, IP: h.addr}}
	for _, c := range []struct {
		name    string
		batches [][]netstate.Event
		asks    bool
		want    int
	}{
		{"nobody asked", [][]netstate.Event{{failed, gone}}, false, 0},
		{"both at once", [][]netstate.Event{{failed, gone}}, true, 1},
		{"resolved and removed at once", [][]netstate.Event{{found, failed, gone}}, true, 1},
		{"resolved, and removed soon", [][]netstate.Event{{found}, {failed, gone}}, true, 1},
		{"resolved, and removed later", [][]netstate.Event{{found}, nil, {failed, gone}}, true, 0},
		{"removed alone", [][]netstate.Event{{gone}}, true, 1},
		{"one soon after the other", [][]netstate.Event{{failed}, {gone}}, true, 1},
		{"one long after the other", [][]netstate.Event{{failed}, nil, {gone}}, true, 0},
	} {
		asked = 0
		if c.asks {
			b.asking.add(h)
		}
		for _, events := range c.batches {
			for h := range b.fresh {
				if events == nil {
					b.fresh[h] = time.Now().Add(-2 * freshFor)
				}
			}
			if err := b.events(events...); err != nil {
				t.Fatal(err)
			}
		}
		if asked != c.want {
			t.Errorf("%s: asked %d times again, want %d", c.name, asked, c.want)
		}
	}
}
