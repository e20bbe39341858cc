package daemon

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"proxyarpd/arpd"
	"proxyarpd/forward/route"
	"proxyarpd/internal/printable"
	"proxyarpd/internal/status"
)

// Kinds of conflicts.
const (
	foreignAnswer = "foreign-answer" // somebody else says that a gateway's address is its own
	addressTwice  = "address-twice"  // a workload uses an address that is routed to another one
	uplinkClaim   = "uplink-claim"   // a station of an uplink's network goes on claiming a workload's address
)

// Bounds of what is kept.
const (
	conflictsKept  = 64  // of the latest
	unroutedQueued = 256 // requests that wait to be looked at
	claimsQueued   = 256 // so do claims
)

// conflicts are those who claim addresses that are not theirs. They are counted by
// interface, the latest are kept, and logged once a minute each.
type conflicts struct {
	unrouted chan arpd.Asker
	claims   chan arpd.Claim

	mu     sync.Mutex
	counts map[int]conflictCounts // by interface
	recent []*conflict
	said   saidOnce
}

type conflictCounts struct{ foreign, twice, uplink uint64 }

// conflict is one claim, however often it is made.
type conflict struct {
	kind     string
	index    int // of the interface where it is made
	ip       netip.Addr
	mac      macAddr
	other    int     // of the interface that the address is routed to; 0: it is a gateway's
	otherMAC macAddr // of its neighbour there
	count    uint64
	last     time.Time
}

func newConflicts() *conflicts {
	return &conflicts{unrouted: make(chan arpd.Asker, unroutedQueued), claims: make(chan arpd.Claim, claimsQueued), counts: map[int]conflictCounts{}}
}

// tell takes a request whose sender is not routed to where it came from. It is
// called by the responder, and does not wait: of a flood some are left out.
func (c *conflicts) tell(a arpd.Asker) {
	select {
	case c.unrouted <- a:
	default:
	}
}

// note counts a conflict, and reports whether it is to be logged.
func (c *conflicts) note(n conflict) (say bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	counts := c.counts[n.index]
	switch n.kind {
	case foreignAnswer:
		counts.foreign++
	case uplinkClaim:
		counts.uplink++
	default:
		counts.twice++
	}
	c.counts[n.index] = counts
	at := slices.IndexFunc(c.recent, func(o *conflict) bool {
		return o.kind == n.kind && o.index == n.index && o.ip == n.ip && o.mac == n.mac
	})
	switch {
	case at >= 0:
		n.count = c.recent[at].count
		c.recent = slices.Delete(c.recent, at, at+1)
	case len(c.recent) == conflictsKept: // the oldest
		c.recent = slices.Delete(c.recent, 0, 1)
	}
	n.count++
	c.recent = append(c.recent, &n)
	return c.said.first(n.kind+n.ip.String()+n.mac.String(), n.last)
}

// forget drops what was counted of an interface that is served no more.
func (c *conflicts) forget(index int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.counts, index)
	c.recent = slices.DeleteFunc(c.recent, func(o *conflict) bool { return o.index == index })
}

func (c *conflicts) of(index int) conflictCounts {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.counts[index]
}

// isForeign reports whether a claim of a gateway's address is somebody else's: not of
// a MAC of ours, on an interface that is served.
func isForeign(t *route.Table, cfg *Config, c arpd.Claim) bool {
	l := t.Link(int32(c.Index))
	return l != nil && l.Flags&(route.LinkWorkload|route.LinkUplink) != 0 && slices.Contains(cfg.Gateways, c.IP) &&
		c.MAC != cfg.MAC && c.MAC != l.MAC && !slices.Contains(l.Aliases[:], c.MAC)
}

// rightful is the workload interface that an address is routed to, if it is another
// than where somebody uses it; nil if there is none.
func rightful(t *route.Table, ip netip.Addr, index int) *route.Link {
	if t.LeadsTo(ip, int32(index)) {
		return nil
	}
	r := t.Lookup(ip, unspecified(ip), 1, 0)
	if r == nil || r.Type != route.TypeUnicast || len(r.Nexthops) == 0 {
		return nil
	}
	l := t.Link(r.Nexthops[0].Ifindex)
	if l == nil || l.Flags&route.LinkWorkload == 0 {
		return nil
	}
	return l
}

