package afpacket

import (
	"testing"
	"time"

	"proxyarpd/forward"
	"proxyarpd/forward/route"
	"proxyarpd/internal/nstest"
)

// What a stalled reader finds in its ring is late if it is old, and the kernel
// has the traffic until the ring is empty and a while has passed.
func TestStall(t *testing.T) {
	namespace(t)
	from, _ := nstest.Veth(t, "a", "ap")
	w := &window{}
	p := open(t, Config{Window: w})
	put := func(n uint32) { p.Send([]forward.Out{{Buf: frame(n, 60), Ifindex: from}}) }
	var b forward.Batch
	put(0)
	recv(t, p, &b)
	if b.Frames[0].Late {
		t.Error("late without a stall")
	}
	p.Release(&b)
	if w.said != len(w.consumed) {
		t.Errorf("%d said of %d", w.said, len(w.consumed))
	}

	put(1)
	time.Sleep(lateAfter + 10*time.Millisecond)
	put(2)
	w.stalled = time.Now().UnixNano()
	for n := uint32(1); n <= 2; {
		recv(t, p, &b)
		for i := range b.Frames[:b.N] {
			if f := &b.Frames[i]; f.Late != (number(f.Buf) == 1) {
				t.Errorf("frame %d: late %t", number(f.Buf), f.Late)
			}
			n++
		}
		p.Release(&b)
	}
	if !w.Stalled() {
		t.Error("resumed at once")
	}
	began := time.Now()
	for w.Stalled() { // Recv returns when there is something to do
		if err := p.Recv(&b, -1); err != nil || b.N > 0 {
			t.Fatalf("%d frames, %v", b.N, err)
		}
		p.Release(&b)
		// What ended it was the Recv that would have waited for ever.
		if time.Since(began) >= firstHold {
			if err := p.Recv(&b, 0); err != nil || w.Stalled() {
				t.Fatalf("stalled still: %v", err)
			}
			p.Release(&b)
		}
	}
	if held := time.Since(began); held < firstHold-50*time.Millisecond || held > firstHold+5*time.Second {
		t.Errorf("held for %v", held)
	}
	if w.resyncs == 0 {
		t.Error("resumed without a look at the ring")
	}
}

// A batch that was received before the stall is not sent after it, where the
// kernel forwards.
func TestStallInBatch(t *testing.T) {
	namespace(t)
	from, _ := nstest.Veth(t, "a", "ap")
	w := &window{}
	p := open(t, Config{Window: w})
	now := time.Now()
	old, young := now.Add(-lateAfter-time.Second).UnixNano(), now.UnixNano()
	batch := func() []forward.Out {
		var out []forward.Out
		for i, at := range []int64{old, young, 0, old, old, young} {
			out = append(out, forward.Out{Buf: frame(uint32(i), 60), Ifindex: from, Received: at})
		}
		return out
	}
	out := batch()
	p.Send(out)
	for i := range out {
		if out[i].Err != route.Forward {
			t.Errorf("no stall: frame %d: %v", i, out[i].Err)
		}
	}
	w.stalled = now.UnixNano()
	out = batch()
	p.Send(out)
	for i := range out {
		want := route.Forward
		if out[i].Received == old {
			want = route.DropStalled
		}
		if out[i].Err != want {
			t.Errorf("frame %d: %v, want %v", i, out[i].Err, want)
		}
	}
}

// Each stall soon after the last one is followed by a longer time with the kernel.
func TestStallHold(t *testing.T) {
	var s stall
	now := time.Unix(1e9, 0)
	for i, want := range []time.Duration{firstHold, firstHold * 8, firstHold * 64, lastHold, lastHold} {
		s.begin(now)
		if s.hold != want || !s.until.Equal(now.Add(want)) {
			t.Errorf("stall %d: held for %v, want %v", i, s.hold, want)
		}
		s.on, s.ended = false, s.until
		now = s.until.Add(time.Second)
	}
	if s.begin(s.ended.Add(forgiven + time.Second)); s.hold != firstHold {
		t.Errorf("long after the last: %v", s.hold)
	}
}
