package forward

import (
	"context"
	"net/netip"
	"sync/atomic"
	"time"

	"proxyarpd/forward/route"
)

// Options of a Loop.
type Options struct {
	// Resolve asks the kernel to resolve a neighbour, or tells it that a stale
	// one is in use. It is called on the datapath: it must not block.
	Resolve func(ifindex int32, addr netip.Addr)
	// Behind reports whether the kernel has told of changes that no Table has
	// yet. A packet that has no way is held while that is so, for a moment. nil
	// is always.
	Behind func() bool
	// Waiting is told when the first packet waits for a route or a next hop in any
	// of the loops that share limits, and when the last one has been sent or dropped.
	// It is called on the datapath. nil is nobody.
	Waiting func(are bool)
	// Incomplete reports whether the kernel's state is being read anew, so that
	// Tables may be old for seconds: nobody is told that there is no way. nil is
	// never.
	Incomplete func() bool
	// Shared has the limits of all loops of a host, and Worker is the number of this
	// one among them. nil: there is no other.
	Shared *Shared
	Worker int
	// Recorder gives what is told of the packets that the Loop of that Worker drops. nil
	// is none.
	Recorder func(worker int) Recorder
}

// Loop is the datapath, or one worker of it: one goroutine that runs a Conn. What it sends, reports
// to senders and has wait is its parts' to do, each in a file of its own; they
// are one goroutine's, and share the turn.
type Loop struct {
	conn     Conn
	opts     Options
	turn     turn
	counters Counters
	emit     emitter
	wait     waiter
	report   reporter
	drops    dropper

	batch  Batch
	hunger appetite
	res    result
	wanted atomic.Pointer[Tap]
	taps   tapping
	rounds atomic.Uint64
	halted atomic.Bool
}

// NewLoop makes a Loop over c. Publish a Table before Run.
func NewLoop(c Conn, o Options) *Loop {
	if o.Resolve == nil {
		o.Resolve = func(int32, netip.Addr) {}
	}
	if o.Waiting == nil {
		o.Waiting = func(bool) {}
	}
	if o.Behind == nil {
		o.Behind = func() bool { return true }
	}
	if o.Incomplete == nil {
		o.Incomplete = func() bool { return false }
	}
	if o.Shared == nil {
		o.Shared = NewShared()
	}
	l := &Loop{conn: c, opts: o, turn: turn{start: o.Shared.start}, hunger: appetite{most: BatchUsual}}
	l.batch.Most = BatchUsual
	l.drops = dropper{turn: &l.turn}
	if o.Recorder != nil {
		l.drops.to = o.Recorder(o.Worker)
	}
	l.emit = emitter{turn: &l.turn, conn: c, counters: &l.counters, drops: &l.drops}
	l.wait = waiter{turn: &l.turn, conn: c, counters: &l.counters, opts: &l.opts, emit: &l.emit, report: &l.report, drops: &l.drops}
	l.wait.hops.held, l.wait.misses.held = &o.Shared.held, &o.Shared.held
	l.report = reporter{turn: &l.turn, clock: midnight, incomplete: o.Incomplete, shared: o.Shared, emit: &l.emit, wait: &l.wait}
	l.taps.worker = o.Worker
	l.res.clock = midnight
	l.turn.published.Store(route.NewBuilder(route.Policy{}).Publish())
	return l
}

// midnight gives the ms since midnight UTC that IP timestamps bear (RFC 791).
func midnight() uint32 { return uint32(time.Now().UnixMilli() % (24 * 3600 * 1000)) }

// Publish makes t the table for all further batches. For any goroutine.
func (l *Loop) Publish(t *route.Table) {
	l.turn.published.Store(t)
	if l.wait.pending.Load() {
		l.conn.Wake()
	}
}

// Waits reports whether packets wait for a route or a next hop. For any goroutine.
func (l *Loop) Waits() bool { return l.wait.pending.Load() }

// Table is the table in use.
func (l *Loop) Table() *route.Table { return l.turn.published.Load() }

// Counters are the loop's counters.
func (l *Loop) Counters() *Counters { return &l.counters }

// Beat has Run come round once more, and gives how many times it has so far: the number grows as long as the datapath is
// not stuck, also where no packet comes. For any goroutine.
func (l *Loop) Beat() uint64 {
	n := l.rounds.Load()
	l.conn.Wake()
	return n
}

// drainTime bounds how long Run goes on after its end was asked for.
const drainTime = 100 * time.Millisecond

