package forward

import (
	"net/netip"

	"proxyarpd/forward/route"
)

// Waiting is a packet that waits in a Loop, for the Loop of another process to hold it
// on.
type Waiting struct {
	Buf      []byte // virtio_net_hdr and frame: as it came, or, of one with a Next, as it is to leave but for the MACs
	In       int32  // where it came in
	Received int64  // ns since 1970

	// Of one that waits for its next hop.
	Next netip.Addr // not valid: it waits for a route
	Out  int32      // the way to it
	MTU  int        // into fragments of which it goes; 0: it does not
	Made bool       // here: it came from nowhere

	// Of one that waits for a route.
	PktType  uint8 // PACKET_HOST, ...
	Ethernet bool
	Tag      Tag
}

// Halt has Run return when it has handled what it has in hand. What has not been
// received stays where it is, and what waits is kept. It is for any goroutine;
// another Run may follow.
func (l *Loop) Halt() {
	l.halted.Store(true)
	l.conn.Wake()
}

// Waiting gives the packets that wait, the oldest of each next hop first. Run must
// have returned. The packets stay the Loop's.
func (l *Loop) Waiting() (all []Waiting) {
	for key, h := range l.wait.hops.hops {
		for i := range h.packets {
			p := &h.packets[i]
			all = append(all, Waiting{Buf: p.buf, In: p.in, Received: p.received, Next: key.addr, Out: key.ifindex, MTU: p.mtu, Made: p.as != route.Forward})
		}
	}
	for i := range l.wait.misses.packets {
		m := &l.wait.misses.packets[i]
		all = append(all, Waiting{Buf: m.buf, In: m.in, Received: m.received, PktType: m.pktType, Ethernet: m.ethernet, Tag: m.tag})
	}
	return all
}

// Hold has packets wait that waited in a Loop of another process, or go if they need
// not any more: before anything that is received later. It comes after Publish and
// before Run.
func (l *Loop) Hold(all []Waiting) {
	if len(all) == 0 {
		return
	}
	l.turn.begin(l.taps.begin(l.wanted.Load()))
	for i := range all {
		if p := &all[i]; p.Next.IsValid() {
			l.holdOn(p)
		}
	}
	l.wait.retry()
	for i := range all {
		if p := &all[i]; !p.Next.IsValid() {
			// It is new here, and counted as such: what it counted as before was that it waits.
			l.handle(&Frame{Buf: p.Buf, Ifindex: p.In, PktType: p.PktType, Ethernet: p.Ethernet, Received: p.Received, Tag: p.Tag}, l.turn.now())
		}
	}
	l.emit.flush()
	l.wait.settle()
}

// holdOn keeps a packet that waits for its next hop.
func (l *Loop) holdOn(p *Waiting) {
	f := Frame{Buf: p.Buf, Ifindex: p.In, Received: p.Received}
	r := result{}
	r.Out, r.Next, r.Fragment, r.MTU = l.turn.table.Link(p.Out), p.Next, p.MTU != 0, p.MTU
	if !p.Made {
		if r.In = l.turn.table.Link(p.In); r.In == nil {
			r.In = &route.Link{Ifindex: p.In}
		}
	}
	if r.Out == nil {
		l.counters.end(route.DropIfUnknown, r.from(&f), 1)
		return
	}
	r.Neighbour = r.Out.Neighbour(p.Next)
	key := hopKey{ifindex: p.Out, addr: p.Next}
	ask, kept := l.wait.hops.add(key, &f, &r, l.turn.now())
	l.wait.await()
	for i := range l.wait.hops.evicted {
		l.wait.evict(&l.wait.hops.evicted[i], key, r.Out)
	}
	clear(l.wait.hops.evicted)
	if ask {
		l.opts.Resolve(key.ifindex, key.addr)
	}
	if !kept {
		l.counters.end(route.DropNeighQueueFull, r.from(&f), 1)
		l.drops.held(&f, &r, route.DropNeighQueueFull)
	}
}
