package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/forward/claim"
	"proxyarpd/internal/control"
	"proxyarpd/internal/engine"
	"proxyarpd/internal/handover"
	"proxyarpd/internal/instance"
)

// The predecessor's side of handover.go.

// yielding is what a daemon that hands over has done so far.
type yielding struct {
	d        *Daemon
	conn     *control.Conn
	halt     *halt
	engine   string // that was stepped down from
	stopped  bool   // rings and ARP socket are read by nobody
	given    bool   // or by the successor
	progress string
}

func (d *Daemon) answerTakeover(ctx context.Context, c *control.Conn, request []byte) (any, error) {
	var req takeoverRequest
	if err := control.Decode(request, &req); err != nil {
		return nil, err
	}
	if err := d.mayYield(&req); err != nil {
		d.log.Warn("a successor is refused", "version", req.Version, "err", err)
		return nil, err
	}
	for end := time.Now().Add(busy); !d.reloads.one.TryLock(); time.Sleep(busyTick) {
		if time.Now().After(end) || ctx.Err() != nil {
			return nil, errors.New("a reload or another take-over is under way")
		}
	}
	defer d.reloads.one.Unlock()
	if !d.awaitStart(ctx) || !d.yields.TryLock() {
		return takeoverReply{Error: errEnding.Error(), Ending: true}, nil
	}
	defer d.yields.Unlock()
	c.Keep()
	y := &yielding{d: d, conn: c}
	pid, _ := c.Peer() // 0: it can't be told
	d.log.Info("a successor takes over", "version", req.Version, "pid", pid)
	err := y.yield(ctx)
	if err != nil {
		d.log.Error("the successor has not taken over, this daemon goes on", "step", y.progress, "err", err)
		y.resume(ctx, err)
		return nil, nil
	}
	d.log.Info("the successor has taken over", "pid", pid)
	d.manager.tellMain(pid)
	close(d.yielded)
	return nil, nil
}

// untilYielded is when the daemon may end as usual: when told, but not while a successor takes over, who would else take
// a host that is being put back. If that succeeds the daemon ends with it.
func (d *Daemon) untilYielded(told <-chan struct{}) <-chan struct{} {
	may := make(chan struct{})
	go func() {
		<-told
		d.yields.Lock() // for good: nobody takes over from now on
		close(may)
	}()
	return may
}

// mayYield says why a successor must not take over.
func (d *Daemon) mayYield(req *takeoverRequest) error {
	if req.Protocol != handoverProtocol {
		return fmt.Errorf("the running daemon, version %s, hands over by protocol %d, and version %s takes over by %d: stop the one and start the other",
			d.config().Version, handoverProtocol, req.Version, req.Protocol)
	}
	ns, err := instance.CurrentNetns()
	if err != nil {
		return err
	}
	if req.Netns != ns {
		return errors.New("the running daemon serves another network namespace")
	}
	layout, err := claim.Layout()
	if err != nil {
		return err
	}
	if req.Layout != layout {
		return fmt.Errorf("the eBPF programs of the running daemon, version %s, keep their maps otherwise than those of version %s: stop the one and start the other",
			d.config().Version, req.Version)
	}
	return nil
}

// yield does all steps. An error says why this daemon is to go on.
func (y *yielding) yield(ctx context.Context) error {
	d := y.d
	if err := y.stepDown(ctx); err != nil {
		return err
	}
	if err := y.conn.Reply(takeoverReply{Takeover: true}); err != nil {
		return err
	}
	_ = y.conn.SetDeadline(time.Now().Add(preparing))
	stop := context.AfterFunc(ctx, func() { _ = y.conn.SetDeadline(time.Now()) })
	defer stop()
	y.progress = "offer"
	if err := y.offer(); err != nil {
		return err
	}
	if err := y.await(stepFreeze); err != nil {
		return err
	}
	_ = y.conn.SetDeadline(time.Now().Add(standing))
	y.halt = newHalt()
	if !d.owner.ask(ctx, func() { d.owner.halt = y.halt }) || !y.halt.await(ctx) {
		return errEnding
	}
	f := frozen{}
	var claims []int
	if set := d.programs.Set(); set != nil {
		h, all, err := set.HandOver()
		if err != nil {
			return err
		}
		f.Programs, claims = &h, all[len(h.Maps):]
	}
	if err := handover.Send(y.conn.UnixConn, &f, claims); err != nil {
		return err
	}
	if err := y.await(stepGive); err != nil {
		return err
	}
	g, fds := y.gives()
	y.given = true // as soon as it is on its way
	if err := handover.Send(y.conn.UnixConn, g, fds); err != nil {
		return err
	}
	if err := handover.Send(y.conn.UnixConn, &captured{Streams: d.taps.Drain()}, nil); err != nil {
		return err
	}
	// It reads now, and would go on reading if it were hung up on.
	stop()
	_ = y.conn.SetDeadline(time.Time{})
	long := time.AfterFunc(longTakeover, func() { d.log.Warn("the successor takes long: it has the packets, and says nothing") })
	defer long.Stop()
	return y.await(stepDone)
}

// stepDown leaves an engine whose programs carry: their memory is not handed over.
func (y *yielding) stepDown(ctx context.Context) error {
	d := y.d
	now := d.config()
	if now.Engine != EngineEBPF {
		return nil
	}
	next := *now
	next.Engine = EngineAFPacket
	if err := d.exchange(ctx, now, &next); err != nil {
		return err
	}
	y.engine = now.Engine
	return nil
}

