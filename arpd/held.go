package arpd

import "time"

// Limits of the requests that wait for the news of a route.
const (
	heldRequests = 64
	heldShare    = heldRequests / 2 // of one interface
	holdTime     = 100 * time.Millisecond
	holdTick     = 2 * time.Millisecond // how often it is asked whether the news has come
)

// heldRequest is a request for a target that no route allows yet, or one that came by
// an interface of which nothing is known yet.
type heldRequest struct {
	frame
	request Request // as it was read when the frame came
	unknown bool    // its interface is not known yet
	since   int64
}

// holder keeps requests, for a moment: the kernel has a route an instant before
// its event has told of it, and a workload that asks for a target just then
// would ask again only after a second. Few are held, so that a flood of
// requests for nothing is decided at once. It is Run's alone; what a slot has
// allocated is used again.
type holder struct {
	slots  [heldRequests]heldRequest
	n      int
	looked int64 // when retry last looked
}

// add keeps a copy of a frame and what was read of it; false if there is no room.
func (h *holder) add(f frame, q *Request, now int64) bool {
	if h.n == len(h.slots) {
		return false
	}
	share := 0
	for i := range h.slots[:h.n] {
		if h.slots[i].ifindex == f.ifindex {
			share++
		}
	}
	if share >= heldShare {
		return false
	}
	s := &h.slots[h.n]
	f.data = append(s.data[:0], f.data...)
	s.frame, s.request, s.since = f, *q, now
	s.request.borrow(s.data)
	h.n++
	return true
}

// keep lets slot i stay, behind those that stay already.
func (h *holder) keep(kept, i int) { h.slots[kept], h.slots[i] = h.slots[i], h.slots[kept] }

// hold keeps a request that Routes refuses, or whose interface is not known (e is nil), if the kernel has told of changes
// that Routes may not know yet.
func (r *Responder) hold(f frame, q *Request, e *entry, now int64, tap *Tap) bool {
	if !r.stillBehind() || !r.held.add(f, q, now) {
		return false
	}
	r.held.slots[r.held.n-1].unknown = e == nil
	if tap != nil {
		r.held.slots[r.held.n-1].id = (*tap)(0, f.ifindex, f.data, nil, Queued)
	}
	r.count(e, Queued)
	return true
}

// retry judges again what is held: a route may have come, or be known not to come.
func (r *Responder) retry() {
	now := r.now()
	if r.held.n == 0 || now-r.held.looked < int64(holdTick) {
		return
	}
	r.held.looked = now
	r.news = newsUnasked
	behind := r.stillBehind() // before Routes is asked
	snap, tap := r.begin()
	kept := 0
	for i := range r.held.slots[:r.held.n] {
		h := &r.held.slots[i]
		e, v := r.entry(*snap, h.ifindex, now)
		if v == NotSpecified && h.unknown {
			if v = h.frame.read(&h.request, e.policy); v == NotSpecified {
				h.unknown = false
			}
		}
		if v == NotSpecified {
			v = r.judge(h.frame, &h.request, e, now)
		}
		if (e != nil && e.policy != nil && v == unrouted(e.policy) || v == DropUnknownIf && h.unknown) && behind && now-h.since < int64(holdTime) {
			r.held.keep(kept, i)
			kept++
			continue
		}
		if v != Answered {
			r.finish(h.frame, e, nil, v, tap)
		}
	}
	r.held.n = kept
	r.flushAll(tap)
}

// news is what is known, within a batch, of how Options.Behind stands.
type news uint8

const (
	newsUnasked news = iota
	newsBehind
	newsNone
)

// stillBehind is Options.Behind, asked at most once a batch: all frames of a
// batch are older than the answer.
func (r *Responder) stillBehind() bool {
	if r.news == newsUnasked {
		if r.news = newsNone; r.behind() {
			r.news = newsBehind
		}
	}
	return r.news == newsBehind
}

// unrouted is the verdict of a request for a target that Routes does not know yet,
// among others.
func unrouted(p *Policy) Verdict {
	if p.Uplink != nil {
		return IgnoreNoWorkload
	}
	return IgnoreNotProxied
}

// lacksRoute reports whether nothing but Routes stands against an answer to a
// request that was judged so.
func (p *Policy) lacksRoute(q *Request, v Verdict) bool {
	return v == unrouted(p) && p.Routes != nil && (p.Uplink != nil || p.inProxy(q.TargetIP))
}

// fromUnrouted reports whether a request that was answered is one for a gateway
// by an address that is not routed to this interface. A probe has no address.
func (p *Policy) fromUnrouted(q *Request) bool {
	return p.Routes != nil && p.isGateway(q.TargetIP) && !q.isProbe() && !p.Routes.Routed(q.SenderIP, p.Index)
}
