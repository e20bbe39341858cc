package claim

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Window shares maps with the ring's filter: what it admitted of each interface,
// which it writes, and what has left the ring, which the datapath writes. The
// difference is what an interface has in the ring, and what its quota is held
// against. Each worker of the datapath has a Window, for its own ring; quotas are
// held against what an interface has in all rings together.
//
// A frame that was admitted may yet be lost: the ring had no free slot, or the
// interface went. Such frames would count against the quota for ever, so
// they are written off when the ring is empty, and after each lap of it: what
// was admitted before the last lap began can't be in it any more.
type Window struct {
	all     *windows
	worker  int
	taken   []uint64 // by slot: what has left this ring
	reader  *bpfReader
	lap     uint32   // frames in a lap of the ring
	passed  uint32   // frames consumed in this lap
	before  []uint64 // by slot: given when this lap began
	slot    uint32   // of the frames that were consumed last
	run     uint64   // how many of it are not in taken yet
	unsaid  uint64   // of all interfaces
	pressed bool
	seen    []uint64     // Resync's
	resumed atomic.Int64 // when Resume was called last, ns of CLOCK_MONOTONIC
}

// windows are those of all workers, and the memory that they share.
type windows struct {
	stats    []bpfPortstat
	consumed []uint64                 // of all rings together
	given    []uint64                 // by worker and slot; nil if there is room for one: stats has it
	active   atomic.Pointer[[]uint32] // slots in use
	of       []*Window
	nd       *bpfReader // the thread that answers neighbour solicitations
	mem      [][]byte

	pressing sync.Mutex
	pressed  int // of the windows
	press    func(quota uint32) error
}

// Slot 0 of the maps is that of all interfaces together. What was consumed is
// told at the end of a batch, and every so many frames.
const sayAfter = 32

// ringSlots is more than any ring has.
const ringSlots = 1 << 14

func newWindows(rooms int, maps *bpfMaps) (_ *windows, err error) {
	a := &windows{}
	a.active.Store(&[]uint32{0})
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("map the ring filter's counters: %w", err), a.close())
		}
	}()
	if a.stats, err = mapped[bpfPortstat](a, maps.ParpStats, MaxPorts); err != nil {
		return nil, err
	}
	if a.consumed, err = mapped[uint64](a, maps.ParpConsumed, consumedEntries(rooms)); err != nil {
		return nil, err
	}
	readers, err := mapped[bpfReader](a, maps.ParpReader, MaxWorkers+1)
	if err != nil {
		return nil, err
	}
	a.nd = &readers[MaxWorkers]
	taken := a.consumed
	if rooms > 1 {
		taken, a.given = a.consumed[MaxPorts:], a.consumed[(1+rooms)*MaxPorts:]
	}
	for i := range rooms {
		a.of = append(a.of, &Window{all: a, worker: i, taken: taken[i*MaxPorts:][:MaxPorts], reader: &readers[i], lap: ringSlots})
	}
	return a, nil
}

// consumedEntries is how many words parp_consumed has: what has left all rings and,
// of several, each ring, and what each was given.
func consumedEntries(rooms int) int {
	if rooms == 1 {
		return MaxPorts
	}
	return (1 + 2*rooms) * MaxPorts
}

