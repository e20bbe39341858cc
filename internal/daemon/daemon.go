package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"proxyarpd/arpd"
	"proxyarpd/forward"
	"proxyarpd/forward/afpacket"
	"proxyarpd/forward/claim"
	"proxyarpd/forward/route"
	"proxyarpd/internal/instance"
	"proxyarpd/internal/macs"
	"proxyarpd/internal/netstate"
	"proxyarpd/internal/pktring"
	"proxyarpd/internal/relay"
	"proxyarpd/internal/shortage"
)

// spin is how long the datapath looks at an empty ring before it sleeps: a
// reply to what it has just forwarded finds it awake.
const spin = 30 * time.Microsecond

// Daemon is the running program. mu guards everything that follows the
// kernel's state; the datapath and the responder see snapshots.
type Daemon struct {
	cfg   Config
	log   *slog.Logger
	began time.Time

	req       *netstate.Requester
	learnReq  *netstate.Requester // learn's alone: who waits for RTNL keeps the others waiting
	macReq    *netstate.Requester // macs' alone
	learn     *learner
	watch     *netstate.Watcher
	claim     *claim.Set    // nil: no eBPF here
	relay     *relay.Device // nil: there is none
	macs      *macs.Keeper
	kernel    macs.Kernel // of macs
	arp       *arpd.Responder
	port      *afpacket.Conn // nil with engine none
	loop      *forward.Loop  // nil with engine none
	hops      chan hop
	openNow   chan struct{}
	claimSoon chan struct{}
	members   int // socket that asks devices for frames to --mac, 0: none
	asked     hopStats
	asking    asking
	control   *control
	taps      hub // who captures

	mu        sync.Mutex
	synced    bool
	running   bool          // started has been through
	ending    bool          // MACs go back
	endErr    error         // of that
	caughtUp  atomic.Bool   // firstSync is closed
	firstSync chan struct{} // closed when the kernel's state is known
	ready     chan struct{} // closed, and made anew, whenever all is ready
	announced bool
	builder   *route.Builder
	scratch   routeScratch
	proxy     proxyRoutes
	links     map[int]*netstate.Link
	addrs     map[int]*addressList
	rules     []netstate.Rule
	host      route.HostConf
	confAll   devConf
	untold    int // destinations that the ring's filter could not be told of
	ports     map[int]*port
	toOpen    map[int]bool // ports that the opener has to look at
	toClaim   map[int]bool // ports whose claim can wait
	short     shortPorts
	fds       descriptors
	left      map[int][]string // idle uplinks with rules of their own, found at the start
	unseen    bool             // there may be tc programs that can't be seen
	egress    map[int]bool     // interfaces with egress rules that --bypass-policy spares
	dirty     dirty
}

// dirty says what has to be looked at again after a batch of events.
type dirty struct {
	links   map[int]bool
	gone    map[int]bool // interfaces that went; if there is one of that index, it is another
	roles   bool         // which interfaces routes lead over may have changed
	addrs   map[int]bool
	rules   bool
	publish bool
}

func newDirty() dirty {
	return dirty{links: map[int]bool{}, gone: map[int]bool{}, addrs: map[int]bool{}}
}

// port is an interface that we answer on or forward for.
type port struct {
	role        role
	slot        uint32
	aliases     [2]macAddr
	policy      *arpd.Policy
	forwards    bool // the ring takes its frames
	opened      bool // MAC set and originals claimed, as far as that is wanted
	macFailed   bool
	unclaimable bool   // the tc program could not be attached
	checked     bool   // rules bound to it were looked for
	refused     bool   // and found: its packets are the kernel's, as are those that lead there
	qdisc       string // as it was then
	asked       bool   // the device was asked to take frames to --mac, if that is wanted
	ownMAC      bool   // and does not: the interface answers its own
	conf        ifConf
	failed      error
}

