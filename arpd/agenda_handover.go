package arpd

import (
	"cmp"
	"slices"
	"time"
)

// HandedAgenda is what an Agenda knows, for another process that holds the same
// addresses from now on.
type HandedAgenda struct {
	Held    []HandedAddress
	Counted map[int]AnnounceStats // by interface
	Refused uint64
}

// HandedAddress is an address that is held.
type HandedAddress struct {
	Announcement
	Sent, Failed int
	Wait         time.Duration // until it is to be announced again; negative: it is not
}

// HandOver says what is known. The Agenda stays as it is.
func (g *Agenda) HandOver(now int64) (h HandedAgenda) {
	h.Counted, h.Refused = g.Stats(), g.Refused
	for _, s := range g.segments {
		for _, a := range s.held {
			one := HandedAddress{Announcement: a.Announcement, Sent: a.sent, Failed: a.failed, Wait: -1}
			if a.queued != nil {
				one.Wait = max(0, time.Duration(a.due-now))
			}
			h.Held = append(h.Held, one)
		}
	}
	// As its lists want them: what is due first is first.
	slices.SortFunc(h.Held, func(a, b HandedAddress) int { return cmp.Compare(a.Wait, b.Wait) })
	return h
}

// GoOn has an Agenda that has announced nothing yet know what another one did: what is
// held here as it was there goes on from there, all else begins. Of interfaces of which
// nothing is held here the counters are left out.
func (g *Agenda) GoOn(h *HandedAgenda, now int64) {
	g.Refused += h.Refused
	for index, c := range h.Counted {
		if s := g.segments[index]; s != nil {
			s.stats.Taken += c.Taken
			s.stats.Released += c.Released + uint64(c.Held)
			s.stats.Sent += c.Sent
			s.stats.Failed += c.Failed
			if c.Waiting > 0 {
				s.bucket = bucket{last: now} // the burst was the other one's
			}
		}
	}
	for i := range h.Held {
		was := &h.Held[i]
		s := g.segments[was.Index]
		if s == nil || s.held[was.IP] == nil || s.held[was.IP].Announcement != was.Announcement {
			continue
		}
		a := s.held[was.IP]
		s.stats.Taken-- // once is enough, and it has not ended
		s.stats.Released--
		s.drop(a)
		a.sent, a.failed = was.Sent, was.Failed
		switch {
		case was.Wait < 0:
		case was.Sent == 0 && was.Failed == 0:
			s.put(a, listFirst, now)
		case was.Sent == 0:
			s.put(a, listRetry, now+int64(min(was.Wait, announceRetry)))
		default:
			s.put(a, listRepeat, now+int64(min(was.Wait, AnnounceInterval)))
		}
	}
}
