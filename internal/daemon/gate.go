package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"proxyarpd/internal/hostpolicy"
	"proxyarpd/internal/netstate"
	"proxyarpd/internal/printable"
	"proxyarpd/internal/status"
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

// weighRules says what the rules that are known mean, and has it count.
func (o *owner) weighRules() {
	o.weigh()
	if len(o.dirty.links) > 0 && o.phase >= serving {
		o.reconcile()
	}
}

func (o *owner) weigh() {
	g := &o.gate
	found, err := g.results.Combined()
	if errors.Is(err, hostpolicy.ErrUserNamespace) {
		err = nil // the start has said it
	}
	if g.err = err; err != nil && g.said.first("unknown", time.Now()) {
		o.log.Warn("can't tell whether rules of this host are bypassed", "err", err)
	}
	if !o.eng.Forwards() {
		found = nil
	}
	found = o.cfg.concerning(found)
	if err == nil {
		o.judgeAgain(found)
	}
	found = slices.DeleteFunc(found, o.leftAnyway)
	o.noteFindings(found)
	was := *g
	g.left, g.left6 = o.toLeave(found)
	g.egress = map[int]bool{}
	o.markEgress(found)
	for index := range o.ports {
		if said(was.left.of(index)) != said(g.left.of(index)) || said(was.left6.of(index)) != said(g.left6.of(index)) || was.egress[index] != g.egress[index] {
			o.dirty.links[index] = true
		}
	}
}

