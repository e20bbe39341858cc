package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"proxyarpd/forward/claim"
	"proxyarpd/internal/control"
	"proxyarpd/internal/engine"
	"proxyarpd/internal/engine/afpacket"
	"proxyarpd/internal/engine/ebpf"
	"proxyarpd/internal/engine/none"
	"proxyarpd/internal/hostpolicy"
	"proxyarpd/internal/macs"
	"proxyarpd/internal/metrics"
	"proxyarpd/internal/netstate"
	"proxyarpd/internal/printable"
	"proxyarpd/internal/privilege"
	"proxyarpd/internal/status"
)

// A reload puts another configuration in the place of the one that is in force.
// All that can fail is prepared first, beside what runs. Then the owner takes the
// new configuration, and what follows from it is the difference to what it told
// others before, as after any event of the kernel's (want.go).
//
// No frame is lost: the programs are exchanged between two frames
// (claim.Replacement), an interface that is served no more stays in the tables
// until the ring has nothing of it, and the ring itself is the same for all
// engines.

// reloads is what there is to say of them.
type reloads struct {
	one     sync.Mutex  // is held during a reload
	changed atomic.Bool // since the gate has looked
	mu      sync.Mutex
	state   status.Config
	wake    map[string]func() // by who it wakes
}

// onChange has a reload that changes something tell somebody of it.
func (r *reloads) onChange(who string, wake func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.wake == nil {
		r.wake = map[string]func(){}
	}
	r.wake[who] = wake
}

func (r *reloads) status(cfg *Config) status.Config {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.state
	s.Values = cfg.values()
	return s
}

// refused says why the last reload was, "" if it was not.
func (r *reloads) refused() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state.Refused == nil {
		return ""
	}
	return r.state.Refused.Why
}

func (r *reloads) note(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.state.Refused = &status.Refused{At: time.Now(), Why: printable.UTF8(err.Error())}
		return
	}
	r.state.Refused, r.state.Read = nil, time.Now()
	r.state.Reloads++
	r.changed.Store(true)
	for _, wake := range r.wake {
		wake()
	}
}

// Reloaded is what a reload has changed.
type Reloaded struct {
	File    string   `json:"file"` // "": there is none
	Changes []Change `json:"changes"`
}

type reloadRequest struct {
	Op string `json:"op"`
}

type reloadReply struct {
	Error  string    `json:"error,omitempty"`
	Reload *Reloaded `json:"reload,omitempty"`
}

func (d *Daemon) answerReload(ctx context.Context, _ *control.Conn, _ []byte) (any, error) {
	r, err := d.reload(ctx)
	if err != nil {
		return nil, err
	}
	return reloadReply{Reload: r}, nil
}

// Reload has the daemon behind the control socket at path read its configuration
// again.
func Reload(ctx context.Context, path string) (*Reloaded, error) {
	var rep reloadReply
	const most = 8 << 20 // bytes: lists of 4096 values, twice
	if err := ask(ctx, path, time.Now(), func(time.Duration) any { return reloadRequest{Op: "reload"} }, &rep, most); err != nil {
		return nil, err
	}
	if rep.Error != "" || rep.Reload == nil {
		return nil, errors.New(cmp.Or(rep.Error, "the answer is none"))
	}
	return rep.Reload, nil
}

// hearHangups has each SIGHUP be a reload.
func (d *Daemon) hearHangups(ctx context.Context, hangup <-chan os.Signal) {
	for {
		select {
		case <-hangup:
			_, _ = d.reload(ctx) // which logs, and notes it for the status
		case <-ctx.Done():
			return
		}
	}
}

// reload reads the configuration again, and the kernel's settings in any case.
func (d *Daemon) reload(ctx context.Context) (*Reloaded, error) {
	d.reloads.one.Lock()
	defer d.reloads.one.Unlock()
	if !d.awaitStart(ctx) {
		return nil, errEnding
	}
	defer d.manager.reloading()()
	defer d.owner.ask(ctx, d.owner.readAll)
	r := &Reloaded{File: d.caller.File, Changes: []Change{}}
	if d.caller.Reread == nil {
		return r, nil
	}
	var err error
	if r.Changes, err = d.tryReload(ctx); err != nil {
		d.log.Error("the configuration stays as it was", "err", err)
	}
	d.reloads.note(err)
	for _, c := range r.Changes {
		d.log.Info("configuration", "key", c.Key, "from", strings.Join(c.From, ","), "to", strings.Join(c.To, ","))
	}
	return r, err
}

