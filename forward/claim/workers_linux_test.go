package claim

import (
	"encoding/binary"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"proxyarpd/internal/nstest"
	"proxyarpd/internal/pktring"
)

// loadWorkers loads the programs for several rings, and opens these.
func loadWorkers(t testing.TB, n, slots int) (s *Set, rings []*pktring.Socket) {
	t.Helper()
	s, err := Load(Config{ARP: ARPPolice{PerSecond: 10000, Burst: 2000}, Rooms: n})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	rings = openRings(t, s, n, slots)
	if err := s.SetWorkers(n); err != nil {
		t.Fatal(err)
	}
	return s, rings
}

// openRings makes the rings of all workers.
func openRings(t testing.TB, s *Set, n, slots int) (rings []*pktring.Socket) {
	t.Helper()
	g := &pktring.Group{Choose: s.AttachFanout}
	for range n {
		r, err := pktring.Open(pktring.Config{Slots: slots, Filter: s.AttachRing, Group: g})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close() })
		rings = append(rings, r)
	}
	return rings
}

// ofFlow is a packet of one of many flows between two addresses.
func ofFlow(e *end, flow uint16) []byte {
	b := packet(e.mac, "203.0.113.9")
	binary.BigEndian.PutUint16(b[pktring.VnetLen+14+20:], flow)
	binary.BigEndian.PutUint16(b[pktring.VnetLen+14+22:], 9)
	return b
}

// inRing is the number of the ring that holds one frame, which it takes out, -1 if
// none or several do.
func inRing(t testing.TB, s *Set, rings []*pktring.Socket, slot uint32) int {
	t.Helper()
	at, all := -1, 0
	for i, r := range rings {
		var f pktring.Slot
		for ; r.Next(&f); all++ {
			r.Release(1)
			s.Window(i).Consume(slot)
			s.Window(i).Say()
			at = i
		}
	}
	if all != 1 {
		return -1
	}
	return at
}

// The rings of all workers are one tap: whatever CPUs frames come on, for each the
// ring is chosen once, its filter is run once, and the claim, which runs for each
// once, finds what that decided: the frame is in one ring, and the kernel has none.
func TestOneDecisionAFrame(t *testing.T) {
	nstest.Enter(t)
	nstest.NoIPv6()
	stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	if err != nil {
		t.Fatal(err)
	}
	defer stats.Close()
	const workers, senders, rounds = 3, 4, 150 // which no share of the rings refuses
	s, rings := loadWorkers(t, workers, 4096)
	var ends []*end
	var kernels []*kernel
	for i := range senders {
		e := veth(t, string(rune('a'+i)))
		forward(t, s, e, 1<<20)
		ends, kernels = append(ends, e), append(kernels, openKernel(t, e, unix.ETH_P_IP))
	}
	runs := func(p *ebpf.Program) uint64 {
		st, err := p.Stats()
		if err != nil {
			t.Fatal(err)
		}
		return st.RunCount
	}
	fanout, filter, claimed := runs(s.fanout), runs(s.ring), runs(s.claim)
	var all sync.WaitGroup
	for i, e := range ends {
		all.Go(func() {
			runtime.LockOSThread()
			var cpu unix.CPUSet
			if cpu.Set(i % runtime.NumCPU()); unix.SchedSetaffinity(0, &cpu) == nil {
				defer runtime.Goexit() // the thread ends with the goroutine: it is not to be used again
			}
			for round := range uint16(rounds) {
				for range 4 {
					e.put(t, ofFlow(e, round))
				}
			}
		})
	}
	all.Wait()
	sent, got := senders*rounds*4, 0
	for i, r := range rings {
		n := drain(r, nil, 0)
		if n == 0 {
			t.Errorf("worker %d has nothing", i)
		}
		if given := s.Window(i).given(0); given != uint64(n) {
			t.Errorf("worker %d: %d in its ring, %d counted", i, n, given)
		}
		got += n
	}
	if got != sent {
		t.Errorf("%d frames in the rings of %d", got, sent)
	}
	for i, k := range kernels {
		if n := len(k.got(t)); n != 0 {
			t.Errorf("the kernel has %d of interface %d", n, i)
		}
	}
	fanout, filter, claimed = runs(s.fanout)-fanout, runs(s.ring)-filter, runs(s.claim)-claimed
	if fanout != filter || claimed != uint64(sent) || filter < claimed {
		t.Errorf("of %d frames: ring chosen for %d, filter run for %d, claim for %d", sent, fanout, filter, claimed)
	}
}

