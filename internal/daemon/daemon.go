package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"proxyarpd/arpd"
	"proxyarpd/arpd/ndp"
	"proxyarpd/forward/claim"
	"proxyarpd/forward/route"
	"proxyarpd/internal/conntrack"
	"proxyarpd/internal/control"
	"proxyarpd/internal/descriptors"
	"proxyarpd/internal/engine"
	"proxyarpd/internal/hostpolicy"
	"proxyarpd/internal/instance"
	"proxyarpd/internal/livecapture"
	"proxyarpd/internal/macs"
	"proxyarpd/internal/metrics"
	"proxyarpd/internal/netstate"
	"proxyarpd/internal/privilege"
	"proxyarpd/internal/shortage"
	"proxyarpd/internal/status"
)

// Daemon is the running program: its parts, and the goroutines that join them.
// What changes is the owner's.
type Daemon struct {
	caller  Caller
	log     *slog.Logger
	began   time.Time
	reloads reloads
	manager *manager
	group   *errgroup.Group // of all goroutines

	cfg atomic.Pointer[Config] // in force; a reload puts another one there

	req        *netstate.Requester
	learnReq   *netstate.Requester // learn's alone: who waits for RTNL keeps the others waiting
	macReq     *netstate.Requester // macs' alone
	watch      *netstate.Watcher
	macs       *macs.Keeper
	kernel     *macs.Kernel // of macs
	programs   *engine.Programs
	translated *conntrack.Mirror // nil: it is not followed which flows the kernel translates
	engines    engines
	metrics    metricsServer
	rules      *hostpolicy.Watcher // of the host; nil: nobody watches
	claims     *arpd.Claims        // of gateways' addresses
	conflicts  *conflicts
	arp        *arpd.Responder
	nd         *arpd.Responder // of neighbour discovery; nil: IPv6 is left to the kernel
	groups     *ndp.Groups     // nil then, too
	answering  answering

	discovering answering // nd's
	announcer   *arpd.Announcer
	learn       *learner
	control     *control.Server
	taps        *livecapture.Hub
	owner       *owner
	members     members
	errands     sync.WaitGroup

	proxy     proxyRoutes
	caughtUp  atomic.Bool   // firstSync is closed
	firstSync chan struct{} // closed when the first tables are published

	lock    *instance.Lock
	heir    *heir                     // of a predecessor; nil: there was none
	others  atomic.Bool               // another process has, or goes on to have, what this one serves: nothing is put back
	yields  sync.Mutex                // is held while a successor takes over, and for good when the daemon is to end
	yielded chan struct{}             // closed when a successor has taken over
	resting atomic.Pointer[time.Time] // since when nobody reads rings and ARP socket here, for a successor; nil: somebody does
	arpRun  runner
	ndRun   runner

	hops   chan hop
	asked  hopStats
	asking asking
}

// Caller is the program that runs a daemon.
type Caller struct {
	Log *slog.Logger
	// SetLevel has Log begin at another level, for a reload; nil: it can't.
	SetLevel func(slog.Level)
	// Reread reads the configuration file File, and the command line over it, again.
	// nil: there is no file.
	Reread func() (Config, error)
	File   string
	// Started, if set, is called when the daemon serves, and a predecessor has ended.
	Started func()
}

// Run is the daemon. It returns when ctx ends (nil) or something fails.
func Run(ctx context.Context, cfg Config, caller Caller) (err error) {
	log := caller.Log
	if err := cfg.Validate(); err != nil {
		return err
	}
	if err := cfg.lacks(privilege.Has); err != nil {
		return err
	}
	cfg.spare(log)
	ns, err := instance.CurrentNetns()
	if err != nil {
		return err
	}
	lock, err := instance.Acquire(cfg.StateDir, ns, log)
	if cfg.Takeover && errors.Is(err, instance.ErrRunning) {
		return takeOver(ctx, &cfg, caller, ns)
	}
	if err != nil {
		return err
	}
	return serve(ctx, &cfg, caller, ns, lock, nil)
}

