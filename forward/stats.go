package forward

import "sync/atomic"

// Counters count packets by how they ended. GSO super-packets count as one.
// Any goroutine may read them.
type Counters struct {
	in, out  atomic.Uint64
	bytesOut atomic.Uint64
	verdicts [numVerdicts]atomic.Uint64
	batches  atomic.Uint64
	returned atomic.Uint64
}

// Stats is a reading of Counters.
type Stats struct {
	PacketsIn  uint64 // taken from the ring
	PacketsOut uint64 // sent, fragments and ICMP errors counted each
	BytesOut   uint64 // from the network layer on
	Batches    uint64
	Returned   uint64             // of PacketsIn, given back to the kernel
	Verdicts   map[Verdict]uint64 // those that occurred
}

// Read takes a reading.
func (c *Counters) Read() Stats {
	s := Stats{PacketsIn: c.in.Load(), PacketsOut: c.out.Load(), BytesOut: c.bytesOut.Load(),
		Batches: c.batches.Load(), Returned: c.returned.Load(), Verdicts: map[Verdict]uint64{}}
	for v := range c.verdicts {
		if n := c.verdicts[v].Load(); n > 0 {
			s.Verdicts[Verdict(v)] = n
		}
	}
	return s
}
