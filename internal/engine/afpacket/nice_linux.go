package afpacket

import (
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// noNice is what nice gives where the value can't be read; no thread has it.
const noNice = 20

// nice is the nice value of a thread; 0 is the calling one.
func nice(thread int) int {
	v, err := unix.Getpriority(unix.PRIO_PROCESS, thread)
	if err != nil {
		return noNice
	}
	return 20 - v // the system call gives 40 to 1 (setpriority(2), NOTES)
}

// setNice changes the nice value of a thread alone, 0 being the calling one, which
// must be locked to its goroutine: in Linux it is an attribute of threads. A lower
// one than it has wants CAP_SYS_NICE, or an RLIMIT_NICE that allows it.
func setNice(thread, n int) error {
	if nice(thread) == n {
		return nil
	}
	if err := unix.Setpriority(unix.PRIO_PROCESS, thread, n); err != nil {
		return fmt.Errorf("nice value %d of the thread that forwards: %w", n, err)
	}
	return nil
}

// exactTimers has timers of the calling thread end when they are due, and not up
// to 50 µs later (PR_SET_TIMERSLACK, prctl(2)).
func exactTimers() { _ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0) }

// threadNice is what a thread that forwards had before.
type threadNice struct{ before int }

// beNice gives the calling thread the nice value that is wanted, and SetNice the
// thread. back puts back what it had.
func (e *Engine) beNice() (back func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	thread, t := unix.Gettid(), &threadNice{nice(0)}
	e.threads[thread] = t
	e.setNice(thread, t.before)
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		_ = setNice(thread, t.before)
		delete(e.threads, thread)
	}
}

// setNice gives a thread the nice value that is wanted, and says once, whatever the
// number of threads, if it can't have it. mu is held.
func (e *Engine) setNice(thread, instead int) {
	if err := setNice(thread, e.want); err != nil && e.weak != e.want {
		e.weak = e.want
		e.log.Warn("packets get less CPU time than they should where all CPUs are busy: give CAP_SYS_NICE, or choose --nice "+strconv.Itoa(instead), "err", err)
	}
	e.nice.Store(int32(nice(thread)))
}

// SetNice changes the nice value of the threads that forward. Where they can't have
// it, they keep the one that they have, and the log says so. For any goroutine.
func (e *Engine) SetNice(n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.want, e.weak = n, noNice
	for thread := range e.threads {
		e.setNice(thread, int(e.nice.Load()))
	}
}
