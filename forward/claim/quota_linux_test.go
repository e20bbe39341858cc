package claim

import (
	"testing"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/pktring"
)

// admitted sends n frames and says how many of them the filter let in.
func admitted(t *testing.T, s *Set, e *end, n int) int {
	t.Helper()
	before := s.Counters(e.index)
	e.put(t, repeat(n, packet(e.mac, "203.0.113.9"))...)
	after := s.Counters(e.index)
	in, refused := after.Admitted-before.Admitted, after.Policed-before.Policed
	if in+refused != uint64(n) {
		t.Errorf("%d frames: %d admitted, %d policed", n, in, refused)
	}
	return int(in)
}

func resync(s *Set, r *pktring.Socket) { s.Window(0).Resync(func() bool { return !r.Ready() }) }

// What comes while the datapath makes up its mind stays counted.
func TestResyncIsNotLate(t *testing.T) {
	namespace(t)
	e, s := veth(t, "a"), load(t)
	r := openRing(t, s, 256)
	const quota = 100
	slot := forward(t, s, e, quota)
	admitted(t, s, e, 10)
	drain(r, nil, slot) // consumed, and not told
	s.Window(0).Resync(func() bool { return admitted(t, s, e, quota) > 0 && drain(r, nil, slot) > 0 })
	if n := admitted(t, s, e, 2*quota); n != 10 {
		t.Errorf("%d admitted, want the 10 that were written off", n)
	}
	s.Window(0).Resync(func() bool { return false })
	if n := admitted(t, s, e, 2*quota); n != 0 {
		t.Errorf("%d admitted though the ring was not empty", n)
	}
}

// A reader that never reads, and an interface that never stops.
func TestQuota(t *testing.T) {
	namespace(t)
	flooder, other, s := veth(t, "a"), veth(t, "b"), load(t)
	r, k := openRing(t, s, 256), openKernel(t, flooder, unix.ETH_P_IP)
	const quota = 100
	slot := forward(t, s, flooder, quota)
	otherSlot := forward(t, s, other, quota)
	if n := admitted(t, s, flooder, 1000); n != quota {
		t.Errorf("%d frames admitted, want %d", n, quota)
	}
	if n := len(k.got(t)); n != 0 { // the kernel must not forward what was policed
		t.Errorf("the kernel got %d", n)
	}
	if n := admitted(t, s, other, 10); n != 10 {
		t.Errorf("another interface: %d of 10 admitted", n)
	}
	// Each frame that leaves makes room for one.
	var f pktring.Slot
	for range 3 {
		if !r.Next(&f) || f.Ifindex != flooder.index {
			t.Fatalf("frame of interface %d", f.Ifindex)
		}
		r.Release(1)
		s.Window(0).Consume(slot)
	}
	s.Window(0).Say()
	if n := admitted(t, s, flooder, 1000); n != 3 {
		t.Errorf("3 have left, %d admitted", n)
	}
	for r.Next(&f) {
		r.Release(1)
		if f.Ifindex == other.index {
			s.Window(0).Consume(otherSlot)
		} else {
			s.Window(0).Consume(slot)
		}
	}
	s.Window(0).Say()
	if n := admitted(t, s, flooder, 1000); n != quota {
		t.Errorf("all have left, %d admitted", n)
	}
	// A larger quota counts at once.
	if _, err := s.SetPort(Port{Ifindex: flooder.index, Forward: true, Quota: quota + 7, L2Len: 14}); err != nil {
		t.Fatal(err)
	}
	if n := admitted(t, s, flooder, 1000); n != 7 {
		t.Errorf("quota raised by 7, %d admitted", n)
	}
}

// What was admitted and then found no slot has not left the ring, nor will it.
func TestResyncHealsFullRing(t *testing.T) {
	namespace(t)
	e, s := veth(t, "a"), load(t)
	r := openRing(t, s, 64)
	const quota = 100
	slot := forward(t, s, e, quota)
	for range 5 {
		if n := admitted(t, s, e, 200); n != quota {
			t.Fatalf("%d admitted, want %d", n, quota)
		}
		if n := drain(r, s, slot); n != 64 {
			t.Fatalf("%d in the ring, want all its 64 slots", n)
		}
		resync(s, r)
	}
	if n := r.Drops(); n != 5*(quota-64) {
		t.Errorf("%d drops, want %d", n, 5*(quota-64))
	}
}

