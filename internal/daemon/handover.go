package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/arpd"
	"proxyarpd/forward"
	"proxyarpd/forward/claim"
	"proxyarpd/forward/route"
	"proxyarpd/internal/control"
	"proxyarpd/internal/engine"
	"proxyarpd/internal/handover"
	"proxyarpd/internal/instance"
	"proxyarpd/internal/livecapture"
)

// A daemon that runs hands over to its successor (takeover.go), which asks for it at
// the control socket. What they say to each other, the successor first:
//
//	takeover   who it is, and how it keeps its maps; the answer is a line of JSON
//	  offer    the configuration, and all descriptors; nothing has changed
//	freeze     the successor knows the kernel's state, and has its programs
//	  frozen   what changed since the offer; from now on the owner changes nothing
//	give       the successor's tables and ports are in place
//	  given    nobody reads rings and ARP socket any more; counters, what waits
//	  captured what captures have seen here is written; where their streams are
//	done       the successor reads, serves, and answers; this daemon ends
//
// Until done, this daemon goes on as if nothing had been when its successor dies or
// gives up: it says so, or the connection ends. A successor whose predecessor dies
// goes on with what it has. That is why who gives up says it before it hangs up.

// handoverProtocol is the version of what they say. Whoever changes the meaning of a
// message changes it.
const handoverProtocol = 2

const opTakeover = "takeover"

// Steps that the successor asks for.
const (
	stepFreeze = "freeze"
	stepGive   = "give"
	stepDone   = "done"
)

// takeoverRequest is the successor's first line.
type takeoverRequest struct {
	Op       string         `json:"op"`
	Protocol int            `json:"protocol"`
	Version  string         `json:"version"` // of the program
	Layout   string         `json:"layout"`  // of the programs' maps, claim.Layout
	Netns    instance.Netns `json:"netns"`
}

// takeoverReply is the answer to it; messages follow.
type takeoverReply struct {
	Error    string `json:"error,omitempty"`
	Ending   bool   `json:"ending,omitempty"` // there is nothing to take over any more
	Takeover bool   `json:"takeover,omitempty"`
}

// say is a message of the successor's.
type say struct {
	Step  string
	Error string // it gives up
}

// offer is what there is to take over. Its descriptors: the lock's file and socket, the
// ARP socket, that of neighbour discovery, the metrics socket, the relay, the rings, the maps, the claims; where a
// number says that there is none, none.
type offer struct {
	Error   string
	Version string
	Config  Config
	Lock    bool // there is a socket beside the file
	ND      bool
	Metrics bool
	Relay   bool
	Rings   int
	Manager managed // of services, to which this process is the main one
	// Programs are those of claim.Set; nil: there is no eBPF.
	Programs *claim.Handed
}

// frozen is the later state of the programs; its descriptors are those of the claims.
type frozen struct {
	Error    string
	Programs *claim.Handed
}

// given is what was counted, and what waits.
type given struct {
	Error     string
	Positions []int // in the rings
	Waiting   [][]forward.Waiting
	Held      []arpd.HeldFrame
	ARP       arpd.Counted
	HeldND    []arpd.HeldFrame
	ND        arpd.Counted
	Announced arpd.HandedAgenda
	Forward   countedForward
	Kernel    countedKernel
	Captures  livecapture.Suspended // the message's descriptors are its
}

// captured is where the streams of the captures are, once what this daemon has seen is
// written.
type captured struct {
	Error   string
	Streams []livecapture.StreamState
}

// countedForward are an engine's counters, by the names of verdicts.
type countedForward struct {
	In, Out, Bytes, Returned, Rebuilt uint64
	Super                             forward.Super
	Verdicts                          map[string]uint64
	Places                            []countedPlace
}

type countedPlace struct {
	Ifindex int32
	Verdict string
	N       uint64
}

// countedKernel is what the kernel was asked and told.
type countedKernel struct {
	Resolved, Refused, NoneQueued, Learned, Crowded, Unwritten uint64
}

func toCounted(s *engine.Stats) countedForward {
	c := countedForward{In: s.PacketsIn, Out: s.PacketsOut, Bytes: s.BytesOut, Returned: s.Returned, Rebuilt: s.Rebuilt, Super: s.Super, Verdicts: map[string]uint64{}}
	for v, n := range s.ByVerdict {
		if n > 0 {
			c.Verdicts[route.Verdict(v).String()] = n
		}
	}
	for p, n := range s.Places {
		c.Places = append(c.Places, countedPlace{p.Ifindex, p.Verdict.String(), n})
	}
	return c
}

// stats is the opposite of toCounted. A verdict of which this version knows nothing is
// left out.
func (c *countedForward) stats() (s engine.Stats) {
	s.PacketsIn, s.PacketsOut, s.BytesOut, s.Returned, s.Rebuilt, s.Super = c.In, c.Out, c.Bytes, c.Returned, c.Rebuilt, c.Super
	byName := map[string]route.Verdict{}
	for v := range route.NumVerdicts {
		byName[v.String()] = v
		s.ByVerdict[v] = c.Verdicts[v.String()]
	}
	s.Places = map[forward.Place]uint64{}
	for _, p := range c.Places {
		if v, ok := byName[p.Verdict]; ok {
			s.Places[forward.Place{Ifindex: p.Ifindex, Verdict: v}] += p.N
		}
	}
	return s
}

// Bounds of the exchange.
const (
	maxHandover  = 64 << 20         // bytes of a message: what waits is at most 8 MB
	busy         = 20 * time.Second // for a reload, or what follows a take-over that has failed
	busyTick     = 10 * time.Millisecond
	preparing    = time.Minute      // for the successor to get ready beside us
	standing     = 15 * time.Second // and to bring its tables in place while nothing changes here
	longTakeover = 30 * time.Second // then we say that it takes long
)

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

// takeoverLine reads the first line of the answer.
func takeoverLine(line []byte) error {
	var rep takeoverReply
	if err := json.Unmarshal(line, &rep); err != nil {
		return errors.New("the answer is none")
	}
	switch {
	case rep.Ending:
		return errPredecessorGone
	case rep.Error != "":
		return errors.New(rep.Error)
	case !rep.Takeover:
		return errors.New("the running daemon can't hand over")
	}
	return nil
}