// Run forwards until ctx ends and the Conn has nothing more (nil), or the Conn
// fails. The caller decides about the thread it runs on.
func (l *Loop) Run(ctx context.Context) error {
	var ending atomic.Bool
	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		ending.Store(true)
		l.conn.Wake()
		close(woken)
	})
	defer func() {
		if !stop() {
			<-woken // who closes the Conn when Run has returned must not meet it
		}
	}()
	var deadline time.Time
	for {
		if l.halted.Load() {
			l.halted.Store(false)
			return nil
		}
		wait := l.wait.until()
		if ending.Load() {
			if wait = 0; deadline.IsZero() {
				deadline = time.Now().Add(drainTime)
			}
		}
		if err := l.conn.Recv(&l.batch, wait); err != nil {
			if ending.Load() {
				return nil
			}
			return err
		}
		l.rounds.Store(l.rounds.Load() + 1)
		if wait == 0 && (l.batch.N == 0 || time.Now().After(deadline)) {
			l.conn.Release(&l.batch)
			return nil
		}
		l.once()
	}
}

// turn is what all parts of a Loop know while it handles what one Recv gave.
type turn struct {
	published atomic.Pointer[route.Table]
	table     *route.Table // of this turn
	tap       *tapping     // nil: nobody looks
	start     time.Time
	clock     int64 // ns since start, read at most once a turn; 0: not read
	walled    int64 // ns since 1970, as clock
}

// begin begins one, and reports whether the table is another than in the last.
func (n *turn) begin(tap *tapping) (changed bool) {
	n.clock, n.walled, n.tap = 0, 0, tap
	t := n.published.Load()
	changed = t != n.table
	n.table = t
	return changed
}

// old reports whether a table has been published since the turn began.
func (n *turn) old() bool { return n.published.Load() != n.table }

// now is a monotonic time in ns, the same within a turn and never 0.
func (n *turn) now() int64 {
	if n.clock == 0 {
		n.clock = int64(time.Since(n.start)) + 1
	}
	return n.clock
}

// wall is the time in ns since 1970, the same within a turn.
func (n *turn) wall() int64 {
	if n.walled == 0 {
		n.walled = time.Now().UnixNano()
	}
	return n.walled
}

// once handles what one Recv gave.
func (l *Loop) once() {
	changed := l.turn.begin(l.taps.begin(l.wanted.Load()))
	if l.wait.missesDue(changed) {
		l.retryMisses()
	}
	if l.wait.hopsDue(changed) {
		l.wait.retry()
	}
	if l.batch.N > 0 {
		l.process()
		l.conn.Release(&l.batch)
	}
}

// process takes the batch through step and sends what is to be sent.
func (l *Loop) process() {
	l.emit.loaded, l.emit.joined = l.batch.N >= coalesceFrom, 0
	for i := range l.batch.Frames[:l.batch.N] {
		l.handle(&l.batch.Frames[i], 0)
	}
	l.emit.flush()
	l.emit.loaded = false
	l.hunger.learn(l.batch.N, l.emit.joined)
	l.batch.Most = l.hunger.most
	l.counters.in.Add(uint64(l.batch.N))
}

// handle takes one frame through step and does what it says. If there is no
// way, the frame may be held until the tables have caught up; since is when
// that began, 0 for a frame that is new.
func (l *Loop) handle(f *Frame, since int64) {
	l.turn.tap.arrive(f)
	step(l.turn.table, f, &l.res)
	l.turn.tap.decided(l.turn.table, &l.res)
	l.turn.tap.settle(l.act(f, &l.res, since))
}

// act does what step said and gives the outcome: Forward for what is to be sent
// by the next flush, Queue for what waits.
func (l *Loop) act(f *Frame, r *result, since int64) route.Verdict {
	switch r.Verdict {
	case route.Forward:
		if r.Neighbour != nil && r.Neighbour.Stale && r.Neighbour.Touch(l.turn.now(), 2*second) {
			l.opts.Resolve(r.Out.Ifindex, r.Next)
		}
		if r.Redirect {
			l.report.redirect(f, r)
		}
		l.emit.forward(f, r)
		return route.Forward
	case route.Queue:
		if r.Redirect {
			l.report.redirect(f, r)
		}
		if r.relink {
			f.Buf, f.Ethernet = l.emit.relink(f, r), true
		}
		return l.wait.hold(f, r)
	case route.Local, route.Punt, route.PuntTransit, route.IgnoreProto:
		switch {
		case l.turn.table.Copies(): // the kernel has it
		case l.conn.Return(f):
			l.counters.returned.Add(1)
		default:
			r.Verdict = route.DropLocalLate
		}
	case route.DropIPInNoRoutes, route.DropIPRPFilter, route.DropIfUnknown:
		if r.In != nil && l.wait.holdMiss(f, since) {
			return route.Queue
		}
	}
	l.counters.end(r.Verdict, f.Ifindex, 1)
	l.drops.frame(f, r, l.report.dropped(f, r))
	return r.Verdict
}

// retryMisses looks again for the way of packets that had none.
func (l *Loop) retryMisses() {
	for _, m := range l.wait.misses.take() {
		f := m.frame()
		l.handle(&f, m.since)
	}
	l.emit.flush()
	l.wait.settle()
}
