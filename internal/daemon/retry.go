package daemon

import (
	"time"

	"proxyarpd/internal/netstate"
	"proxyarpd/internal/shortage"
)

// What a shortage (internal/shortage) has kept from being done for an interface
// is tried again: when another interface has gone, and after a while.

// Pauses between attempts.
const (
	firstRetry = 100 * time.Millisecond
	mostRetry  = 5 * time.Second
)

// retryClock says when.
type retryClock struct {
	c     <-chan time.Time // nil while nothing is short
	pause shortage.Backoff
	freed bool   // something has gone since, and what it had with it
	said  string // the last of what was logged of this shortage
}

// fellShort logs what an interface can do without for a while: once, not of each
// interface and at each attempt.
func (o *owner) fellShort(l *netstate.Link, what string, err error) {
	if said := what + err.Error(); o.retry.said != said {
		o.retry.said = said
		o.log.Warn(what+", trying again", "interface", l.Name, "err", err)
	}
}

// short reports whether a port lacks something that others may give back.
func (p *port) short() bool { return p.lacks() || shortage.Passing(p.err) }

// armRetry sets the clock as long as anything is short.
func (o *owner) armRetry() {
	r := &o.retry
	lacking := false
	for _, p := range o.ports {
		if lacking = p.short(); lacking {
			break
		}
	}
	switch {
	case !lacking && o.work.idle():
		r.c, r.freed, r.pause = nil, false, shortage.Backoff{First: firstRetry, Most: mostRetry}
		if r.said != "" {
			r.said = ""
			o.log.Info("nothing is short any more")
		}
	case !lacking: // it is being tried again
	case r.freed:
		r.freed = false
		r.c = time.After(0)
	case r.c == nil:
		r.c = time.After(r.pause.Next())
	}
}

// tryAgain has all that is short tried again.
func (o *owner) tryAgain() {
	for index, p := range o.ports {
		if p.short() {
			p.again()
			o.dirty.links[index] = true
		}
	}
	o.reconcile()
}