func said(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// leftAnyway reports whether a finding is bound to an interface that has been left
// to the kernel for it, or is none of ours.
func (o *owner) leftAnyway(f hostpolicy.Finding) bool {
	if f.Interface == "" {
		return false
	}
	for index, l := range o.links {
		if l.Name == f.Interface {
			p := o.ports[index]
			return p == nil || p.left != nil || p.left6 != nil && f.Family == hostpolicy.IPv6
		}
	}
	return true
}

// judgeAgain has interfaces judged that were left for rules which are not there any
// more.
func (o *owner) judgeAgain(found []hostpolicy.Finding) {
	for index, p := range o.ports {
		l := o.links[index]
		if l == nil || p.left == nil && p.left6 == nil || p.rules != done {
			continue
		}
		if !slices.ContainsFunc(found, func(f hostpolicy.Finding) bool { return f.Interface == l.Name }) {
			p.rules = todo
			o.dirty.links[index] = true
		}
	}
}

// isAccepted reports whether --bypass-policy was given when a finding was there.
func (o *owner) isAccepted(f *hostpolicy.Finding) bool {
	return o.cfg.BypassPolicy && slices.ContainsFunc(o.gate.accepted, func(a hostpolicy.Finding) bool { return same(&a, f) })
}

// isRespected reports whether IPv6 is left to the kernel for a finding, whatever is done
// about rules that appear: it was there at the start. A firewall that is loaded anew
// takes its rules away for a moment.
func (o *owner) isRespected(f *hostpolicy.Finding) bool {
	return slices.ContainsFunc(o.gate.respects, func(a hostpolicy.Finding) bool { return same(&a, f) })
}

// toLeave says which packets are the kernel's: of both families, and of IPv6 alone.
func (o *owner) toLeave(found []hostpolicy.Finding) (all, v6 leaving) {
	all.ports, v6.ports = map[int]error{}, map[int]error{}
	forwards6 := o.forwards6()
	for i := range found {
		f := &found[i]
		if o.cfg.LeavesNAT6(f, forwards6) {
			v6.host = cmp.Or(v6.host, fmt.Errorf("IPv6 is left to the kernel, which translates it, and --punt names no destination of IPv6: forwarding would bypass %s", f))
		}
		respects := o.isRespected(f)
		if !respects && (o.cfg.OnPolicy != PolicyLeave || o.isAccepted(f)) {
			continue
		}
		into, what, how := &all, "", ""
		if f.Family == hostpolicy.IPv6 {
			into, what = &v6, "IPv6 is "
		}
		if !respects {
			how = " (--on-policy leave)"
		}
		why := fmt.Errorf("%sleft to the kernel%s: forwarding would bypass %s", what, how, f)
		if f.Interface == "" {
			into.host = cmp.Or(into.host, why)
			continue
		}
		for index, l := range o.links {
			// The way through a queueing discipline is open to us too, and the kernel
			// would have to forward.
			if l.Name == f.Interface && (forwardsAny(l, f.Family) || f.Kind != hostpolicy.KindQdisc) {
				into.ports[index] = why
			}
		}
	}
	return all, v6
}

// forwardsAny reports whether the kernel forwards packets of a family that come in by an
// interface. Of both, it is IPv4 that counts.
func forwardsAny(l *netstate.Link, family hostpolicy.Family) bool {
	if family == hostpolicy.IPv6 {
		return l.Forwards6
	}
	return l.Forwards
}

// markEgress keeps frames to an interface that has egress rules now on the ordinary
// way out. Those of IPv6 alone have no hook there but an interface's.
func (o *owner) markEgress(found []hostpolicy.Finding) {
	for _, f := range found {
		if f.Family == hostpolicy.IPv6 && f.Interface == "" {
			continue
		}
		for index, l := range o.links {
			if l.Name == f.Interface || f.Interface == "" && f.Kind == hostpolicy.KindNFTables {
				o.gate.egress[index] = true
			}
		}
	}
}

// noteFindings notes and logs which rules have come and gone.
func (o *owner) noteFindings(found []hostpolicy.Finding) {
	g, now := &o.gate, time.Now()
	var all []bypassed
	for _, f := range found {
		b := bypassed{f, now}
		if at := slices.IndexFunc(g.found, func(b bypassed) bool { return same(&b.Finding, &f) }); at >= 0 {
			b.since = g.found[at].since
		} else {
			g.changes++
			o.sayFinding(&f, now)
		}
		all = append(all, b)
	}
	for _, b := range g.found {
		if !slices.ContainsFunc(found, func(f hostpolicy.Finding) bool { return same(&b.Finding, &f) }) {
			g.changes++
			if g.said.first("gone "+b.What, now) {
				o.log.Info("rules of this host are gone", "found", b.Finding.String())
			}
		}
	}
	g.found = all
}

func (o *owner) sayFinding(f *hostpolicy.Finding, now time.Time) {
	switch {
	case o.isAccepted(f) || !o.gate.said.first(f.What, now):
	case o.cfg.LeavesNAT6(f, o.forwards6()):
		o.log.Warn("rules of this host have appeared, and IPv6 is left to the kernel, which translates it (--punt names the destinations)", "found", f.String())
	case o.isRespected(f):
		o.log.Warn("rules of this host have appeared again, and IPv6 is left to the kernel for them", "found", f.String())
	case o.cfg.OnPolicy == PolicyLeave:
		o.log.Warn("rules of this host have appeared, and what they concern is left to the kernel", "found", f.String())
	default:
		o.log.Warn("rules of this host have appeared, and do not apply to what is forwarded (--on-policy leave would leave it to the kernel)", "found", f.String())
	}
}

// gated says why packets of an interface are left to the kernel for rules that have
// appeared, nil if they are not.
func (o *owner) gated(l *netstate.Link) error {
	return o.gate.left.of(l.Index)
}

// gated6 says why packets of IPv6 of an interface are left to the kernel for rules of
// the host, nil if they are not.
func (o *owner) gated6(l *netstate.Link) error {
	if p := o.ports[l.Index]; p != nil && p.left6 != nil {
		return p.left6
	}
	return o.gate.left6.of(l.Index)
}

func (o *owner) gateStatus() status.Gate {
	g := &o.gate
	s := status.Gate{State: "clear", Findings: []status.Bypassed{}, Looks: g.looks, Took: g.took.Seconds(), Changes: g.changes}
	for _, b := range g.found {
		all, v6 := o.toLeave([]hostpolicy.Finding{b.Finding})
		s.Findings = append(s.Findings, status.Bypassed{Kind: b.Kind, What: printable.UTF8(b.Finding.String()), Interface: printable.UTF8(b.Interface), Since: b.since,
			IPv6: b.Family == hostpolicy.IPv6 || v6.any() && !all.any(), Left: all.any() || v6.any()})
	}
	switch {
	case !o.eng.Forwards():
		s.State = "off"
	case g.left.any() || g.left6.any():
		s.State = "left"
	case len(g.found) > 0:
		s.State = "bypassed"
	case g.err != nil:
		s.State = "unknown"
	}
	if g.err != nil {
		s.Unknown = printable.UTF8(strings.ReplaceAll(g.err.Error(), "\n", "; "))
	}
	return s
}

// saidOnce limits what is logged again and again, by key.
type saidOnce struct{ at map[string]time.Time }

const (
	saidAgain = time.Minute
	saidMost  = 256 // keys
)

// first reports whether a key was not said in the last minute, and notes that it
// is now.
func (s *saidOnce) first(key string, now time.Time) bool {
	if at, known := s.at[key]; known && now.Sub(at) < saidAgain {
		return false
	}
	if s.at == nil || len(s.at) >= saidMost {
		s.at = map[string]time.Time{}
	}
	s.at[key] = now
	return true
}
