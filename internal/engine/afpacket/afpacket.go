// Package afpacket is the engine by which every packet goes through userspace:
// receive rings of AF_PACKET for all interfaces, one a worker, whose eBPF filter
// decides whose a frame is, a tc program that takes from the kernel what the ring took,
// and the relay for what no ring can have.
package afpacket

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"proxyarpd/forward"
	"proxyarpd/forward/afpacket"
	"proxyarpd/forward/claim"
	"proxyarpd/forward/route"
	"proxyarpd/internal/engine"
	"proxyarpd/internal/nice"
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
	workers atomic.Pointer[[]*worker]
	group   *pktring.Group
	relay   *relay.Device // nil: there is none
	cfg     Config
	log     *slog.Logger
	nice    atomic.Int32 // of the threads that forward, while they run
	mortal  sync.Once    // what is said once, whatever the number of workers

	mu      sync.Mutex
	running *errgroup.Group // Run's; nil: it does not run
	life    context.Context // its
	halted  chan struct{}   // is closed by Halt
	tap     forward.Tap
	mark    uint32
	gone    engine.Stats        // of workers that have ended
	want    int                 // nice value
	threads map[int]*threadNice // that forward
	weak    int                 // the value that was last said to be refused
	waits   bool                // packets wait for a route or a next hop
	waiting func(are bool)      // is told so; nil: nobody
}

// worker is a thread that forwards what comes to its ring. All packets of a flow
// come to the same one.
type worker struct {
	conn   *afpacket.Conn
	loop   *forward.Loop
	window *claim.Window // nil: nobody polices
	end    context.CancelFunc
	// Of Run: owns is closed when its thread reads the ring, with its nice value, over
	// behind its end.
	owns, over chan struct{}
	began      bool
}

// Config of an Engine.
type Config struct {
	Forward forward.Options // but for what makes it one of several
	// Nice is the nice value of the threads that forward. Where they can't have it,
	// they keep the one that they have, and the log says so.
	Nice int
	// IPv6 says that without eBPF the rings have copies of IPv6 frames, too. Programs
	// have it from [claim.Config.IPv6].
	IPv6 bool
	// Workers is how many threads forward: as many as there is room for in the programs
	// ([claim.Config.Rooms]); 0 is one.
	Workers int
	// Handed, if set, are the rings of another process, which reads them no more.
	Handed *Handed
}

var _ engine.Engine = (*Engine)(nil)

// Open makes rings and relay in the network namespace of the calling thread. The
// programs are the engine's from then on, unless it fails. Frames come when
// the first port takes them.
func Open(p *engine.Programs, c Config, log *slog.Logger) (_ *Engine, err error) {
	c.Workers = max(c.Workers, 1)
	if set := p.Set(); set != nil && c.Workers > set.Rooms() {
		return nil, fmt.Errorf("engine af_packet: %w", roomError(set.Rooms()))
	}
	e := &Engine{Programs: p, cfg: c, log: log, want: c.Nice, threads: map[int]*threadNice{}, weak: nice.Unknown}
	c.Forward.Waiting = e.tellWaiting
	e.nice.Store(int32(nice.Of(0)))
	defer func() {
		if err != nil {
			err = errors.Join(err, e.closeOwn())
		}
	}()
	if err := e.openRelay(); err != nil {
		return nil, err
	}
	c.Forward.Shared = forward.NewShared()
	e.cfg = c
	e.group = e.newGroup()
	if err := e.openWorkers(c.Workers); err != nil {
		return nil, err
	}
	e.cfg.Handed = nil
	return e, e.spread(c.Workers)
}

// all are the workers that there are, those included that are about to begin or to
// end.
func (e *Engine) all() []*worker {
	if all := e.workers.Load(); all != nil {
		return *all
	}
	return nil
}

// openWorkers makes rings and loops, up to n in all, which get no frames yet.
func (e *Engine) openWorkers(n int) error {
	for i := len(e.all()); i < n; i++ {
		w, err := e.openWorker(i)
		if err != nil {
			return err
		}
		all := append(slices.Clip(e.all()), w)
		e.workers.Store(&all)
	}
	return nil
}

