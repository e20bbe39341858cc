package netstate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/shortage"
)

// MaxBatch bounds the events of one call of apply.
const MaxBatch = 4096

// defaultReceiveBuffer holds about ten thousand messages: the kernel accounts
// for the whole buffer of each, not for its length.
const defaultReceiveBuffer = 8 << 20

// A Config says how to watch. The zero Config is usable.
type Config struct {
	ReceiveBuffer int          // of the event socket, in bytes; 0 is 8 MiB
	Logger        *slog.Logger // nil is none
	IPv6          bool         // follow IPv6 as well; neighbours are followed in any case
}

// A Watcher follows one network namespace.
type Watcher struct {
	events *eventSocket
	dumps  *conn
	ask    func(msg []byte, each func(typ uint16, body []byte) error) error // dumps.request
	state  *state
	log    *slog.Logger
	stats  counters

	batch    []Event
	sink     func([]Event) error
	sinkErr  error
	overrun  bool
	reading  atomic.Bool // a dump is being read, or has not been applied yet
	canceled <-chan struct{}
	deadline time.Time // of the wait for messages; zero: none
}

type counters struct {
	messages, events, overruns, resyncs, routeDumps, malformed, ignored atomic.Uint64
}

// Open subscribes to the network namespace of the calling thread and reads
// what is there. The Watcher stays with that namespace.
func Open(cfg Config) (*Watcher, error) {
	if cfg.ReceiveBuffer == 0 {
		cfg.ReceiveBuffer = defaultReceiveBuffer
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	w := &Watcher{state: newState(cfg.IPv6), log: cfg.Logger}
	var err error
	if w.events, err = openEvents(cfg.ReceiveBuffer, cfg.IPv6); err != nil {
		return nil, fmt.Errorf("netstate: %w", err)
	}
	if w.dumps, err = dial(); err != nil {
		w.events.Close()
		return nil, fmt.Errorf("netstate: %w", err)
	}
	w.ask = w.dumps.request
	if err := w.load(); err != nil {
		w.Close()
		return nil, fmt.Errorf("netstate: %w", err)
	}
	return w, nil
}

// Run passes all that there is to apply as Set events, then Synced, and from
// then on every change in the kernel's order, until ctx ends or the Watcher is
// closed (os.ErrClosed) or apply fails. A batch is what one drain of the
// socket gave, at most MaxBatch events; apply owns it until it returns, and
// the slice is used again. Synced comes again whenever an overrun has been
// made good. Only one Run at a time.
func (w *Watcher) Run(ctx context.Context, apply func([]Event) error) error {
	w.events.resume()
	w.deadline = time.Time{}
	defer context.AfterFunc(ctx, w.events.interrupt)()
	w.canceled, w.sink, w.sinkErr, w.state.emit = ctx.Done(), apply, nil, w.push
	defer func() { w.state.emit, w.state.untold, w.batch = nil, newUntold(), w.batch[:0] }()
	for ev := range w.state.all() {
		w.push(ev)
	}
	w.push(Event{Op: Synced})
	var pause shortage.Backoff
	for {
		if err := w.flush(); err != nil {
			return err
		}
		w.reading.Store(w.overrun || w.state.incomplete()) // after an error all is yet to be read
		err := w.step()
		switch {
		case err == nil:
			pause.Reset()
		case ctx.Err() != nil:
			return ctx.Err()
		case !shortage.Passing(err):
			return fmt.Errorf("netstate: %w", err)
		default:
			w.rest(err, pause.Next())
		}
	}
}

// rest waits before the kernel is asked again, unless Run is to end. Changes
// that wait meanwhile are not lost, or that they are is told.
func (w *Watcher) rest(err error, pause time.Duration) {
	w.log.Warn("the kernel's state cannot be read, trying again", "err", err, "pause", pause)
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-w.canceled:
	case <-t.C:
	}
}

