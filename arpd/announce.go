package arpd

import (
	"container/list"
	"maps"
	"net/netip"
	"slices"
	"time"

	"proxyarpd/internal/wire"
)

// How an address is announced (RFC 5227 section 1.1; RFC 4861 sections 7.2.6 and 10
// allow up to 3 advertisements, a second apart at least), and how fast many are: each
// frame is a broadcast that every station of the segment looks at.
const (
	AnnounceNum      = 2
	AnnounceInterval = 2 * time.Second
	AnnounceRate     = 200 // a second, on one uplink
	AnnounceBurst    = 100
	// AnnounceMost is how many addresses are held at most. More are answered, and
	// neither announced nor watched.
	AnnounceMost = 16384
)

const (
	announceRetry = 100 * time.Millisecond // after one that could not be sent
	announceTries = 10                     // that fail, for one address
	// A station that claims an address once may have been asked before ours was
	// announced. One that still does so after this time goes on.
	claimApart = time.Second
)

// Announcement is an address that is to be announced on an interface.
type Announcement struct {
	Index int
	IP    netip.Addr
	MAC   wire.MAC
	// Router says that who has an IPv6 address is a router (RFC 4861 section 4.4).
	Router bool
}

// Frame writes the announcement: an ARP request whose sender and target are the
// address. The form of a reply is not sent as well: RFC 5227 section 3 says why
// stations take the request at least as often, and Linux takes both
// (net/ipv4/arp.c, arp_is_garp). Of an IPv6 address it is an unsolicited neighbour
// advertisement to all nodes that overrides what they have (RFC 4861 section 7.2.6);
// package ndp says why its source is the address. frame has room for ReplyRoom bytes.
func (a *Announcement) Frame(frame []byte) (n int) {
	if a.IP.Is6() {
		target, flags := a.IP.As16(), uint32(wire.NDOverride)
		if a.Router {
			flags |= wire.NDRouter
		}
		wire.PutAdvertisement(frame, a.MAC, target, target, flags, wire.MulticastMAC(wire.AllNodes), wire.AllNodes)
		return wire.AdvertisementLen
	}
	eth := wire.Ethernet(frame)
	eth.SetDst(wire.Broadcast)
	eth.SetSrc(a.MAC)
	eth.SetType(wire.EtherTypeARP)
	wire.PutARP(eth.Payload(), wire.ARPRequest, a.MAC, a.IP, wire.MAC{}, a.IP)
	return ReplyLen
}

// AnnounceStats counts for one interface.
type AnnounceStats struct {
	Held     int    // addresses that are held there now
	Waiting  int    // of these, those that are not announced in full yet
	Taken    uint64 // times that an address began to be held
	Released uint64 // times that one ended
	Sent     uint64 // announcements
	Failed   uint64 // announcements that could not be sent
}

// Agenda knows which addresses are held on which interfaces, and says what is to be
// announced and when. It is pure: times are what it is told, in ns of any monotonic
// clock. It is for one goroutine at a time.
type Agenda struct {
	limit    limit
	segments map[int]*segment
	count    int    // of addresses that are held
	Refused  uint64 // times that Hold found no room
}

// segment is one interface: its share of broadcasts, and what waits. Each list has
// one delay, so that the first in it is due first.
type segment struct {
	bucket bucket
	held   map[netip.Addr]*hold
	lists  [3]list.List // of *hold: those to announce at once, those to try again, those to repeat
	stats  AnnounceStats
}

const (
	listFirst = iota
	listRetry
	listRepeat
)

// hold is an address that is held.
type hold struct {
	Announcement
	due    int64
	sent   int
	failed int
	list   int
	queued *list.Element // nil: nothing more is to be announced

	suspect wire.MAC // that has claimed the address after the last announcement
	since   int64    // when it first did
}

// NewAgenda makes an empty one.
func NewAgenda() *Agenda {
	return &Agenda{limit: newLimit(AnnounceRate, AnnounceBurst), segments: map[int]*segment{}}
}

func (g *Agenda) segment(index int, now int64) *segment {
	s := g.segments[index]
	if s == nil {
		s = &segment{bucket: newBucket(g.limit, now), held: map[netip.Addr]*hold{}}
		g.segments[index] = s
	}
	return s
}

