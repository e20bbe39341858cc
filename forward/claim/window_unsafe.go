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
// writes. The difference is what an interface has in the ring.
type Window struct {
	stats    []bpfPortstat
	consumed []uint64
	mem      [2][]byte
	dirty    [MaxPorts]bool // slots consumed from since the last Resync
	used     []uint32
	left     uint32        // frames that have left the ring since the last Reset
	top      atomic.Uint32 // the highest slot that an interface ever had
}

func newWindow(statsFD, consumedFD int) (*Window, error) {
	w := &Window{used: make([]uint32, 0, MaxPorts)}
	page := unix.Getpagesize()
	for i, m := range []struct {
		fd, size, prot int
	}{
		{statsFD, MaxPorts * int(unsafe.Sizeof(bpfPortstat{})), unix.PROT_READ | unix.PROT_WRITE},
		{consumedFD, MaxPorts * 8, unix.PROT_READ | unix.PROT_WRITE},
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
	return w, nil
}

// Consume says that a frame of that slot has left the ring. It belongs to the
// datapath's goroutine, as Resync and Reset do.
func (w *Window) Consume(slot uint32) {
	if slot >= MaxPorts {
		return
	}
	atomic.AddUint64(&w.consumed[slot], 1)
	w.left++
	if !w.dirty[slot] {
		w.dirty[slot] = true
		w.used = append(w.used, slot)
	}
}

// Resync says that the ring is empty. What the filter admitted and the ring
// then had no room for is written off here: of those interfaces that a frame
// came from meanwhile, and if so many came that the ring may have been full,
// of all, since some may have been shut out altogether.
func (w *Window) Resync() {
	if w.left >= MaxPorts { // so that the sweep costs a frame one look at most
		w.Reset()
		return
	}
	for _, slot := range w.used {
		w.writeOff(slot)
		w.dirty[slot] = false
	}
	w.used = w.used[:0]
}

// Reset says that the ring is empty and may have lost frames of any interface.
func (w *Window) Reset() {
	for slot := range w.top.Load() + 1 {
		w.writeOff(slot)
		w.dirty[slot] = false
	}
	w.used, w.left = w.used[:0], 0
}

func (w *Window) writeOff(slot uint32) {
	if a := atomic.LoadUint64(&w.stats[slot].Admitted); a != atomic.LoadUint64(&w.consumed[slot]) {
		atomic.StoreUint64(&w.consumed[slot], a)
	}
}

func (w *Window) read(slot uint32) Counters {
	s := &w.stats[slot]
	return Counters{
		Admitted: atomic.LoadUint64(&s.Admitted), Policed: atomic.LoadUint64(&s.Policed),
		BadGSO: atomic.LoadUint64(&s.Badgso), Local: atomic.LoadUint64(&s.Local),
		Punted: atomic.LoadUint64(&s.Punted), ARPPassed: atomic.LoadUint64(&s.ArpPassed),
		ARPPoliced: atomic.LoadUint64(&s.ArpPoliced),
	}
}

// take reads the counters of a slot whose interface has left and clears them:
// the next interface starts from zero, with nothing in the ring. If the datapath
// still consumes what the last one had there, it has a little more room until
// the next Resync.
func (w *Window) take(slot uint32) Counters {
	c := w.read(slot)
	s := &w.stats[slot]
	for _, p := range []*uint64{&s.Admitted, &s.Policed, &s.Badgso, &s.Local, &s.Punted, &s.ArpPassed, &s.ArpPoliced, &w.consumed[slot]} {
		atomic.StoreUint64(p, 0)
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