// mapped maps the first n values of a map that is an array.
func mapped[T any](a *windows, m *ebpf.Map, n int) ([]T, error) {
	var value T
	page := unix.Getpagesize()
	size := (n*int(unsafe.Sizeof(value)) + page - 1) / page * page
	b, err := unix.Mmap(m.FD(), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	a.mem = append(a.mem, b)
	return unsafe.Slice((*T)(unsafe.Pointer(&b[0])), n), nil
}

// Consume says that a frame of that slot has left the ring. It belongs to the
// worker's goroutine, as Say, Resync, Press and SetLap do. The filter sees it when
// Say has been called, or a frame of another slot was consumed.
func (w *Window) Consume(slot uint32) {
	if slot >= MaxPorts {
		return
	}
	if slot != w.slot {
		w.tell()
		w.slot = slot
	}
	w.run++
	if w.unsaid++; w.unsaid == sayAfter {
		w.Say()
	}
	if w.passed++; w.passed >= w.lap {
		w.passed = 0
		w.writeOff()
	}
}

// tell tells of the frames of one slot that were consumed.
func (w *Window) tell() {
	if w.slot != 0 && w.run > 0 {
		w.add(w.slot, w.run)
	}
	w.run = 0
}

// Say tells what was consumed so far: that the reader is at work.
func (w *Window) Say() {
	w.tell()
	if w.unsaid > 0 {
		w.add(0, w.unsaid)
		w.unsaid = 0
	}
}

// add says that n more frames of a slot have left the ring; modulo 2^64.
func (w *Window) add(slot uint32, n uint64) {
	atomic.AddUint64(&w.taken[slot], n)
	if w.all.given != nil {
		atomic.AddUint64(&w.all.consumed[slot], n)
	}
}

// given is how many frames of a slot the ring was given.
func (w *Window) given(slot uint32) uint64 {
	if w.all.given == nil {
		return atomic.LoadUint64(&w.all.stats[slot].Admitted)
	}
	return atomic.LoadUint64(&w.all.given[w.worker*MaxPorts+int(slot)])
}

// settle says how many frames of a slot have left the ring.
func (w *Window) settle(slot uint32, taken uint64) {
	if n := taken - atomic.LoadUint64(&w.taken[slot]); n != 0 {
		w.add(slot, n)
	}
}

// Relayed is how many frames have been sent to the relay so far.
func (w *Window) Relayed() uint64 { return atomic.LoadUint64(&w.all.stats[0].Relayed) }

// Depth is how many frames the ring holds, as far as has been told. For any goroutine.
func (w *Window) Depth() uint64 {
	taken := atomic.LoadUint64(&w.taken[0]) // first: it is never ahead
	return w.given(0) - taken
}

// SetLap says how many frames the ring holds.
func (w *Window) SetLap(slots int) { w.lap = uint32(slots) }

// Given is how many frames the ring was given so far. For any goroutine.
func (w *Window) Given() uint64 { return w.given(0) }

// Past reports whether the first so many frames that the ring was given have left
// it. For any goroutine.
func (w *Window) Past(given uint64) bool {
	return int64(atomic.LoadUint64(&w.taken[0])-given) >= 0
}

// writeOff is for the end of a lap.
func (w *Window) writeOff() {
	w.Say()
	for _, slot := range *w.all.active.Load() {
		if old := w.before[slot]; int64(old-atomic.LoadUint64(&w.taken[slot])) > 0 {
			w.settle(slot, old)
		}
		w.before[slot] = w.given(slot)
	}
}

// Resync writes off everything if the ring is empty. What comes between the
// reading of the counters and the look at the ring stays counted.
func (w *Window) Resync(empty func() bool) {
	w.Say()
	slots := *w.all.active.Load()
	for _, slot := range slots {
		w.seen[slot] = w.given(slot)
	}
	if !empty() {
		return
	}
	for _, slot := range slots {
		w.settle(slot, w.seen[slot])
	}
}

// pressedQuota is what an interface may have in a ring that does not get empty.
const pressedQuota = 256

// Press says that the ring has not been empty for long, or that it is again. A
// burst may fill an interface's quota; a flood only makes everybody wait. It counts
// for all rings, while one of them is so.
func (w *Window) Press(on bool) error {
	a := w.all
	a.pressing.Lock()
	defer a.pressing.Unlock()
	if on == w.pressed {
		return nil
	}
	n := a.pressed - 1
	if on {
		n = a.pressed + 1
	}
	if n == 0 || a.pressed == 0 {
		if err := a.press(min(uint32(n), 1) * pressedQuota); err != nil {
			return err
		}
	}
	a.pressed, w.pressed = n, on
	return nil
}

// Reset says that the ring was replaced by an empty one.
func (w *Window) Reset() {
	w.passed = 0
	w.Resync(func() bool { return true })
}

// activate adds a slot to those in use. Who reads the list at the moment does not
// look behind its end.
func (a *windows) activate(slot uint32) {
	active := append(*a.active.Load(), slot)
	a.active.Store(&active)
}

// start makes a slot its next interface's, with nothing in the rings, and gives
// what the slot's former ones admitted.
func (a *windows) start(slot uint32) uint64 {
	for _, w := range a.of {
		w.settle(slot, w.given(slot))
	}
	return atomic.LoadUint64(&a.stats[slot].Admitted)
}

// holds reports whether rings were given more frames of a slot than have left them.
// It may be asked by any goroutine.
func (a *windows) holds(slot uint32) bool {
	return int64(atomic.LoadUint64(&a.stats[slot].Admitted)-atomic.LoadUint64(&a.consumed[slot])) > 0
}

func (a *windows) read(slot uint32) Counters {
	s := &a.stats[slot]
	c := Counters{
		Admitted: atomic.LoadUint64(&s.Admitted), Policed: atomic.LoadUint64(&s.Policed),
		BadGSO: atomic.LoadUint64(&s.Badgso), Relayed: atomic.LoadUint64(&s.Relayed),
		ARPPassed: atomic.LoadUint64(&s.ArpPassed), ARPPoliced: atomic.LoadUint64(&s.ArpPoliced),
		ARPSender: atomic.LoadUint64(&s.ArpSender),
	}
	for i := range c.Left {
		c.Left[i] = atomic.LoadUint64(&s.Left[i])
	}
	return c
}

// take reads the counters of a slot whose interface has left and clears them.
// Admitted goes on, since the datapath may still compare it.
func (a *windows) take(slot uint32) Counters {
	c := a.read(slot)
	s := &a.stats[slot]
	for _, p := range []*uint64{&s.Policed, &s.Badgso, &s.Relayed, &s.ArpPassed, &s.ArpPoliced, &s.ArpSender} {
		atomic.StoreUint64(p, 0)
	}
	for i := range s.Left {
		atomic.StoreUint64(&s.Left[i], 0)
	}
	return c
}

func (a *windows) close() error {
	if a == nil {
		return nil
	}
	var errs []error
	for _, b := range a.mem {
		errs = append(errs, unix.Munmap(b))
	}
	a.mem = nil
	return errors.Join(errs...)
}
