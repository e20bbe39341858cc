package afpacket

import (
	"fmt"

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

// Positions are the slots that are to be read next, by worker. Run must have returned.
func (e *Engine) Positions() (all []int) {
	for _, w := range e.all() {
		all = append(all, w.conn.Position())
	}
	return all
}

// Halt has Run return soon: what is in the rings stays there, and what waits is kept.
// Another Run may follow.
func (e *Engine) Halt() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.running != nil {
		e.running = nil
		close(e.halted)
	}
	for _, w := range e.all() {
		w.loop.Halt()
	}
}

// Waiting are the packets that wait, by worker. Run must have returned.
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
// nobody has told how far. It comes before Run.
func (e *Engine) Reread() {
	for _, w := range e.all() {
		w.conn.GoOn(pktring.Unknown)
	}
}
