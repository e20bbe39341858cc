package daemon

import (
	"proxyarpd/arpd"
	"proxyarpd/internal/engine"
)

// task is how far something has got that a job does for an interface.
type task uint8

const (
	todo     task = iota // to be done, if it is wanted
	underWay             // a job is out
	done
	short // lacks something that others may give back: it is tried again
	never // can't be done here
)

func (t task) String() string { return [...]string{"todo", "under way", "done", "short", "never"}[t] }

// pending reports whether the outcome is yet to come.
func (t task) pending() bool { return t == todo || t == underWay }

// port is an interface that is served: what has been found out for it, and what
// others have been told of it. What it should be is want's to say.
type port struct {
	ref
	role  role
	first bool // it was there when the daemon started, and has not been open yet

	// Found out, or brought about, by jobs.
	rules   task // of the host, bound to the interface: were looked for
	claim   task // the tc program
	mac     task
	member  task // --keep-mac: the device was asked for frames to --mac
	read    task // settings
	conf    ifConf
	qdisc   string  // as it was when rules were looked for
	ownMAC  bool    // answers give the device's own
	former  macAddr // that was answered before a reload changed that; zero: none
	leaving bool    // a reload is about to close it: no frame is taken any more
	left    error   // its packets are the kernel's, as are those that lead there: why
	left6   error   // so are those of IPv6
	err     error   // something failed for it
	said    string  // the last error that was logged
	state   life    // when it was last looked at
	why     error   // failure then

	// Told.
	slot     uint32
	filter   engine.Port
	policy   *arpd.Policy // nil where nothing is answered
	policy6  *arpd.Policy // of neighbour discovery
	toldLeft toldLeft
}

// toldLeft is what the tables were told of what is left to the kernel: all packets, and
// those of IPv6.
type toldLeft struct{ all, v6 bool }

// arpPolicy and ndPolicy are what the responders go by.
func arpPolicy(p *port) *arpd.Policy { return p.policy }
func ndPolicy(p *port) *arpd.Policy  { return p.policy6 }

// life is where an interface stands between its first event and its last.
type life uint8

const (
	described life = iota // the tables know it, its frames are the kernel's
	early                 // its frames are taken, while the rest is being done
	open
	left // its packets are left to the kernel
	failed
)

func (l life) String() string {
	return [...]string{"described", "early", "open", "left", "failed"}[l]
}

// life gives the state of a port, w being what it should be.
func (p *port) life(w *want) life {
	switch {
	case p.left != nil || w.left != nil:
		return left
	case p.failure(w) != nil:
		return failed
	case w.waits(p):
		if p.filter.Forward {
			return early
		}
		return described
	case w.forwards && !p.filter.Forward:
		return described
	}
	return open
}

// failure says why an interface is not forwarded for, nil if it is or will be.
func (p *port) failure(w *want) error {
	switch {
	case p.left != nil:
		return p.left
	case w.left != nil:
		return w.left
	case p.err != nil:
		return p.err
	}
	return w.impossible
}

// again has everything tried once more that did not go well.
func (p *port) again() {
	p.err = nil
	for _, t := range p.tasks() {
		if *t == short {
			*t = todo
		}
	}
}

// lacks reports whether something is short.
func (p *port) lacks() bool {
	for _, t := range p.tasks() {
		if *t == short {
			return true
		}
	}
	return false
}

func (p *port) tasks() [5]*task { return [5]*task{&p.rules, &p.claim, &p.mac, &p.member, &p.read} }
