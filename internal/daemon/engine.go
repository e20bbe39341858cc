package daemon

import (
	"context"
	"sync"
	"sync/atomic"

	"proxyarpd/forward"
	"proxyarpd/forward/route"
	"proxyarpd/internal/engine"
	"proxyarpd/internal/engine/afpacket"
	"proxyarpd/internal/engine/ebpf"
	"proxyarpd/internal/engine/none"
)

// Engines by name. This file is the one place that asks which engine it is to be.
const (
	EngineAuto     = "auto"
	EngineAFPacket = "af_packet"
	EngineEBPF     = "ebpf"
	EngineNone     = "none"
)

// Forwarders lists the engines that forward: what --engine takes besides auto and none, and bench compares.
func Forwarders() []string { return []string{EngineAFPacket, EngineEBPF} }

// forwards reports whether the engine that is configured moves packets.
func (c *Config) forwards() bool { return c.Engine != EngineNone }

// policy is what the table builder is told.
func (c *Config) policy(eng engine.Engine) route.Policy {
	return route.Policy{Transit: c.Transit, Copies: !eng.Decides(), Punt: c.Punt, IPv6: c.IPv6}
}

// engines is the engine that runs, which a reload may exchange. Those that forward
// have one ring, and the same programs are at the interfaces of all.
type engines struct {
	now  atomic.Pointer[engine.Engine]
	life context.Context
	ring *afpacket.Engine   // nil: none forwards
	end  context.CancelFunc // of the ring's Run
	over chan struct{}      // is closed behind it
	gone engine.Stats       // of rings that were closed; under mu

	mu   sync.Mutex // what an engine that comes later has to be told
	tap  forward.Tap
	mark uint32
}

// engine is the one that runs. For any goroutine.
func (d *Daemon) engine() engine.Engine { return *d.engines.now.Load() }

// set has an engine be the one that runs.
func (e *engines) set(eng engine.Engine) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.now.Store(&eng)
	if e.tap != nil {
		eng.SetTap(e.tap)
	}
	if e.mark != 0 {
		_ = eng.SetMark(e.mark) // else who looks sees what we send twice
	}
}

func (e *engines) setTap(t forward.Tap) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.tap = t
	(*e.now.Load()).SetTap(t)
}

func (e *engines) setMark(mark uint32) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.mark = mark
	return (*e.now.Load()).SetMark(mark)
}

// stats are an engine's counters, with those of rings that were closed.
func (d *Daemon) stats(eng engine.Engine) engine.Stats {
	d.engines.mu.Lock()
	defer d.engines.mu.Unlock()
	s := eng.Stats()
	s.Add(&d.engines.gone)
	return s
}

// openEngine makes the engine. The programs are its own from then on.
func (d *Daemon) openEngine() error {
	cfg := d.config()
	if !cfg.forwards() {
		d.engines.set(none.Open(d.programs))
		return nil
	}
	ring, err := d.openRing(cfg)
	if err != nil {
		return err
	}
	d.engines.ring = ring
	if cfg.Engine != EngineEBPF {
		d.engines.set(ring)
		return nil
	}
	eng, err := ebpf.Around(ring, d.resolve, d.log)
	if err != nil {
		d.engines.set(ring)
		return err
	}
	d.engines.set(eng)
	return nil
}

func (d *Daemon) openRing(cfg *Config) (*afpacket.Engine, error) {
	c := afpacket.Config{
		Forward: forward.Options{Resolve: d.resolve, Behind: d.behind, Incomplete: d.incomplete, Recorder: d.taps.Recorder}, Nice: cfg.Nice, Workers: cfg.workers(), IPv6: cfg.IPv6}
	if d.heir != nil && d.engines.ring == nil && len(d.heir.rings) > 0 {
		c.Handed = d.heir.takeRings()
	}
	return afpacket.Open(d.programs, c, d.log)
}

// runEngine runs the ring, if there is one.
func (d *Daemon) runEngine() {
	e := &d.engines
	if e.ring == nil {
		return
	}
	ring, over := e.ring, make(chan struct{})
	var ctx context.Context
	ctx, e.end = context.WithCancel(e.life)
	e.over = over
	d.group.Go(func() error {
		defer close(over)
		return ring.Run(ctx)
	})
}

// endRing has the ring handle what it holds, and closes it.
func (d *Daemon) endRing() error {
	e := &d.engines
	e.end()
	<-e.over
	e.mu.Lock()
	last := e.ring.RingStats()
	e.gone.Add(&last)
	e.mu.Unlock()
	err := e.ring.CloseRing()
	e.ring = nil
	return err
}