// The same for an interface of which not a single frame found a slot: others
// had taken them all.
func TestResyncHealsInterfaceThatWasShutOut(t *testing.T) {
	namespace(t)
	const slots, quota = 256, 128 // two interfaces fill the ring
	s := load(t)
	r := openRing(t, s, slots)
	var ends [3]*end
	slot := map[int32]uint32{}
	for i := range ends {
		ends[i] = veth(t, string(rune('a'+i)))
		slot[ends[i].index] = forward(t, s, ends[i], quota)
		admitted(t, s, ends[i], quota)
	}
	var f pktring.Slot
	for r.Next(&f) {
		if f.Ifindex == ends[2].index {
			t.Fatal("the ring had room for the last one")
		}
		r.Release(1)
		s.Window(0).Consume(slot[f.Ifindex])
	}
	resync(s, r)
	for i, e := range ends {
		if n := admitted(t, s, e, 10); n != 10 {
			t.Errorf("interface %d: %d of 10 frames admitted to an empty ring", i, n)
		}
	}
}

// However many flood together, and whatever their quotas add up to, there is
// room for who does not.
func TestManyFloodersLeaveRoom(t *testing.T) {
	namespace(t)
	const slots, quota, flooders = 4096, 3072, 6 // slots: what the filter reckons with
	s := load(t)
	r := openRing(t, s, slots)
	quiet := veth(t, "quiet")
	slot := forward(t, s, quiet, quota)
	var ends []*end
	total := 0
	for i := range flooders {
		e := veth(t, string(rune('a'+i)))
		forward(t, s, e, quota)
		ends = append(ends, e)
	}
	for round := range 5 {
		for i, e := range ends {
			n := admitted(t, s, e, slots)
			if total += n; round == 0 && n == 0 {
				t.Errorf("interface %d gets nothing", i)
			}
		}
	}
	if n := admitted(t, s, quiet, 30); n != 30 {
		t.Errorf("%d floods have %d of the ring's %d slots, and of 30 frames of another interface %d are admitted", flooders, total, slots, n)
	}
	if r.Drops() != 0 {
		t.Errorf("%d drops: the ring was full", r.Drops())
	}
	if n := drain(r, s, slot); n != total+30 {
		t.Errorf("%d frames in the ring, %d were admitted", n, total+30)
	}
	resync(s, r)
	if n := admitted(t, s, ends[0], slots); n < slots/2 {
		t.Errorf("alone: %d admitted", n)
	}
}

// A ring that was replaced has lost what was in it.
func TestReset(t *testing.T) {
	namespace(t)
	e, s := veth(t, "a"), load(t)
	r := openRing(t, s, 256)
	const quota = 100
	forward(t, s, e, quota)
	admitted(t, s, e, quota)
	if err := r.Reopen(); err != nil {
		t.Fatal(err)
	}
	s.Window(0).Reset()
	if n := admitted(t, s, e, 2*quota); n != quota {
		t.Errorf("%d admitted to a new ring, want %d", n, quota)
	}
}

// While the ring has a standing queue no interface gets more than a little of it.
func TestPress(t *testing.T) {
	namespace(t)
	e, s := veth(t, "a"), load(t)
	r := openRing(t, s, 1024)
	slot := forward(t, s, e, 600)
	for _, pressed := range []bool{false, true, false} {
		if err := s.Window(0).Press(pressed); err != nil {
			t.Fatal(err)
		}
		want := 600
		if pressed {
			want = pressedQuota
		}
		if n := admitted(t, s, e, 1000); n != want {
			t.Errorf("pressed %v: %d admitted, want %d", pressed, n, want)
		}
		drain(r, s, slot)
	}
}
