package forward

import (
	"encoding/binary"

	"proxyarpd/forward/route"
)

// icmpLimiter bounds the ICMP messages that this host sends as the kernel does:
// so many a second in all (icmp_msgs_per_sec, icmp_msgs_burst; both families
// together), and for each peer what net/ipv4/icmp.c, route.c, net/ipv6/icmp.c, ndisc.c
// and inetpeer.c allow it out of one bucket. Times are in ns of a monotonic clock.
type icmpLimiter struct {
	credit, last int64
	peers        map[peerKey]icmpPeer
}

// peerKey is the address of a peer. The families' addresses are apart: an IPv6 packet may
// bear a mapped IPv4 address.
type peerKey struct {
	high, low uint64
	v6        bool
}

func peer4(a [4]byte) peerKey { return peerKey{low: uint64(binary.BigEndian.Uint32(a[:]))} }

func peer6(a [16]byte) peerKey {
	return peerKey{high: binary.BigEndian.Uint64(a[:]), low: binary.BigEndian.Uint64(a[8:]), v6: true}
}

// icmpPeer is the kernel's struct inet_peer (include/net/inetpeer.h).
type icmpPeer struct {
	tokens, last int64
	redirects    int
}

const (
	second    = int64(1e9)
	peerBurst = 6           // XRLIM_BURST_FACTOR
	peerIdle  = 60 * second // what a new peer is taken to have been silent
	maxPeers  = 65536       // remembered, about as many as by the kernel (inet_peer_threshold)
)

// allow is icmp_global_allow and icmpv4_xrlim_allow or icmpv6_xrlim_allow: one message to
// a peer in interval, with up to six saved.
func (l *icmpLimiter) allow(dst peerKey, interval, now int64, conf *route.HostConf) bool {
	cost := second / int64(max(conf.ICMPPerSecond, 1))
	burst := cost * int64(conf.ICMPBurst)
	if l.last == 0 {
		l.credit, l.last = burst, now
	}
	l.credit = min(l.credit+(now-l.last), burst)
	l.last = now
	if l.credit < cost || !l.allowPeer(dst, interval, now) {
		return false
	}
	l.credit -= cost
	return true
}

// allowPeer is inet_peer_xrlim_allow (net/ipv4/icmp.c).
func (l *icmpLimiter) allowPeer(dst peerKey, interval, now int64) bool {
	p := l.peer(dst, now)
	if now != p.last {
		p.tokens = min(p.tokens+(now-p.last), interval*peerBurst)
		p.last = now
	}
	ok := p.tokens >= interval
	if ok {
		p.tokens -= interval
	}
	l.peers[dst] = p
	return ok
}

// allowError is the limit of errors about packets that have no way
// (net/ipv4/route.c, ip_error), which comes before that of ICMP.
func (l *icmpLimiter) allowError(src peerKey, now int64, conf *route.HostConf) bool {
	p := l.peer(src, now)
	p.tokens = min(p.tokens+(now-p.last), conf.ErrorBurst)
	p.last = now
	ok := p.tokens >= conf.ErrorCost
	if ok {
		p.tokens -= conf.ErrorCost
	}
	l.peers[src] = p
	return ok
}

// allowRedirect has one who ignores redirects get fewer and fewer of them, and
// none after the ninth, say, until it has been silent for a while
// (net/ipv4/route.c, ip_rt_send_redirect).
func (l *icmpLimiter) allowRedirect(src peerKey, now int64, conf *route.HostConf) bool {
	p := l.peer(src, now)
	if now-p.last > conf.RedirectSilence {
		p.tokens, p.redirects = 0, 0
	}
	ok := p.redirects < conf.RedirectNumber && (p.redirects == 0 || now-p.last > doubled(conf.RedirectLoad, p.redirects))
	switch {
	case ok:
		p.redirects++
		p.last = now
	case p.redirects >= conf.RedirectNumber:
		p.last = now
	}
	l.peers[src] = p
	return ok
}

// doubled is t, n times doubled, and MaxTime where that is more.
func doubled(t int64, n int) int64 {
	if n >= 63 || t > route.MaxTime>>n {
		return route.MaxTime
	}
	return t << n
}

// peer gives what is remembered of an address.
func (l *icmpLimiter) peer(addr peerKey, now int64) icmpPeer {
	if l.peers == nil {
		l.peers = make(map[peerKey]icmpPeer)
	}
	p, known := l.peers[addr]
	if !known {
		if len(l.peers) >= maxPeers {
			l.forget(now)
		}
		p = icmpPeer{last: now - peerIdle}
	}
	return p
}

// forget drops peers that have been silent as long as a new one, and if there
// are too few of those others: a flood of addresses must not grow the map.
func (l *icmpLimiter) forget(now int64) {
	for a, p := range l.peers {
		if now-p.last >= peerIdle {
			delete(l.peers, a)
		}
	}
	for a := range l.peers {
		if len(l.peers) <= maxPeers/2 {
			return
		}
		delete(l.peers, a)
	}
}
