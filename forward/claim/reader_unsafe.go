package claim

import (
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// robustList is struct robust_list_head (include/uapi/linux/futex.h), and behind
// it its only entry. It lies in bpfReader.Robust.
type robustList struct {
	next    uint64 // the entry
	offset  int64  // from an entry to its futex, bytes
	pending uint64
	entry   uint64 // its next is the head: the list is over
	_       uint64
}

// Own says that the calling thread reads the worker's ring from now on. When the thread
// ends, however it does, the filter takes no more where the kernel forwards, at
// once: the kernel marks the futexes of a dying thread before it unmaps or closes
// anything of the process (exit_mm_release in kernel/fork.c). Closing alone would
// come late: the descriptor with the highest number is closed first, and each tc
// program that is detached waits for an RCU grace period.
//
// The caller must be locked to the thread, and call Disown before it is unlocked
// or the Window is closed.
func (w *Window) Own() error { return w.reader.own() }

func (r *bpfReader) own() error {
	l := (*robustList)(unsafe.Pointer(&r.Robust))
	head, entry := unsafe.Pointer(l), unsafe.Pointer(&l.entry)
	*l = robustList{
		next:   uint64(uintptr(entry)),
		offset: int64(uintptr(unsafe.Pointer(&r.Owner))) - int64(uintptr(entry)),
		entry:  uint64(uintptr(head)),
	}
	atomic.StoreUint32(&r.Owner, uint32(unix.Gettid()))
	return setRobustList(head)
}

// Disown takes back what Own said, on the same thread.
func (w *Window) Disown() { w.reader.disown() }

func (r *bpfReader) disown() {
	atomic.StoreUint32(&r.Owner, 0)
	_ = setRobustList(nil) // own could, and the list names what nobody owns
}

// leave is disown for a thread that may have a successor, which has called own since then.
func (r *bpfReader) leave() {
	atomic.CompareAndSwapUint32(&r.Owner, uint32(unix.Gettid()), 0)
	_ = setRobustList(nil)
}

// setRobustList names the calling thread's list. Its length never changes
// (sizeof(struct robust_list_head)).
func setRobustList(head unsafe.Pointer) error {
	if _, _, errno := unix.RawSyscall(unix.SYS_SET_ROBUST_LIST, uintptr(head), 24, 0); errno != 0 {
		return os.NewSyscallError("set_robust_list", errno)
	}
	return nil
}

// Stalled reports whether the filter has seen that the ring is not read, and
// leaves to the kernel what it can forward, until Resume.
func (w *Window) Stalled() bool { return atomic.LoadUint32(&w.reader.Stalled) != 0 }

// StalledSince is when Stalled became true, ns since 1970.
func (w *Window) StalledSince() int64 { return w.Stalls().Began.UnixNano() }

// Resume has the filter give the ring all that is ours again. The ring is to be
// empty.
func (w *Window) Resume() {
	w.resumed.Store(monotonic())
	atomic.StoreUint32(&w.reader.Stalled, 0)
}

// silent notes as a stall that programs that carry left to the kernel what they
// would have forwarded, from a time on, CLOCK_MONOTONIC, until now.
func (w *Window) silent(since int64) {
	if !w.Stalled() {
		w.resumed.Store(monotonic())
		atomic.StoreUint64(&w.reader.Since, uint64(since))
		atomic.AddUint64(&w.reader.Stalls, 1)
	}
}

// Stalls say when the kernel had traffic because the ring was not read.
type Stalls struct {
	Count uint64
	Now   bool      // it has it
	Began time.Time // the last time
	Ended time.Time // that; zero if Now
}

// During reports whether the last of them was under way at a time, ns since 1970.
func (s Stalls) During(at int64) bool {
	return s.Count > 0 && at >= s.Began.UnixNano() && (s.Now || at <= s.Ended.UnixNano())
}

// add counts those of another ring as well: the last is the one that lasts, or
// ended last.
func (s Stalls) add(o Stalls) Stalls {
	last := s
	switch {
	case s.Count == 0, o.Now && !s.Now, !s.Now && o.Ended.After(s.Ended):
		last = o
	case o.Now && o.Began.Before(s.Began):
		last = o
	}
	last.Count = s.Count + o.Count
	return last
}

// Stalls are those of all rings, and those of programs that carry and had no
// answer. For any goroutine.
func (s *Set) Stalls() (all Stalls) {
	for _, w := range s.windows.of {
		all = all.add(w.Stalls())
	}
	if s.carrier == nil || all.Now {
		return all
	}
	if _, since, err := s.carrier.unanswered(); err == nil && since != 0 {
		all = Stalls{Count: all.Count + 1, Now: true, Began: time.Now().Add(time.Duration(since - monotonic()))}
	}
	return all
}

// Stalls are those that the filter has seen. For any goroutine.
func (w *Window) Stalls() Stalls {
	s := Stalls{Count: atomic.LoadUint64(&w.reader.Stalls), Now: w.Stalled()}
	if s.Count == 0 {
		return Stalls{}
	}
	now, mono := time.Now(), monotonic()
	s.Began = now.Add(time.Duration(int64(atomic.LoadUint64(&w.reader.Since)) - mono))
	if !s.Now {
		s.Ended = now.Add(time.Duration(w.resumed.Load() - mono))
	}
	return s
}

// monotonic is CLOCK_MONOTONIC, which bpf_ktime_get_ns reads, in ns.
func monotonic() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // there is no host without
	return ts.Nano()
}
