package netstate

import (
	"errors"
	"os"
	"time"
)

// IPv6 routes may expire: those that router advertisements make, and `ip -6 route add ...
// expires`. From then on the kernel passes them over (find_rr_leaf in net/ipv6/route.c).
// It deletes them, and tells so, when its garbage collector comes round, up to
// net.ipv6.route.gc_interval later, 30 s. It does not tell that an advertisement has put
// the time off (ndisc_router_discovery in net/ipv6/ndisc.c). So when a route may have
// expired the routes are read again. A route that has is left out, and looked at again
// until it is gone: an advertisement may give it another life even then.

// rtaExpires is the offset of rta_expires in struct rta_cacheinfo
// (include/uapi/linux/rtnetlink.h): 1/100 s, negative if so long ago.
const rtaExpires = 8

// The kernel's time is told without what exceeds 1/100 s, and 0 stands for never. So it
// is asked a little later.
const (
	userHz      = 100
	expirySlack = 3 * time.Second / userHz
)

// expiryPause is the least time between readings because of expired routes; behind one
// that took long it is longer.
const (
	expiryPause = time.Second
	expiryShare = 20
)

// An expiry is when the first of a family's routes expires, as far as it is known.
// Zero: none does.
type expiry struct{ at time.Time }

// note takes a route's time.
func (e *expiry) note(at time.Time) {
	if e.at.IsZero() || at.Before(e.at) {
		e.at = at
	}
}

// noteRoute takes what a message says of a route, and reports whether it has expired.
func (e *expiry) noteRoute(r *Route, now time.Time) (expired bool) {
	switch {
	case r.expires > 0:
		e.note(now.Add(time.Duration(r.expires)*(time.Second/userHz) + expirySlack))
	case r.expires < 0:
		e.note(now.Add(expiryPause))
	}
	return r.expires < 0
}

// expire has the routes read again if the time of one has come.
func (w *Watcher) expire() {
	if t := &w.state.v6; !t.expiry.at.IsZero() && !time.Now().Before(t.expiry.at) {
		t.expiry.at = time.Time{} // the dump tells of the next
		t.stale = true
	}
}

// rereadAfter holds off the next reading, in proportion to what the last one took.
func (t *fib) rereadAfter(begun, now time.Time) {
	if pause := now.Sub(begun) * expiryShare; !t.expiry.at.IsZero() && t.expiry.at.Before(now.Add(pause)) {
		t.expiry.at = now.Add(pause)
	}
}

// awaitExpiry has the wait for messages end when a route expires, or links are looked at
// again.
func (w *Watcher) awaitExpiry() {
	at := w.state.v6.expiry.at
	if again := w.state.recheck; at.IsZero() || !again.IsZero() && again.Before(at) {
		at = again
	}
	if !at.Equal(w.deadline) {
		w.deadline = at
		w.events.until(at)
		if w.isCanceled() != nil {
			w.events.interrupt() // which may have come before
		}
	}
}

// expired reports whether a wait has ended for awaitExpiry.
func (w *Watcher) expired(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) && !w.deadline.IsZero() && w.isCanceled() == nil
}
