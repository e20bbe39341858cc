package daemon

import (
	"context"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"proxyarpd/arpd"
	"proxyarpd/forward/route"
	"proxyarpd/internal/engine"
	"proxyarpd/internal/macs"
	"proxyarpd/internal/netstate"
)

// owner owns all that changes: what the kernel has told, the ports, what others
// were told of them, and what is to be done. One goroutine, run's, touches it;
// what comes from others comes by a channel. Datapath, responder and captures see
// snapshots.
type owner struct {
	cfg   *Config
	log   *slog.Logger
	began time.Time
	life  context.Context // ends with the owner

	// What it tells.
	eng       engine.Engine
	builder   *route.Builder
	proxy     *proxyRoutes
	arp       policies
	taps      links
	macs      originals
	asking    *asking
	resolve   func(ifindex int32, addr netip.Addr)
	conflicts *conflicts // nil: nobody looks for any
	herald    herald
	discovery discovery

	// What it hears.
	batches   chan batch
	questions chan func()
	outcomes  chan arrival
	send      func(lane, errand) // gives out an errand

	// State.
	phase     phase
	begun     func() // is called when the first tables are published
	ready     readiness
	confining bool // privileges are to be given up yet
	links     map[int]*netstate.Link
	ids       uint64 // of ports
	host      route.HostConf
	confAll   devConf
	confAll6  devConf6
	ports     map[int]*port
	egress    map[int]bool // interfaces with egress rules that --bypass-policy spares
	gate      gate         // the host's rules, since the start
	unseen    bool         // there may be tc programs that can't be seen
	untold    int          // destinations that the ring's filter could not be told of
	dirty     dirty
	scratch   routeScratch
	work      queue
	retry     retryClock
	limits    *limits
	warned    int  // need of descriptors that was warned of
	beginning bool // ports that were there at the start are being opened
	last      int  // workload interface whose settings were read in turn
	endErr    error
	failed    error // why the daemon has to end

	// Of a take-over.
	halt     *halt                     // it is to change nothing; nil: it may
	stands   bool                      // nothing is under way
	succeed  func() (*adoption, error) // has the predecessor stand still; nil: there is none
	adoption *adoption                 // what it had, while that is taken over
	waits    bool                      // it has the packets: no frames of further interfaces are taken
	others   *atomic.Bool              // another process has them, or will: nothing is given back
}

// phase is how far the daemon has got.
type phase uint8

const (
	reading  phase = iota // the kernel's state, for the first time
	deciding              // whether it may start: nothing is changed yet
	serving
	ending // MACs go back, packets still pass
	over   // frames are the kernel's
)

// policies is what the owner asks of the responder.
type policies interface {
	Publish(map[int]*arpd.Policy)
}

// links is what it asks of the captures.
type links interface {
	SetLink(l *netstate.Link, served bool)
	DeleteLink(index int)
	Publish() // what was told
}

// originals is what it asks of the record of MACs. Nothing of it waits.
type originals interface {
	Original(ifindex int) (macs.MAC, bool)
	Renamed(ifindex int, name string)
	Forget(ifindex int)
}

// batch is one of the watcher's.
type batch struct {
	events []netstate.Event
	taken  chan<- error
}

// arrival is the outcome of a lane's errand.
type arrival struct {
	lane    lane
	outcome outcome
}

// run is the owner's goroutine. It ends with told, when all has been put back, or
// with ctx, when some part of the daemon has failed.
func (o *owner) run(ctx context.Context, told <-chan struct{}) error {
	tick := time.NewTicker(settingsTick)
	defer tick.Stop()
	for o.phase != over && o.failed == nil {
		if o.halt == nil {
			o.dispatch()
		} else if o.work.out == [lanes]bool{} {
			if o.stand(ctx) {
				o.giveBack()
				return nil
			}
			continue
		}
		select {
		case b := <-o.batches:
			b.taken <- o.hear(b.events)
		case a := <-o.outcomes:
			o.work.out[a.lane] = false
			if err := a.outcome.take(o); err != nil {
				o.failed = err
			}
		case ask := <-o.questions:
			ask()
		case <-tick.C:
			o.readInTurn()
		case <-o.retry.c:
			o.retry.c = nil
			o.tryAgain()
		case <-o.work.rest:
			o.work.rest = nil
		case <-told:
			told = nil
			o.end()
		case <-ctx.Done():
			o.giveBack()
			return nil
		}
	}
	o.giveBack()
	return o.failed
}

// ask has fn called on the owner's goroutine, and waits for that. It is false if
// the owner has gone.
func (o *owner) ask(ctx context.Context, fn func()) bool {
	called := make(chan struct{})
	select {
	case o.questions <- func() { fn(); close(called) }:
	case <-ctx.Done():
		return false
	}
	select {
	case <-called:
		return true
	case <-ctx.Done():
		return false
	}
}

// tell hands the owner a batch of events, and waits until it has taken them: the
// watcher has nothing unread in hand then (netstate.Watcher.Behind).
func (o *owner) tell(ctx context.Context, events []netstate.Event) error {
	taken := make(chan error, 1)
	select {
	case o.batches <- batch{events, taken}:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-taken:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
