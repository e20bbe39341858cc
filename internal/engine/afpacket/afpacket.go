// Package afpacket is the engine by which every packet goes through userspace:
// one receive ring of AF_PACKET for all interfaces, whose eBPF filter decides
// whose a frame is, a tc program that takes from the kernel what the ring took,
// and the relay for what no ring can have.
package afpacket

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"proxyarpd/forward"
	"proxyarpd/forward/afpacket"
	"proxyarpd/forward/route"
	"proxyarpd/internal/engine"
	"proxyarpd/internal/pktring"
	"proxyarpd/internal/relay"
	"proxyarpd/internal/shortage"
)

// spin is how long the datapath looks at an empty ring before it sleeps: a
// reply to what it has just forwarded finds it awake.
const spin = 32 * time.Microsecond

// Engine implements [engine.Engine].
type Engine struct {
	*engine.Programs
	conn  *afpacket.Conn
	loop  *forward.Loop
	relay *relay.Device // nil: there is none
	log   *slog.Logger
	nice  atomic.Int32 // of the thread that forwards, while it runs

	mu      sync.Mutex
	want    int            // nice value
	thread  int            // that forwards; 0: none does
	waits   bool           // packets wait for a route or a next hop
	waiting func(are bool) // is told so; nil: nobody
}

// Config of an Engine.
type Config struct {
	Forward forward.Options
	// Nice is the nice value of the thread that forwards. Where it can't have it,
	// it keeps the one that it has, and the log says so.
	Nice int
}

var _ engine.Engine = (*Engine)(nil)

// Open makes ring and relay in the network namespace of the calling thread. The
// programs are the engine's from then on, unless it fails. Frames come when
// the first port takes them.
func Open(p *engine.Programs, c Config, log *slog.Logger) (_ *Engine, err error) {
	e := &Engine{Programs: p, want: c.Nice, log: log}
	c.Forward.Waiting = e.tellWaiting
	e.nice.Store(int32(nice(0)))
	defer func() {
		if err != nil && e.relay != nil {
			err = errors.Join(err, e.relay.Close())
		}
	}()
	if err := e.openRelay(); err != nil {
		return nil, err
	}
	cfg := afpacket.Config{Ring: pktring.Config{Spin: spin}}
	if runtime.NumCPU() == 1 {
		cfg.Ring.Spin = 0 // the sender needs the CPU
	}
	if set := p.Set(); set != nil {
		cfg.Ring.Filter = set.AttachRing
		cfg.Window, cfg.Guarded = set.Window(), set.SeesGSOType()
		if e.relay != nil {
			cfg.Relay = e.relay
		}
	} else {
		cfg.Ring.Filter = pktring.AttachIPv4
	}
	if e.conn, err = afpacket.Open(cfg); err != nil {
		return nil, err
	}
	e.loop = forward.NewLoop(e.conn, c.Forward)
	return e, nil
}

// openRelay makes the device for what the ring can't take and what was taken too
// early. Without it the former is lost where the kernel does not forward.
func (e *Engine) openRelay() error {
	err := errors.New("no tc program can be attached")
	if e.CanClaim() {
		if e.relay, err = relay.Open(); err == nil || shortage.Passing(err) {
			return err
		}
	}
	e.log.Warn("super-packets of tunnels inside workloads (VXLAN, GRE), of SCTP, and UFO can't be forwarded: "+
		"where the kernel does not forward either, turn them off in the workload, as ethtool -K eth0 tx-udp_tnl-segmentation off does", "err", err)
	return nil
}

// Forwards implements [engine.Engine].
func (e *Engine) Forwards() bool { return true }

// Run implements [engine.Engine]. Its thread is its own, as is one of GOMAXPROCS,
// which it holds while it spins. The ring's filter sees when the thread ends.
func (e *Engine) Run(ctx context.Context) error {
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1)
	defer func() { runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) - 1) }()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if set := e.Set(); set != nil {
		if err := set.Window().Own(); err != nil {
			e.log.Warn("after a kill frames are lost until the kernel has detached all", "err", err)
		} else {
			defer set.Window().Disown()
		}
	}
	exactTimers()
	defer e.beNice()()
	return e.loop.Run(ctx)
}

// SetWaiting has somebody told when the first packet waits for a route or a next
// hop, and when none does any more; at once, how it is now. nil is nobody.
func (e *Engine) SetWaiting(tell func(are bool)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.waiting = tell; tell != nil {
		tell(e.waits)
	}
}

func (e *Engine) tellWaiting(are bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.waits = are; e.waiting != nil {
		e.waiting(are)
	}
}

// Refilter has the filter of the programs that there are now attached to the
// ring. For any goroutine.
func (e *Engine) Refilter() error { return e.conn.Refilter() }

// Publish implements [engine.Engine].
func (e *Engine) Publish(t *route.Table) { e.loop.Publish(t) }

// SetTap implements [engine.Engine].
func (e *Engine) SetTap(t forward.Tap) { e.loop.SetTap(t) }

// SetMark implements [engine.Engine].
func (e *Engine) SetMark(mark uint32) error { return e.conn.SetMark(mark) }

// Device implements [engine.Engine].
func (e *Engine) Device() engine.Device {
	if e.relay == nil {
		return engine.Device{}
	}
	return engine.Device{Index: int(e.relay.Ifindex()), Name: e.relay.Name()}
}

// AttachDevice implements [engine.Engine].
func (e *Engine) AttachDevice() error {
	if e.relay == nil {
		return nil
	}
	return e.Set().AttachRelay(e.relay.Ifindex())
}

// Stats implements [engine.Engine]: what ring and datapath did, and what the
// programs counted.
func (e *Engine) Stats() engine.Stats {
	s := e.RingStats()
	counted := e.Programs.Stats()
	s.Add(&counted)
	return s
}

// RingStats are Stats without what the programs counted, which go on counting
// when the ring is closed.
func (e *Engine) RingStats() engine.Stats {
	s := engine.Stats{Stats: e.loop.Counters().Read(), Rebuilt: e.conn.Rebuilt(), Nice: int(e.nice.Load())}
	if e.relay != nil {
		if dropped, err := e.relay.Dropped(); err == nil {
			s.ByVerdict[route.DropGSO] += dropped
		}
	}
	s.ByVerdict[route.DropFullRing] += e.conn.Drops()
	return s
}

// Close implements [engine.Engine].
func (e *Engine) Close() error { return e.close(e.Programs.Close) }

// CloseRing gives back ring and relay, once no port is forwarded for and Run has
// returned. The programs are the caller's.
func (e *Engine) CloseRing() error {
	return e.close(func() error {
		if e.relay == nil {
			return nil
		}
		return e.Set().DetachRelay(e.relay.Ifindex())
	})
}

// close closes the ring first, then what programs does.
func (e *Engine) close(programs func() error) error {
	err := errors.Join(e.conn.Close(), programs())
	if e.relay != nil {
		err = errors.Join(err, e.relay.Close())
	}
	if err != nil {
		return fmt.Errorf("engine af_packet: %w", err)
	}
	return nil
}
