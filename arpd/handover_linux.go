package arpd

// Handed is the socket of another process's Responder, whose Run has returned or is
// about to: the frames wait in it. The descriptor is the Responder's from then on.
type Handed struct{ FD int }

// HeldFrame is a request that waits for the news of a route.
type HeldFrame struct {
	Data      []byte // from the link-layer header
	Ifindex   int
	OtherHost bool  // PACKET_OTHERHOST
	VLAN      bool  // it bore a tag
	Taken     bool  // it bore MarkTaken
	Received  int64 // ns since 1970, 0: not known
}

// Counted is what Stats has counted, by the names of verdicts.
type Counted struct {
	ByVerdict           map[string]uint64
	Unrouted, Unlearned uint64
	Defended            uint64
	Times               AnswerTimes
	Interfaces          map[int]CountedInterface
}

// CountedInterface is the part of an interface.
type CountedInterface struct {
	ByVerdict           map[string]uint64
	Unrouted, Unlearned uint64
	Defended            uint64
}

// FD is the socket's descriptor, which stays the Responder's.
func (r *Responder) FD() int { return int(r.sock.raw) }

// Held are the requests that wait. Run must have returned.
func (r *Responder) Held() (all []HeldFrame) {
	for i := range r.held.slots[:r.held.n] {
		h := &r.held.slots[i]
		all = append(all, HeldFrame{Data: h.data, Ifindex: h.ifindex, OtherHost: h.otherhost, VLAN: h.vlan, Taken: h.taken, Received: h.received})
	}
	return all
}

// Counted is what has been counted so far.
func (r *Responder) Counted() Counted {
	s := r.Stats()
	c := Counted{ByVerdict: named(&s.ByVerdict), Unrouted: s.Unrouted, Unlearned: s.Unlearned, Defended: s.Defended, Times: s.AnswerTimes, Interfaces: map[int]CountedInterface{}}
	for index, i := range s.Interfaces {
		c.Interfaces[index] = CountedInterface{named(&i.ByVerdict), i.Unrouted, i.Unlearned, i.Defended}
	}
	return c
}

func named(c *Counts) map[string]uint64 {
	m := map[string]uint64{}
	for v, n := range c {
		if n > 0 {
			m[Verdict(v).String()] = n
		}
	}
	return m
}

// Refilter attaches another socket filter, as Options.Filter.
func (r *Responder) Refilter(attach func(fd int) error) error { return attach(r.FD()) }

// GoOn has a Responder of Options.Handed take what the other one held, and count on
// from there. It comes after the first Publish, and before Run.
func (r *Responder) GoOn(held []HeldFrame, c *Counted) {
	r.total.add(c.ByVerdict)
	r.unrouted.Add(c.Unrouted)
	r.unlearned.Add(c.Unlearned)
	r.defended.Add(c.Defended)
	for i, n := range c.Times.Counts {
		r.times.counts[i].Add(n)
	}
	r.times.sum.Add(int64(c.Times.Sum))
	now := r.now()
	published := *r.ports.snap.Load()
	for index, i := range c.Interfaces {
		if e := published[index]; e != nil {
			e.port.counts.add(i.ByVerdict)
			e.port.unrouted.Add(i.Unrouted)
			e.port.unlearned.Add(i.Unlearned)
			e.port.defended.Add(i.Defended)
		}
	}
	snap, tap := r.begin()
	r.news = newsUnasked
	for i := range held[:min(len(held), heldRequests)] {
		h := &held[i]
		r.take(frame{data: h.Data, ifindex: h.Ifindex, otherhost: h.OtherHost, vlan: h.VLAN, taken: h.Taken, received: h.Received}, *snap, now, tap)
	}
	r.flushAll(tap)
}

func (c *counters) add(named map[string]uint64) {
	for v := range c {
		if n := named[Verdict(v).String()]; n > 0 {
			c[v].Add(n)
		}
	}
}
