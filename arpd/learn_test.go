package arpd

import (
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"proxyarpd/internal/wire"
)

// table is a neighbour table: what it has been told, and what it says.
type table struct {
	mu     sync.Mutex
	told   []Asker
	has    map[netip.Addr]wire.MAC
	full   bool // no room for one more that waits
	denied netip.Addr
}

func (n *table) Lacks(a Asker) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return a.IP != n.denied && n.has[a.IP] != a.MAC
}

func (n *table) Learn(a Asker) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.full {
		return false
	}
	n.told = append(n.told, a)
	return true
}

// take gives what it was told since it was last asked.
func (n *table) take() []Asker {
	n.mu.Lock()
	defer n.mu.Unlock()
	defer func() { n.told = nil }()
	return n.told
}

func (l *lab) startLearning(n *table, stations ...*station) *Responder {
	l.t.Helper()
	var k kernel
	k.routed.Store(&remoteIP)
	r := l.start(Options{Neighbours: n})
	policies := map[int]*Policy{}
	for _, s := range stations {
		p := s.policy()
		p.Routes = &k
		policies[s.index] = p
	}
	r.Publish(policies)
	return r
}

var knownIP = netip.MustParseAddr("10.20.1.4")

// TestLearnsWhoIsAnswered: the sender of a request that is answered is handed on
// before the answer has come, and no other.
func TestLearnsWhoIsAnswered(t *testing.T) {
	l := newLab(t)
	s := l.veth("cali1")
	n := &table{has: map[netip.Addr]wire.MAC{knownIP: s.mac}, denied: outsideIP}
	r := l.startLearning(n, s)
	asIs := func(*request) {}
	var want []Asker
	for _, c := range []struct {
		name     string
		target   netip.Addr
		with     func(*request)
		answered bool
		learnt   bool
	}{
		{"gateway", gatewayIP, asIs, true, true},
		{"proxied", remoteIP, asIs, true, true},
		{"unicast", gatewayIP, func(q *request) { q.dst = answerMAC }, true, true},
		{"by another Ethernet source", gatewayIP, func(q *request) { q.src = otherMAC }, true, true},
		{"in the table already", gatewayIP, func(q *request) { q.spa = knownIP }, true, false},
		{"in the table with another MAC", gatewayIP, func(q *request) { q.spa, q.sha = knownIP, wire.MAC{2, 0, 0, 0, 0, 99} }, true, true},
		{"refused by the table", gatewayIP, func(q *request) { q.spa = outsideIP }, true, false},
		{"probe", gatewayIP, func(q *request) { q.spa = netip.IPv4Unspecified() }, true, false},
		{"not proxied", noRouteIP, asIs, false, false},
		{"gratuitous", podIP, asIs, false, false},
		{"reply", gatewayIP, func(q *request) { q.op = wire.ARPReply }, false, false},
		{"to another MAC", gatewayIP, func(q *request) { q.dst = otherMAC }, false, false},
		{"a group's MAC", gatewayIP, func(q *request) { q.sha = wire.Broadcast }, false, false},
		{"from multicast", gatewayIP, func(q *request) { q.spa = netip.MustParseAddr("224.0.0.1") }, false, false},
	} {
		q := s.who(c.target.String()).with(c.with)
		if want = nil; c.learnt {
			want = []Asker{{Index: s.index, IP: q.spa, MAC: q.sha, Target: c.target}}
		}
		if c.answered {
			s.ask(q)
		} else { // the next that is answered comes behind it
			l.must(s.send(q.bytes()))
			s.ask(s.who(gatewayIP.String()).with(func(q *request) { q.spa = outsideIP }))
		}
		if got := n.take(); !slices.Equal(got, want) {
			t.Errorf("%s: %+v, want %+v", c.name, got, want)
		}
	}
	if st := r.Stats(); st.Unlearned != 0 {
		t.Errorf("%d left out", st.Unlearned)
	}
}

// TestLearnsFew: a flood of senders on one interface gets its share, is answered
// all the same, and takes nothing from another interface.
func TestLearnsFew(t *testing.T) {
	l := newLab(t)
	noisy, calm := l.veth("cali1"), l.veth("cali2")
	n := new(table)
	r := l.startLearning(n, noisy, calm)
	const flood = 4 * learnBurst
	began := time.Now()
	for i := range flood {
		noisy.ask(noisy.who(gatewayIP.String()).with(func(q *request) { q.spa = netip.AddrFrom4([4]byte{10, 9, byte(i >> 8), byte(i)}) }))
	}
	most := learnBurst + int(time.Since(began).Seconds()*learnRate) + 1
	got := len(n.take())
	if got < learnBurst || got > most {
		t.Errorf("%d of %d learnt, want %d to %d", got, flood, learnBurst, most)
	}
	// A reply is counted when it has been sent.
	await(t, r, "the last reply is counted", func(st Stats) bool { return st.Interfaces[noisy.index].Replies == flood })
	if st := r.Stats(); st.Unlearned != uint64(flood-got) || st.Interfaces[noisy.index].Unlearned != st.Unlearned || st.Interfaces[noisy.index].Replies != flood {
		t.Errorf("%d left out, on the interface %d, %d answered", st.Unlearned, st.Interfaces[noisy.index].Unlearned, st.Interfaces[noisy.index].Replies)
	}
	calm.ask(calm.who(gatewayIP.String()))
	if got := n.take(); len(got) != 1 || r.Stats().Interfaces[calm.index].Unlearned != 0 {
		t.Errorf("another interface: %+v", got)
	}
	n.mu.Lock()
	n.full = true
	n.mu.Unlock()
	calm.ask(calm.who(gatewayIP.String()))
	if got := r.Stats().Interfaces[calm.index].Unlearned; got != 1 {
		t.Errorf("%d left out where there is no room, want 1", got)
	}
}

// TestLearnsNothing: who is answered no more is not learnt either, and without a
// table nobody is.
func TestLearnsNothing(t *testing.T) {
	l := newLab(t)
	s := l.veth("cali1")
	n := new(table)
	r := l.start(Options{Neighbours: n, RatePerSecond: 1, Burst: 1})
	r.Publish(map[int]*Policy{s.index: s.policy()})
	s.ask(s.who(gatewayIP.String()))
	for range 3 {
		l.must(s.send(s.who(gatewayIP.String()).bytes()))
	}
	await(t, r, "three requests too many", func(st Stats) bool { return st.ByVerdict[DropRateLimit]+st.ByVerdict[Answered] == 4 })
	if got := n.take(); uint64(len(got)) != r.Stats().ByVerdict[Answered] {
		t.Errorf("%d learnt, %d answered", len(got), r.Stats().ByVerdict[Answered])
	}
	bare := newLab(t)
	b := bare.veth("cali1")
	bare.start(Options{}).Publish(map[int]*Policy{b.index: b.policy()})
	b.ask(b.who(gatewayIP.String()))
}
