package arpd

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Rates of answers per interface, and per sender on it, that are allowed unless
// Options says otherwise. A pod that resolves its gateway needs one a minute.
const (
	DefaultRate        = 4000
	DefaultBurst       = 500
	DefaultSenderRate  = 2000
	DefaultSenderBurst = 250
)

// Options for Open. The zero value is usable once Publish was called.
type Options struct {
	// Lookup is asked, on Run's goroutine, about an interface that is not in
	// the published set. It is expected to ask the kernel, since a frame may
	// overtake the netlink event that tells of its interface.
	//
	// (policy, true): one to answer on. (nil, false): none; both are remembered until
	// the next Publish, so Publish has to follow whenever that may have changed.
	// (nil, true): it could not be found out, say because the interface is gone;
	// not remembered. A nil Lookup knows no further interface.
	Lookup func(ifindex int) (*Policy, bool)

	// Behind reports whether the kernel has told of changes that Routes does
	// not know yet. A request for a target of Policy.Proxy, or of Uplink.Targets,
	// that Routes has no way for is held while that is so, for at most a tenth of a
	// second; so is one by an interface that Lookup can't tell of. It is called on
	// Run's goroutine and must not block. nil is never.
	Behind func() bool

	// Neighbours, if set, learns the senders of the requests that are answered,
	// a few a second of an interface.
	Neighbours Neighbours

	// Unrouted, if set, is told of each request that Stats.Unrouted counts. It is
	// called on Run's goroutine and must not block.
	Unrouted func(Asker)

	// Claimed, if set, is told of each frame on an uplink by which another station
	// says that it has one of Uplink.Targets; by neighbour discovery also of one on a
	// workload's interface that says so of a gateway. It is called on Run's goroutine
	// and must not block.
	Claimed func(Claim)

	// Filter is called with the socket before Open returns: it may attach a
	// socket filter in place of ours, an eBPF program that polices per interface,
	// for instance. Without one a flood that outruns Run fills the socket's queue
	// for all.
	Filter func(fd int) error

	// RatePerSecond and Burst bound the answers per interface, SenderPerSecond and
	// SenderBurst those to one sender; 0 is the default, a negative rate no bound.
	RatePerSecond, Burst         int
	SenderPerSecond, SenderBurst int

	// Recorder, if set, is told of the frames that are dropped.
	Recorder Recorder

	// Timed has the kernel say when each frame came, for Stats.AnswerTimes.
	Timed bool

	// Protocol is how frames are read and answered; nil is ARP.
	Protocol Protocol

	// Handed, if set, is what another process's Responder has handed over.
	Handed *Handed

	// Logger takes what an operator should know. A nil one discards.
	Logger *slog.Logger
}

// Tap sees each frame with its end: reply is nil unless v is Answered. A request
// that is held is seen twice, as Queued and with its end, under one id: what the
// first call gives is what the second is given, else id is 0. The slices
// are borrowed until it returns. It runs on the hot path and must not block.
type Tap func(id uint64, ifindex int, frame, reply []byte, v Verdict) uint64

// Recorder sees each frame that is dropped; id is what the Tap gave, if there is
// one, and received when the kernel received the frame, ns since 1970, 0 where that
// is not known. frame is borrowed until it returns. It runs on the hot path and must
// not block.
type Recorder func(id uint64, ifindex int, received int64, frame []byte, v Verdict)

// Responder answers the ARP requests, or those of another Protocol, on all interfaces
// of a network namespace that it has a policy for. Its methods may be called from any goroutine, Run from one at a time.
type Responder struct {
	lookup       func(int) (*Policy, bool)
	behind       func() bool
	neighbours   Neighbours // nil: nothing is learnt
	tellUnrouted func(Asker)
	claimed      func(Claim) // nil: nobody is told
	log          *slog.Logger
	sock         *socket
	ports        *ports
	total        counters
	unrouted     atomic.Uint64
	unlearned    atomic.Uint64
	defended     atomic.Uint64
	times        answerTimes
	tap          atomic.Pointer[Tap]
	recorder     Recorder // nil: nobody is told
	closed       atomic.Bool
	rounds       atomic.Uint64
	running      sync.Mutex   // Run holds it
	now          func() int64 // nanoseconds, monotonic

	// Run's alone.
	question question
	strays   strays
	senders  senders
	held     holder
	news     news
}

