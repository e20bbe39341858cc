package daemon

import (
	"context"
	"time"

	"proxyarpd/internal/hostpolicy"
)

// What the daemon does about rules of the host that appear while it forwards.
const (
	PolicyWarn  = "warn"  // it goes on
	PolicyLeave = "leave" // it leaves the interfaces concerned to the kernel
)

// Bounds of how often the host's rules are looked at: after a change at once, then
// not before so many times the time has passed that the last look took.
const (
	gatePause    = 200 * time.Millisecond
	gateShare    = 20
	gateInterval = 5 * time.Second // of what the kernel does not tell of
)

// gate is what is known of the host's rules while packets are forwarded.
type gate struct {
	results  hostpolicy.Results
	accepted []hostpolicy.Finding // by --bypass-policy: those that there were when it began to count
	respects []hostpolicy.Finding // of IPv6, which is left to the kernel for them: those that there were at the start
	found    []bypassed
	err      error        // why found may not be all
	left     leaving      // packets
	left6    leaving      // packets of IPv6
	egress   map[int]bool // interfaces by whose egress rules packets are still sent
	said     saidOnce     // of findings
	looks    uint64
	took     time.Duration // by all looks
	changes  uint64        // findings that came or went
}

// bypassed is a finding that is in force.
type bypassed struct {
	hostpolicy.Finding
	since time.Time
}

// leaving is why packets are left to the kernel for rules of the host; nil: they are not.
type leaving struct {
	host  error         // all of them
	ports map[int]error // those of an interface
}

// of says why those of an interface are left.
func (l *leaving) of(index int) error {
	if l.host != nil {
		return l.host
	}
	return l.ports[index]
}

// any reports whether some are left.
func (l *leaving) any() bool { return l.host != nil || len(l.ports) > 0 }

// same reports whether two findings are of one rule set, however many rules it has.
func same(a, b *hostpolicy.Finding) bool {
	return a.Kind == b.Kind && a.What == b.What && a.Interface == b.Interface
}

// wakesGate is whom a reload wakes.
const wakesGate = "gate"

// openGate begins to watch the host's rules, if packets are forwarded and nobody
// watches yet. What comes from then on is noticed.
func (d *Daemon) openGate() {
	if d.rules != nil || !d.engine().Forwards() {
		return
	}
	w, err := hostpolicy.Watch()
	switch {
	case w == nil:
		d.log.Warn("changes of the host's rules are not noticed", "err", err)
		return
	case err != nil:
		d.log.Warn("not all changes of the host's rules are noticed at once", "err", err)
	}
	d.rules = w
	d.reloads.onChange(wakesGate, w.Wake)
}

// watchGate watches the host's rules as long as packets are forwarded.
func (d *Daemon) watchGate(ctx context.Context) {
	if !d.awaitStart(ctx) {
		return
	}
	changed := make(chan struct{}, 1) // by a reload, while nobody watches
	if d.rules == nil {
		d.reloads.onChange(wakesGate, func() {
			select {
			case changed <- struct{}{}:
			default:
			}
		})
	}
	for d.rules == nil {
		select {
		case <-changed:
			d.openGate()
		case <-ctx.Done():
			return
		}
	}
	defer context.AfterFunc(ctx, d.rules.Wake)()
	r := round{due: hostpolicy.All} // what came since the start looked
	for ctx.Err() == nil && r.step(ctx, d) {
	}
}

// round is where watchGate stands.
type round struct {
	due  hostpolicy.Sources // are to be looked at
	next time.Time          // before which nobody looks
	poll time.Time          // when what the kernel does not tell of is due
}

// step waits or looks; false: it can't go on.
func (r *round) step(ctx context.Context, d *Daemon) bool {
	w, now := d.rules, time.Now()
	if !d.engine().Forwards() {
		r.due = hostpolicy.All
		_, err := w.Wait(time.Hour) // a reload ends it
		w.Read(hostpolicy.All)
		return err == nil
	}
	if d.reloads.changed.Swap(false) {
		r.due = hostpolicy.All
	}
	if !now.Before(r.poll) {
		r.due |= hostpolicy.All &^ w.Told()
		r.poll = now.Add(gateInterval)
	}
	switch {
	case r.due != 0 && now.Before(r.next):
		select { // not in Wait, which has been told already
		case <-time.After(r.next.Sub(now)):
		case <-ctx.Done():
		}
		return true
	case r.due == 0:
		told, err := w.Wait(r.poll.Sub(now))
		if err != nil {
			d.log.Warn("the host's rules are not watched any more", "err", err)
			return false
		}
		r.due |= told
		return true
	}
	w.Read(r.due)
	took, ok := d.look(ctx, r.due)
	r.due, r.next = 0, time.Now().Add(max(gatePause, gateShare*took))
	return ok
}

// awaitStart waits until the daemon serves; false: it ends before.
func (d *Daemon) awaitStart(ctx context.Context) bool {
	select {
	case <-d.firstSync:
		return true
	case <-ctx.Done():
		return false
	}
}

// look has the owner look at some of the host's rules, and waits for that.
func (d *Daemon) look(ctx context.Context, which hostpolicy.Sources) (took time.Duration, ok bool) {
	done := make(chan time.Duration, 1)
	if !d.owner.ask(ctx, func() { d.owner.lookAtRules(which, done) }) {
		return 0, false
	}
	select {
	case took = <-done:
		return took, true
	case <-ctx.Done():
		return 0, false
	}
}

// gateErrand looks at the host's rules while packets are forwarded.
type gateErrand struct {
	which hostpolicy.Sources
	ifs   []hostpolicy.Interface
	done  chan<- time.Duration
}

type gateSeen struct {
	gateErrand
	results hostpolicy.Results
	took    time.Duration
}

func (e gateErrand) do(h *hands) outcome {
	began := time.Now()
	results := inspect(e.ifs, h.cfg.IPv6, e.which, h.eng.Owns)
	return gateSeen{e, results, time.Since(began)}
}

// lookAtRules has an errand look.
func (o *owner) lookAtRules(which hostpolicy.Sources, done chan<- time.Duration) {
	if o.phase != serving {
		done <- 0
		return
	}
	e := &gateErrand{which: which, done: done}
	for index, p := range o.ports {
		if l := o.links[index]; l != nil && p != nil {
			e.ifs = append(e.ifs, hostpolicy.Interface{Name: l.Name, Index: index})
		}
	}
	o.work.gate = e
}

// take follows what was seen.
func (g gateSeen) take(o *owner) error {
	o.gate.looks++
	o.gate.took += g.took
	o.gate.results.Replace(&g.results, g.which)
	o.weighRules()
	g.done <- g.took
	return o.failed
}
