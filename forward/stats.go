package forward

import (
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
	ByVerdict  Counts
}

// Counters count packets by how they ended. GSO super-packets count as one.
// Any goroutine may read them.
type Counters struct {
	in, out  atomic.Uint64
	bytesOut atomic.Uint64
	returned atomic.Uint64
	ends     counters
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
	return Stats{PacketsIn: c.in.Load(), PacketsOut: c.out.Load(), BytesOut: c.bytesOut.Load(),
		Returned: c.returned.Load(), ByVerdict: c.ends.load()}
}
