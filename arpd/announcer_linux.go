package arpd

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"
)

// Announcer announces addresses of IPv4 and IPv6 on uplinks, as its Agenda says. Its methods may be
// called from any goroutine, Run from one at a time.
type Announcer struct {
	mu     sync.Mutex // guards all but the channel
	agenda *Agenda
	out    *sender
	now    func() int64 // ns, monotonic
	closed bool
	halted bool
	wake   chan struct{}
}

// OpenAnnouncer makes its socket, in the network namespace of the calling thread. It
// needs CAP_NET_RAW.
func OpenAnnouncer() (*Announcer, error) {
	out, err := openSender(false)
	if err != nil {
		return nil, fmt.Errorf("socket for announcements: %w", err)
	}
	return &Announcer{agenda: NewAgenda(), out: out, now: clock(), wake: make(chan struct{}, 1)}, nil
}

// Hold has an address be announced from now on; see [Agenda.Hold].
func (a *Announcer) Hold(what Announcement) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	held := a.agenda.Hold(what, a.now())
	a.look()
	return held
}

// look has Run look at the Agenda.
func (a *Announcer) look() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// Halt has nothing be announced until Resume or GoOn: another process does.
func (a *Announcer) Halt() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.halted = true
}

// Resume ends Halt.
func (a *Announcer) Resume() { a.GoOn(&HandedAgenda{}) }

// HandOver says what is known, for another process's GoOn.
func (a *Announcer) HandOver() HandedAgenda {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.agenda.HandOver(a.now())
}

// GoOn ends Halt, under which what is held began to be; see [Agenda.GoOn].
func (a *Announcer) GoOn(h *HandedAgenda) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.agenda.GoOn(h, a.now())
	a.halted = false
	a.look()
}

// Release ends that: when it returns, no further announcement leaves.
func (a *Announcer) Release(index int, ip netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.agenda.Release(index, ip)
}

// Forget drops an interface that is gone, with its counters.
func (a *Announcer) Forget(index int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.agenda.Forget(index)
}

// Holds reports whether an address is held on an interface.
func (a *Announcer) Holds(index int, ip netip.Addr) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.agenda.Holds(index, ip)
}

// Claimed judges a claim; see [Agenda.Claimed].
func (a *Announcer) Claimed(c Claim) (conflict bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.agenda.Claimed(c, a.now())
}

// Stats are the counters by interface, and how many addresses found no room.
func (a *Announcer) Stats() (each map[int]AnnounceStats, refused uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.agenda.Stats(), a.agenda.Refused
}

// Tell announces an address once, at once, and holds nothing: false if it could not.
func (a *Announcer) Tell(what Announcement) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return !a.closed && a.send(&what)
}

// Run announces until ctx ends.
func (a *Announcer) Run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		switch wait := a.announce(); {
		case wait >= 0:
			timer.Reset(wait)
		default:
			timer.Stop()
		}
		select {
		case <-ctx.Done():
			return
		case <-a.wake:
		case <-timer.C:
		}
	}
}

// announce sends all that is due, and says how long there is nothing more, negative
// for ever.
func (a *Announcer) announce() (wait time.Duration) {
	for {
		a.mu.Lock()
		if a.closed || a.halted {
			a.mu.Unlock()
			return -1
		}
		what, wait, ok := a.agenda.Next(a.now())
		if !ok {
			a.mu.Unlock()
			return wait
		}
		a.agenda.Done(&what, a.send(&what), a.now())
		a.mu.Unlock() // who has an address to release need not wait for all
	}
}

// send does not wait: what an interface does not take is tried again.
func (a *Announcer) send(what *Announcement) bool {
	defer a.out.reset()
	a.out.stage(what.Frame(a.out.next()), origin{frame: frame{ifindex: what.Index}})
	n, _ := a.out.send(0)
	return n == 1
}

// Close releases the socket. Run announces nothing more.
func (a *Announcer) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil
	}
	a.closed = true
	return a.out.conn.Close()
}
