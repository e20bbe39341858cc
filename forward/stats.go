package forward

import (
	"math/bits"
	"sync/atomic"

	"proxyarpd/forward/route"
)

// Counts is a number of packets for each Verdict.
type Counts [route.NumVerdicts]uint64

// Stats is a snapshot of Counters. They move on while it is taken; none ever
// goes back.
type Stats struct {
	PacketsIn  uint64 // taken from the ring
	PacketsOut uint64 // sent, fragments and ICMP errors counted each
	BytesOut   uint64 // from the network layer on
	Returned   uint64 // of PacketsIn, given back to the kernel
	Waiting    int64  // packets that wait now
	Super      Super
	ByVerdict  Counts
	Places     map[Place]uint64 // ByVerdict by where packets came in
}

// Add adds what another loop counted.
func (s *Stats) Add(o Stats) {
	s.PacketsIn += o.PacketsIn
	s.PacketsOut += o.PacketsOut
	s.BytesOut += o.BytesOut
	s.Returned += o.Returned
	s.Waiting += o.Waiting
	s.Super.Packets += o.Super.Packets
	s.Super.Datagrams += o.Super.Datagrams
	for i, n := range o.Super.Lengths {
		s.Super.Lengths[i] += n
	}
	for v, n := range o.ByVerdict {
		s.ByVerdict[v] += n
	}
	if s.Places == nil {
		s.Places = map[Place]uint64{}
	}
	for p, n := range o.Places {
		s.Places[p] += n
	}
}

// Super counts the super-packets that were made here and sent.
type Super struct {
	Packets   uint64
	Datagrams uint64               // in them
	Lengths   [SuperClasses]uint64 // packets by datagrams in them: 2 and 3, 4 to 7, ... 64
}

// SuperClasses is how many classes of lengths there are.
const SuperClasses = 6

// Counters count packets by how they ended. GSO super-packets count as one.
// Any goroutine may read them.
type Counters struct {
	in, out  atomic.Uint64
	bytesOut atomic.Uint64
	returned atomic.Uint64
	waiting  atomic.Int64
	ends     counters
	places   places

	superDatagrams atomic.Uint64
	supers         [SuperClasses]atomic.Uint64
}

// end counts n packets that came in by an interface; 0 is none.
func (c *Counters) end(v route.Verdict, ifindex int32, n uint64) {
	c.ends[v].Add(n)
	c.places.add(v, ifindex, n)
}

// super counts a super-packet of n datagrams.
func (c *Counters) super(n int) {
	c.superDatagrams.Add(uint64(n))
	c.supers[min(bits.Len(uint(n))-2, SuperClasses-1)].Add(1)
}

// counters has one writer (Loop.Run) and any number of readers.
type counters [route.NumVerdicts]atomic.Uint64

func (c *counters) load() (out Counts) {
	for v := range c {
		out[v] = c[v].Load()
	}
	return out
}

// Read takes a snapshot.
func (c *Counters) Read() Stats {
	s := Stats{PacketsIn: c.in.Load(), PacketsOut: c.out.Load(), BytesOut: c.bytesOut.Load(),
		Returned: c.returned.Load(), Waiting: c.waiting.Load(), ByVerdict: c.ends.load(), Places: c.places.load()}
	s.Super.Datagrams = c.superDatagrams.Load()
	for i := range c.supers {
		s.Super.Lengths[i] = c.supers[i].Load()
		s.Super.Packets += s.Super.Lengths[i]
	}
	return s
}