// Behind reports whether the kernel has told of changes that apply has not
// been through yet. It may be called from any goroutine while Run runs.
func (w *Watcher) Behind() bool { return w.events.behind() }

// Incomplete reports whether Run is asking the kernel anew, after messages were
// lost or were not enough: for as long as that takes, seconds where there are a
// million routes, what apply has been passed may be old. It may be called from
// any goroutine.
func (w *Watcher) Incomplete() bool { return w.reading.Load() }

// step applies one drain of the socket, and asks the kernel where its messages
// were not enough.
func (w *Watcher) step() error {
	w.expire()
	w.state.recheckForced(time.Now())
	w.awaitExpiry()
	if !w.overrun && !w.state.incomplete() && len(w.state.unasked) == 0 {
		empty, err := w.events.drain(MaxBatch, !w.state.replaying(), w.datagram)
		if empty {
			w.state.endReplay()
		}
		if w.expired(err) {
			return nil
		}
		if w.overrun = errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.ENOMEM); err != nil && !w.overrun {
			return err
		}
	}
	if !w.overrun && len(w.state.unasked) > 0 {
		if err := w.askLinks(); err != nil {
			return err
		}
	}
	if !w.overrun && !w.state.incomplete() {
		return nil
	}
	w.reading.Store(true)
	if w.overrun {
		return w.resync()
	}
	if w.flush() != nil {
		return nil // Run's next flush returns it
	}
	if w.state.unordered {
		return w.reloadSets()
	}
	return w.reloadRoutes()
}

// datagram applies the messages of one datagram.
func (w *Watcher) datagram(b []byte) {
	for len(b) > 0 {
		h, body, rest, ok := nextMessage(b)
		w.stats.messages.Add(1)
		if !ok {
			w.count(malformed)
			return
		}
		b = rest
		w.count(w.state.apply(h.typ, h.flags, body))
	}
}

func (w *Watcher) count(o outcome) {
	switch o {
	case malformed:
		w.stats.malformed.Add(1)
	case ignored:
		w.stats.ignored.Add(1)
	}
}

// resync makes an overrun good. What is still queued is older than the loss
// and older than the dumps that follow.
func (w *Watcher) resync() error {
	w.stats.overruns.Add(1)
	w.log.Warn("netlink events lost, reading everything again")
	if err := w.events.discard(); err != nil {
		return err
	}
	if err := w.load(); err != nil {
		return err
	}
	w.overrun = false
	w.stats.resyncs.Add(1)
	w.push(Event{Op: Synced})
	return nil
}

// push adds to the batch. An error of apply is kept for flush to return.
func (w *Watcher) push(ev Event) {
	if w.sinkErr != nil {
		return
	}
	if w.batch = append(w.batch, ev); len(w.batch) >= MaxBatch {
		_ = w.flush()
	}
}

func (w *Watcher) flush() error {
	w.state.settle()
	if w.sinkErr == nil && len(w.batch) > 0 {
		w.stats.events.Add(uint64(len(w.batch)))
		w.sinkErr = w.sink(w.batch)
		clear(w.batch)
		w.batch = w.batch[:0]
	}
	return w.sinkErr
}

// Stats may be called at any time.
func (w *Watcher) Stats() Stats {
	c := &w.stats
	return Stats{
		Messages: c.messages.Load(), Events: c.events.Load(), Overruns: c.overruns.Load(),
		Resyncs: c.resyncs.Load(), RouteDumps: c.routeDumps.Load(),
		Malformed: c.malformed.Load(), Ignored: c.ignored.Load(),
	}
}

// Close ends Run, which then returns os.ErrClosed.
func (w *Watcher) Close() error {
	return errors.Join(w.events.Close(), w.dumps.Close())
}

// isCanceled reports whether Run's context has ended.
func (w *Watcher) isCanceled() error {
	select {
	case <-w.canceled:
		return context.Canceled
	default:
	}
	if w.events.closed.Load() {
		return os.ErrClosed
	}
	return nil
}
