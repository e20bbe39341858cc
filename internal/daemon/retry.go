package daemon

import (
	"fmt"
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

// shortPorts are those that lack something. mu guards it.
type shortPorts struct {
	ports map[int]bool
	freed bool   // something has gone since, and what it had with it
	said  string // the last of what was logged of this shortage
}

// retryClock is the opener's.
type retryClock struct {
	c     <-chan time.Time // nil while nothing is short
	pause shortage.Backoff
}

func (r *retryClock) arm(short bool) {
	switch {
	case !short:
		r.c, r.pause = nil, shortage.Backoff{First: firstRetry, Most: mostRetry}
	case r.c == nil:
		r.c = time.After(r.pause.Next())
	}
}

// later has an interface looked at again. mu is held.
func (d *Daemon) later(index int) {
	d.short.ports[index] = true
	d.wakeOpener() // which sets its clock
}

func (d *Daemon) wakeOpener() {
	select {
	case d.openNow <- struct{}{}:
	default:
	}
}

// fellShort is later for what an interface can do without for a while. It is
// said once, not of each interface and at each attempt. mu is held.
func (d *Daemon) fellShort(l *netstate.Link, what string, err error) {
	if said := what + err.Error(); d.short.said != said {
		d.short.said = said
		d.log.Warn(what+", trying again", "interface", l.Name, "err", err)
	}
	d.later(l.Index)
}

// freed is called when an interface has gone. mu is held.
func (d *Daemon) freed(index int) {
	delete(d.short.ports, index)
	if len(d.short.ports) > 0 {
		d.short.freed = true
		d.wakeOpener()
	}
}

// retryShort has all that fell short opened again, if it is time or something
// was freed. mu is held.
func (d *Daemon) retryShort(due bool) {
	if !due && !d.short.freed {
		return
	}
	d.short.freed = false
	for index := range d.short.ports {
		d.admit(index)
		d.toOpen[index] = true
	}
}

// firstRefused is an error if a port could not be opened at the start. mu is
// held.
func (d *Daemon) firstRefused(begins bool) error {
	for index, p := range d.ports {
		l := d.links[index]
		if begins && l != nil && p.failed != nil && !d.idle(l, p) && !shortage.Passing(p.failed) {
			return fmt.Errorf("%s: %w", l.Name, p.failed)
		}
	}
	return nil
}

// attempt is called when something is tried for an interface: it lacks nothing
// any more, unless that says so again. mu is held.
func (d *Daemon) attempt(index int) (was bool) {
	was = d.short.ports[index]
	delete(d.short.ports, index)
	return was
}

// stillShort reports whether anything is. mu is held.
func (d *Daemon) stillShort() bool {
	short := len(d.short.ports) > 0
	if !short && d.short.said != "" {
		d.short.said = ""
		d.log.Info("nothing is short any more")
	}
	return short
}