// serve is the daemon that has the lock. heir: it takes over from one that runs; nil:
// there is none.
func serve(ctx context.Context, cfg *Config, caller Caller, ns instance.Netns, lock *instance.Lock, heir *heir) (err error) {
	log := caller.Log
	var managed managed
	if heir != nil {
		managed = heir.offer.Manager
	}
	d := &Daemon{caller: caller, log: log, manager: newManager(log, managed), began: time.Now(), firstSync: make(chan struct{}), conflicts: newConflicts(), hops: make(chan hop, hopBacklog),
		lock: lock, heir: heir, yielded: make(chan struct{})}
	d.others.Store(heir != nil)
	d.arpRun.began, d.ndRun.began = make(chan struct{}), make(chan struct{})
	defer func() {
		if d.others.Load() {
			err = errors.Join(err, lock.Abandon())
		} else {
			err = errors.Join(err, lock.Close())
		}
	}()
	d.cfg.Store(cfg)
	nice := func() int { return d.config().Nice }
	d.answering = answering{want: nice, what: "ARP", log: log, begun: make(chan struct{})}
	d.discovering = answering{want: nice, what: "neighbour discovery", log: log, own: d.ownND, begun: make(chan struct{})}
	d.reloads.state = status.Config{File: caller.File, Read: d.began}
	rooms := cfg.rooms(caller.Reread != nil)
	if heir != nil { // its own configuration may want more than the one that it begins with
		rooms = max(cfg.rooms(true), heir.rooms())
	}
	d.taps = livecapture.New(livecapture.Config{Log: log, Version: cfg.Version, Workers: rooms, Sources: sources{d}})
	defer func() { err = errors.Join(err, d.close()) }()
	if err := d.open(ctx, ns); err != nil {
		return err
	}
	return d.run(ctx)
}

// open makes everything that needs the kernel, in the order in which each part
// needs the one before it. Frames are not touched before start.
func (d *Daemon) open(ctx context.Context, ns instance.Netns) error {
	// The kernel's state is read while the programs are loaded: each takes a while.
	var both errgroup.Group
	both.Go(func() error {
		return d.patiently(ctx, func() (err error) {
			d.watch, err = netstate.Open(netstate.Config{Logger: d.log, IPv6: d.config().IPv6})
			return err
		})
	})
	both.Go(func() error {
		if d.heir != nil {
			return d.heir.adoptPrograms(d)
		}
		return d.patiently(ctx, d.loadPrograms)
	})
	if err := both.Wait(); err != nil {
		return err
	}
	// After the programs: to load them takes many descriptors for a moment.
	if err := d.patiently(ctx, d.openRequests(ns)); err != nil {
		return err
	}
	if err := d.patiently(ctx, d.openEngine); err != nil {
		return err
	}
	d.openTranslated(ctx)
	if err := d.patiently(ctx, d.openARP); err != nil {
		return err
	}
	return d.patiently(ctx, d.openND)
}

// startPatience is how long the start waits for what is short.
const startPatience = 10 * time.Second

// patiently opens something, again and again while that fails for want of what
// others may give back. Nobody gives back descriptors of ours.
func (d *Daemon) patiently(ctx context.Context, open func() error) error {
	try := func() error {
		err := open()
		if errors.Is(err, unix.EMFILE) {
			return fmt.Errorf("the limit of %d descriptors is too low, raise it (ulimit -n, LimitNOFILE): %v", descriptors.Limit(), err)
		}
		return err
	}
	return shortage.Retry(ctx, startPatience, try, func(err error, pause time.Duration) {
		d.log.Warn("something is short, trying again", "err", err, "pause", pause)
	})
}

func (d *Daemon) openRequests(ns instance.Netns) func() error {
	return func() (err error) {
		for _, req := range d.requesters() {
			if *req == nil {
				if *req, err = netstate.NewRequester(); err != nil {
					return err
				}
			}
		}
		d.learn = newLearner(d, d.learnReq)
		d.kernel = d.newKernel(d.macReq)
		d.macs, err = macs.Open(d.config().StateDir, ns, d.kernel, d.log)
		return err
	}
}

// requesters are the sockets by which the kernel is asked and told.
func (d *Daemon) requesters() []**netstate.Requester {
	return []**netstate.Requester{&d.req, &d.learnReq, &d.macReq}
}

// config is the configuration that is in force. It does not change; another one may
// take its place.
func (d *Daemon) config() *Config { return d.cfg.Load() }

