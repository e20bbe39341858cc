package forward

import (
	"sync/atomic"
	"time"

	"proxyarpd/forward/route"
	"proxyarpd/internal/wire"
)

// waiter holds packets: until their next hop has a MAC, and, for a moment, until
// there is a way for them.
type waiter struct {
	turn     *turn
	conn     Conn
	counters *Counters
	opts     *Options
	emit     *emitter
	report   *reporter
	drops    *dropper

	pending atomic.Bool // packets wait: Publish must wake the loop
	hops    hopQueue
	misses  missQueue
	checked int64 // when retry was last called
}

// until is how long Recv may wait at most, negative: for ever.
func (w *waiter) until() time.Duration {
	switch {
	case !w.misses.empty():
		return missTick
	case !w.hops.empty():
		return queueTick
	}
	return -1
}

// hold keeps a frame until its next hop has a MAC.
func (w *waiter) hold(f *Frame, r *result) route.Verdict {
	if hopConfOf(r.Out, r.Next).silent { // net/core/neighbour.c, __neigh_event_send
		w.counters.end(route.DropNeighFailed, r.from(f), 1)
		w.drops.held(f, r, route.DropNeighFailed)
		return route.DropNeighFailed
	}
	key := hopKey{ifindex: r.Out.Ifindex, addr: r.Next}
	ask, kept := w.hops.add(key, f, r, w.turn.now())
	w.counters.end(route.Queue, r.from(f), 1)
	if kept && r.In != nil && w.turn.tap.looking() {
		w.hops.last(key).came = w.turn.tap.waits()
	}
	w.await()
	for i := range w.hops.evicted {
		w.evict(&w.hops.evicted[i], key, r.Out)
	}
	clear(w.hops.evicted)
	if ask {
		w.opts.Resolve(key.ifindex, key.addr)
	}
	if !kept {
		w.counters.end(route.DropNeighQueueFull, r.from(f), 1)
		w.drops.held(f, r, route.DropNeighQueueFull)
		return route.DropNeighQueueFull
	}
	return route.Queue
}

// evict ends a packet that gave way to a later one.
func (w *waiter) evict(p *waiting, key hopKey, out *route.Link) {
	w.counters.end(route.DropNeighQueueFull, p.from(), 1)
	w.drops.waiting(p, route.DropNeighQueueFull, key, out, nil, route.ICMPError{})
	tap := w.turn.tap
	current := tap.place()
	tap.resume(w.turn.table, p, key, out, nil)
	tap.failed(p, route.DropNeighQueueFull)
	tap.back(current)
}

// hopsDue reports whether packets that wait for a next hop are to be looked at.
func (w *waiter) hopsDue(changed bool) bool {
	return !w.hops.empty() && (changed || w.turn.now()-w.checked >= queueTick)
}

// retry looks at all packets that wait for a next hop: it may have an address
// now, have failed, or be gone with its interface.
func (w *waiter) retry() {
	now := w.turn.now()
	w.checked = now
	for _, next := range w.hops.inOrder() {
		key, h := next.key, w.hops.hops[next.key]
		if h == nil {
			continue
		}
		out, n, v := h.state(w.turn.table, key, now)
		switch v {
		case route.Queue:
			if w.hops.again(h.held, out, n, now) {
				w.opts.Resolve(key.ifindex, key.addr)
			}
			continue
		case route.Forward:
			for i := range h.packets {
				w.turn.tap.resume(w.turn.table, &h.packets[i], key, out, n)
				w.emit.in = h.packets[i].from()
				w.release(&h.packets[i], n, out)
				w.emit.in = 0
			}
		default:
			for i := range h.packets {
				w.fail(&h.packets[i], v, key, out, n)
			}
		}
		w.hops.remove(key, h)
	}
	w.emit.flush()
	w.settle()
}

// release sends a packet whose next hop has a MAC now.
func (w *waiter) release(p *waiting, n *route.Neighbour, out *route.Link) {
	if p.mtu != 0 {
		w.emit.pieces(p.buf, out.L2Len(), n, out, p.mtu)
		return
	}
	setMACs(wire.Ethernet(p.buf[VnetLen:]), n, out)
	w.emit.send(p.buf, out, p.as)
}

// fail ends a packet whose wait was in vain.
func (w *waiter) fail(p *waiting, v route.Verdict, key hopKey, out *route.Link, n *route.Neighbour) {
	w.counters.end(v, p.from(), 1)
	w.turn.tap.resume(w.turn.table, p, key, out, n)
	var sent route.ICMPError
	if v == route.DropNeighFailed {
		sent = w.report.failed(p, out)
	}
	w.drops.waiting(p, v, key, out, n, sent)
	w.turn.tap.failed(p, v)
}

// holdMiss keeps a frame that has no way yet; since is when it was first kept, 0
// for one that is new. It is false if there is nothing to wait for.
func (w *waiter) holdMiss(f *Frame, since int64) bool {
	fresh := since == 0
	if fresh {
		since = w.turn.now()
	}
	if w.turn.now()-since >= missHold {
		return false
	}
	if !w.opts.Behind() && !w.turn.old() {
		return false // what is known is all there is
	}
	if !w.misses.add(f, since) {
		return false
	}
	if fresh {
		w.counters.end(route.Queue, f.Ifindex, 1)
	}
	w.await()
	return true
}

// missesDue reports whether packets that had no way are to be decided about
// again: by a new table, or for the last time, because nothing more is to come.
func (w *waiter) missesDue(changed bool) bool {
	return !w.misses.empty() && (changed || w.turn.now()-w.misses.packets[0].since >= missHold || !w.opts.Behind())
}

// await has Publish wake the loop from now on, and now if it has been called
// since the turn began.
func (w *waiter) await() {
	w.count()
	if !w.pending.Swap(true) {
		w.hops.held.waiting(true, w.opts.Waiting)
	}
	if w.turn.old() {
		w.conn.Wake()
	}
}

// count tells how many packets wait.
func (w *waiter) count() { w.counters.waiting.Store(int64(w.hops.n + len(w.misses.packets))) }

// settle has Publish wake the loop no more if nothing waits.
func (w *waiter) settle() {
	w.count()
	if w.misses.empty() && w.hops.empty() && w.pending.Swap(false) {
		w.hops.held.waiting(false, w.opts.Waiting)
	}
}
