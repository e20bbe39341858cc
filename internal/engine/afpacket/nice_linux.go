package afpacket

import (
	"strconv"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/nice"
)

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
	thread, t := unix.Gettid(), &threadNice{nice.Of(0)}
	e.threads[thread] = t
	e.setNice(thread, t.before)
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		_ = nice.Set(thread, t.before)
		delete(e.threads, thread)
	}
}

// setNice gives a thread the nice value that is wanted, and says once, whatever the
// number of threads, if it can't have it. mu is held.
func (e *Engine) setNice(thread, instead int) {
	if err := nice.Set(thread, e.want); err != nil && e.weak != e.want {
		e.weak = e.want
		e.log.Warn("packets get less CPU time than they should where all CPUs are busy: give CAP_SYS_NICE, or choose --nice "+strconv.Itoa(instead), "err", err)
	}
	e.nice.Store(int32(nice.Of(thread)))
}

// SetNice changes the nice value of the threads that forward. Where they can't have
// it, they keep the one that they have, and the log says so. For any goroutine.
func (e *Engine) SetNice(n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.want, e.weak = n, nice.Unknown
	for thread := range e.threads {
		e.setNice(thread, int(e.nice.Load()))
	}
}