// programs says what the eBPF programs are to be loaded for.
func (c *Config) programs() claim.Config {
	p := claim.Config{ARP: claim.ARPPolice{PerSecond: arpPerSecond, Burst: arpBurst, SenderPerSecond: arpSenderPerSecond, SenderBurst: arpSenderBurst},
		Translates: c.forwards() && (len(c.Punt) > 0 || c.BypassPolicy), IPv6: c.IPv6}
	if c.Engine == EngineEBPF {
		p.Carry, p.Gateways = true, c.gateways(netip.Addr.Is4)
	}
	return p
}

func (d *Daemon) loadPrograms() error {
	cfg := d.config()
	what := cfg.programs()
	what.Replaceable = d.caller.Reread != nil || canBeSucceeded() // by a reload, or a successor
	what.Rooms = cfg.rooms(d.caller.Reread != nil)
	programs, why, err := engine.LoadPrograms(what, cfg.Claim)
	switch {
	case err != nil:
		return err
	case why != nil && cfg.Engine == EngineEBPF:
		return fmt.Errorf("--engine ebpf: %w (--engine af_packet needs no eBPF)", why)
	case why != nil:
		d.log.Warn("no eBPF: the kernel's forwarding setting decides who forwards, and a flood of one interface delays the others", "err", why)
	case !programs.Set().SeesGSOType():
		d.log.Warn("the eBPF filter can't see GSO types (needs Linux 6.2 and CAP_PERFMON): it goes by the IP protocol")
	}
	if set := programs.Set(); set != nil && what.Translates && !set.Judges() {
		d.log.Warn("the kernel can't be asked which flows it translates (needs Linux 6.2 with nf_conntrack loaded, and CAP_PERFMON): all that goes to who has such a flow by the same port is left to it")
	}
	d.programs = programs
	return nil
}

// Policing of ARP, per interface and per sender on it. A pod asks about once a
// minute. The socket's queue holds what several interfaces may have it take at once.
const (
	arpPerSecond       = 4000
	arpBurst           = 2000
	arpSenderPerSecond = 2000
	arpSenderBurst     = 2000
)

func (d *Daemon) openARP() error {
	o := arpd.Options{Lookup: d.lookup, Behind: d.behind, Neighbours: d.learn, Recorder: d.taps.NewARPRecorder(), Timed: d.config().Metrics != "", Logger: d.log,
		RatePerSecond: arpPerSecond, Burst: arpBurst, SenderPerSecond: arpSenderPerSecond, SenderBurst: arpSenderBurst}
	if d.programs.Decides() {
		o.Filter = d.programs.AttachARP
	}
	if d.heir != nil {
		o.Handed = &arpd.Handed{FD: d.heir.takeARP()}
	}
	o.Unrouted, o.Claimed = d.conflicts.tell, d.tellClaim
	var err error
	if d.announcer == nil {
		if d.announcer, err = arpd.OpenAnnouncer(); err != nil {
			return err
		}
		if d.heir != nil {
			d.announcer.Halt() // the predecessor announces
		}
	}
	if d.claims == nil {
		if d.claims, err = arpd.ListenClaims(d.config().gateways(netip.Addr.Is4)); err != nil {
			return err
		}
	}
	d.arp, err = arpd.Open(o)
	return err
}

// lookup answers the responder about an interface whose event has not come yet.
func (d *Daemon) lookup(ifindex int) (policy *arpd.Policy, ours bool) {
	return d.lookupBy(ifindex, arpPolicy)
}

// lookupBy looks for the policy of one of the responders.
func (d *Daemon) lookupBy(ifindex int, of func(*port) *arpd.Policy) (policy *arpd.Policy, ours bool) {
	l, err := d.req.LinkByIndex(ifindex)
	if err != nil {
		return nil, true
	}
	type answer struct {
		policy *arpd.Policy
		ours   bool
	}
	c := make(chan answer, 1)
	if !d.owner.ask(d.owner.life, func() { p, ours := d.owner.lookup(l, of); c <- answer{p, ours} }) {
		return nil, true
	}
	a := <-c
	return a.policy, a.ours
}