// A flow has one worker, both its directions, however its packets come: whole, in
// fragments, or as super-packets that only the relay's reader can get.
func TestFlowHasOneWorker(t *testing.T) {
	namespace(t)
	s, rings := loadWorkers(t, 4, 256)
	relay := openRelay(t, s)
	e, write := tap(t)
	slot := forward(t, s, e, 200)
	of := func(frame []byte) int {
		write(frame)
		return inRing(t, s, rings, slot)
	}
	back := func(b []byte) []byte {
		b = append([]byte(nil), b...)
		ip := b[pktring.VnetLen+14:]
		for i := range 4 {
			ip[12+i], ip[16+i] = ip[16+i], ip[12+i]
		}
		ip[20], ip[21], ip[22], ip[23] = ip[22], ip[23], ip[20], ip[21]
		return b
	}
	fragment := func(b []byte, at uint16) []byte {
		b = append([]byte(nil), b...)
		binary.BigEndian.PutUint16(b[pktring.VnetLen+14+6:], at)
		return b
	}
	used := map[int]bool{}
	for flow := range uint16(64) {
		f := ofFlow(e, flow)
		worker := of(f)
		if used[worker] = true; worker < 0 || of(f) != worker || of(back(f)) != worker {
			t.Fatalf("flow %d: worker %d, and then another, or back", flow, worker)
		}
	}
	if len(used) != 4 {
		t.Errorf("workers %v have flows", used)
	}
	// From the first fragment on all that the two addresses send has one worker.
	first := ofFlow(e, 1)
	worker := of(fragment(first, 0x2000))
	for flow := range uint16(16) {
		for name, f := range map[string][]byte{"whole": ofFlow(e, flow), "first": fragment(ofFlow(e, flow), 0x2000), "last": fragment(ofFlow(e, flow), 7), "back": back(first)} {
			if got := of(f); got != worker {
				t.Errorf("flow %d, %s: worker %d, want that of the fragments, %d", flow, name, got, worker)
			}
		}
	}
	other := ofFlow(e, 1)
	copy(other[pktring.VnetLen+14+16:], []byte{203, 0, 113, 77})
	used = map[int]bool{}
	for flow := range uint16(64) {
		binary.BigEndian.PutUint16(other[pktring.VnetLen+14+20:], flow)
		used[of(other)] = true
	}
	if len(used) != 4 {
		t.Errorf("flows of other addresses have workers %v", used)
	}
	// What went by the relay is read by worker 0, and so is what follows.
	write(super(e.mac, "203.0.113.77", gsoUDP, unix.IPPROTO_UDP))
	if got := readRelay(t, relay); len(got) == 0 {
		t.Fatal("nothing by the relay")
	}
	for flow := range uint16(16) {
		binary.BigEndian.PutUint16(other[pktring.VnetLen+14+20:], flow)
		if got := of(other); got != 0 {
			t.Errorf("behind a super-packet: worker %d, want 0", got)
		}
	}
	if given, all := s.Window(0).given(slot), s.Counters(e.index).Admitted; given == 0 || given > all {
		t.Errorf("%d given to worker 0, %d to all", given, all)
	}
}

