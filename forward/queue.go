package forward

import (
	"cmp"
	"math/bits"
	"net/netip"
	"slices"

	"proxyarpd/forward/route"
)

// Limits of the packets that wait for a next hop in all loops together, besides
// QueueBytes of route.LinkConf and LinkConf6: they keep a scan of addresses from growing the process.
const (
	queueBytesTotal = 8 << 20
	queueHops       = 4096
	shareHops       = 512                 // of one ingress interface: half of net.ipv4.neigh.default.gc_thresh3
	shareBytes      = queueBytesTotal / 4 // of one ingress interface
	queueRetry      = second              // an unanswered next hop is named to the kernel again
	queueGrace      = 2 * second          // beyond hopConf.resolve, if the kernel never tells how it ended
	queueTick       = 100 * 1000000       // how often time-outs are looked at, ns
	queueSoon       = 2                   // how often a next hop that the table does not know is named again before queueRetry
)

// hopConf is what a link's settings say of a next hop there.
type hopConf struct {
	bytes   int   // how much may wait for it, in bytes of memory
	resolve int64 // how long the kernel tries to resolve it, ns
	silent  bool  // the kernel does not: it fails at once
}

// hopConfOf reads them: of the table of IPv6 neighbours for an IPv6 address, also where it
// is IPv4's next hop.
func hopConfOf(l *route.Link, addr netip.Addr) hopConf {
	c := hopConf{bytes: l.Conf.QueueBytes, resolve: l.Conf.ResolveTime, silent: l.Conf.NoSolicit}
	if addr.Is6() {
		c = hopConf{bytes: l.Conf6.QueueBytes, resolve: l.Conf6.ResolveTime, silent: l.Conf6.NoSolicit}
	}
	if c.bytes == 0 {
		c.bytes = 212992
	}
	if c.resolve == 0 {
		c.resolve = 3 * second
	}
	return c
}

type hopKey struct {
	ifindex int32
	addr    netip.Addr
}

type waiting struct {
	buf []byte        // virtio_net_hdr and frame, TTL or hop limit already decremented
	in  int32         // ingress
	mtu int           // 0: not to be fragmented
	as  route.Verdict // what it counts as when it leaves

	id       uint64
	received int64 // ns since 1970
	rule     *route.Rule
	route    *route.Route
	came     cameAs
}

// from is where it came in, 0 if it was made here.
func (w *waiting) from() int32 {
	if w.as != route.Forward {
		return 0
	}
	return w.in
}

type hop struct {
	packets []waiting
	held    *heldHop // what all loops have of it
	since   int64
	turn    uint64           // when it was first waited for, among all
	known   *route.Neighbour // as it was when the first packet came
	up      bool             // the way out had carrier then
}

// hopQueue holds packets whose next hop has no MAC yet. It belongs to the loop;
// what it may hold depends on what others do.
type hopQueue struct {
	hops map[hopKey]*hop
	n    int // packets
	held *held
	came uint64 // hops that were waited for so far
	list []hopTurn

	evicted []waiting // by the last add: the caller's until the next
}

// last is the packet that was added last to a hop.
func (q *hopQueue) last(key hopKey) *waiting {
	p := q.hops[key].packets
	return &p[len(p)-1]
}

// hopTurn is a hop's place among all that were waited for.
type hopTurn struct {
	turn uint64
	key  hopKey
}

// inOrder gives the hops in the order in which they were first waited for, as the kernel's
// timers go off. The slice is good until the next call.
func (q *hopQueue) inOrder() []hopTurn {
	q.list = q.list[:0]
	for key, h := range q.hops {
		q.list = append(q.list, hopTurn{h.turn, key})
	}
	slices.SortFunc(q.list, func(a, b hopTurn) int { return cmp.Compare(a.turn, b.turn) })
	return q.list
}

func (q *hopQueue) empty() bool { return len(q.hops) == 0 }

// truesize is what the kernel counts for a packet in such a queue: the memory
// of a buffer that a socket or a driver has made (include/linux/skbuff.h,
// SKB_TRUESIZE), struct sk_buff and skb_shared_info included. size is that of
// virtio_net_hdr and frame, in bytes.
func truesize(size int) int {
	const (
		skb, sharedInfo = 256, 320
		pad             = 64  // NET_SKB_PAD
		smallHead       = 576 // net/core/skbuff.c, SKB_SMALL_HEAD_CACHE_SIZE
		bySlab          = 8192
	)
	head := size - VnetLen + pad + sharedInfo
	switch {
	case head <= smallHead:
		return skb + smallHead
	case head <= bySlab:
		return skb + 1<<bits.Len(uint(head-1))
	}
	return skb + head
}

// add keeps a copy of the frame, if there is room. ask is true when the kernel
// should be asked to resolve the hop. The oldest packets of the same hop may
// have to give way, as in the kernel: they are in evicted. Packets of the hop that
// other loops hold stay.
func (q *hopQueue) add(key hopKey, f *Frame, r *result, now int64) (ask, kept bool) {
	q.evicted = q.evicted[:0]
	w := waiting{in: f.Ifindex, as: route.Forward, id: f.id, received: f.Received, rule: r.Rule, route: r.Route}
	if r.In == nil {
		w.in, w.as = 0, route.Originate // ours: it came from nowhere
	}
	h, ask, kept := q.reserve(key, w.in, truesize(len(f.Buf)), r, now)
	if !kept {
		return ask, false
	}
	w.buf = append([]byte(nil), f.Buf...)
	if r.Fragment {
		w.mtu = r.MTU
	}
	h.packets = append(h.packets, w)
	q.n++
	return ask, true
}

