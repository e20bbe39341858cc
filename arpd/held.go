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
	unknown bool // its interface is not known yet
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

// add keeps a copy of a frame; false if there is no room.
func (h *holder) add(f frame, now int64) bool {
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
	s.frame, s.since = f, now
	h.n++
	return true
}

// keep lets slot i stay, behind those that stay already.
func (h *holder) keep(kept, i int) { h.slots[kept], h.slots[i] = h.slots[i], h.slots[kept] }

// hold keeps a request that Routes refuses, or whose interface is not known (e is nil), if the kernel has told of changes
// that Routes may not know yet.
func (r *Responder) hold(f frame, e *entry, now int64, tap *Tap) bool {
	if !r.stillBehind() || !r.held.add(f, now) {
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
		if v == NotSpecified {
			v = r.reread(h, e)
		}
		if v == NotSpecified {
			v = r.judge(h.frame, e, now)
		}
		if (e != nil && e.policy != nil && e.policy.unrouted(v) || v == DropUnknownIf && h.unknown) && behind && now-h.since < int64(holdTime) {
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

// reread reads a request again. Whose it is by its VLAN was judged when it came, unless
// its interface was not known then: the MACs may be others by now.
func (r *Responder) reread(h *heldRequest, e *entry) Verdict {
	if !h.unknown {
		return r.question.parse(h.data)
	}
	v := r.question.read(h.frame, e.policy)
	h.unknown = v != NotSpecified
	return v
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
