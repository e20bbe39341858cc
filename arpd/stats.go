package arpd

import "sync/atomic"

// Counts is a number of frames for each Verdict.
type Counts [NumVerdicts]uint64

// InterfaceStats counts the frames of one workload interface.
type InterfaceStats struct {
	Requests uint64 // well-formed requests, whatever became of them
	Replies  uint64 // those that were answered
	// Unrouted counts those of the answered requests for a gateway whose sender
	// has an address that is not routed to this interface. Requests that are
	// answered while the kernel's news of routes is behind are not looked at.
	Unrouted uint64
	// Unlearned counts those of the answered requests whose sender was left out
	// of Options.Neighbours: the interface has had its share, or too many wait.
	Unlearned uint64
	// Defended counts those of the answered requests that were probes for an address, or
	// duplicate address detection: who sent them may not use it.
	Defended  uint64
	ByVerdict Counts
}

// Stats is a snapshot of the counters of a Responder. The counters move on while
// it is taken; none ever goes back, but for an interface that was forgotten.
type Stats struct {
	// ByVerdict counts every frame since Open, also those of interfaces that
	// are gone or no workloads. DropReceiveOverflow is known here only: the
	// kernel counts it for the socket, not for an interface.
	ByVerdict   Counts
	Unrouted    uint64 // as in InterfaceStats, of all interfaces
	Unlearned   uint64 // as in InterfaceStats, of all interfaces
	Defended    uint64 // as in InterfaceStats, of all interfaces
	AnswerTimes AnswerTimes
	// Interfaces has the workload interfaces that are published, and those that
	// Lookup told of and no Publish did yet, by ifindex.
	Interfaces map[int]InterfaceStats
}

// counters has one writer at a time (Run) and any number of readers.
type counters [NumVerdicts]atomic.Uint64

func (c *counters) load() (out Counts) {
	for v := range c {
		out[v] = c[v].Load()
	}
	return out
}

func (p *port) stats() InterfaceStats {
	s := InterfaceStats{ByVerdict: p.counts.load(), Unrouted: p.unrouted.Load(), Unlearned: p.unlearned.Load(), Defended: p.defended.Load()}
	for v, n := range s.ByVerdict {
		if Verdict(v).Request() {
			s.Requests += n
		}
	}
	s.Replies = s.ByVerdict[Answered]
	return s
}

// Stats takes a snapshot. It may be called at any time, also after Close.
func (r *Responder) Stats() Stats {
	r.total[DropReceiveOverflow].Add(r.sock.drops())
	return Stats{AnswerTimes: r.times.load(), ByVerdict: r.total.load(), Unrouted: r.unrouted.Load(), Unlearned: r.unlearned.Load(), Defended: r.defended.Load(), Interfaces: r.ports.stats()}
}
