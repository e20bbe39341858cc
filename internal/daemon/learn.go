package daemon

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/arpd"
	"proxyarpd/forward/route"
	"proxyarpd/internal/netstate"
)

// Limits of what waits to be learnt. An interface's share of it is arpd's burst.
const (
	learnBacklog = 1024
	learnHeld    = 128                  // wait for news of routes
	learnShare   = 8                    // of these, of one interface
	learnWait    = time.Second          // a loaded host is as late as that
	learnTick    = 4 * time.Millisecond // how often it is asked whether the news has come
)

// learner has the kernel's neighbour table learn who asks for what is answered:
// arpd.Neighbours. It decides by the table that the datapath uses, on the
// responder's goroutine, and writes on one of its own, by a socket of its own,
// for each write waits for the RTNL lock.
type learner struct {
	table  *atomic.Pointer[route.Table]
	behind func() bool
	write  func(ifindex int, ip netip.Addr, mac [6]byte) (written bool, err error)
	log    *slog.Logger
	queue  chan arpd.Asker
	lost   chan forgotten
	denied atomic.Bool // the kernel lets us write nothing

	recent [learnBacklog]note // run's alone
	last   int

	learned, crowded, failed atomic.Uint64
}

func newLearner(d *Daemon, req *netstate.Requester) *learner {
	return &learner{table: &d.proxy.table, behind: d.behind, write: req.LearnNeighbour, log: d.log,
		queue: make(chan arpd.Asker, learnBacklog), lost: make(chan forgotten, learnBacklog)}
}

// lesson is what an asker means to the neighbour table.
type lesson uint8

const (
	lessonKnown   lesson = iota // the entry is so already, or somebody else's to change
	lessonRefused               // source validation does not let the asker in
	lessonNew
)

// lessonOf is the policy: what arp_process (net/ipv4/arp.c) asks before it calls
// neigh_event_ns, and what that leaves alone. The host's own and broadcast
// addresses are nobody's, whatever accept_local says.
func lessonOf(t *route.Table, a arpd.Asker) lesson {
	if t == nil {
		return lessonRefused
	}
	in := t.Link(int32(a.Index))
	if in == nil || in.Flags&route.LinkNoARP != 0 {
		return lessonRefused
	}
	if n := in.Neighbour(a.IP); n != nil && (n.Fixed || n.Valid && n.MAC == a.MAC) {
		return lessonKnown
	}
	if t.Class(a.IP)&route.ToLocal != 0 || !t.Routed(a.IP, a.Target, in, exitOf(t, a)) {
		return lessonRefused
	}
	return lessonNew
}

// exitOf is the interface that leads to what was asked for. A gateway needs no
// route; the kernel takes lo where it has no way out (fib_validate_source in
// net/ipv4/fib_frontend.c).
func exitOf(t *route.Table, a arpd.Asker) int32 {
	const lo = 1
	if r := t.Lookup(a.Target, a.IP, int32(a.Index), 0); r != nil && r.Type == route.TypeUnicast {
		if nh := t.SelectFor(r, a.IP, a.Target); nh != nil {
			return nh.Ifindex
		}
	}
	return lo
}

// Lacks implements arpd.Neighbours. Who would be refused while news of routes is
// under way is looked at again when it has come.
func (l *learner) Lacks(a arpd.Asker) bool {
	if l.denied.Load() {
		return false
	}
	what := lessonOf(l.table.Load(), a)
	if what == lessonRefused {
		if l.behind() {
			return true
		}
		what = lessonOf(l.table.Load(), a) // what there was no more news of
	}
	return what == lessonNew
}

// Learn implements arpd.Neighbours.
func (l *learner) Learn(a arpd.Asker) bool {
	select {
	case l.queue <- a:
		return true
	default:
		return false
	}
}

// note is what has been learnt, and when.
type note struct {
	arpd.Asker
	at time.Time
}

// forgotten is an interface whose neighbours the kernel has forgotten.
type forgotten struct {
	ifindex int
	since   time.Time
}

// again has learnt anew what was learnt on an interface since a time, after the
// kernel has forgotten it.
func (l *learner) again(ifindex int, since time.Time) {
	select {
	case l.lost <- forgotten{ifindex, since}:
	default:
		l.crowded.Add(1)
	}
}

// relearn is again, on run's goroutine.
func (l *learner) relearn(f forgotten) {
	var all []arpd.Asker
	for i := range l.recent { // oldest first
		if n := &l.recent[(l.last+1+i)%len(l.recent)]; n.Index == f.ifindex && n.IP.IsValid() && n.at.After(f.since) {
			all = append(all, n.Asker)
		}
	}
	for _, a := range all {
		l.learn(a)
	}
}

// heldAsker waits for news of the routes.
type heldAsker struct {
	arpd.Asker
	since time.Time
}

// run learns until ctx ends.
func (l *learner) run(ctx context.Context) {
	var held []heldAsker
	var again <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case a := <-l.queue:
			held = l.take(held, heldAsker{a, time.Now()})
		case f := <-l.lost:
			l.relearn(f)
		case <-again:
			again = nil
			waiting := held
			held = nil
			for _, h := range waiting {
				held = l.take(held, h)
			}
		}
		if again == nil && len(held) > 0 {
			again = time.After(learnTick)
		}
	}
}

// take learns from one who asked, or adds it to those who wait.
func (l *learner) take(held []heldAsker, h heldAsker) []heldAsker {
	behind := l.behind() // before the table is looked at
	switch lessonOf(l.table.Load(), h.Asker) {
	case lessonNew:
		l.learn(h.Asker)
	case lessonRefused:
		if !behind || time.Since(h.since) >= learnWait {
			break
		}
		if !roomFor(held, h.Index) {
			l.crowded.Add(1)
			break
		}
		held = append(held, h)
	}
	return held
}

func roomFor(held []heldAsker, ifindex int) bool {
	share := 0
	for i := range held {
		if held[i].Index == ifindex {
			share++
		}
	}
	return len(held) < learnHeld && share < learnShare
}

func (l *learner) learn(a arpd.Asker) {
	written, err := l.write(a.Index, a.IP, a.MAC)
	if err == nil { // the kernel itself may have written it
		l.last = (l.last + 1) % len(l.recent)
		l.recent[l.last] = note{a, time.Now()}
	}
	switch {
	case written:
		l.learned.Add(1)
		l.log.Debug("neighbour learnt", "index", a.Index, "address", a.IP, "mac", a.MAC)
	case err == nil, errors.Is(err, os.ErrClosed):
	case errors.Is(err, unix.EPERM):
		if !l.denied.Swap(true) {
			l.log.Warn("CAP_NET_ADMIN is missing: the kernel does not learn who asks, and resolves workloads itself")
		}
	default:
		l.failed.Add(1)
		l.log.Debug("neighbour not learnt", "err", err)
	}
}
