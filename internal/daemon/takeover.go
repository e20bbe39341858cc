package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/forward/claim"
	"proxyarpd/internal/control/client"
	"proxyarpd/internal/engine"
	"proxyarpd/internal/engine/afpacket"
	"proxyarpd/internal/handover"
	"proxyarpd/internal/instance"
)

// The successor's side of handover.go. It begins with the predecessor's configuration,
// beside it: tables, ports and programs are made as they are there. When it has the
// packets it goes over to its own configuration, as by a reload. Until it has said done
// any error ends it, and the predecessor goes on.

// heir is a daemon that takes over from one that runs.
type heir struct {
	conn  *net.UnixConn // to the predecessor
	own   *Config       // that it is to have in the end
	offer offer

	arp, nd, relayFD int
	metrics          int
	rings            []int
	programs         []int // maps and claims

	dead   atomic.Bool      // it has died: there is nobody who would go on
	fate   atomic.Int32     // open, or one of the others
	became chan struct{}    // closed when own is in force
	ring   *afpacket.Engine // what there was then; nil: none
	over   chan struct{}    // closed when takeOver has returned
	done   chan struct{}    // closed when the predecessor is not needed any more
	alone  chan struct{}    // and this when it has ended
}

// errPredecessorGone says that the daemon that ran has ended before there was anything to
// take over: one can start as usual.
var errPredecessorGone = errors.New("the running daemon has ended")

var (
	errInterrupted = errors.New("interrupted before it was done")
	errNoAnswer    = errors.New("a daemon runs here, and does not answer")
)

// A daemon that ends keeps what a start needs for a while.
const (
	endingTime = 5 * time.Second
	endingTick = 10 * time.Millisecond
)

// takeOver begins as a successor, or as usual if the predecessor ends before.
func takeOver(ctx context.Context, cfg *Config, caller Caller, ns instance.Netns) error {
	var until time.Time // since the predecessor has been gone
	for {
		h, lock, err := succeed(ctx, cfg, ns)
		gone := errors.Is(err, errPredecessorGone) || errors.Is(err, errNoAnswer) && time.Now().Before(until)
		switch {
		case err == nil:
			caller.Log.Info("taking over from the running daemon", "version", h.offer.Version)
			return h.end(serve(ctx, h.first(), caller, ns, lock, h))
		case ctx.Err() != nil:
			err = errInterrupted
			fallthrough
		case !gone:
			return fmt.Errorf("--takeover: %w", err)
		}
		if until.IsZero() {
			until = time.Now().Add(endingTime)
			caller.Log.Warn("there is no daemon to take over from any more, starting as usual", "err", err)
		}
		lock, err = instance.Acquire(cfg.StateDir, ns, caller.Log)
		if err == nil {
			return serve(ctx, cfg, caller, ns, lock, nil)
		}
		if !errors.Is(err, instance.ErrRunning) {
			return err
		}
		time.Sleep(endingTick)
	}
}

// succeed asks the daemon that runs for what it has.
func succeed(ctx context.Context, cfg *Config, ns instance.Netns) (_ *heir, _ *instance.Lock, err error) {
	layout, err := claim.Layout()
	if err != nil {
		return nil, nil, err
	}
	c, err := client.Dial(ctx, cfg.Control, time.Now())
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w: name its --control", errNoAnswer, err)
	}
	defer func() {
		if err != nil {
			_ = c.Close()
		}
	}()
	if err := client.Trusted(c); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", cfg.Control, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Now()) })
	defer stop()
	_ = c.SetDeadline(time.Now().Add(preparing))
	req := takeoverRequest{Op: opTakeover, Protocol: handoverProtocol, Version: cfg.Version, Layout: layout, Netns: ns}
	if err := json.NewEncoder(c).Encode(&req); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", errPredecessorGone, err)
	}
	line, err := handover.ReadLine(c, 1<<16)
	if err != nil {
		return nil, nil, cutOff(err)
	}
	if err := takeoverLine(line); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", cfg.Control, err)
	}
	h := &heir{own: cfg, conn: c, nd: -1, metrics: -1, relayFD: -1, became: make(chan struct{}), over: make(chan struct{}), done: make(chan struct{}), alone: make(chan struct{})}
	h.offer.Config = Default()
	fds, err := handover.Receive(c, &h.offer, maxHandover)
	if err != nil {
		return nil, nil, cutOff(err)
	}
	lock, err := h.take(cfg, ns, fds)
	if err != nil {
		_ = handover.Send(c, &say{Error: err.Error()}, nil)
		return nil, nil, err
	}
	return h, lock, nil
}