// newOwner makes the owner of all state. Its errands are done on goroutines of
// their own, one a lane.
func (d *Daemon) newOwner(ctx context.Context) *owner {
	cfg, eng := d.config(), d.engine()
	o := &owner{
		confining: true, cfg: cfg, log: d.log, began: d.began, life: ctx,
		eng: eng, builder: route.NewBuilder(cfg.policy(eng)),
		proxy: &d.proxy, arp: d.arp, taps: d.taps, macs: d.macs, asking: &d.asking, resolve: d.resolve, conflicts: d.conflicts, herald: newHerald(announcing{Announcer: d.announcer}),
		batches: make(chan batch), questions: make(chan func()), outcomes: make(chan arrival, lanes),
		links: map[int]*netstate.Link{}, ports: map[int]*port{}, egress: map[int]bool{},
		others: &d.others,
		dirty:  newDirty(), ready: readiness{c: make(chan struct{})}, limits: &limits{base: descriptors.Open()},
	}
	o.send = func(l lane, e errand) {
		h := &hands{cfg: o.cfg, log: d.log, eng: o.eng, macs: d.macs, members: &d.members, limits: o.limits, announce: d.announcer.Tell}
		d.errands.Go(func() { o.outcomes <- arrival{l, e.do(h)} })
	}
	if d.nd != nil {
		o.discovery = discovery{to: d.nd, groups: d.groups, linkLocal: map[int]netstate.AddressState{}}
		o.herald.to = announcing{d.announcer, d.groups}
	}
	if d.heir != nil {
		o.succeed = func() (*adoption, error) { return d.heir.freeze(d) }
	}
	o.begun = func() {
		d.caughtUp.Store(true)
		close(d.firstSync)
	}
	return o
}

// run starts all goroutines and waits for the first that ends.
func (d *Daemon) run(ctx context.Context) error {
	told := ctx.Done()
	defer context.AfterFunc(ctx, func() { d.manager.tell(sd.SdNotifyStopping, "STATUS=restoring the host") })()
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	if err := enoughDescriptors(); err != nil {
		return err
	}
	var show *metrics.Server
	var early <-chan struct{} // as told, for who has not taken over yet
	var err error
	if d.heir != nil {
		early = told
		told = d.heir.committed(told)
	} else {
		if show, err = d.listenMetrics(d.config().Metrics); err != nil {
			return err
		}
		if d.control, err = d.listen(false); err != nil {
			if show != nil {
				err = errors.Join(err, show.Close())
			}
			return err
		}
	}
	told = d.untilYielded(told)
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, unix.SIGHUP)
	defer signal.Stop(hangup)

	// The responder's thread holds one while it looks for the next request.
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1)
	g, ctx := errgroup.WithContext(ctx)
	d.group = g
	d.openGate()
	d.owner = d.newOwner(ctx)
	// First the kernel gets its frames back, then the engine handles what it has.
	engineCtx, endEngine := context.WithCancel(context.Background())
	defer endEngine()
	g.Go(func() error {
		defer d.errands.Wait()
		defer cancel()
		defer endEngine()
		if d.heir != nil { // what is in the rings is handled while it finds that it can't go on
			defer d.heir.awaitOver(cancel)
		}
		return d.owner.run(ctx, told)
	})
	d.engines.life, d.arpRun.life, d.ndRun.life, d.metrics.life = engineCtx, ctx, ctx, ctx
	if d.heir != nil {
		g.Go(func() error { return d.heir.givesUp(ctx, early) })
		g.Go(func() error {
			defer close(d.heir.over)
			return d.heir.takeOver(ctx, d)
		})
	} else {
		d.runEngine()
		d.serveMetrics(show)
		g.Go(func() error { return d.control.Serve(ctx) })
		g.Go(func() error { // frames that come before wait in the socket
			if d.awaitStart(ctx) {
				d.runResponders()
			}
			return nil
		})
	}
	g.Go(func() error {
		select {
		case <-d.yielded:
			d.others.Store(true)
			cancel()
		case <-ctx.Done():
		}
		return nil
	})
	g.Go(func() error { d.hearHangups(ctx, hangup); return nil })
	g.Go(func() error { d.watchGate(ctx); return nil })
	g.Go(func() error { d.followTranslated(ctx); return nil })
	g.Go(func() error { return d.claims.Run(ctx, d.heardClaim) })
	g.Go(func() error { d.watchConflicts(ctx); return nil })
	g.Go(func() error { d.announcer.Run(ctx); return nil })
	g.Go(func() error { return d.runGroups(ctx) })
	g.Go(func() error { return d.follow(ctx) })
	g.Go(func() error { d.resolveHops(ctx); return nil })
	g.Go(func() error { d.learn.run(ctx); return nil })
	g.Go(func() error { d.inform(ctx); return nil })
	ring := d.engines.ring // a reload may have another one
	g.Go(func() error { d.confine(ctx, ring); return nil })
	g.Go(func() error { d.returnMemory(ctx); return nil })
	if err = g.Wait(); err == nil {
		d.log.Info("stopping")
	}
	return err
}