func (d *Daemon) tryReload(ctx context.Context) ([]Change, error) {
	next, err := d.caller.Reread()
	if err != nil {
		return nil, err
	}
	if err := next.Validate(); err != nil {
		return nil, err
	}
	now := d.config()
	changes, err := now.changesTo(&next)
	if err != nil || len(changes) == 0 {
		return nil, err
	}
	t := &transition{d: d, now: now, next: &next}
	if err := t.prepare(ctx); err != nil {
		return nil, errors.Join(err, t.drop())
	}
	return changes, t.carryOut(ctx)
}

// transition leads from one configuration to another.
type transition struct {
	d         *Daemon
	now, next *Config

	judged   judgement
	metrics  *metrics.Server
	programs *claim.Replacement // nil: there are none
	ring     *afpacket.Engine   // a new one; nil: as it was
	opened   bool               // the rings of further workers
}

// begins reports whether packets are to be moved, and were not.
func (t *transition) begins() bool { return t.next.forwards() && !t.now.forwards() }

func (t *transition) ends() bool { return !t.next.forwards() && t.now.forwards() }

// respreads reports whether other threads than before are to move packets.
func (t *transition) respreads() bool {
	return t.next.forwards() && t.now.forwards() && t.next.workers() != t.now.workers()
}

// prepare does what can fail, and changes nothing.
func (t *transition) prepare(ctx context.Context) error {
	if err := t.next.lacks(privilege.Has); err != nil {
		return err
	}
	if err := t.judge(ctx); err != nil {
		return err
	}
	var err error
	if t.next.Metrics != t.now.Metrics {
		if t.metrics, err = t.d.listenMetrics(t.next.Metrics); err != nil {
			return err
		}
	}
	set := t.d.programs.Set()
	switch {
	case set != nil:
		what := t.next.programs()
		what.Replaceable = true
		if t.programs, err = set.Prepare(what); err != nil {
			return err
		}
	case t.next.Engine == EngineEBPF:
		return fmt.Errorf("--engine ebpf: %w (--engine af_packet needs no eBPF)", claim.ErrNotSupported)
	}
	switch ring := t.d.engines.ring; {
	case t.begins():
		t.ring, err = t.d.openRing(t.next)
	case t.respreads():
		if err = ring.CanHave(t.next.workers()); err == nil {
			err = ring.OpenWorkers(t.next.workers())
		}
		if err != nil {
			return fmt.Errorf("workers: %w", err)
		}
		t.opened = true
	}
	return err
}

// drop lets go of what was prepared.
func (t *transition) drop() error {
	var errs []error
	if t.metrics != nil {
		errs = append(errs, t.metrics.Close())
	}
	if t.programs != nil {
		errs = append(errs, t.programs.Drop())
	}
	if t.ring != nil {
		errs = append(errs, t.ring.CloseRing())
	}
	if t.opened {
		errs = append(errs, t.d.engines.ring.CloseWorkers(t.now.workers()))
	}
	return errors.Join(errs...)
}

// judge looks at the host's rules where that has not been done for what comes.
func (t *transition) judge(ctx context.Context) error {
	if !t.next.forwards() || t.now.forwards() && t.now.BypassPolicy == t.next.BypassPolicy {
		return nil
	}
	var ifs []hostpolicy.Interface
	receive := map[string]int{} // uplinks that only receive
	forwards6 := false
	if !t.d.owner.ask(ctx, func() { ifs, receive = t.d.owner.wouldServe(t.next); forwards6 = t.d.owner.forwards6() }) {
		return errEnding
	}
	rules := inspect(ifs, t.next.IPv6, hostpolicy.All, t.d.engine().Owns)
	found, unknown := rules.Combined()
	t.judged = judge(t.next, found, unknown, forwards6, func(name string) (int, bool) { i, ok := receive[name]; return i, ok })
	t.judged.rules = rules
	return t.judged.err
}

var errEnding = errors.New("the daemon is ending")

// drained is how long the frames of an interface that is left may take to be
// handled: as long as they may be old (PARP_STALLED).
const drained = 50 * time.Millisecond