// What an interface may have in the ring it may have in all rings together, and
// each ring writes off what it lost.
func TestQuotaOfAllRings(t *testing.T) {
	namespace(t)
	const quota, workers = 300, 3
	s, rings := loadWorkers(t, workers, 64)
	e := veth(t, "a")
	slot := forward(t, s, e, quota)
	send := func(n int) int {
		before := s.Counters(e.index)
		for i := range n {
			e.put(t, ofFlow(e, uint16(i)))
		}
		after := s.Counters(e.index)
		return int(after.Admitted - before.Admitted)
	}
	for round := range 3 {
		if n := send(900); n != quota {
			t.Fatalf("round %d: %d admitted, want %d", round, n, quota)
		}
		left := 0
		for i, r := range rings {
			var f pktring.Slot
			for r.Next(&f) {
				r.Release(1)
				s.Window(i).Consume(slot)
				left++
			}
			s.Window(i).Say()
		}
		if left >= quota {
			t.Fatalf("%d in rings of %d slots", left, workers*64)
		}
		if n := send(900); n != left { // the others have not been written off yet
			t.Errorf("round %d: %d have left, %d admitted", round, left, n)
		}
		for i, r := range rings {
			drain(r, nil, 0)
			s.Window(i).Resync(func() bool { return !r.Ready() })
		}
	}
	// A ring that was replaced has lost what was in it, and none of the others'.
	send(quota)
	held := 0
	for i := range rings {
		if i != 1 {
			held += int(s.Window(i).given(slot) - s.Window(i).taken[slot])
		}
	}
	if err := rings[1].Reopen(); err != nil {
		t.Fatal(err)
	}
	s.Window(1).Reset()
	if n := send(900); n != quota-held {
		t.Errorf("%d admitted behind the new ring, want %d", n, quota-held)
	}
}

// An interface pressed by one ring is so until no ring presses.
func TestPressOfAllRings(t *testing.T) {
	namespace(t)
	s, rings := loadWorkers(t, 2, 1024)
	e := veth(t, "a")
	slot := forward(t, s, e, 600)
	for _, c := range []struct {
		worker int
		on     bool
		want   int
	}{{0, true, pressedQuota}, {1, true, pressedQuota}, {0, false, pressedQuota}, {0, false, pressedQuota}, {1, false, 600}} {
		if err := s.Window(c.worker).Press(c.on); err != nil {
			t.Fatal(err)
		}
		if n := admitted(t, s, e, 1000); n != c.want {
			t.Errorf("%+v: %d admitted", c, n)
		}
		for i, r := range rings {
			var f pktring.Slot
			for r.Next(&f) {
				r.Release(1)
				s.Window(i).Consume(slot)
			}
			s.Window(i).Say()
		}
	}
}

// A ring that nobody reads is left alone, and the others go on; which it is, and
// since when, is told of all together.
func TestOneWorkerStalls(t *testing.T) {
	namespace(t)
	s, rings := loadWorkers(t, 2, 256)
	e := veth(t, "a")
	slot := both(t, s, e, 200)
	k := openKernel(t, e, unix.ETH_P_IP)
	flows := map[int]uint16{} // by worker
	for flow := uint16(0); len(flows) < 2; flow++ {
		e.put(t, ofFlow(e, flow))
		flows[inRing(t, s, rings, slot)] = flow
	}
	put := func(worker int) (kernels int) {
		e.put(t, ofFlow(e, flows[worker]))
		return len(k.got(t))
	}
	if n := put(0) + put(0) + put(1) + put(1); n != 0 { // the second finds the first unread
		t.Fatalf("the kernel has %d", n)
	}
	for range drain(rings[1], nil, 0) {
		s.Window(1).Consume(slot)
	}
	s.Window(1).Say()
	time.Sleep(stallTime)
	if n := put(1); n != 0 {
		t.Error("the worker that reads has stalled")
	}
	if n := put(0); n != 1 || !s.Window(0).Stalled() || s.Window(1).Stalled() {
		t.Errorf("the worker that does not read: the kernel has %d, stalled %v, %v", n, s.Window(0).Stalled(), s.Window(1).Stalled())
	}
	if st := s.Stalls(); st.Count != 1 || !st.Now || !st.During(time.Now().UnixNano()) {
		t.Errorf("%+v", st)
	}
	drain(rings[0], nil, 0)
	s.Window(0).Resync(func() bool { return !rings[0].Ready() })
	s.Window(0).Resume()
	if n := put(0); n != 0 {
		t.Error("resumed, and the kernel has it")
	}
	if st := s.Stalls(); st.Count != 1 || st.Now || st.Ended.IsZero() {
		t.Errorf("%+v", st)
	}
}