// listenMetrics makes the server of metrics, nil if none is asked for.
func (d *Daemon) listenMetrics(address string) (*metrics.Server, error) {
	if address == "" {
		return nil, nil
	}
	s, err := metrics.Listen(address, d.status, d.log)
	if err != nil {
		if errors.Is(err, unix.EACCES) && !privilege.Has(unix.CAP_NET_BIND_SERVICE) {
			err = fmt.Errorf("%w: a port below net.ipv4.ip_unprivileged_port_start takes CAP_NET_BIND_SERVICE, which is kept until the daemon has started: restart it, or choose another port", err)
		}
		return nil, fmt.Errorf("--metrics %s: %w", address, err)
	}
	d.log.Info("metrics", "address", s.Addr().String())
	return s, nil
}

// metricsServer is the server of metrics that runs, if one does.
type metricsServer struct {
	life context.Context
	end  context.CancelFunc
	now  *metrics.Server // nil: none
}

// file is a descriptor of the server's socket, nil if there is none.
func (m *metricsServer) file() (*os.File, error) {
	if m.now == nil {
		return nil, nil
	}
	return m.now.File()
}

// serveMetrics runs a server of metrics, nil for none, in the place of the one
// before.
func (d *Daemon) serveMetrics(s *metrics.Server) {
	m := &d.metrics
	if m.end != nil {
		m.end()
		m.end = nil
	}
	if m.now = s; s == nil {
		return
	}
	ctx, end := context.WithCancel(m.life)
	m.end = end
	d.group.Go(func() error { return s.Serve(ctx) })
}

// follow hands the kernel's events to the owner.
func (d *Daemon) follow(ctx context.Context) error {
	var refused error
	err := d.watch.Run(ctx, func(events []netstate.Event) error {
		refused = d.owner.tell(ctx, events)
		return refused
	})
	switch {
	case ctx.Err() != nil:
		return nil
	case refused != nil:
		return refused
	}
	return fmt.Errorf("follow the kernel's state: %w", err)
}

// awaitReady is false if ctx ends before the daemon is ready.
func (d *Daemon) awaitReady(ctx context.Context) bool {
	c := make(chan (<-chan struct{}), 1)
	if !d.owner.ask(ctx, func() { c <- d.owner.awaitReady() }) {
		return false
	}
	select {
	case <-<-c:
		return true
	case <-ctx.Done():
		return false
	}
}

// close lets go of everything in an order that loses nothing that the kernel
// could have handled: the engine first, since without its ring the claims drop
// nothing and may take their time (RTNL and a grace period each); MACs as they
// were found behind it.
func (d *Daemon) close() error {
	if d.others.Load() {
		return nil // what the kernel has of ours ends with the process, or is another's
	}
	var errs []error
	if d.translated != nil {
		errs = append(errs, d.translated.Close())
	}
	switch {
	case d.engines.now.Load() != nil:
		errs = append(errs, d.engine().Close())
	case d.programs != nil:
		errs = append(errs, d.programs.Close())
	}
	if d.arp != nil {
		errs = append(errs, d.arp.Close())
	}
	if d.nd != nil {
		errs = append(errs, d.nd.Close())
	}
	if d.claims != nil {
		errs = append(errs, d.claims.Close())
	}
	if d.announcer != nil {
		errs = append(errs, d.announcer.Close())
	}
	if d.watch != nil {
		errs = append(errs, d.watch.Close())
	}
	if d.rules != nil {
		errs = append(errs, d.rules.Close())
	}
	errs = append(errs, d.members.Close())
	if d.owner != nil {
		errs = append(errs, d.owner.endErr)
	}
	if d.macs != nil {
		errs = append(errs, d.macs.Close(), d.kernel.Close())
	}
	for _, req := range d.requesters() {
		if *req != nil {
			errs = append(errs, (*req).Close())
		}
	}
	return errors.Join(errs...)
}