// carryOut does what was prepared. An error means that all is as it was.
func (t *transition) carryOut(ctx context.Context) error {
	d := t.d
	var leaving []int32
	if !d.owner.ask(ctx, func() { leaving = d.owner.leave(t.next) }) {
		return errors.Join(errEnding, t.drop())
	}
	d.awaitDrained(leaving)
	carried := d.config().Engine == EngineEBPF
	if carried && t.next.Engine != EngineEBPF {
		d.owner.ask(ctx, func() { d.owner.change(d.stopCarrying()) })
		if err := claim.Grace(); err != nil {
			d.log.Warn("captures may lack the last packets that were carried", "err", err)
		}
		d.taps.EndCarried()
	}
	if err := t.exchangePrograms(); err != nil {
		if carried {
			t.showCarried()
		}
		d.owner.ask(ctx, func() {
			if carried && t.next.Engine != EngineEBPF {
				if eng, again := ebpf.Around(d.engines.ring, d.resolve, d.log); again == nil {
					d.engines.set(eng)
					d.owner.change(eng)
				}
			}
			d.owner.stay()
		})
		t.programs = nil // they are gone
		return errors.Join(err, t.drop())
	}
	if t.ring != nil {
		d.engines.ring = t.ring
		d.runEngine()
	}
	if t.next.Engine == EngineEBPF {
		t.showCarried()
	}
	if !d.owner.ask(ctx, func() {
		d.owner.change(t.engine())
		d.cfg.Store(t.next)
		d.owner.adopt(t.next, &t.judged)
	}) {
		return errEnding
	}
	return t.finish()
}

// showCarried has captures see what programs are about to carry.
func (t *transition) showCarried() {
	if err := t.d.taps.Renew(); err != nil {
		t.d.log.Warn("captures do not show all that eBPF programs forward", "err", err)
	}
}

// exchangePrograms puts the programs of the new configuration in their places.
func (t *transition) exchangePrograms() error {
	if t.programs == nil {
		return nil
	}
	ring := t.d.engines.ring
	if t.ring != nil {
		ring = t.ring
	}
	if ring == nil {
		return t.programs.Apply(nil)
	}
	return t.programs.Apply(ring.Refilter)
}

// stopCarrying leaves the engine that carries: its ring goes on.
func (d *Daemon) stopCarrying() engine.Engine {
	eng := d.engine()
	if e, ok := eng.(*ebpf.Engine); ok {
		ring := e.Leave()
		d.engines.set(ring)
		return ring
	}
	return eng
}

// engine is the one of the new configuration, which is in force from now on. It
// is the owner's to call.
func (t *transition) engine() engine.Engine {
	d := t.d
	eng := d.engine()
	switch t.next.Engine {
	case EngineNone:
		if t.now.forwards() {
			eng = none.Open(d.programs)
		}
	case EngineEBPF:
		if t.now.Engine == EngineEBPF {
			return eng
		}
		e, err := ebpf.Around(d.engines.ring, d.resolve, d.log)
		if err != nil { // exchangePrograms has seen to it that it can
			d.log.Error("all packets go through userspace", "err", err)
			eng = d.engines.ring
			break
		}
		eng = e
	default:
		eng = d.engines.ring
	}
	if eng != d.engine() {
		d.engines.set(eng)
	}
	return eng
}

// finish does what concerns no interface, and can't fail but for what ends.
func (t *transition) finish() error {
	d := t.d
	if d.caller.SetLevel != nil {
		d.caller.SetLevel(t.next.LogLevel)
	}
	if err := d.claims.SetAddresses(t.next.gateways(netip.Addr.Is4)); err != nil {
		d.log.Warn("foreign answers for the new gateways are not noticed", "err", err)
	}
	if t.next.Metrics != t.now.Metrics {
		for _, r := range d.responders() {
			if err := r.SetTimed(t.next.Metrics != ""); err != nil {
				d.log.Warn("answers are not timed", "err", err)
			}
		}
		d.serveMetrics(t.metrics)
	}
	if t.next.Nice != t.now.Nice {
		d.answering.setNice(t.next.Nice)
		d.discovering.setNice(t.next.Nice)
	}
	switch {
	case t.ends():
		if err := d.endRing(); err != nil {
			d.log.Warn("not all of the engine is closed", "err", err)
		}
	case t.next.forwards() && t.next.Nice != t.now.Nice:
		d.engines.ring.SetNice(t.next.Nice)
	}
	if t.respreads() {
		if err := d.engines.ring.SetWorkers(t.now.workers(), t.next.workers()); err != nil {
			d.log.Error("the packets are not spread over the threads as they should be", "err", err)
		}
	}
	return nil
}

// awaitDrained waits until the frames that were taken of interfaces have been
// handled.
func (d *Daemon) awaitDrained(indices []int32) {
	if len(indices) == 0 {
		return
	}
	if err := claim.Grace(); err != nil { // a filter that saw the port may be running
		d.log.Debug("grace period", "err", err)
	}
	eng := d.engine()
	for end := time.Now().Add(drained); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if !holdsAny(eng, indices) {
			return
		}
	}
}