// spread has the first n rings get frames, where there may be several.
func (e *Engine) spread(n int) error {
	if set := e.Set(); set != nil && e.group != nil {
		return set.SetWorkers(n)
	}
	return nil
}

// newGroup makes what the rings of several workers are one tap by, nil where there
// is one and never more. While a thread looks at its ring it keeps a CPU, and one has
// to be left for those who are to send the next frame.
func (e *Engine) newGroup() *pktring.Group {
	set := e.Set()
	if e.cfg.Workers == 1 && (set == nil || set.Rooms() == 1) {
		return nil
	}
	g := &pktring.Group{Most: int32(max(runtime.NumCPU()-1, 1))}
	if set != nil {
		g.Choose = set.AttachFanout
	}
	return g
}

func (e *Engine) openWorker(number int) (*worker, error) {
	cfg := afpacket.Config{Ring: pktring.Config{Spin: spin, Group: e.group, Filter: pktring.AttachIPv4}}
	if e.cfg.IPv6 {
		cfg.Ring.Filter = pktring.AttachIP
	}
	if h := e.cfg.Handed; h != nil && number < len(h.Rings) {
		cfg.Ring.Handed = &h.Rings[number]
	}
	if runtime.NumCPU() == 1 {
		cfg.Ring.Spin = 0 // the sender needs the CPU
	}
	w := &worker{owns: make(chan struct{}), over: make(chan struct{})}
	if set := e.Set(); set != nil {
		w.window = set.Window(number)
		cfg.Ring.Filter, cfg.Window, cfg.Guarded = set.AttachRing, w.window, set.SeesGSOType()
		if e.relay != nil {
			cfg.Relay, cfg.Beside = e.relay, number > 0
		}
	}
	var err error
	if w.conn, err = afpacket.Open(cfg); err != nil {
		return nil, err
	}
	o := e.cfg.Forward
	o.Worker = number
	w.loop = forward.NewLoop(w.conn, o)
	return w, nil
}

// openRelay makes the device for what the ring can't take and what was taken too
// early. Without it the former is lost where the kernel does not forward.
func (e *Engine) openRelay() error {
	if h := e.cfg.Handed; h != nil && h.Relay >= 0 {
		var err error
		e.relay, err = relay.Adopt(h.Relay)
		return err
	}
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

// Run implements [engine.Engine]. It ends with the first worker that fails. Each has
// a thread of its own, and one of GOMAXPROCS, which it holds while it spins.
func (e *Engine) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	halted := make(chan struct{})
	e.mu.Lock()
	e.running, e.life, e.halted = g, ctx, halted
	g.Go(func() error { // the group lasts as long as others may begin
		select {
		case <-ctx.Done():
		case <-halted:
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		e.running = nil
		return nil
	})
	for _, w := range e.all() {
		e.begin(w)
	}
	e.mu.Unlock()
	return g.Wait()
}

// begin has a worker run. mu is held, and running is not nil.
func (e *Engine) begin(w *worker) {
	var ctx context.Context
	ctx, w.end = context.WithCancel(e.life)
	if w.began { // before it was halted
		w.owns, w.over = make(chan struct{}), make(chan struct{})
	}
	w.began = true
	owns, over := w.owns, w.over
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1)
	e.running.Go(func() error {
		defer close(over)
		defer func() {
			e.mu.Lock()
			defer e.mu.Unlock()
			runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) - 1)
		}()
		return e.run(ctx, w, owns)
	})
}

// run runs a worker. The ring's filter sees when its thread ends.
func (e *Engine) run(ctx context.Context, w *worker, owns chan struct{}) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if w.window != nil {
		if err := w.window.Own(); err != nil {
			e.mortal.Do(func() { e.log.Warn("after a kill frames are lost until the kernel has detached all", "err", err) })
		} else {
			defer w.window.Disown()
		}
	}
	exactTimers()
	defer e.beNice()()
	close(owns)
	return w.loop.Run(ctx)
}

// AwaitThreads returns when Run has made the threads that forward, and each has the nice value that it can have.
func (e *Engine) AwaitThreads() {
	for _, w := range e.all() {
		e.await(w)
	}
}

