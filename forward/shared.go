package forward

import (
	"sync"
	"sync/atomic"
	"time"

	"proxyarpd/forward/route"
	"proxyarpd/internal/wire"
)

// Shared is what the loops of a host have together: limits that hold for all of
// them, however many there are. Each loop holds the packets of its own flows, so
// that these keep their order; how many they may be is counted here.
//
// Its locks are taken for packets that wait, and for those that an ICMP error is
// due for. Who only forwards takes none.
type Shared struct {
	start time.Time // what the loops count their time from
	ident atomic.Uint32
	icmp  struct {
		sync.Mutex
		icmpLimiter
	}
	held held
}

// NewShared makes one for the loops that name it in their Options.
func NewShared() *Shared { return &Shared{start: time.Now()} }

// nextIdent gives an IP identification for what is sent from here.
func (s *Shared) nextIdent() uint16 { return uint16(s.ident.Add(1)) }

func (s *Shared) allow(dst peerKey, interval, now int64, conf *route.HostConf) bool {
	s.icmp.Lock()
	defer s.icmp.Unlock()
	return s.icmp.allow(dst, interval, now, conf)
}

func (s *Shared) allowPeer(dst peerKey, interval, now int64) bool {
	s.icmp.Lock()
	defer s.icmp.Unlock()
	return s.icmp.allowPeer(dst, interval, now)
}

func (s *Shared) allowError(src peerKey, now int64, conf *route.HostConf) bool {
	s.icmp.Lock()
	defer s.icmp.Unlock()
	return s.icmp.allowError(src, now, conf)
}

func (s *Shared) allowRedirect(src peerKey, now int64, conf *route.HostConf) bool {
	s.icmp.Lock()
	defer s.icmp.Unlock()
	return s.icmp.allowRedirect(src, now, conf)
}

// held counts what waits in all loops.
type held struct {
	mu     sync.Mutex // guards all that follows
	loops  int        // in which something waits
	bytes  int        // for next hops
	hops   map[hopKey]*heldHop
	shares map[int32]*share // by ingress

	misses     int
	missBytes  int
	missShares map[int32]int // packets by ingress
}

// heldHop is a next hop for which packets wait in some loops.
type heldHop struct {
	loops int
	bytes int
	in    int32    // ingress of the packet that made it
	asked int64    // when the kernel was last asked for it
	asks  uint8    // again, up to queueSoon
	mac   wire.MAC // of the way out, when the kernel was asked
}

// share is what the packets of one ingress interface have of the queues.
type share struct{ hops, bytes int }

// shareOf gives the share of an interface; 0 is for what is made here.
func (h *held) shareOf(ifindex int32) *share {
	s := h.shares[ifindex]
	if s == nil {
		if h.shares == nil {
			h.shares = make(map[int32]*share)
		}
		s = new(share)
		h.shares[ifindex] = s
	}
	return s
}

// hop gives the hop of a key, which it makes if it has to and there is room. made
// says that it did.
func (h *held) hop(key hopKey, in int32, size int) (hop *heldHop, made bool) {
	if hop = h.hops[key]; hop != nil {
		return hop, false
	}
	s := h.shareOf(in)
	if len(h.hops) >= queueHops || s.hops >= shareHops || h.bytes+size > queueBytesTotal {
		return nil, false
	}
	if h.hops == nil {
		h.hops = make(map[hopKey]*heldHop)
	}
	hop = &heldHop{in: in}
	h.hops[key] = hop
	s.hops++
	return hop, true
}

// take counts a packet that waits; a negative size one that does no more.
func (h *held) take(hop *heldHop, in int32, size int) {
	hop.bytes += size
	h.bytes += size
	h.shareOf(in).bytes += size
}

// leave says that no packet of a loop waits for a hop any more.
func (h *held) leave(key hopKey, hop *heldHop) {
	if hop.loops--; hop.loops > 0 {
		return
	}
	h.shareOf(hop.in).hops--
	delete(h.hops, key)
	if len(h.hops) == 0 {
		clear(h.shares) // interfaces come and go
	}
}

// takeMiss counts a packet that waits for a route, if there is room.
func (h *held) takeMiss(in int32, size int) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.misses >= missPackets || h.missBytes+size > missBytes || h.missShares[in] >= missShare {
		return false
	}
	if h.missShares == nil {
		h.missShares = make(map[int32]int)
	}
	h.misses++
	h.missBytes += size
	h.missShares[in]++
	return true
}

// giveMisses says that packets wait no more.
func (h *held) giveMisses(packets []missed) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range packets {
		p := &packets[i]
		h.misses--
		h.missBytes -= len(p.buf)
		if h.missShares[p.in]--; h.missShares[p.in] == 0 {
			delete(h.missShares, p.in)
		}
	}
}

// waiting counts the loops in which something waits, and tells of the first and of
// the last, in their order.
func (h *held) waiting(is bool, tell func(are bool)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if is {
		if h.loops++; h.loops == 1 {
			tell(true)
		}
		return
	}
	if h.loops--; h.loops == 0 {
		tell(false)
	}
}