// Hold has an address be announced, and watched. One that is held already by this
// MAC stays as it is. It is false if there is no room.
func (g *Agenda) Hold(a Announcement, now int64) bool {
	s := g.segment(a.Index, now)
	if h := s.held[a.IP]; h != nil {
		if h.MAC == a.MAC {
			return true
		}
		g.Release(a.Index, a.IP)
	}
	if g.count >= AnnounceMost {
		g.Refused++
		return false
	}
	h := &hold{Announcement: a}
	s.held[a.IP] = h
	s.put(h, listFirst, now)
	s.stats.Taken++
	g.count++
	return true
}

func (s *segment) put(h *hold, list int, due int64) {
	h.due, h.list = due, list
	h.queued = s.lists[list].PushBack(h)
}

func (s *segment) drop(h *hold) {
	if h.queued != nil {
		s.lists[h.list].Remove(h.queued)
		h.queued = nil
	}
}

// Release ends it: what was still to be announced is not.
func (g *Agenda) Release(index int, ip netip.Addr) {
	s := g.segments[index]
	if s == nil || s.held[ip] == nil {
		return
	}
	s.drop(s.held[ip])
	delete(s.held, ip)
	s.stats.Released++
	g.count--
}

// Forget drops an interface that is gone, with its counters.
func (g *Agenda) Forget(index int) {
	if s := g.segments[index]; s != nil {
		g.count -= len(s.held)
		delete(g.segments, index)
	}
}

// Next takes what is to be announced now; Done must follow. If there is nothing, wait
// is how long, negative for ever.
func (g *Agenda) Next(now int64) (a Announcement, wait time.Duration, ok bool) {
	wait = -1
	for _, index := range slices.Sorted(maps.Keys(g.segments)) { // a few
		s := g.segments[index]
		h, in := s.next(now)
		if h == nil {
			if in > 0 && (wait < 0 || in < wait) {
				wait = in
			}
			continue
		}
		if s.bucket.take(g.limit, now) {
			s.drop(h)
			return h.Announcement, 0, true
		}
		if in = s.bucket.wait(g.limit); wait < 0 || in < wait {
			wait = in
		}
	}
	return a, wait, false
}

// next is what is due, the addresses that nobody has heard of before the others; or
// in how long something is, 0 if nothing is.
func (s *segment) next(now int64) (h *hold, in time.Duration) {
	for i := range s.lists {
		front := s.lists[i].Front()
		if front == nil {
			continue
		}
		h := front.Value.(*hold)
		if h.due <= now {
			return h, 0
		}
		if left := time.Duration(h.due - now); in == 0 || left < in {
			in = left
		}
	}
	return nil, in
}

// Done says what became of what Next gave.
func (g *Agenda) Done(a *Announcement, sent bool, now int64) {
	s := g.segments[a.Index]
	if s == nil || s.held[a.IP] == nil || s.held[a.IP].queued != nil {
		return // released meanwhile, and maybe held anew
	}
	h := s.held[a.IP]
	if !sent {
		s.stats.Failed++
		if h.failed++; h.failed < announceTries {
			s.put(h, listRetry, now+int64(announceRetry))
		}
		return
	}
	s.stats.Sent++
	if h.sent++; h.sent < AnnounceNum {
		s.put(h, listRepeat, now+int64(AnnounceInterval))
	}
}

// Holds reports whether an address is held on an interface.
func (g *Agenda) Holds(index int, ip netip.Addr) bool {
	s := g.segments[index]
	return s != nil && s.held[ip] != nil
}

// Claimed judges a claim of another station. It is a conflict if the address is held
// there, the last announcement has gone out, and the station does not stop: what was
// heard before is who had the address until now. Nothing is sent to defend it.
func (g *Agenda) Claimed(c Claim, now int64) (conflict bool) {
	s := g.segments[c.Index]
	if s == nil {
		return false
	}
	h := s.held[c.IP]
	if h == nil || h.queued != nil {
		return false
	}
	if h.suspect != c.MAC {
		h.suspect, h.since = c.MAC, now
		return false
	}
	return now-h.since >= int64(claimApart)
}

// Stats are the counters by interface.
func (g *Agenda) Stats() map[int]AnnounceStats {
	all := make(map[int]AnnounceStats, len(g.segments))
	for index, s := range g.segments {
		st := s.stats
		st.Held = len(s.held)
		for i := range s.lists {
			st.Waiting += s.lists[i].Len()
		}
		all[index] = st
	}
	return all
}
