package forward

// icmpLimiter bounds the ICMP errors that this host sends as the kernel's
// defaults do (net/ipv4/icmp.c): 1000 a second in all in bursts of 50, and per
// destination one a second with up to six saved (icmp_ratelimit,
// XRLIM_BURST_FACTOR). Fragmentation-needed counts in neither.
// Times are in ns of a monotonic clock.
type icmpLimiter struct {
	credit, last int64
	peers        map[[4]byte]icmpPeer
}

type icmpPeer struct{ tokens, last int64 }

const (
	second      = int64(1e9)
	icmpPerSec  = 1000 // net.ipv4.icmp_msgs_per_sec
	icmpBurst   = 50   // net.ipv4.icmp_msgs_burst
	peerCost    = second
	peerBurst   = 6
	maxPeers    = 4096 // destinations remembered
	peerRefresh = peerCost * peerBurst
)

// allow takes a token for dst, if both buckets have one.
func (l *icmpLimiter) allow(dst [4]byte, now int64) bool {
	if l.peers == nil {
		l.peers = make(map[[4]byte]icmpPeer)
		l.credit, l.last = icmpBurst*second/icmpPerSec, now
	}
	l.credit = min(l.credit+(now-l.last), icmpBurst*second/icmpPerSec)
	l.last = now
	if l.credit < second/icmpPerSec {
		return false
	}
	p, known := l.peers[dst]
	if !known {
		p = icmpPeer{tokens: peerRefresh, last: now}
	}
	p.tokens = min(p.tokens+(now-p.last), peerRefresh)
	p.last = now
	ok := p.tokens >= peerCost
	if ok {
		p.tokens -= peerCost
		l.credit -= second / icmpPerSec
	}
	if !known && len(l.peers) >= maxPeers {
		l.forget(now)
	}
	l.peers[dst] = p
	return ok
}

// forget drops destinations whose bucket is full again, and if there are none
// of those all: a flood of addresses must not grow the map.
func (l *icmpLimiter) forget(now int64) {
	for a, p := range l.peers {
		if p.tokens+(now-p.last) >= peerRefresh {
			delete(l.peers, a)
		}
	}
	if len(l.peers) >= maxPeers {
		clear(l.peers)
	}
}
