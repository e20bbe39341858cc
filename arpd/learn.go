package arpd

import (
	"net/netip"

	"proxyarpd/internal/wire"
)

// Rate of changes to the neighbour table that one interface may bring about: each
// takes the kernel's RTNL lock, and the table is bounded for all of the host. A
// pod has an address or two.
const (
	learnRate  = 10
	learnBurst = 64
)

// Asker is who has asked for something that is answered.
type Asker struct {
	Index  int // of the interface
	IP     netip.Addr
	MAC    wire.MAC // ar$sha: where the answer goes
	Target netip.Addr
}

// Neighbours is the host's neighbour table. It learns who asks, as the kernel's
// does for what proxy_arp answers (neigh_event_ns in net/core/neighbour.c, as
// arp_process in net/ipv4/arp.c calls it), so that a workload is reachable from
// its first request on, without an exchange in the other direction.
//
// Both are called on Run's goroutine and must not block.
type Neighbours interface {
	// Lacks reports whether there is anything to learn: the asker may be
	// learnt, and the table has not got it, or with another MAC.
	Lacks(Asker) bool
	// Learn has the table changed, soon. It is false if there is no room for one
	// more that waits.
	Learn(Asker) bool
}

// asker is who sent a request.
func (q *Request) asker(p *Policy) Asker {
	return Asker{Index: p.Index, IP: q.SenderIP, MAC: q.senderMAC(), Target: q.TargetIP}
}

// learn hands the sender of a request on that is to be answered, beside the
// answer. A probe has no sender.
func (r *Responder) learn(q *Request, e *entry, now int64) {
	if r.neighbours == nil || q.isProbe() {
		return
	}
	who := q.asker(e.policy)
	if !r.neighbours.Lacks(who) {
		return
	}
	if !e.port.learn.take(r.ports.learn, now) || !r.neighbours.Learn(who) {
		e.port.unlearned.Add(1)
		r.unlearned.Add(1)
	}
}
