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

// Asker is who asks for what, by ARP or neighbour discovery.
type Asker struct {
	Index  int        // of the interface
	IP     netip.Addr // 0.0.0.0 or :: of a probe
	MAC    wire.MAC   // where the answer goes: ar$sha, or the source link-layer address
	Target netip.Addr
	// Unsaid: MAC is that of the frame's sender, for the message does not say whose IP
	// is. The answer goes there, and nothing is learnt (RFC 4861 section 7.2.3).
	Unsaid bool
}

// IsProbe reports an address probe (RFC 5227 section 2.1.1) or duplicate address
// detection (RFC 4862 section 5.4): who asks has no address yet.
func (a Asker) IsProbe() bool { return a.IP.IsUnspecified() }

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

// learn hands the sender of a request on that is to be answered, beside the
// answer. A probe has no sender.
func (r *Responder) learn(who Asker, e *entry, now int64) {
	if r.neighbours == nil || who.IsProbe() || who.Unsaid || !r.neighbours.Lacks(who) {
		return
	}
	if !e.port.learn.take(r.ports.learn, now) || !r.neighbours.Learn(who) {
		e.port.unlearned.Add(1)
		r.unlearned.Add(1)
	}
}