// await returns when a worker's thread is as it should be, or has ended.
func (e *Engine) await(w *worker) {
	e.mu.Lock()
	owns, over := w.owns, w.over
	e.mu.Unlock()
	select {
	case <-owns:
	case <-over:
	}
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
// rings. For any goroutine.
func (e *Engine) Refilter() (err error) {
	for _, w := range e.all() {
		err = errors.Join(err, w.conn.Refilter())
	}
	return err
}

// Workers implements [engine.Engine].
func (e *Engine) Workers() int { return len(e.all()) }

// Beats implements [engine.Engine].
func (e *Engine) Beats() []uint64 {
	e.mu.Lock() // so that none is closed meanwhile
	defer e.mu.Unlock()
	var all []uint64
	for _, w := range e.all() {
		all = append(all, w.loop.Beat())
	}
	return all
}

// Publish implements [engine.Engine].
func (e *Engine) Publish(t *route.Table) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, w := range e.all() {
		w.loop.Publish(t)
	}
}

// SetTap implements [engine.Engine].
func (e *Engine) SetTap(t forward.Tap) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.tap = t
	for _, w := range e.all() {
		w.loop.SetTap(t)
	}
}

// SetMark implements [engine.Engine].
func (e *Engine) SetMark(mark uint32) (err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.mark = mark
	for _, w := range e.all() {
		err = errors.Join(err, w.conn.SetMark(mark))
	}
	return err
}

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

// Stats implements [engine.Engine]: what rings and datapath did, and what the
// programs counted.
func (e *Engine) Stats() engine.Stats {
	s := e.RingStats()
	counted := e.Programs.Stats()
	s.Add(&counted)
	return s
}

// RingStats are Stats without what the programs counted, which go on counting
// when the rings are closed.
func (e *Engine) RingStats() engine.Stats {
	s := e.Counted()
	if e.relay != nil {
		if dropped, err := e.relay.Dropped(); err == nil {
			s.ByVerdict[route.DropGSO] += dropped
		}
	}
	return s
}

// Counted are RingStats without what the relay's device has counted, which goes on with
// the device.
func (e *Engine) Counted() engine.Stats {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := engine.Stats{Nice: int(e.nice.Load())}
	s.Add(&e.gone)
	for _, w := range e.all() {
		c := w.stats()
		s.ByWorker = append(s.ByWorker, c.PacketsIn)
		s.Add(&c)
		if w.window != nil {
			s.InRing += w.window.Depth()
		}
	}
	return s
}

func (w *worker) stats() (s engine.Stats) {
	s.Stats.Add(w.loop.Counters().Read())
	s.Rebuilt = w.conn.Rebuilt()
	s.ByVerdict[route.DropFullRing] += w.conn.Drops()
	return s
}

// EgressDrops implements [engine.Engine]: each send says whether it failed.
func (e *Engine) EgressDrops() (map[int32]engine.EgressDrops, engine.EgressDrops, error) {
	return nil, engine.EgressDrops{}, nil
}

// Close implements [engine.Engine]. All rings stop together: what one gets no more
// another must not get.
func (e *Engine) Close() error { return e.close(e.Programs.Close) }

// CloseRing gives back rings and relay, once no port is forwarded for and Run has
// returned. The programs are the caller's.
func (e *Engine) CloseRing() error {
	return e.close(func() error {
		if e.relay == nil {
			return nil
		}
		return e.Set().DetachRelay(e.relay.Ifindex())
	})
}

// close closes the rings first, then what programs does.
func (e *Engine) close(programs func() error) error {
	var errs []error
	for _, w := range e.all() {
		errs = append(errs, w.conn.Mute())
	}
	errs = append(errs, e.closeRings(), programs(), e.closeRelay())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("engine af_packet: %w", err)
	}
	return nil
}

// closeOwn closes what Open has made.
func (e *Engine) closeOwn() error { return errors.Join(e.closeRings(), e.closeRelay()) }

func (e *Engine) closeRings() (err error) {
	for _, w := range e.all() {
		err = errors.Join(err, w.conn.Close())
	}
	return err
}

func (e *Engine) closeRelay() error {
	if e.relay == nil {
		return nil
	}
	return e.relay.Close()
}