// exchange puts another configuration in the place of the one in force, as a reload.
func (d *Daemon) exchange(ctx context.Context, now, next *Config) error {
	t := &transition{d: d, now: now, next: next}
	if err := t.prepare(ctx); err != nil {
		return errors.Join(err, t.drop())
	}
	return t.carryOut(ctx)
}

// await waits for a step.
func (y *yielding) await(step string) error {
	y.progress = step
	var s say
	fds, err := handover.Receive(y.conn.UnixConn, &s, 1<<16)
	handover.CloseAll(fds)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, unix.ECONNRESET):
		return errors.New("the successor has gone")
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errors.New("the successor says nothing")
	case err != nil:
		return err
	case s.Error != "":
		return fmt.Errorf("the successor gives up: %s", s.Error)
	case s.Step != step:
		return fmt.Errorf("the successor says %q, and %q was its turn", s.Step, step)
	}
	return nil
}

func (y *yielding) offer() error {
	d := y.d
	o := offer{Version: d.config().Version, Config: *d.config(), Manager: d.manager.managed}
	file, socket := d.lock.Descriptors()
	fds := []int{file}
	add := func(fd int) (there bool) {
		if fd >= 0 {
			fds = append(fds, fd)
		}
		return fd >= 0
	}
	o.Lock = add(socket)
	add(d.arp.FD())
	if d.nd != nil {
		o.ND = add(d.nd.FD())
	}
	metrics, err := d.metrics.file()
	if err != nil {
		return err
	}
	if metrics != nil {
		defer metrics.Close()
		raw, err := metrics.SyscallConn()
		if err != nil {
			return err
		}
		_ = raw.Control(func(fd uintptr) { o.Metrics = add(int(fd)) })
	}
	if ring := d.engines.ring; ring != nil {
		rings, relay := ring.Descriptors()
		o.Relay, o.Rings = add(relay), len(rings)
		fds = append(fds, rings...)
	}
	if set := d.programs.Set(); set != nil {
		h, all, err := set.HandOver()
		if err != nil {
			return err
		}
		o.Programs, fds = &h, append(fds, all...)
	}
	return handover.Send(y.conn.UnixConn, &o, fds)
}

// stopReading has nobody read rings and the responders' sockets any more: what comes waits there.
func (y *yielding) stopReading() {
	d := y.d
	y.stopped = true
	now := time.Now()
	d.resting.Store(&now)
	if d.engines.ring != nil {
		d.engines.ring.Halt()
	}
	d.haltResponders()
	d.announcer.Halt()
}

// gives stops reading, and says what there is then.
func (y *yielding) gives() (*given, []int) {
	d := y.d
	y.stopReading()
	captures, fds := d.taps.Suspend()
	g := &given{Captures: captures, Held: d.arp.Held(), ARP: d.arp.Counted(), Announced: d.announcer.HandOver(),
		Kernel: countedKernel{d.asked.asked.Load(), d.asked.refused.Load(), d.asked.overflow.Load(),
			d.learn.learned.Load(), d.learn.crowded.Load(), d.learn.failed.Load()}}
	if d.nd != nil {
		g.HeldND, g.ND = d.nd.Held(), d.nd.Counted()
	}
	var s engine.Stats
	if ring := d.engines.ring; ring != nil {
		g.Positions = ring.Positions()
		g.Waiting = ring.Waiting()
		s = ring.Counted()
	}
	d.engines.mu.Lock()
	s.Add(&d.engines.gone)
	d.engines.mu.Unlock()
	g.Forward = toCounted(&s)
	return g, fds
}

// resume has this daemon go on as before.
func (y *yielding) resume(ctx context.Context, why error) {
	d := y.d
	// First the successor is told, which would else take us for dead.
	_ = y.conn.SetDeadline(time.Now().Add(time.Second))
	_ = handover.Send(y.conn.UnixConn, &struct{ Error string }{why.Error()}, nil)
	_ = y.conn.Close()
	failed := func(what string, err error) {
		if err != nil {
			d.log.Error("after a take-over that failed: "+what, "err", err)
		}
	}
	if y.halt != nil {
		if set := d.programs.Set(); set != nil {
			failed("the eBPF maps are not as they were", set.Reclaim())
			var refilter func() error
			if d.engines.ring != nil {
				refilter = d.engines.ring.Refilter
			}
			failed("the eBPF programs are not in their places", set.TakePlaces(refilter))
			failed("requests are not policed", d.refilter())
		}
		failed("the lock does not name this process", d.lock.Name())
		failed("the record of changed MACs can't be read", d.macs.Reread())
	}
	if y.stopped {
		if ring := d.engines.ring; ring != nil {
			if y.given { // it may have read some of them
				ring.Reread()
			}
			ring.Resume()
		}
		d.resumeResponders()
		d.announcer.Resume()
		d.resting.Store(nil)
		d.taps.Unsuspend()
	}
	if y.halt != nil {
		y.halt.end()
		d.owner.ask(ctx, d.owner.lookAgain)
	}
	failed("the control socket is not back", d.showControl())
	if y.engine != "" {
		now := d.config()
		next := *now
		next.Engine = y.engine
		failed("the engine is not as it was", d.exchange(ctx, now, &next))
	}
}
