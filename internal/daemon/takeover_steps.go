package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/handover"
	"proxyarpd/internal/metrics"
)

// What the successor does, step by step.

// ask says a step and reads the answer. alive is false if the predecessor has died: this
// daemon goes on with what it has.
func (h *heir) ask(step string, answer any, wait time.Duration) (fds []int, alive bool, err error) {
	if h.dead.Load() {
		return nil, false, nil
	}
	_ = h.conn.SetDeadline(time.Now().Add(wait))
	err = handover.Send(h.conn, &say{Step: step}, nil)
	if err == nil || errors.Is(err, unix.EPIPE) { // it may have said why
		fds, err = handover.Receive(h.conn, answer, maxHandover)
	}
	switch {
	case err == nil:
		return fds, true, nil
	case errors.Is(cutOff(err), errPredecessorGone) || errors.Is(err, unix.EPIPE):
		h.dead.Store(true)
		return nil, false, nil
	}
	return nil, false, fmt.Errorf("the running daemon, asked for %q: %w", step, err)
}

// freeze has the predecessor change nothing any more, and gives what its programs know.
func (h *heir) freeze(d *Daemon) (*adoption, error) {
	var f frozen
	fds, alive, err := h.ask(stepFreeze, &f, standing)
	if err == nil && f.Error != "" {
		err = fmt.Errorf("the running daemon gives up: %s", f.Error)
	}
	if err != nil {
		handover.CloseAll(fds)
		return nil, err
	}
	set := d.programs.Set()
	if alive && set != nil {
		if f.Programs == nil {
			handover.CloseAll(fds)
			return nil, errors.New("the running daemon has no eBPF programs any more")
		}
		if err := set.Renew(f.Programs, fds); err != nil {
			return nil, err
		}
	}
	if err := d.macs.Reread(); err != nil {
		return nil, err
	}
	return newAdoption(set), nil
}

// Bounds of the successor's steps.
const (
	settleTime = 5 * time.Second // for its tables and ports, while the predecessor stands still
	settleTick = time.Millisecond
	readyTime  = 30 * time.Second // for all to be ready with its own configuration
	partTime   = 5 * time.Second  // for the predecessor to end
)

// takeOver takes the packets, once the owner has begun, and all that is left.
func (h *heir) takeOver(ctx context.Context, d *Daemon) error {
	if !d.awaitStart(ctx) {
		return nil
	}
	d.settled(ctx)
	if err := h.takePackets(ctx, d); err != nil {
		return err
	}
	if err := h.becomeOwn(ctx, d); err != nil {
		return err
	}
	close(h.became)
	if err := d.lock.Name(); err != nil {
		return err
	}
	control, err := d.listen(true)
	if err != nil {
		return err
	}
	d.control = control
	d.group.Go(func() error { return control.Serve(ctx) })
	waiting, stop := context.WithTimeout(ctx, readyTime)
	ready := d.awaitReady(waiting)
	d.awaitGroups(waiting)
	stop()
	if !ready {
		d.log.Warn("not all interfaces are ready, as they may not have been before")
	}
	// What a client would ask, by the way that it would.
	if _, err := Query(ctx, d.config().Control, 0); err != nil {
		return fmt.Errorf("its own control socket: %w", err)
	}
	return h.part(ctx, d)
}

// settled waits until the owner has done what it does at the start. What has failed for
// the predecessor as well need not be waited for longer.
func (d *Daemon) settled(ctx context.Context) {
	for end := time.Now().Add(settleTime); time.Now().Before(end); time.Sleep(settleTick) {
		idle := false
		if !d.owner.ask(ctx, func() { idle = d.owner.work.idle() }) || idle {
			return
		}
	}
}

// awaitGroups waits until this process is a member of all groups: as long as one is, the
// kernel leaves none, and no switch takes away what the predecessor was told by it.
func (d *Daemon) awaitGroups(ctx context.Context) {
	for d.groups != nil && !d.groups.Settled() && ctx.Err() == nil {
		time.Sleep(settleTick)
	}
}

// takePackets has this process read rings and ARP socket.
func (h *heir) takePackets(ctx context.Context, d *Daemon) error {
	var g given
	fds, alive, err := h.ask(stepGive, &g, standing)
	if err == nil && g.Error != "" {
		err = fmt.Errorf("the running daemon gives up: %s", g.Error)
	}
	if err != nil {
		handover.CloseAll(fds)
		return err
	}
	d.taps.Resume(&g.Captures, fds)
	if !alive {
		d.log.Warn("the daemon that was to be taken over has died: what it counted and held is lost")
	}
	base := g.Forward.stats()
	d.engines.mu.Lock()
	d.engines.gone.Add(&base)
	d.engines.mu.Unlock()
	if ring := d.engines.ring; ring != nil {
		if err := ring.GoOn(g.Positions, g.Waiting); err != nil {
			return err
		}
		d.runEngine()
	}
	// Before anybody is answered who would then send.
	if !d.owner.ask(ctx, func() {
		d.owner.waits = false
		d.owner.lookAgain()
	}) {
		return errEnding
	}
	d.announcer.GoOn(&g.Announced)
	d.arp.GoOn(g.Held, &g.ARP)
	if d.nd != nil {
		d.nd.GoOn(g.HeldND, &g.ND)
	}
	d.runResponders()
	k := &g.Kernel
	d.asked.asked.Add(k.Resolved)
	d.asked.refused.Add(k.Refused)
	d.asked.overflow.Add(k.NoneQueued)
	d.learn.learned.Add(k.Learned)
	d.learn.crowded.Add(k.Crowded)
	d.learn.failed.Add(k.Unwritten)
	if set := d.programs.Set(); set != nil {
		var refilter func() error
		if d.engines.ring != nil {
			refilter = d.engines.ring.Refilter
		}
		if err := errors.Join(set.TakePlaces(refilter), d.refilter()); err != nil {
			return err
		}
	}
	return h.goOnCapturing(ctx, d)
}

// goOnCapturing has the sessions of captures write on where the predecessor has stopped.
func (h *heir) goOnCapturing(ctx context.Context, d *Daemon) error {
	var c captured
	if !h.dead.Load() {
		fds, err := handover.Receive(h.conn, &c, maxHandover)
		handover.CloseAll(fds)
		switch {
		case err == nil && c.Error != "":
			return fmt.Errorf("the running daemon gives up: %s", c.Error)
		case errors.Is(cutOff(err), errPredecessorGone):
			h.dead.Store(true)
		case err != nil:
			return fmt.Errorf("the running daemon, asked for captures: %w", err)
		}
	}
	d.group.Go(func() error {
		d.taps.Continue(ctx, c.Streams)
		return nil
	})
	return nil
}

// becomeOwn goes over to this daemon's own configuration, and has its metrics shown.
func (h *heir) becomeOwn(ctx context.Context, d *Daemon) error {
	now := d.config()
	if h.metrics >= 0 {
		show, err := metrics.Adopt(os.NewFile(uintptr(h.metrics), "metrics"), d.status, d.log)
		h.metrics = -1
		if err != nil {
			return fmt.Errorf("--metrics: %w", err)
		}
		if h.own.Metrics == now.Metrics {
			defer d.serveMetrics(show)
		} else {
			defer show.Close()
		}
	}
	d.reloads.one.Lock()
	defer d.reloads.one.Unlock()
	changes, err := now.changesTo(h.own)
	if err == nil && len(changes) > 0 {
		err = d.exchange(ctx, now, h.own)
	}
	h.ring = d.engines.ring
	return errors.Join(err, d.taps.Renew())
}
