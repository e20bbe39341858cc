package claim

import (
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Window shares two maps with the ring's filter: what it admitted of each
// interface, which it writes, and what has left the ring, which the datapath
// writes. The difference is what an interface has in the ring, and what its
// quota is held against.
//
// A frame that was admitted may yet be lost: the ring had no free slot, or the
// interface went. Such frames would count against the quota for ever, so
// they are written off when the ring is empty, and after each lap of it: what
// was admitted before the last lap began can't be in it any more.
type Window struct {
	stats    []bpfPortstat
	consumed []uint64
	reader   *bpfReader
	mem      [3][]byte
	active   atomic.Pointer[[]uint32] // slots in use
	lap      uint32                   // frames in a lap of the ring
	passed   uint32                   // frames consumed in this lap
	before   [MaxPorts]uint64         // admitted when this lap began
	unsaid   uint64                   // consumed, and not yet in consumed[0]
	press    func(uint32) error
	seen     [MaxPorts]uint64 // Resync's
	resumed  atomic.Int64     // when Resume was called last, ns of CLOCK_MONOTONIC
}

// Slot 0 of both maps is that of all interfaces together. What was consumed is
// told at the end of a batch, and every so many frames.
const sayAfter = 32

// ringSlots is more than any ring has.
const ringSlots = 1 << 14

func newWindow(statsFD, consumedFD, readerFD int) (*Window, error) {
	w := &Window{lap: ringSlots}
	w.active.Store(&[]uint32{0})
	page := unix.Getpagesize()
	for i, m := range []struct {
		fd, size, prot int
	}{
		{statsFD, MaxPorts * int(unsafe.Sizeof(bpfPortstat{})), unix.PROT_READ | unix.PROT_WRITE},
		{consumedFD, MaxPorts * 8, unix.PROT_READ | unix.PROT_WRITE},
		{readerFD, int(unsafe.Sizeof(bpfReader{})), unix.PROT_READ | unix.PROT_WRITE},
	} {
		size := (m.size + page - 1) / page * page
		b, err := unix.Mmap(m.fd, 0, size, m.prot, unix.MAP_SHARED)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("map the ring filter's counters: %w", err), w.close())
		}
		w.mem[i] = b
	}
	w.stats = unsafe.Slice((*bpfPortstat)(unsafe.Pointer(&w.mem[0][0])), MaxPorts)
	w.consumed = unsafe.Slice((*uint64)(unsafe.Pointer(&w.mem[1][0])), MaxPorts)
	w.reader = (*bpfReader)(unsafe.Pointer(&w.mem[2][0]))
	return w, nil
}

// Consume says that a frame of that slot has left the ring. It belongs to the
// datapath's goroutine, as Say, Resync and SetLap do.
func (w *Window) Consume(slot uint32) {
	if slot >= MaxPorts {
		return
	}
	if slot != 0 {
		atomic.StoreUint64(&w.consumed[slot], w.consumed[slot]+1)
	}
	if w.unsaid++; w.unsaid == sayAfter {
		w.Say()
	}
	if w.passed++; w.passed >= w.lap {
		w.passed = 0
		w.writeOff()
	}
}

// Say tells what was consumed so far: that the reader is at work.
func (w *Window) Say() {
	if w.unsaid > 0 {
		atomic.StoreUint64(&w.consumed[0], w.consumed[0]+w.unsaid)
		w.unsaid = 0
	}
}

// Relayed is how many frames have been sent to the relay so far.
func (w *Window) Relayed() uint64 { return atomic.LoadUint64(&w.stats[0].Relayed) }

// SetLap says how many frames the ring holds.
func (w *Window) SetLap(slots int) { w.lap = uint32(slots) }

// writeOff is for the end of a lap.
func (w *Window) writeOff() {
	for _, slot := range *w.active.Load() {
		if old := w.before[slot]; int64(old-w.consumed[slot]) > 0 {
			atomic.StoreUint64(&w.consumed[slot], old)
		}
		w.before[slot] = atomic.LoadUint64(&w.stats[slot].Admitted)
	}
}

// Resync writes off everything if the ring is empty. What comes between the
// reading of the counters and the look at the ring stays counted.
func (w *Window) Resync(empty func() bool) {
	slots := *w.active.Load()
	for _, slot := range slots {
		w.seen[slot] = atomic.LoadUint64(&w.stats[slot].Admitted)
	}
	if !empty() {
		return
	}
	w.unsaid = 0
	for _, slot := range slots {
		atomic.StoreUint64(&w.consumed[slot], w.seen[slot])
	}
}

// pressedQuota is what an interface may have in a ring that does not get empty.
const pressedQuota = 256

// holds reports whether more frames of a slot were admitted than have left. It may
// be asked by any goroutine.
func (w *Window) holds(slot uint32) bool {
	return int64(atomic.LoadUint64(&w.stats[slot].Admitted)-atomic.LoadUint64(&w.consumed[slot])) > 0
}

// Press says that the ring has not been empty for long, or that it is again. A
// burst may fill an interface's quota; a flood only makes everybody wait.
func (w *Window) Press(on bool) error {
	if on {
		return w.press(pressedQuota)
	}
	return w.press(0)
}

// Reset says that the ring was replaced by an empty one.
func (w *Window) Reset() {
	w.passed = 0
	w.Resync(func() bool { return true })
}

// activate adds a slot to those in use. Who reads the list at the moment does not
// look behind its end.
func (w *Window) activate(slot uint32) {
	active := append(*w.active.Load(), slot)
	w.active.Store(&active)
}

// start makes a slot its next interface's, with nothing in the ring, and gives
// what the slot's former ones admitted.
func (w *Window) start(slot uint32) uint64 {
	admitted := atomic.LoadUint64(&w.stats[slot].Admitted)
	atomic.StoreUint64(&w.consumed[slot], admitted)
	return admitted
}

func (w *Window) read(slot uint32) Counters {
	s := &w.stats[slot]
	c := Counters{
		Admitted: atomic.LoadUint64(&s.Admitted), Policed: atomic.LoadUint64(&s.Policed),
		BadGSO: atomic.LoadUint64(&s.Badgso), Relayed: atomic.LoadUint64(&s.Relayed),
		ARPPassed: atomic.LoadUint64(&s.ArpPassed), ARPPoliced: atomic.LoadUint64(&s.ArpPoliced),
	}
	for i := range c.Left {
		c.Left[i] = atomic.LoadUint64(&s.Left[i])
	}
	return c
}

// take reads the counters of a slot whose interface has left and clears them.
// Admitted goes on, since the datapath may still compare it.
func (w *Window) take(slot uint32) Counters {
	c := w.read(slot)
	s := &w.stats[slot]
	for _, p := range []*uint64{&s.Policed, &s.Badgso, &s.Relayed, &s.ArpPassed, &s.ArpPoliced} {
		atomic.StoreUint64(p, 0)
	}
	for i := range s.Left {
		atomic.StoreUint64(&s.Left[i], 0)
	}
	return c
}

func (w *Window) close() error {
	if w == nil {
		return nil
	}
	var errs []error
	for i, b := range w.mem {
		if b != nil {
			errs = append(errs, unix.Munmap(b))
			w.mem[i] = nil
		}
	}
	return errors.Join(errs...)
}