func holdsAny(eng engine.Engine, indices []int32) bool {
	for _, index := range indices {
		if eng.Holds(index) {
			return true
		}
	}
	return false
}

// wouldServe are the interfaces that would be served by another configuration,
// and by name the indices of those uplinks that no route leads over.
func (o *owner) wouldServe(cfg *Config) (ifs []hostpolicy.Interface, receive map[string]int) {
	receive = map[string]int{}
	for index, l := range o.links {
		r := o.roleBy(l, cfg)
		if r == roleNone {
			continue
		}
		ifs = append(ifs, hostpolicy.Interface{Name: l.Name, Index: index})
		if r == roleUplink && o.builder.UsedLinks()[int32(index)] == 0 {
			receive[l.Name] = index
		}
	}
	return ifs, receive
}

// leave has no frame taken any more of the interfaces that another configuration
// does not serve as this one does, and names them.
func (o *owner) leave(next *Config) (indices []int32) {
	for index, p := range o.ports {
		l := o.links[index]
		if l == nil || o.roleBy(l, next) == p.role && next.forwards() == o.cfg.forwards() {
			continue
		}
		p.leaving = true
		o.dirty.links[index] = true
		indices = append(indices, int32(index))
	}
	o.reconcile()
	return indices
}

// stay undoes leave.
func (o *owner) stay() {
	for index, p := range o.ports {
		if p.leaving {
			p.leaving = false
			o.dirty.links[index] = true
		}
	}
	o.reconcile()
}

// change has another engine be told of all from now on.
func (o *owner) change(eng engine.Engine) {
	if eng == o.eng {
		return
	}
	if device := eng.Device().Index; device != 0 && device != o.eng.Device().Index {
		o.work.device = true
		o.dirty.links[device] = true
	}
	o.eng = eng
	if t := o.proxy.table.Load(); t != nil {
		eng.Publish(t)
	}
}

// adopt takes another configuration. What it means to each interface is found out
// anew.
func (o *owner) adopt(next *Config, j *judgement) {
	was := o.cfg
	o.cfg = next
	o.builder.SetPolicy(next.policy(o.eng))
	for _, w := range j.warnings {
		o.log.Warn(w.what, w.key, w.value)
	}
	o.unseen = o.unseen || j.unseen
	o.spare(j.spared)
	if next.BypassPolicy != was.BypassPolicy {
		o.gate.accepted = j.spared
	}
	if next.BypassPolicy != was.BypassPolicy || next.forwards() && !was.forwards() {
		o.gate.respects = j.left6
		o.gate.results.Replace(&j.rules, hostpolicy.All)
	}
	for index, l := range o.links {
		o.dirty.links[index] = true
		if p := o.ports[index]; p != nil {
			o.reopen(l, p, was)
		}
	}
	o.dirty.publish, o.herald.rescan = true, true
	o.weighRules()
	o.reconcile()
}

// reopen has a port that was opened by another configuration be looked at anew.
func (o *owner) reopen(l *netstate.Link, p *port, was *Config) {
	p.leaving = false
	if r := o.roleOf(l); r != p.role {
		o.putBackMAC(l, p)
		return // describe closes it
	}
	p.again()
	if p.mac == done || p.mac == never {
		p.mac = todo
	}
	if was.MAC != o.cfg.MAC || was.KeepMAC != o.cfg.KeepMAC {
		if p.policy != nil && p.policy.Answer != o.cfg.MAC {
			p.former = p.policy.Answer // pods have it in their neighbour tables
		}
		if p.member != underWay {
			p.member, p.ownMAC = todo, false
		}
	}
	if was.BypassPolicy != o.cfg.BypassPolicy || was.forwards() != o.cfg.forwards() {
		if p.left, p.left6 = nil, nil; p.rules != underWay {
			p.rules = todo
		}
	}
	if was.Engine != o.cfg.Engine && p.read == done {
		o.work.again = append(o.work.again, p.ref) // --engine ebpf asks for more
	}
}

// putBackMAC has a workload interface that is one no more get the MAC that it had.
func (o *owner) putBackMAC(l *netstate.Link, p *port) {
	original, changed := o.macs.Original(l.Index)
	if p.role != roleWorkload || !changed {
		return
	}
	o.work.putBack = append(o.work.putBack, macs.Change{Ifindex: l.Index, Name: l.Name, Current: l.MAC, Want: original})
}
