package forward

import (
	"math/bits"
	"net/netip"

	"proxyarpd/forward/route"
	"proxyarpd/internal/wire"
)

// Limits of the packets that wait for a next hop, besides route.LinkConf.QueueBytes:
// they keep a scan of addresses from growing the process.
const (
	queueBytesTotal = 8 << 20
	queueHops       = 4096
	shareHops       = 512                 // of one ingress interface: half of net.ipv4.neigh.default.gc_thresh3
	shareBytes      = queueBytesTotal / 4 // of one ingress interface
	queueRetry      = second              // an unanswered next hop is named to the kernel again
	queueGrace      = 2 * second          // beyond route.LinkConf.ResolveTime, if the kernel never tells how it ended
	queueTick       = 100 * 1000000       // how often time-outs are looked at, ns
	queueSoon       = 2                   // how often a next hop that the table does not know is named again before queueRetry
)

// queueBytes is how much may wait for one next hop, in bytes of memory.
func queueBytes(c *route.LinkConf) int {
	if c.QueueBytes == 0 {
		return 212992
	}
	return c.QueueBytes
}

// resolveTime is how long the kernel tries to resolve a next hop, in ns.
func resolveTime(c *route.LinkConf) int64 {
	if c.ResolveTime == 0 {
		return 3 * second
	}
	return c.ResolveTime
}

type hopKey struct {
	ifindex int32
	addr    netip.Addr
}

type waiting struct {
	buf []byte        // virtio_net_hdr and frame, TTL already decremented
	in  int32         // ingress
	mtu int           // 0: not to be fragmented
	as  route.Verdict // what it counts as when it leaves

	id       uint64
	received int64 // ns since 1970
	rule     *route.Rule
	route    *route.Route
	came     cameAs
}

type hop struct {
	packets []waiting
	bytes   int
	in      int32 // ingress of the packet that made it
	since   int64
	asked   int64
	asks    uint8            // again, up to queueSoon
	known   *route.Neighbour // as it was when the first packet came
	mac     wire.MAC         // of the way out, when the kernel was asked
	up      bool             // the way out had carrier then
}

// hopQueue holds packets whose next hop has no MAC yet. It belongs to the loop.
type hopQueue struct {
	hops   map[hopKey]*hop
	bytes  int
	shares map[int32]*share // by ingress

	evicted []waiting // by the last add: the caller's until the next
}

// share is what the packets of one ingress interface have of the queue.
type share struct{ hops, bytes int }

// shareOf gives the share of an interface; 0 is for what is made here.
func (q *hopQueue) shareOf(ifindex int32) *share {
	s := q.shares[ifindex]
	if s == nil {
		s = new(share)
		q.shares[ifindex] = s
	}
	return s
}

// last is the packet that was added last to a hop.
func (q *hopQueue) last(key hopKey) *waiting {
	p := q.hops[key].packets
	return &p[len(p)-1]
}

// give says that a packet has left a hop.
func (q *hopQueue) give(h *hop, w waiting) {
	size := truesize(len(w.buf))
	h.bytes -= size
	q.bytes -= size
	q.shareOf(w.in).bytes -= size
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
// have to give way, as in the kernel: they are in evicted.
func (q *hopQueue) add(key hopKey, f *Frame, r *result, now int64) (ask, kept bool) {
	q.evicted = q.evicted[:0]
	h := q.hops[key]
	size, limit := truesize(len(f.Buf)), queueBytes(&r.Out.Conf)
	if q.hops == nil {
		q.hops, q.shares = make(map[hopKey]*hop), make(map[int32]*share)
	}
	w := waiting{in: f.Ifindex, as: route.Forward, id: f.id, received: f.Received, rule: r.Rule, route: r.Route}
	if r.In == nil {
		w.in, w.as = 0, route.Originate // ours: it came from nowhere
	}
	s := q.shareOf(w.in)
	if s.bytes+size > shareBytes {
		return false, false
	}
	if h == nil {
		if len(q.hops) >= queueHops || s.hops >= shareHops || q.bytes+size > queueBytesTotal {
			return false, false
		}
		h = &hop{in: w.in, since: now, asked: now, known: r.Neighbour, mac: r.Out.MAC, up: r.Out.Up()}
		q.hops[key] = h
		s.hops++
		ask = true
	}
	for len(h.packets) > 0 && (h.bytes+size > limit || q.bytes+size > queueBytesTotal) {
		q.give(h, h.packets[0])
		q.evicted = append(q.evicted, h.packets[0])
		h.packets[0] = waiting{}
		h.packets = h.packets[1:]
	}
	if q.bytes+size > queueBytesTotal {
		return ask, false
	}
	w.buf = append([]byte(nil), f.Buf...)
	if r.Fragment {
		w.mtu = r.MTU
	}
	h.packets = append(h.packets, w)
	h.bytes += size
	q.bytes += size
	s.bytes += size
	return ask, true
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
	case n != nil && n.Failed && n != h.known, now-h.since > resolveTime(&out.Conf)+queueGrace:
		return out, n, route.DropNeighFailed
	}
	return out, n, route.Queue
}

// again reports whether the kernel is to be asked once more: it has not
// answered, or has forgotten the question, as it does with all of an
// interface's neighbours when that gets another MAC.
//
// n is the entry as the table has it. If it has none, somebody may have removed it
// as soon as it was resolved, which no table has shown: the first two times it is
// asked again sooner.
func (h *hop) again(out *route.Link, n *route.Neighbour, now int64) bool {
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
	for _, w := range h.packets {
		q.give(h, w)
	}
	q.shareOf(h.in).hops--
	delete(q.hops, key)
	if len(q.hops) == 0 {
		clear(q.shares) // interfaces come and go
	}
}

// Limits of the packets that wait for a route: see missQueue.
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
	bytes   int
	shares  map[int32]int // packets by ingress
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
	if len(q.packets) >= missPackets || q.bytes+len(f.Buf) > missBytes || q.shares[f.Ifindex] >= missShare {
		return false
	}
	if q.shares == nil {
		q.shares = make(map[int32]int)
	}
	q.shares[f.Ifindex]++
	q.packets = append(q.packets, missed{buf: append([]byte(nil), f.Buf...), in: f.Ifindex, pktType: f.PktType, ethernet: f.Ethernet, tag: f.Tag, since: now,
		received: f.Received, id: f.id})
	q.bytes += len(f.Buf)
	return true
}

// frame is the frame as it came.
func (m *missed) frame() Frame {
	return Frame{Buf: m.buf, Ifindex: m.in, PktType: m.pktType, Ethernet: m.ethernet, Received: m.received, id: m.id, Tag: m.tag}
}

// take empties the queue.
func (q *missQueue) take() []missed {
	p := q.packets
	q.packets, q.bytes = nil, 0
	clear(q.shares)
	return p
}