// unspecified is the unspecified address of an address's family.
func unspecified(ip netip.Addr) netip.Addr {
	if ip.Is6() {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

// heardClaim takes a claim of a gateway's address.
func (d *Daemon) heardClaim(c arpd.Claim) {
	t := d.proxy.table.Load()
	if t == nil || !isForeign(t, d.config(), c) {
		return
	}
	if d.conflicts.note(conflict{kind: foreignAnswer, index: c.Index, ip: c.IP, mac: c.MAC, last: time.Now()}) {
		d.log.Warn("somebody else says that it is the gateway: who believes it sends its packets there", "gateway", c.IP, "mac", c.MAC, "interface", t.Link(int32(c.Index)).Name)
	}
}

// tellClaim takes a claim of an address of --answer-uplink. It is called by the
// responder, and waits for nothing but a moment's lock: of a flood some are left out.
func (d *Daemon) tellClaim(c arpd.Claim) {
	if !d.announcer.Holds(c.Index, c.IP) {
		return // a station's own address, in all likelihood
	}
	select {
	case d.conflicts.claims <- c:
	default:
	}
}

// heardUplinkClaim takes a claim of an address that is held on that uplink. The route
// decides all the same: nothing is sent.
func (d *Daemon) heardUplinkClaim(c arpd.Claim) {
	t := d.proxy.table.Load()
	if t == nil || !d.announcer.Claimed(c) {
		return
	}
	n := conflict{kind: uplinkClaim, index: c.Index, ip: c.IP, mac: c.MAC, last: time.Now()}
	routedTo := ""
	if to := rightful(t, c.IP, c.Index); to != nil {
		n.other, routedTo = int(to.Ifindex), to.Name
		if has := to.Neighbour(c.IP); has != nil && has.Valid {
			n.otherMAC = has.MAC
		}
	}
	if here := t.Link(int32(c.Index)); d.conflicts.note(n) && here != nil {
		d.log.Warn("somebody else claims an address that is routed to a workload here: stations may send to either", "address", c.IP, "mac", c.MAC, "interface", here.Name, "routed_to", routedTo)
	}
}

// watchConflicts looks at who uses an address that is not routed to it, whether it is
// another workload's, and at claims on uplinks.
func (d *Daemon) watchConflicts(ctx context.Context) {
	for {
		select {
		case a := <-d.conflicts.unrouted:
			d.heardUnrouted(a)
		case c := <-d.conflicts.claims:
			d.heardUplinkClaim(c)
		case <-ctx.Done():
			return
		}
	}
}

func (d *Daemon) heardUnrouted(a arpd.Asker) {
	t := d.proxy.table.Load()
	if t == nil {
		return
	}
	to := rightful(t, a.IP, a.Index)
	if to == nil {
		return
	}
	n := conflict{kind: addressTwice, index: a.Index, ip: a.IP, mac: a.MAC, other: int(to.Ifindex), last: time.Now()}
	if has := to.Neighbour(a.IP); has != nil && has.Valid {
		n.otherMAC = has.MAC
	}
	if here := t.Link(int32(a.Index)); d.conflicts.note(n) && here != nil {
		d.log.Warn("a workload uses an address that is routed to another one", "address", a.IP, "interface", here.Name, "mac", a.MAC, "routed_to", to.Name, "its_mac", n.otherMAC)
	}
}

// conflictStatus gives the latest conflicts, newest first. Names are the owner's.
func (o *owner) conflictStatus() []status.Conflict {
	all := []status.Conflict{}
	if o.conflicts == nil {
		return all
	}
	name := func(index int) string {
		if l := o.links[index]; l != nil {
			return printable.UTF8(l.Name)
		}
		return ""
	}
	o.conflicts.mu.Lock()
	defer o.conflicts.mu.Unlock()
	for _, c := range o.conflicts.recent {
		s := status.Conflict{Kind: c.kind, Interface: name(c.index), Address: c.ip.String(), MAC: c.mac.String(), Other: name(c.other), Count: c.count, Last: c.last}
		if !c.otherMAC.IsZero() {
			s.OtherMAC = c.otherMAC.String()
		}
		all = append(all, s)
	}
	slices.SortStableFunc(all, func(a, b status.Conflict) int {
		return cmp.Or(b.Last.Compare(a.Last), cmp.Compare(a.Interface, b.Interface))
	})
	return all
}
