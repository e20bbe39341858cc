package daemon

import (
	"fmt"
	"time"
)

// readiness is told to those who wait for it.
type readiness struct {
	announced bool
	c         chan struct{} // closed, and made anew, whenever all is ready
}

// isReady: every workload interface that is up is answered and, unless the
// engine moves nothing, forwarded for. The daemon has no more privileges than it needs.
func (o *owner) isReady() (ok bool, why string) {
	if o.phase < serving {
		return false, "reading the kernel's state"
	}
	for index, p := range o.ports {
		l := o.links[index]
		if l == nil || p.role != roleWorkload || !l.Up() {
			continue
		}
		switch {
		case p.policy == nil:
			return false, l.Name + " is not answered"
		case p.why != nil:
			return false, fmt.Sprintf("%s: %v", l.Name, p.why)
		case p.state != open:
			return false, l.Name + " is not forwarded for yet"
		}
	}
	if o.confining {
		return false, "giving up privileges"
	}
	return true, ""
}

// signalReady wakes those who wait for readiness; what is ready may stop being
// so when an interface appears.
func (o *owner) signalReady() {
	if ok, _ := o.isReady(); !ok {
		return
	}
	if !o.ready.announced {
		o.ready.announced = true
		o.log.Info("ready", "workloads", o.countRole(roleWorkload), "uplinks", o.countRole(roleUplink),
			"after", time.Since(o.began).Round(time.Millisecond))
		o.warnDescriptors()
	}
	close(o.ready.c)
	o.ready.c = make(chan struct{})
}

// awaitReady gives a channel that is closed when the daemon is ready, at once
// if it is now.
func (o *owner) awaitReady() <-chan struct{} {
	if ok, _ := o.isReady(); ok {
		c := make(chan struct{})
		close(c)
		return c
	}
	return o.ready.c
}

func (o *owner) countRole(r role) (n int) {
	for _, p := range o.ports {
		if p.role == r {
			n++
		}
	}
	return n
}