// reserve makes room for a packet of size bytes.
func (q *hopQueue) reserve(key hopKey, in int32, size int, r *result, now int64) (h *hop, ask, kept bool) {
	q.held.mu.Lock()
	defer q.held.mu.Unlock()
	if q.held.shareOf(in).bytes+size > shareBytes {
		return nil, false, false
	}
	h = q.hops[key]
	if h == nil {
		if h, ask = q.join(key, in, size, r, now); h == nil {
			return nil, false, false
		}
	}
	limit := hopConfOf(r.Out, key.addr).bytes
	over := func() bool { return h.held.bytes+size > limit || q.held.bytes+size > queueBytesTotal }
	for len(h.packets) > 0 && over() {
		q.held.take(h.held, h.packets[0].in, -truesize(len(h.packets[0].buf)))
		q.evicted = append(q.evicted, h.packets[0])
		q.n--
		h.packets[0] = waiting{}
		h.packets = h.packets[1:]
	}
	if q.held.bytes+size > queueBytesTotal || h.held.loops > 1 && over() {
		return h, ask, false
	}
	q.held.take(h.held, in, size)
	return h, ask, true
}

// join makes a hop of this loop's. The kernel is asked for it unless another loop has
// just done so.
func (q *hopQueue) join(key hopKey, in int32, size int, r *result, now int64) (h *hop, ask bool) {
	shared, made := q.held.hop(key, in, size)
	if shared == nil {
		return nil, false
	}
	if ask = made || now-shared.asked >= queueTick; ask {
		shared.asked, shared.asks, shared.mac = now, 0, r.Out.MAC
	}
	shared.loops++
	h = &hop{held: shared, since: now, known: r.Neighbour, up: r.Out.Up()}
	if q.hops == nil {
		q.hops = make(map[hopKey]*hop)
	}
	q.came++
	h.turn = q.came
	q.hops[key] = h
	return h, ask
}

// state says what has become of a hop in t.
func (h *hop) state(t *route.Table, key hopKey, now int64) (out *route.Link, n *route.Neighbour, v route.Verdict) {
	out = t.Link(key.ifindex)
	switch {
	case out == nil:
		return nil, nil, route.DropIfUnknown
	case !out.Up() && h.up:
		return nil, nil, route.DropIfDown // the kernel forgets what waits when the carrier goes (neigh_carrier_down)
	}
	n = out.Neighbour(key.addr)
	switch {
	case n != nil && n.Valid:
		return out, n, route.Forward
	case n != nil && n.Failed && n != h.known, now-h.since > hopConfOf(out, key.addr).resolve+queueGrace:
		return out, n, route.DropNeighFailed
	}
	return out, n, route.Queue
}

// again reports whether the kernel is to be asked once more: it has not
// answered, or has forgotten the question, as it does with all of an
// interface's neighbours when that gets another MAC. One loop asks for all.
//
// n is the entry as the table has it. If it has none, somebody may have removed it
// as soon as it was resolved, which no table has shown: the first two times it is
// asked again sooner.
func (q *hopQueue) again(h *heldHop, out *route.Link, n *route.Neighbour, now int64) bool {
	q.held.mu.Lock()
	defer q.held.mu.Unlock()
	pause := int64(queueRetry)
	if n == nil && h.asks < queueSoon {
		pause = queueTick << h.asks
	}
	if now-h.asked < pause && out.MAC == h.mac {
		return false
	}
	h.asked, h.mac = now, out.MAC
	h.asks = min(h.asks+1, queueSoon)
	return true
}

// remove takes a hop out of the queue.
func (q *hopQueue) remove(key hopKey, h *hop) {
	q.held.mu.Lock()
	defer q.held.mu.Unlock()
	for i := range h.packets {
		q.held.take(h.held, h.packets[i].in, -truesize(len(h.packets[i].buf)))
	}
	q.n -= len(h.packets)
	q.held.leave(key, h.held)
	delete(q.hops, key)
}

// Limits of the packets that wait for a route in all loops together: see missQueue.
const (
	missHold    = 100 * 1000000 // ns: how far the events are behind where others take the CPUs
	missTick    = 2 * 1000000   // ns: how often it is asked whether they have come
	missPackets = 128
	missShare   = missPackets / 2 // of one interface
	missBytes   = 1 << 20
)

// missQueue holds packets for which there was no way, for a moment: the kernel
// has routes and links an instant before its events have told of them, and a
// packet to a pod that was just made must not be answered with "unreachable".
// Only few are held, so that a flood to nowhere is decided at once.
type missQueue struct {
	packets []missed
	held    *held // how many all loops have
}

type missed struct {
	buf      []byte
	in       int32
	pktType  uint8
	ethernet bool
	tag      Tag
	since    int64
	received int64 // ns since 1970
	id       uint64
}

func (q *missQueue) empty() bool { return len(q.packets) == 0 }

// add keeps a copy of a frame that step left as it was; false if it is full.
func (q *missQueue) add(f *Frame, now int64) bool {
	if !q.held.takeMiss(f.Ifindex, len(f.Buf)) {
		return false
	}
	q.packets = append(q.packets, missed{buf: append([]byte(nil), f.Buf...), in: f.Ifindex, pktType: f.PktType, ethernet: f.Ethernet, tag: f.Tag, since: now,
		received: f.Received, id: f.id})
	return true
}

// frame is the frame as it came.
func (m *missed) frame() Frame {
	return Frame{Buf: m.buf, Ifindex: m.in, PktType: m.pktType, Ethernet: m.ethernet, Received: m.received, id: m.id, Tag: m.tag}
}

// take empties the queue.
func (q *missQueue) take() []missed {
	p := q.packets
	q.packets = nil
	q.held.giveMisses(p)
	return p
}
