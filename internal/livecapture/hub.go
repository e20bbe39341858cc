// Package livecapture hands what the datapath, the ARP responder and the host's
// own traffic show to capture sessions, which write it to their clients as
// pcapng with the daemon's verdicts. Nothing is shown while nobody captures.
package livecapture

import (
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"proxyarpd/arpd"
	"proxyarpd/capture"
	"proxyarpd/forward"
	"proxyarpd/forward/claim"
	"proxyarpd/forward/route"
	"proxyarpd/internal/netstate"
)

// Sessions is how many there can be at a time. Each needs two descriptors: its
// client, and what is opened for a moment.
const Sessions = 8

// Sources is what a Hub asks of datapath, responder and eBPF programs. It is
// called from sessions' goroutines and the Hub's own.
type Sources interface {
	// SetTaps has the datapath and the responders to ARP and to neighbour solicitations
	// show what they see from the next batch on; nil ends that.
	SetTaps(packets forward.Tap, arp, nd arpd.Tap)
	// SetMark gives what both send from now on a firewall mark; 0 is none.
	SetMark(mark uint32) error
	// AttachWatch attaches to a packet socket the filter that keeps out what the
	// taps show, and what is sent with that mark, and cuts frames to snap bytes.
	// The error is claim.ErrNotSupported where there is no eBPF.
	AttachWatch(fd int, mark uint32, snap int) error
	// Table is what the datapath goes by; nil if nothing is forwarded.
	Table() *route.Table
	// Counters are an interface's, and Translated reports whether the kernel
	// translates the addresses of a packet's flow: they are asked only
	// while the filter of AttachWatch is attached and there is a Table.
	Counters(ifindex int32) claim.Counters
	Translated(packet []byte) bool
	// Announces reports whether an address is announced on an interface.
	Announces(ifindex int, address netip.Addr) bool
	// Drops are all drops that were counted, by reason.
	Drops() map[string]uint64
	// Stalled reports whether the ring's filter left packets to the kernel at a
	// time, ns since 1970, because nobody read the ring. It is asked as those are.
	Stalled(at int64) bool
	// ShowCarried has eBPF programs show what they carry, until its Close; nil if
	// they carry nothing.
	ShowCarried() (Carried, error)
}

// Config is what a Hub needs.
type Config struct {
	Log     *slog.Logger
	Version string // of the program, for capture files
	Workers int    // of the datapath, whose numbers are those of forward.Look; 0 is one
	Sources Sources
}

// Hub hands what the datapath, the responder and the host's own traffic show to
// the capture sessions. Without a session it is not asked.
type Hub struct {
	cfg  Config
	ids  atomic.Uint64
	view atomic.Pointer[view]

	// switching is held while the first session begins or the last one ends, so
	// that the one does not undo what the other does. It comes before mu.
	switching sync.Mutex

	mu       sync.Mutex // guards what follows, is never held for long
	links    map[int32]link
	changed  bool // links have, and the view does not show it yet
	views    uint64
	sessions []*session
	// Those that go over to a successor, and those that have come from a predecessor and
	// do not write yet: in the order in which they were told.
	suspended, resumed []*session
	records            []*recorder

	host    *hostTap    // guarded by switching
	watched atomic.Bool // there is a host
	carried *carriedTap // guarded by switching
	behind  atomic.Bool // host and carried do not go by the newest view yet
	atHost  *recorder   // of what hostTap sees
}

// link is an interface as the daemon told of it.
type link struct {
	*netstate.Link
	served bool
}

// New makes a Hub that knows no interface yet.
func New(cfg Config) *Hub {
	h := &Hub{cfg: cfg, links: map[int32]link{}}
	h.atHost = h.newRecorder(fromHost)
	return h
}

// SetLink tells of an interface that came or has changed; served is whether its
// packets get verdicts. The Hub keeps l, which must not change any more. Sessions
// see it from the next Publish on.
func (h *Hub) SetLink(l *netstate.Link, served bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.links[int32(l.Index)] = link{l, served}
	h.changed = true
}

// DeleteLink tells that there is no interface of that index any more.
func (h *Hub) DeleteLink(index int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if l, ok := h.links[int32(index)]; ok {
		for _, r := range h.records {
			r.name(int32(index), l.Name)
		}
	}
	delete(h.links, int32(index))
	h.changed = true
}

// view is what the sources read: who looks at what.
type view struct {
	links    map[int32]link
	sessions []*session
	wanted   []map[int32]bool // by session; nil is all
	only     int              // the interface that all sessions want, and nothing else; else 0
	id       uint64           // of no other view, not 0
}