// cutOff is an error of the connection: its end means that the predecessor has died.
func cutOff(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, unix.ECONNRESET) {
		return fmt.Errorf("%w: %w", errPredecessorGone, err)
	}
	return err
}

// take sorts the descriptors of the offer.
func (h *heir) take(cfg *Config, ns instance.Netns, fds []int) (_ *instance.Lock, err error) {
	o := &h.offer
	defer func() {
		if err != nil {
			handover.CloseAll(fds)
		}
	}()
	if o.Error != "" {
		return nil, errors.New(o.Error)
	}
	count := 2 + o.Rings // the lock's file, the ARP socket, the rings
	for _, there := range []bool{o.Lock, o.ND, o.Metrics, o.Relay} {
		if there {
			count++
		}
	}
	if o.Programs != nil {
		count += len(o.Programs.Maps)
		for _, c := range o.Programs.Claims {
			if c.TCX {
				count++
			}
		}
	}
	if count != len(fds) || o.Rings < 0 || (o.Rings > 0) != o.Config.forwards() {
		return nil, fmt.Errorf("%d descriptors came, of %d", len(fds), count)
	}
	// What can't change while a daemon runs can't by a take-over.
	if _, err := h.first().changesTo(cfg); err != nil {
		return nil, err
	}
	next := func(there bool) int {
		if !there {
			return -1
		}
		fd := fds[0]
		fds = fds[1:]
		return fd
	}
	file, socket := next(true), next(o.Lock)
	h.arp, h.nd, h.metrics, h.relayFD = next(true), next(o.ND), next(o.Metrics), next(o.Relay)
	h.rings, h.programs = fds[:o.Rings], fds[o.Rings:]
	fds = []int{h.arp, h.nd, h.metrics, h.relayFD}
	fds = append(append(fds, h.rings...), h.programs...)
	return instance.Adopt(cfg.StateDir, ns, file, socket)
}

// first is the configuration to begin with: the predecessor's, but for what is no
// matter of its.
func (h *heir) first() *Config {
	c, own := h.offer.Config, h.own
	c.Version, c.Control, c.StateDir, c.LogFormat, c.LogLevel, c.Takeover = own.Version, own.Control, own.StateDir, own.LogFormat, own.LogLevel, own.Takeover
	return &c
}

// rooms is for how many threads that forward the predecessor's programs have room.
func (h *heir) rooms() int {
	if h.offer.Programs == nil {
		return 0
	}
	return h.offer.Programs.Config.Rooms
}

func (h *heir) adoptPrograms(d *Daemon) error {
	if h.offer.Programs == nil {
		d.programs = engine.AdoptPrograms(nil, claim.None)
		return nil
	}
	set, err := claim.Adopt(h.offer.Programs, h.programs)
	h.programs = nil
	if err != nil {
		return err
	}
	d.programs = engine.AdoptPrograms(set, d.config().Claim)
	return nil
}

func (h *heir) takeARP() int {
	fd := h.arp
	h.arp = -1
	return fd
}

func (h *heir) takeND() int {
	fd := h.nd
	h.nd = -1
	return fd
}

func (h *heir) takeRings() *afpacket.Handed {
	r := afpacket.NewHanded(h.rings, h.relayFD)
	h.rings, h.relayFD = nil, -1
	return r
}