// Run is the daemon. It returns when ctx ends (nil) or something fails.
func Run(ctx context.Context, cfg Config, log *slog.Logger) (err error) {
	if err := cfg.Validate(); err != nil {
		return err
	}
	if err := checkCapabilities(&cfg); err != nil {
		return err
	}
	ns, err := instance.CurrentNetns()
	if err != nil {
		return err
	}
	lock, err := instance.Acquire(cfg.StateDir, ns, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()

	d := &Daemon{
		cfg: cfg, log: log, began: time.Now(), links: map[int]*netstate.Link{}, addrs: map[int]*addressList{},
		ports: map[int]*port{}, left: map[int][]string{}, egress: map[int]bool{}, toOpen: map[int]bool{}, toClaim: map[int]bool{}, short: shortPorts{ports: map[int]bool{}}, claimSoon: make(chan struct{}, 1), openNow: make(chan struct{}, 1),
		dirty: newDirty(), ready: make(chan struct{}), firstSync: make(chan struct{}), hops: make(chan hop, hopBacklog),
	}
	d.taps.d = d
	defer func() { err = errors.Join(err, d.close()) }()
	if err := d.open(ctx, ns); err != nil {
		return err
	}
	return d.run(ctx)
}

// open makes everything that needs the kernel, in the order in which each part
// needs the one before it. Frames are not touched before start.
func (d *Daemon) open(ctx context.Context, ns instance.Netns) error {
	if err := d.patiently(ctx, d.openRequests(ns)); err != nil {
		return err
	}
	// The kernel's state is read while the programs are loaded: each takes a while.
	var both errgroup.Group
	both.Go(func() error {
		return d.patiently(ctx, func() (err error) {
			d.watch, err = netstate.Open(netstate.Config{Logger: d.log})
			return err
		})
	})
	both.Go(func() error { return d.patiently(ctx, d.openClaim) })
	if err := both.Wait(); err != nil {
		return err
	}
	if err := d.patiently(ctx, d.openRelay); err != nil {
		return err
	}
	d.builder = route.NewBuilder(route.Policy{Transit: d.cfg.Transit, Copies: d.claim == nil, Punt: d.cfg.Punt})
	if err := d.patiently(ctx, d.openARP); err != nil {
		return err
	}
	if d.cfg.Engine == EngineNone {
		return nil
	}
	return d.patiently(ctx, d.openForward)
}

// startPatience is how long the start waits for what is short.
const startPatience = 10 * time.Second

// patiently opens something, again and again while that fails for want of what
// others may give back. Nobody gives back descriptors of ours.
func (d *Daemon) patiently(ctx context.Context, open func() error) error {
	try := func() error {
		err := open()
		if errors.Is(err, unix.EMFILE) {
			return fmt.Errorf("the limit of %d descriptors is too low, raise it (ulimit -n, LimitNOFILE): %v", limitOfDescriptors(), err)
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
		d.macs, err = macs.Open(d.cfg.StateDir, ns, macSetter{Kernel: &d.kernel, d: d}, d.log)
		return err
	}
}

// requesters are the sockets by which the kernel is asked and told.
func (d *Daemon) requesters() []**netstate.Requester {
	return []**netstate.Requester{&d.req, &d.learnReq, &d.macReq}
}

func (d *Daemon) openClaim() error {
	set, err := claim.Load(claim.Config{ARP: claim.ARPPolice{PerSecond: arpPerSecond, Burst: arpBurst},
		Translates: d.cfg.Engine != EngineNone && (len(d.cfg.Punt) > 0 || d.cfg.BypassPolicy)})
	if err != nil {
		if !errors.Is(err, claim.ErrNotSupported) {
			return err
		}
		d.log.Warn("no eBPF: the kernel's forwarding setting decides who forwards, and a flood of one interface delays the others", "err", err)
		return nil
	}
	set.SetMode(d.cfg.Claim)
	d.claim = set
	if !set.SeesGSOType() {
		d.log.Warn("the eBPF filter can't see GSO types (needs Linux 6.2 and CAP_PERFMON): it goes by the IP protocol")
	}
	return nil
}

// openRelay makes the device for what the ring can't take and what was taken too
// early. Without it the former is lost where the kernel does not forward.
func (d *Daemon) openRelay() error {
	if d.cfg.Engine == EngineNone {
		return nil
	}
	err := errors.New("no tc program can be attached")
	if d.claim != nil && d.cfg.Claim != claim.None {
		if d.relay, err = relay.Open(); err == nil || shortage.Passing(err) {
			return err
		}
	}
	d.log.Warn("super-packets of tunnels inside workloads (VXLAN, GRE), of SCTP, and UFO can't be forwarded: "+
		"where the kernel does not forward either, turn them off in the workload, as ethtool -K eth0 tx-udp_tnl-segmentation off does", "err", err)
	return nil
}

// isRelay reports whether an interface is our own device.
func (d *Daemon) isRelay(index int) bool { return d.relay != nil && int(d.relay.Ifindex()) == index }

// Policing of ARP, per interface. A pod asks about once a minute.
const (
	arpPerSecond = 10000
	arpBurst     = 2000
)

func (d *Daemon) openARP() error {
	o := arpd.Options{Lookup: d.lookup, Behind: d.behind, Neighbours: d.learn, Logger: d.log, RatePerSecond: arpPerSecond, Burst: arpBurst}
	if d.claim != nil {
		o.Attach = func(fd uintptr) error { return d.claim.AttachARP(int(fd)) }
	}
	var err error
	d.arp, err = arpd.Open(o)
	return err
}

func (d *Daemon) openForward() error {
	cfg := afpacket.Config{Ring: pktring.Config{Spin: spin}}
	if runtime.NumCPU() == 1 {
		cfg.Ring.Spin = 0 // the sender needs the CPU
	}
	if d.claim != nil {
		cfg.Ring.Filter = d.claim.AttachRing
		cfg.Window, cfg.Guarded = d.claim.Window(), d.claim.SeesGSOType()
		if d.relay != nil {
			cfg.Relay = d.relay
		}
	} else {
		cfg.Ring.Filter = pktring.AttachIPv4
	}
	var err error
	if d.port, err = afpacket.Open(cfg); err != nil {
		return err
	}
	d.loop = forward.NewLoop(d.port, forward.Options{Resolve: d.resolve, Behind: d.behind, Incomplete: d.incomplete})
	return nil
}

// run starts all goroutines and waits for the first that ends.
func (d *Daemon) run(ctx context.Context) error {
	told := ctx
	ctx, cancel := context.WithCancel(context.WithoutCancel(told))
	defer cancel()
	err := enoughDescriptors()
	if err != nil {
		return err
	}
	if d.control, err = d.listen(); err != nil {
		return err
	}
	d.fds.base = openDescriptors()
	g, ctx := errgroup.WithContext(ctx)
	defer context.AfterFunc(told, func() {
		d.windDown()
		cancel()
	})()
	g.Go(func() error { return d.control.serve(ctx) })
	g.Go(func() error {
		var refused error
		err := d.watch.Run(ctx, func(events []netstate.Event) error {
			refused = d.apply(events)
			return refused
		})
		switch {
		case refused != nil:
			return refused
		case ctx.Err() != nil:
			return nil
		}
		return fmt.Errorf("follow the kernel's state: %w", err)
	})
	g.Go(func() error { // frames that come before wait in the socket
		select {
		case <-d.firstSync:
			return d.arp.Run(ctx)
		case <-ctx.Done():
			return nil
		}
	})
	g.Go(func() error { d.resolveHops(ctx); return nil })
	g.Go(func() error { d.learn.run(ctx); return nil })
	g.Go(func() error { return d.opener(ctx) })
	g.Go(func() error { d.followSettings(ctx); return nil })
	g.Go(func() error { d.claimer(ctx); return nil })
	g.Go(func() error { d.sweep(ctx); return nil })
	if d.loop != nil {
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1) // the datapath holds one while it spins
		// First the kernel gets its frames back, then the ring is emptied.
		loopCtx, endLoop := context.WithCancel(context.Background())
		defer endLoop()
		stop := context.AfterFunc(ctx, func() {
			d.giveBack()
			endLoop()
		})
		defer stop()
		g.Go(func() error {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			return d.loop.Run(loopCtx)
		})
	}
	if err = g.Wait(); err == nil {
		d.log.Info("stopping")
	}
	return err
}

// sweep removes what others have left, when there is nothing better to do.
func (d *Daemon) sweep(ctx context.Context) {
	select {
	case <-d.waitReady():
	case <-ctx.Done():
		return
	}
	switch removed, err := instance.Sweep(d.cfg.StateDir); {
	case err != nil:
		d.log.Warn("files of daemons that were killed stay", "err", err)
	case removed > 0:
		d.log.Info("removed files of daemons that were killed, whose network namespaces are gone", "files", removed)
	}
}

// giveBack has the ring's filter take no more frames.
func (d *Daemon) giveBack() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.synced = false // nothing is opened from now on
	for index, p := range d.ports {
		l := d.links[index]
		if l == nil || !p.forwards || d.claim == nil {
			continue
		}
		p.forwards = false
		if _, err := d.claim.SetPort(d.claimPort(l, p)); err != nil {
			d.log.Error("interface not given back", "interface", l.Name, "err", err)
		}
	}
}

// close lets go of everything in an order that loses nothing that the kernel
// could have handled: the ring first, since without it the claims drop nothing
// and may take their time (RTNL and a grace period each); MACs as they were
// found behind them.
func (d *Daemon) close() error {
	var errs []error
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.port != nil {
		errs = append(errs, d.port.Close())
	}
	if d.claim != nil {
		errs = append(errs, d.claim.Close())
	}
	if d.relay != nil {
		errs = append(errs, d.relay.Close())
	}
	if d.arp != nil {
		errs = append(errs, d.arp.Close())
	}
	if d.watch != nil {
		errs = append(errs, d.watch.Close())
	}
	if d.members != 0 {
		errs = append(errs, unix.Close(d.members))
	}
	if d.macs != nil {
		errs = append(errs, d.endErr, d.macs.Close(), d.kernel.Close())
	}
	for _, req := range d.requesters() {
		if *req != nil {
			errs = append(errs, (*req).Close())
		}
	}
	return errors.Join(errs...)
}
