package pktring

import (
	"testing"
	"time"

	"proxyarpd/internal/nstest"
)

// Where others keep the CPU Wait does not look, and still returns with the frame
// that comes; when that is over it looks again.
func TestWaitWhileCrowded(t *testing.T) {
	namespace(t)
	from, _ := nstest.Veth(t, "a", "b")
	r, s := openRing(t, Config{Spin: 16 * time.Microsecond}), openSender(t, true)
	now := time.Now()
	if r.crowded = now.Add(time.Hour); r.look(now) {
		t.Error("something came to an empty ring")
	}
	if r.crowded = now.Add(-time.Second); r.look(now) {
		t.Error("something came to an empty ring, after a look")
	}
	for _, crowded := range []time.Duration{time.Hour, -time.Hour} {
		r.crowded = time.Now().Add(crowded)
		s.Add(ethernet(testProto, 7, 46), from, testProto)
		s.Flush()
		if err := r.Wait(patience); err != nil || !r.Ready() {
			t.Fatalf("crowded for %v: %v, ready %v", crowded, err, r.Ready())
		}
		if got := r.look(time.Now()); got != (crowded < 0) {
			t.Errorf("crowded for %v: looked %v", crowded, got)
		}
		if _, b := receive(t, r); numberOf(b[VnetLen:]) != 7 {
			t.Error("another frame came")
		}
	}
}

// A stream of frames that come in quick succession makes Gather wait for more,
// and a frame that is alone does not.
func TestGatherWaits(t *testing.T) {
	namespace(t)
	from, _ := nstest.Veth(t, "a", "b")
	r, s := openRing(t, Config{}), openSender(t, true)
	for range 200 {
		r.Came(r.gather.last + 1500)
	}
	for waiting := range 4 {
		for deadline := time.Now().Add(patience); r.Waiting(gatherWant) != waiting; {
			if time.Now().After(deadline) {
				t.Fatalf("%d wait, want %d", r.Waiting(gatherWant), waiting)
			}
		}
		begin := time.Now()
		r.Gather()
		if slept := time.Since(begin) >= gatherMin; waiting >= 2 && !slept {
			t.Errorf("%d waiting: no pause", waiting)
		}
		s.Add(ethernet(testProto, uint32(waiting), 46), from, testProto)
		s.Flush()
	}
}