// add begins a session.
func (h *Hub) add(s *session) (capture.Reply, error) {
	h.switching.Lock()
	defer h.switching.Unlock()
	rep, err := h.join(s)
	if err != nil {
		return rep, err
	}
	h.cfg.Sources.SetTaps(h, h.lookARP, h.lookND)
	if err := h.startCarried(); err != nil {
		h.leave(s)
		return capture.Reply{}, err
	}
	if err := h.startHost(); err != nil {
		h.cfg.Log.Warn("a capture does not show what is left to the kernel", "err", err)
	}
	h.follow()
	if s.carried = h.carried; s.carried != nil {
		s.unshown = s.carried.lost()
	}
	if s.host = h.host; s.host != nil {
		s.hostDrops = s.host.ring.Drops()
		h.promiscuous(s)
	}
	rep.HostTraffic = s.host != nil
	return rep, nil
}

// join makes a session one of those that are looked after.
func (h *Hub) join(s *session) (rep capture.Reply, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.sessions) == Sessions {
		return rep, fmt.Errorf("%d captures are under way, which is the most", Sessions)
	}
	for index, l := range h.links {
		if !s.wants(l.Name) {
			continue
		}
		if slices.Contains(s.req.Interfaces, l.Name) {
			s.named = append(s.named, index)
		}
		rep.Interfaces = append(rep.Interfaces, l.Name)
		if !l.served {
			rep.Foreign = append(rep.Foreign, l.Name)
		}
	}
	if err := s.checkNamed(h.links); err != nil {
		return rep, err
	}
	slices.Sort(rep.Interfaces)
	slices.Sort(rep.Foreign)
	s.first = h.ids.Load()
	h.sessions = append(h.sessions, s)
	h.publish()
	return rep, nil
}

// promiscuous has the interfaces that a session named give other hosts' frames,
// as long as it lasts; switching is held.
func (h *Hub) promiscuous(s *session) {
	if !s.req.Promiscuous {
		return
	}
	h.mu.Lock()
	named := slices.Clone(s.named)
	h.mu.Unlock()
	for _, index := range named {
		if err := s.host.ring.Promiscuous(int(index), true); err != nil {
			h.cfg.Log.Warn("a capture does not show other hosts' frames", "err", err)
			continue
		}
		s.promiscuous = append(s.promiscuous, index)
	}
}

// remove ends a session.
func (h *Hub) remove(s *session) {
	h.switching.Lock()
	defer h.switching.Unlock()
	if w := s.stream.Load(); w != nil && w.suspend.Load() {
		return // what looked for it is another process's
	}
	for _, index := range s.promiscuous {
		_ = s.host.ring.Promiscuous(int(index), false) // fails only if it has gone
	}
	s.promiscuous = nil
	h.leave(s)
}

// follow has what looks for the sessions look at what they want; switching is held.
func (h *Hub) follow() {
	if h.host != nil {
		h.host.follow()
	}
	if h.carried != nil {
		h.carried.follow()
	}
}

// leave ends what nobody needs any more once a session has gone; switching is held.
func (h *Hub) leave(s *session) {
	if h.part(s) > 0 {
		h.follow()
		return
	}
	h.cfg.Sources.SetTaps(nil, nil, nil)
	if h.carried != nil {
		h.carried.stop()
		h.carried = nil
	}
	if h.host != nil {
		h.watched.Store(false)
		h.host.stop()
		h.host = nil
	}
}

// part takes a session from those that are looked after, and tells how many
// those are.
func (h *Hub) part(s *session) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sessions = slices.DeleteFunc(h.sessions, func(o *session) bool { return o == s })
	h.publish()
	return len(h.sessions)
}

// Publish has sessions see what SetLink and DeleteLink have told since the last
// one. It does not wait for what follows from that.
func (h *Hub) Publish() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.changed {
		return
	}
	h.publish()
	if h.view.Load() == nil || h.behind.Swap(true) {
		return
	}
	go func() { // a bind waits for the readers of the kernel's lists
		h.switching.Lock()
		defer h.switching.Unlock()
		h.behind.Store(false)
		h.follow()
	}()
}

// publish makes a view; mu is held.
func (h *Hub) publish() {
	links := h.links
	h.changed = false
	if len(h.sessions) == 0 {
		h.view.Store(nil)
		return
	}
	h.views++
	v := &view{links: maps.Clone(links), sessions: slices.Clone(h.sessions), id: h.views}
	for _, s := range v.sessions {
		wanted := map[int32]bool{}
		for index, l := range links {
			if s.wants(l.Name) || slices.Contains(s.named, index) {
				wanted[index] = true
			}
		}
		s.follow(links)
		if slices.Contains(s.req.Interfaces, capture.Any) {
			wanted = nil
		}
		v.wanted = append(v.wanted, wanted)
	}
	v.only = onlyOne(v.wanted)
	h.view.Store(v)
}

// onlyOne gives the interface that all sessions want and nothing else, 0 if there
// is none such.
func onlyOne(wanted []map[int32]bool) int {
	one := int32(0)
	for _, w := range wanted {
		if len(w) != 1 {
			return 0
		}
		for index := range w {
			if one != 0 && one != index {
				return 0
			}
			one = index
		}
	}
	return int(one)
}
