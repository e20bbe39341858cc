package daemon

import (
	"log/slog"
	"sync"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/nice"
)

// answering is a thread that answers ARP, or neighbour discovery. It has the nice value of those that
// forward: senders on all CPUs would have it wait until its queue is full. How much
// it may take is bounded, by the rates of its interfaces.
type answering struct {
	want func() int
	what string
	log  *slog.Logger
	// own, if set, is called on the thread whenever it begins to answer, and what it gives
	// when it is over. A thread that rests, as while a successor takes over, has it yet:
	// requests wait.
	own    func() (disown func())
	disown func()

	once  sync.Once
	begun chan struct{} // closed when a thread has the value, or can't have it

	mu     sync.Mutex
	thread int // 0: none
	before int
}

// begin is called on the thread, and what it gives when it does so no more.
func (a *answering) begin() (end func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.thread, a.before = unix.Gettid(), nice.Of(0)
	a.set(a.want())
	a.once.Do(func() { close(a.begun) })
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		_ = nice.Set(a.thread, a.before) // nobody depends on it any more
		a.thread = 0
		if a.disown != nil {
			a.disown()
		}
	}
}

// owns is called on the thread when it begins to answer, for the first time or anew.
func (a *answering) owns() {
	if a.own != nil {
		a.disown = a.own()
	}
}

// setNice is for a reload.
func (a *answering) setNice(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.thread != 0 {
		a.set(n)
	}
}

// set says it where the thread can't have the value. Of the threads that forward a
// warning tells the same.
func (a *answering) set(n int) {
	if err := nice.Set(a.thread, n); err != nil {
		a.log.Info("answers to "+a.what+" get less CPU time than they should where all CPUs are busy", "err", err)
	}
}
