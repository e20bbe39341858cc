package afpacket

import (
	"context"
	"fmt"
	"sync"

	"proxyarpd/forward"
	"proxyarpd/internal/pktring"
)

// Handed are the rings and the relay of another process. The descriptors are the
// Engine's from then on.
type Handed struct {
	Rings []pktring.Handed // by worker
	Relay int              // its descriptor, -1: there is none
}

// NewHanded makes it of descriptors: those of the rings, by worker, and that of the relay,
// -1 if there is none.
func NewHanded(rings []int, relay int) *Handed {
	h := &Handed{Relay: relay}
	for _, fd := range rings {
		h.Rings = append(h.Rings, pktring.Handed{FD: fd, Next: pktring.Unknown})
	}
	return h
}

// Descriptors are what another process needs to read the rings in this one's place: those
// of the rings, by worker, and that of the relay, -1 if there is none. They stay the
// Engine's. For any goroutine.
func (e *Engine) Descriptors() (rings []int, relay int) {
	relay = -1
	for _, w := range e.all() {
		rings = append(rings, w.conn.FD())
	}
	if e.relay != nil {
		relay = e.relay.FD()
	}
	return rings, relay
}

// Positions are the slots that are to be read next, by worker. The Engine must be halted.
func (e *Engine) Positions() (all []int) {
	for _, w := range e.all() {
		all = append(all, w.conn.Position())
	}
	return all
}

// halt has the threads that forward rest.
type halt struct {
	rest sync.WaitGroup // of those that read
	over chan struct{}  // closed when they are to go on
}

// Halt has the threads that forward rest, and returns when they do: what is in the rings stays there, and what waits is
// kept. Run must have been called.
func (e *Engine) Halt() {
	e.AwaitThreads()
	e.mu.Lock()
	h := &halt{over: make(chan struct{})}
	e.halt = h
	for _, w := range e.all() {
		if w.reads {
			h.rest.Add(1)
		}
		w.loop.Halt()
	}
	e.mu.Unlock()
	h.rest.Wait()
}

// Resume has the threads go on that rest.
func (e *Engine) Resume() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, w := range e.all() {
		w.reads = true
	}
	close(e.halt.over)
	e.halt = nil
}

// rest is called by a worker's thread when the loop has returned, with what it has returned. While the Engine is halted
// the thread rests. It reports whether the loop is to run again.
func (e *Engine) rest(ctx context.Context, w *worker, err error) (again bool) {
	e.mu.Lock()
	h := e.halt
	w.reads = false
	if h != nil {
		h.rest.Done()
	}
	e.mu.Unlock()
	if h == nil || err != nil {
		return false
	}
	select {
	case <-h.over:
		return true
	case <-ctx.Done():
		return false
	}
}

// Waiting are the packets that wait, by worker. The Engine must be halted.
func (e *Engine) Waiting() (all [][]forward.Waiting) {
	for _, w := range e.all() {
		all = append(all, w.loop.Waiting())
	}
	return all
}

// GoOn has the Engine read rings of another process from where that has stopped, and
// hold on the packets that waited there. Without positions nobody has told where that is.
// It comes after Publish and before Run.
func (e *Engine) GoOn(positions []int, waiting [][]forward.Waiting) error {
	if len(positions) != 0 && len(positions) != len(e.all()) || len(waiting) > len(e.all()) {
		return fmt.Errorf("%d rings of another process for %d workers", len(positions), len(e.all()))
	}
	for i, w := range e.all() {
		at := pktring.Unknown
		if len(positions) > 0 {
			at = positions[i]
		}
		w.conn.GoOn(at)
		if i < len(waiting) {
			w.loop.Hold(waiting[i])
		}
	}
	return nil
}

// Reread has the Engine read rings on that another process has read meanwhile, and
// nobody has told how far. It comes before Resume.
func (e *Engine) Reread() {
	for _, w := range e.all() {
		w.conn.GoOn(pktring.Unknown)
	}
}
