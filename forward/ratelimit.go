package forward

// icmpLimiter bounds the ICMP errors that this host sends as the kernel's
// settings say (net/ipv4/icmp.c): so many a second in all (icmp_msgs_per_sec,
// icmp_msgs_burst), and per destination one in icmp_ratelimit ms with up to six
// saved (XRLIM_BURST_FACTOR). Times are in ns of a monotonic clock.
type icmpLimiter struct {
	credit, last int64
	peers        map[[4]byte]icmpPeer
}

type icmpPeer struct{ tokens, last int64 }

const (
	second    = int64(1e9)
	peerBurst = 6    // XRLIM_BURST_FACTOR
	maxPeers  = 4096 // destinations remembered
)

// allow takes a token for dst, if both buckets have one.
func (l *icmpLimiter) allow(dst [4]byte, now int64, conf *HostConf) bool {
	cost := second / int64(max(conf.ICMPPerSecond, 1))
	burst := cost * int64(conf.ICMPBurst)
	if l.peers == nil {
		l.peers = make(map[[4]byte]icmpPeer)
		l.credit, l.last = burst, now
	}
	l.credit = min(l.credit+(now-l.last), burst)
	l.last = now
	if l.credit < cost {
		return false
	}
	peerCost := int64(conf.ICMPRateLimit) * second / 1000
	full := peerCost * peerBurst
	p, known := l.peers[dst]
	if !known {
		p = icmpPeer{tokens: full, last: now}
	}
	p.tokens = min(p.tokens+(now-p.last), full)
	p.last = now
	ok := p.tokens >= peerCost
	if ok {
		p.tokens -= peerCost
		l.credit -= cost
	}
	if !known && len(l.peers) >= maxPeers {
		l.forget(now, full)
	}
	l.peers[dst] = p
	return ok
}

// forget drops destinations whose bucket is full again, and if there are none
// of those all: a flood of addresses must not grow the map.
func (l *icmpLimiter) forget(now, full int64) {
	for a, p := range l.peers {
		if p.tokens+(now-p.last) >= full {
			delete(l.peers, a)
		}
	}
	if len(l.peers) >= maxPeers {
		clear(l.peers)
	}
}

// redirectLimiter sends fewer and fewer redirects to one that ignores them, and
// none after the ninth until it has been silent for a while (net/ipv4/route.c,
// ip_rt_send_redirect; the settings are those of HZ 50).
type redirectLimiter struct {
	peers map[[4]byte]redirectPeer
}

type redirectPeer struct {
	sent int
	last int64
}

const (
	redirectLoad    = second / 50                          // net.ipv4.route.redirect_load
	redirectNumber  = 9                                    // net.ipv4.route.redirect_number
	redirectSilence = redirectLoad << (redirectNumber + 1) // net.ipv4.route.redirect_silence
)

func (l *redirectLimiter) allow(src [4]byte, now int64) bool {
	p, known := l.peers[src]
	if known && now-p.last > redirectSilence {
		p.sent = 0
	}
	ok := p.sent < redirectNumber && (p.sent == 0 || now-p.last > redirectLoad<<p.sent)
	switch {
	case ok:
		p.sent++
		p.last = now
	case p.sent >= redirectNumber:
		p.last = now
	}
	if l.peers == nil || (!known && len(l.peers) >= maxPeers) {
		l.peers = make(map[[4]byte]redirectPeer)
	}
	l.peers[src] = p
	return ok
}
