package daemon

import (
	"net/netip"
	"testing"
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
	if a.answered(h, false) || q.gone || a.answered(h, true) {
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
