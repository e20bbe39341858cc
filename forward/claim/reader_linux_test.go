package claim

import (
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Longer than STALL_NS of bpf/claim.c.
const stallTime = 25 * time.Millisecond

// both makes an interface one whose frames are ours, and which the kernel
// forwards, too.
func both(t *testing.T, s *Set, e *end, quota uint32) (slot uint32) {
	t.Helper()
	slot, err := s.SetPort(Port{Ifindex: e.index, Forward: true, Workload: true, Anywhere: true, KernelForwards: true, Quota: quota, L2Len: 14})
	if err == nil {
		err = s.Claim(e.index)
	}
	if err != nil {
		t.Fatal(err)
	}
	return slot
}

// took sends n frames, and wants so many of them for the ring and the kernel.
func took(t *testing.T, what string, s *Set, e *end, k *kernel, n, ring, stalled int) {
	t.Helper()
	before := s.Counters(e.index)
	e.put(t, repeat(n, packet(e.mac, "203.0.113.9"))...)
	after := s.Counters(e.index)
	if in := int(after.Admitted - before.Admitted); in != ring {
		t.Errorf("%s: %d of %d frames for the ring, want %d", what, in, n, ring)
	}
	if left := int(after.Left[Stalled] - before.Left[Stalled]); left != stalled {
		t.Errorf("%s: %d of %d frames left to the kernel, want %d", what, left, n, stalled)
	}
	if got := len(k.got(t)); got != stalled {
		t.Errorf("%s: the kernel has %d, want %d", what, got, stalled)
	}
}

// A ring that nobody reads is left alone, before a quota can refuse anything, and
// until its reader says so.
func TestStalledReader(t *testing.T) {
	namespace(t)
	e, s := veth(t, "a"), load(t)
	r, k := openRing(t, s, 256), openKernel(t, e, unix.ETH_P_IP)
	w := s.Window(0)
	const quota = 100
	slot := both(t, s, e, quota)
	if w.Stalled() || w.Stalls() != (Stalls{}) {
		t.Errorf("stalled before the first frame: %+v", w.Stalls())
	}
	took(t, "an empty ring", s, e, k, 2, 2, 0)
	time.Sleep(stallTime)
	took(t, "in which nothing moves", s, e, k, 2*quota, 0, 2*quota)
	st := w.Stalls()
	if !w.Stalled() || !st.Now || st.Count != 1 || !st.Ended.IsZero() || time.Since(st.Began) > time.Second || st.Began.After(time.Now()) {
		t.Errorf("%+v", st)
	}
	if w.StalledSince() < time.Now().Add(-time.Second).UnixNano() {
		t.Errorf("since %d", w.StalledSince())
	}
	if n := drain(r, s, slot); n != 2 {
		t.Errorf("%d in the ring, want 2", n)
	}
	w.Say()
	took(t, "read, but not resumed", s, e, k, 5, 0, 5)
	resync(s, r)
	w.Resume()
	took(t, "resumed", s, e, k, 5, 5, 0)
	now := w.Stalls()
	if now.Now || now.Count != 1 || !now.Ended.After(now.Began) {
		t.Errorf("%+v", now)
	}
	for _, c := range []struct {
		at   time.Time
		want bool
	}{{now.Began.Add(-time.Millisecond), false}, {now.Began.Add(now.Ended.Sub(now.Began) / 2), true}, {now.Ended.Add(time.Millisecond), false}} {
		if now.During(c.at.UnixNano()) != c.want {
			t.Errorf("%v during %+v: %t", c.at, now, !c.want)
		}
	}
	if !st.During(time.Now().UnixNano()) || (Stalls{}).During(time.Now().UnixNano()) {
		t.Error("a stall lasts until it ends, and there is none if there was none")
	}
}

// A reader that consumes anything at all is none that has stalled, and an empty
// ring says nothing.
func TestSlowReader(t *testing.T) {
	namespace(t)
	e, s := veth(t, "a"), load(t)
	r, k := openRing(t, s, 256), openKernel(t, e, unix.ETH_P_IP)
	slot := both(t, s, e, 200)
	for range 3 {
		took(t, "a reader that is slow", s, e, k, 20, 20, 0)
		time.Sleep(stallTime)
		s.Window(0).Consume(slot)
		s.Window(0).Say()
		took(t, "it has read one", s, e, k, 1, 1, 0)
	}
	drain(r, nil, slot)
	resync(s, r)
	for range 3 {
		took(t, "a reader that sleeps", s, e, k, 1, 1, 0)
		drain(r, s, slot)
		s.Window(0).Say()
		time.Sleep(stallTime)
	}
	// Of frames that were admitted and lost nobody is woken: the first that finds
	// them is the ring's.
	took(t, "lost", s, e, k, 1, 1, 0)
	drain(r, nil, slot)
	time.Sleep(stallTime)
	took(t, "behind one that was lost", s, e, k, 1, 1, 0)
	if st := s.Window(0).Stalls(); st.Count != 0 {
		t.Errorf("%+v", st)
	}
}

// Where the kernel does not forward nobody else could have the frames.
func TestStalledReaderOfOnes(t *testing.T) {
	namespace(t)
	e, s := veth(t, "a"), load(t)
	k := openKernel(t, e, unix.ETH_P_IP)
	openRing(t, s, 256)
	forward(t, s, e, 100)
	for range 3 {
		took(t, "the kernel does not forward", s, e, k, 10, 10, 0)
		time.Sleep(stallTime)
	}
	if s.Window(0).Stalled() {
		t.Error("stalled")
	}
}

// The frames of a reader that has ended are the kernel's at once, and an end
// that was announced is none.
func TestDeadReader(t *testing.T) {
	namespace(t)
	e, s := veth(t, "a"), load(t)
	k := openKernel(t, e, unix.ETH_P_IP)
	openRing(t, s, 256)
	both(t, s, e, 100)
	w := s.Window(0)
	live := func(disown bool) {
		ended := make(chan int)
		go func() {
			runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
			if err := w.Own(); err != nil {
				t.Error(err)
			}
			if disown {
				w.Disown()
			}
			ended <- unix.Gettid()
		}()
		tid := <-ended
		for began := time.Now(); unix.Tgkill(unix.Getpid(), tid, 0) == nil; {
			if time.Since(began) > patience {
				t.Fatalf("thread %d does not end", tid)
			}
			runtime.Gosched()
		}
	}
	live(true)
	if owner := atomic.LoadUint32(&w.reader.Owner); owner != 0 {
		t.Errorf("owner %#x", owner)
	}
	took(t, "a reader that has let go", s, e, k, 5, 5, 0)
	live(false)
	if owner := atomic.LoadUint32(&w.reader.Owner); owner&0x40000000 == 0 {
		t.Fatalf("owner %#x", owner)
	}
	took(t, "a dead reader", s, e, k, 5, 0, 5)
	if w.Stalled() {
		t.Error("a dead reader does not stall")
	}
	if err := w.Own(); err != nil { // the next one
		t.Fatal(err)
	}
	defer w.Disown()
	took(t, "a new reader", s, e, k, 5, 5, 0)
}
