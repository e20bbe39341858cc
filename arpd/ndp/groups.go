package ndp

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"proxyarpd/internal/wire"
)

// How long after a group could not be joined it is tried again: the first time, and at
// most.
const (
	groupRetry    = time.Second
	groupRetryMax = time.Minute
)

// Groups joins the solicited-node groups (RFC 4291 section 2.7.1) of addresses that are
// answered for. Solicitations are sent to those: a switch that snoops (RFC 4541) brings
// them to nobody who has not said by MLD that he listens, and a NIC's filter takes only
// what is joined. The kernel sends the reports, and those that answer a querier's.
//
// Its methods may be called from any goroutine and don't wait: joining is Run's, since it
// may wait for the RTNL lock.
type Groups struct {
	log  *slog.Logger
	wake chan struct{}

	mu      sync.Mutex // guards what follows
	held    map[holding]struct{}
	members map[membership]*member
	todo    []membership             // of which something may be to be done
	failing map[membership]time.Time // when they are due again
	said    bool                     // that some fail
	stats   GroupStats

	join sockets // Run's alone
}

// GroupStats are the counters of Groups.
type GroupStats struct {
	Addresses int    // that are held, an address on each of several interfaces counts for each
	Groups    int    // of these addresses: those that end alike share one
	Joined    int    // of these groups
	Failed    uint64 // times that one could not be joined
	Sockets   int    // among which the memberships are spread
}

type holding struct {
	index  int
	target netip.Addr
}

type membership struct {
	index int
	group [16]byte
}

// member is what is known of a membership.
type member struct {
	holders int
	joined  bool
	socket  int // where it is joined
	anew    bool
	tries   int // that failed
}

// NewGroups makes one that holds nothing. It makes its sockets in Run, in the network
// namespace of the thread that calls that.
func NewGroups(log *slog.Logger) *Groups {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Groups{log: log, wake: make(chan struct{}, 1), held: map[holding]struct{}{}, members: map[membership]*member{}, failing: map[membership]time.Time{}}
}

// Hold has the group of an address be joined on an interface.
func (g *Groups) Hold(index int, target netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	h := holding{index, target}
	if _, ok := g.held[h]; ok {
		return
	}
	g.held[h] = struct{}{}
	key := membership{index, wire.SolicitedNode(target.As16())}
	m := g.members[key]
	if m == nil {
		m = new(member)
		g.members[key] = m
	}
	if m.holders++; m.holders == 1 {
		g.due(key)
	}
}

// Release ends that.
func (g *Groups) Release(index int, target netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.release(holding{index, target})
}

func (g *Groups) release(h holding) {
	if _, ok := g.held[h]; !ok {
		return
	}
	delete(g.held, h)
	key := membership{h.index, wire.SolicitedNode(h.target.As16())}
	if m := g.members[key]; m.holders > 1 {
		m.holders--
	} else {
		m.holders = 0
		g.due(key)
	}
}

// Forget releases all of an interface that is gone.
func (g *Groups) Forget(index int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for h := range g.held {
		if h.index == index {
			g.release(h)
		}
	}
}

// Again joins anew what is held on an interface. The kernel forgets memberships where
// IPv6 ends (disable_ipv6, an MTU below 1280 bytes), and does not say so.
func (g *Groups) Again(index int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for key, m := range g.members {
		if key.index == index && m.holders > 0 {
			m.anew, m.tries = true, 0
			g.due(key)
		}
	}
}

// due has Run look at a membership.
func (g *Groups) due(key membership) {
	delete(g.failing, key)
	g.todo = append(g.todo, key)
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// Stats are the counters.
func (g *Groups) Stats() GroupStats {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.stats
	s.Addresses = len(g.held)
	for _, m := range g.members {
		if m.holders > 0 {
			s.Groups++
		}
		if m.joined {
			s.Joined++
		}
	}
	return s
}

// Settled reports whether each group is joined, or could not be.
func (g *Groups) Settled() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, m := range g.members {
		if m.holders > 0 && m.tries == 0 && (!m.joined || m.anew) {
			return false
		}
	}
	return true
}

// Run joins and leaves until ctx ends, and leaves all then.
func (g *Groups) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		if wait := g.work(); wait >= 0 {
			timer.Reset(wait)
		} else {
			timer.Stop()
		}
		select {
		case <-ctx.Done():
			return g.end()
		case <-g.wake:
		case <-timer.C:
		}
	}
}

// end closes the sockets, by which the kernel leaves all groups.
func (g *Groups) end() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for key, m := range g.members {
		m.joined = false
		if m.holders == 0 {
			delete(g.members, key)
			continue
		}
		g.due(key) // should Run be called again
	}
	g.stats.Sockets = 0
	return g.join.close()
}

// work does all that is due, and says in how long something is to be tried again,
// negative for never.
func (g *Groups) work() (wait time.Duration) {
	for {
		key, j, wait, ok := g.next(time.Now())
		if !ok {
			return wait
		}
		if j.leave {
			g.join.leave(j.socket, key)
		}
		var err error
		if j.join {
			j.socket, err = g.join.join(key)
		}
		g.done(key, j, err, time.Now())
	}
}

// job is what is to be done about a membership.
type job struct {
	join, leave bool
	socket      int // where it is left, or was joined
}

// next takes what is due.
func (g *Groups) next(now time.Time) (key membership, j job, wait time.Duration, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	wait = -1
	for len(g.todo) == 0 {
		for key, at := range g.failing {
			if left := at.Sub(now); left <= 0 {
				delete(g.failing, key)
				g.todo = append(g.todo, key)
			} else if wait < 0 || left < wait {
				wait = left
			}
		}
		if len(g.todo) == 0 {
			return key, j, wait, false
		}
	}
	key = g.todo[len(g.todo)-1]
	g.todo = g.todo[:len(g.todo)-1]
	m := g.members[key]
	if m == nil {
		return key, j, 0, true
	}
	j = job{leave: m.joined && (m.holders == 0 || m.anew), join: m.holders > 0 && (!m.joined || m.anew), socket: m.socket}
	m.anew = false
	return key, j, 0, true
}

// done notes what became of it. What has changed meanwhile is due again.
func (g *Groups) done(key membership, j job, err error, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stats.Sockets = len(g.join.all)
	m := g.members[key]
	if m == nil {
		return
	}
	if j.leave {
		m.joined = false
	}
	switch {
	case !j.join:
	case err == nil:
		m.joined, m.socket, m.tries = true, j.socket, 0
	case m.holders > 0:
		g.failed(key, m, err, now)
	}
	if m.holders == 0 && !m.joined {
		delete(g.members, key)
	}
	g.said = g.said && len(g.failing) > 0
}

// failed has a group be tried again later, each time after twice as long.
func (g *Groups) failed(key membership, m *member, err error, now time.Time) {
	g.stats.Failed++
	g.failing[key] = now.Add(min(groupRetry<<min(m.tries, 10), groupRetryMax))
	m.tries++
	say := g.log.Debug
	if !g.said && !errors.Is(err, errGone) {
		g.said, say = true, g.log.Warn
	}
	say("a group of solicitations can't be joined: where a switch snoops, or a NIC filters, they may not come", "group", netip.AddrFrom16(key.group), "index", key.index, "err", err)
}
