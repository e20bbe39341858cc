package arpd

import (
	"sync"
	"sync/atomic"
)

// port is what outlives a change of policy: the counters of an interface, and
// its share of answers. It belongs to an ifindex.
type port struct {
	counts    counters
	unrouted  atomic.Uint64
	unlearned atomic.Uint64
	defended  atomic.Uint64
	bucket    bucket // Run's alone, as is learn
	learn     bucket
	published bool // under ports.mu
}

// entry joins a policy to the port it applies to. It is immutable.
type entry struct {
	policy *Policy
	port   *port
}

// snapshot is the published set. It is immutable.
type snapshot map[int]*entry

// maxStray bounds what interfaces that no Publish told of can take: verdicts of
// Lookup in Run's cache, and ports that were made for them.
const maxStray = 1024

// ports owns the ports, and the snapshot that Run reads.
type ports struct {
	limit limit // of answers
	learn limit // of what is learnt

	mu    sync.Mutex
	known map[int]*port
	stray int // how many of them were never published

	snap atomic.Pointer[snapshot]
}

func newPorts(l limit) *ports {
	p := &ports{limit: l, learn: newLimit(learnRate, learnBurst), known: make(map[int]*port)}
	p.snap.Store(&snapshot{})
	return p
}

// port gives the port of an interface, a new one with a full share if there is
// none.
func (p *ports) port(ifindex int, now int64) *port {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.portLocked(ifindex, now)
}

func (p *ports) portLocked(ifindex int, now int64) *port {
	pt := p.known[ifindex]
	if pt == nil {
		pt = &port{bucket: newBucket(p.limit, now), learn: newBucket(p.learn, now)}
		p.known[ifindex] = pt
		p.stray++
	}
	return pt
}

// publish replaces the snapshot. A port that was published before and is no more
// is forgotten; one that only Lookup told of stays, because the set may have been
// made before the daemon heard of the interface.
func (p *ports) publish(policies map[int]*Policy, now int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	next := make(snapshot, len(policies))
	for ifindex, policy := range policies {
		if policy == nil {
			continue
		}
		pt := p.portLocked(ifindex, now)
		if !pt.published {
			pt.published = true
			p.stray--
		}
		next[ifindex] = &entry{policy: policy, port: pt}
	}
	overfull := p.stray > maxStray
	for ifindex, pt := range p.known {
		if _, ok := next[ifindex]; ok || (!pt.published && !overfull) {
			continue
		}
		if !pt.published {
			p.stray--
		}
		delete(p.known, ifindex)
	}
	p.snap.Store(&next)
}

func (p *ports) stats() map[int]InterfaceStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make(map[int]InterfaceStats, len(p.known))
	for ifindex, pt := range p.known {
		out[ifindex] = pt.stats()
	}
	return out
}

// strays is Run's memory of what Lookup said of interfaces that are not
// published; nil means no workload. It holds until the next Publish: that is
// when the answer may change.
type strays struct {
	since *snapshot
	said  map[int]*entry
}

// sync forgets everything if another snapshot is in force.
func (s *strays) sync(now *snapshot) {
	if s.since != now {
		s.since = now
		clear(s.said)
	}
}

func (s *strays) remember(ifindex int, e *entry) {
	if len(s.said) >= maxStray {
		clear(s.said)
	}
	s.said[ifindex] = e
}
