package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"proxyarpd/forward/claim"
	"proxyarpd/internal/engine"
	"proxyarpd/internal/engine/afpacket"
	"proxyarpd/internal/engine/ebpf"
	"proxyarpd/internal/engine/none"
	"proxyarpd/internal/hostpolicy"
	"proxyarpd/internal/metrics"
	"proxyarpd/internal/privilege"
)

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