// Open makes the socket, in the network namespace of the calling thread. From
// then on frames wait for Run. It needs CAP_NET_RAW.
func Open(o Options) (*Responder, error) {
	sock, err := openSocket(&o)
	if err != nil {
		return nil, fmt.Errorf("%s socket: %w", (&question{other: o.Protocol}).what(), err)
	}
	return newResponder(sock, o), nil
}

func newResponder(sock *socket, o Options) *Responder {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.RatePerSecond == 0 {
		o.RatePerSecond = DefaultRate
	}
	if o.Burst == 0 {
		o.Burst = DefaultBurst
	}
	if o.SenderPerSecond == 0 {
		o.SenderPerSecond = DefaultSenderRate
	}
	if o.SenderBurst == 0 {
		o.SenderBurst = DefaultSenderBurst
	}
	if o.Unrouted == nil {
		o.Unrouted = func(Asker) {}
	}
	if o.Behind == nil {
		o.Behind = func() bool { return false }
	}
	return &Responder{
		lookup:       o.Lookup,
		behind:       o.Behind,
		neighbours:   o.Neighbours,
		tellUnrouted: o.Unrouted,
		claimed:      o.Claimed,
		recorder:     o.Recorder,
		log:          o.Logger,
		sock:         sock,
		ports:        newPorts(newLimit(o.RatePerSecond, o.Burst)),
		now:          clock(),
		question:     question{other: o.Protocol},
		strays:       strays{said: make(map[int]*entry)},
		senders:      newSenders(newLimit(o.SenderPerSecond, o.SenderBurst)),
	}
}

// Publish replaces the set of interfaces, by ifindex. The map is not
// kept; the policies are, and must not change any more. Counters of an interface
// that was there before go on.
func (r *Responder) Publish(policies map[int]*Policy) { r.ports.publish(policies, r.now()) }

// SetTap makes t see every frame from the next batch on; nil ends that. A call of
// the previous tap may still be under way when SetTap returns.
func (r *Responder) SetTap(t Tap) {
	if t == nil {
		r.tap.Store(nil)
		return
	}
	r.tap.Store(&t)
}

// SetMark marks the replies that are sent from now on (SO_MARK), so that who
// looks on can tell them from the kernel's. For any goroutine.
func (r *Responder) SetMark(mark uint32) error { return r.sock.setMark(mark) }

// SetTimed has the kernel say from now on when each frame came, or no longer, as
// Options.Timed. For any goroutine.
func (r *Responder) SetTimed(on bool) error { return r.sock.setTimed(on) }

// Beat has Run come round once more, and gives how many times it has so far: the number grows as long as it is not
// stuck, also where nobody asks. For any goroutine.
func (r *Responder) Beat() uint64 {
	n := r.rounds.Load()
	r.sock.wake()
	return n
}

// Close releases the socket, after Run has returned os.ErrClosed. Run's goroutine
// must not call it.
func (r *Responder) Close() error {
	if r.closed.Swap(true) {
		return nil
	}
	r.sock.wake()
	r.running.Lock()
	defer r.running.Unlock()
	return r.sock.close()
}

// Run answers until ctx is done (nil) or the Responder is closed (os.ErrClosed).
// No frame and no error of the socket ends it. It has a thread of its own,
// which is the caller's where that is locked to one.
func (r *Responder) Run(ctx context.Context) error {
	r.running.Lock()
	defer r.running.Unlock()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var done atomic.Bool
	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		done.Store(true)
		r.sock.wake()
		close(woken)
	})
	defer func() {
		if !stop() {
			<-woken // else it may write to a descriptor that Close has closed, and somebody else has by now
		}
	}()
	const minPause, maxPause = 10 * time.Millisecond, time.Second
	pause := minPause
	for {
		r.retry()
		wait := time.Duration(-1)
		if r.held.n > 0 {
			wait = holdTick
		}
		switch {
		case r.closed.Load():
			return os.ErrClosed
		case done.Load():
			return nil
		}
		n, err := r.sock.receive(wait)
		r.rounds.Add(1)
		if err == nil {
			pause = minPause
			if n > 0 {
				r.batch(n)
			}
			continue
		}
		r.log.Warn("cannot read "+r.question.what()+" frames, trying again", "err", err, "pause", pause)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		pause = min(2*pause, maxPause)
	}
}

// clock gives the nanoseconds since it was made.
func clock() func() int64 {
	epoch := time.Now()
	return func() int64 { return int64(time.Since(epoch)) }
}
