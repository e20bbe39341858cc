package arpd

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/wire"
)

// changing is a routing table that changes, and the news of it.
type changing struct {
	noUplink
	routed map[netip.Addr]ProxyDecision // by target
	behind bool
	asked  int // how often it was asked whether there is news
}

func (c *changing) Proxy(target, _ netip.Addr, _ int) ProxyDecision { return c.routed[target] }
func (c *changing) Routed(sender netip.Addr, _ int) bool            { return sender == podIP }
func (c *changing) news() bool                                      { c.asked++; return c.behind }

// newChanging gives a Responder with a policy by such a table.
func newChanging() (*memory, *changing, *Policy) {
	c := &changing{routed: map[netip.Addr]ProxyDecision{}, behind: true}
	p := testPolicy()
	p.Routes = c
	return newMemory(Options{RatePerSecond: -1, SenderPerSecond: -1, Behind: c.news}, p), c, p
}

func counts(m map[Verdict]uint64) (c Counts) {
	for v, n := range m {
		c[v] = n
	}
	return c
}

// wantCounts compares all counters that are not 0, of all interfaces and of one.
func (m *memory) wantCounts(t *testing.T, what string, ifindex int, want Counts) {
	t.Helper()
	if got := m.total.load(); got != want {
		t.Errorf("%s: %swant %s", what, got, want)
	}
	if got := m.ports.stats()[ifindex].ByVerdict; got != want {
		t.Errorf("%s: on the interface: %swant %s", what, got, want)
	}
}

// Each frame of a batch ends in one verdict, and the replies are those to the
// requests that were answered, each to its interface.
func TestBatch(t *testing.T) {
	one, two := testPolicy(), testPolicy()
	two.Index, two.Answer = 8, aliasMAC
	two.Settled = true
	m := newMemory(Options{}, one, two)
	m.keep = true
	ends := map[Verdict]int{}
	m.SetTap(func(id uint64, ifindex int, frame, reply []byte, v Verdict) uint64 {
		ends[v]++
		if (v == Answered) != (reply != nil) || id != 0 {
			t.Errorf("%v with a reply of %d bytes, id %d", v, len(reply), id)
		}
		if v == Answered {
			checkReply(t, reply, frame, map[int]wire.MAC{7: answerMAC, 8: aliasMAC}[ifindex])
		}
		return 99 // heeded of held requests only
	})
	tagged := who(gatewayIP).with(func(q *request) { q.op = 99 }).bytes()
	m.receive(7, who(gatewayIP).bytes())
	m.receive(9, who(gatewayIP).bytes())
	m.receive(8, who(gatewayIP).bytes())
	m.receive(7, who(gatewayIP).bytes()[:20])
	m.receive(8, who(outsideIP).bytes())
	m.receive(7, tagged)
	m.sock.rx.addrs[m.received-1].Pkttype = unix.PACKET_OTHERHOST
	m.receive(7, who(remoteIP).with(func(q *request) { q.spa, q.trailer = outsideIP, 18 }).bytes())
	m.run()
	want := Counts{Answered: 3, IgnoreNotWorkload: 1, DropTruncated: 1, IgnoreNotProxied: 1, IgnoreVLAN: 1}
	if got := m.total.load(); got != want {
		t.Errorf("%swant %s", got, want)
	}
	for v, n := range want {
		if ends[Verdict(v)] != int(n) {
			t.Errorf("%v was shown %d times, want %d", Verdict(v), ends[Verdict(v)], n)
		}
	}
	stats := m.ports.stats()
	if got := stats[7]; got.ByVerdict != (Counts{Answered: 2, DropTruncated: 1, IgnoreVLAN: 1}) || got.Requests != 2 || got.Replies != 2 {
		t.Errorf("one: %s%+v", got.ByVerdict, got)
	}
	if got := stats[8]; got.ByVerdict != (Counts{Answered: 1, IgnoreNotProxied: 1}) || got.Requests != 2 || got.Replies != 1 {
		t.Errorf("two: %s%+v", got.ByVerdict, got)
	}
	if len(m.sent) != 3 {
		t.Errorf("%d replies were sent", len(m.sent))
	}
	for _, s := range []*sender{m.sock.queued, m.sock.direct} {
		if s.staged != 0 || slices.ContainsFunc(s.origin[:], func(o origin) bool { return o.entry != nil || o.frame.data != nil }) {
			t.Errorf("%d are staged after the batch, or a frame or policy is kept", s.staged)
		}
	}
}

// Requests for a gateway whose sender is not routed to the interface are counted,
// but not while news of routes is behind.
func TestUnrouted(t *testing.T) {
	for _, c := range []struct {
		name   string
		req    request
		behind bool
		want   uint64
	}{
		{"routed", who(gatewayIP), false, 0},
		{"not routed", who(gatewayIP).with(func(q *request) { q.spa = outsideIP }), false, 1},
		{"perhaps not routed", who(gatewayIP).with(func(q *request) { q.spa = outsideIP }), true, 0},
		{"probe", who(gatewayIP).with(func(q *request) { q.spa = netip.IPv4Unspecified() }), false, 0},
		{"proxied", who(remoteIP).with(func(q *request) { q.spa = outsideIP }), false, 0},
	} {
		m, k, _ := newChanging()
		k.behind = c.behind
		k.routed[remoteIP] = ProxyYes
		if len(m.one(7, c.req.bytes())) != 1 {
			t.Errorf("%s: not answered", c.name)
		}
		if m.unrouted.Load() != c.want || m.ports.stats()[7].Unrouted != c.want {
			t.Errorf("%s: %d, on the interface %d, want %d", c.name, m.unrouted.Load(), m.ports.stats()[7].Unrouted, c.want)
		}
		if probe := c.req.spa.IsUnspecified(); probe != (m.defended.Load() == 1) || m.ports.stats()[7].Defended != m.defended.Load() {
			t.Errorf("%s: %d defended", c.name, m.defended.Load())
		}
	}
	m, k, _ := newChanging() // a route that the news brought
	late := &lateRoutes{changing: k}
	p := testPolicy()
	p.Routes = late
	m.publish(p)
	m.behind = func() bool { late.came = true; return false }
	m.one(7, who(gatewayIP).with(func(q *request) { q.spa = outsideIP }).bytes())
	if m.unrouted.Load() != 0 {
		t.Error("counted by what was known before the news")
	}
}

// lateRoutes knows of a sender only when the news has come.
type lateRoutes struct {
	*changing
	came bool
}

func (l *lateRoutes) Routed(netip.Addr, int) bool { return l.came }

// What an interface has no share of is neither answered nor learnt nor counted as
// unrouted; its other verdicts take nothing of the share.
func TestRateLimit(t *testing.T) {
	n := new(table)
	one, two := testPolicy(), testPolicy()
	two.Index = 8
	m := newMemory(Options{RatePerSecond: 1, Burst: 2, Neighbours: n}, one, two)
	for range 5 {
		m.one(7, who(outsideIP).bytes())
	}
	for range 5 {
		m.one(7, who(gatewayIP).with(func(q *request) { q.spa = remoteIP }).bytes())
	}
	m.wantCounts(t, "limited", 7, Counts{Answered: 2, DropRateLimit: 3, IgnoreNotProxied: 5})
	if len(n.take()) != 2 || m.unrouted.Load() != 2 {
		t.Errorf("%d unrouted", m.unrouted.Load())
	}
	if len(m.one(8, who(gatewayIP).bytes())) != 1 {
		t.Error("another interface has no share left")
	}
	if got, want := newMemory(Options{}).ports.limit, newLimit(DefaultRate, DefaultBurst); got != want {
		t.Errorf("by default %+v, want %+v", got, want)
	}
	if got := newMemory(Options{RatePerSecond: -1, SenderPerSecond: -1}).ports.limit; got != (limit{}) {
		t.Errorf("without a bound %+v", got)
	}
}

// Who is answered is handed on, an interface's share of them.
func TestLearn(t *testing.T) {
	n := &table{has: map[netip.Addr]wire.MAC{knownIP: podMAC}, denied: outsideIP}
	m := newMemory(Options{RatePerSecond: -1, SenderPerSecond: -1, Neighbours: n}, testPolicy())
	for _, c := range []struct {
		name string
		req  request
		want []Asker
	}{
		{"gateway", who(gatewayIP), []Asker{{Index: 7, IP: podIP, MAC: podMAC, Target: gatewayIP}}},
		{"proxied", who(remoteIP), []Asker{{Index: 7, IP: podIP, MAC: podMAC, Target: remoteIP}}},
		{"by another Ethernet source", who(gatewayIP).with(func(q *request) { q.src = otherMAC }), []Asker{{Index: 7, IP: podIP, MAC: podMAC, Target: gatewayIP}}},
		{"known", who(gatewayIP).with(func(q *request) { q.spa = knownIP }), nil},
		{"denied", who(gatewayIP).with(func(q *request) { q.spa = outsideIP }), nil},
		{"probe", who(gatewayIP).with(func(q *request) { q.spa = netip.IPv4Unspecified() }), nil},
		{"not answered", who(outsideIP), nil},
	} {
		m.one(7, c.req.bytes())
		if got := n.take(); !slices.Equal(got, c.want) {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
	if got := m.unlearned.Load(); got != 0 {
		t.Errorf("%d left out", got)
	}
	for range learnBurst {
		m.one(7, who(gatewayIP).bytes())
	}
	left := m.unlearned.Load()
	if got := uint64(len(n.take())); got+left != learnBurst || left == 0 || got < learnBurst-3 || m.ports.stats()[7].Unlearned != left {
		t.Errorf("%d learnt, %d left out, on the interface %d", got, left, m.ports.stats()[7].Unlearned)
	}
	m = newMemory(Options{Neighbours: deaf{}}, testPolicy())
	if m.one(7, who(gatewayIP).bytes()); m.unlearned.Load() != 1 || m.ports.stats()[7].Unlearned != 1 {
		t.Errorf("no room: %d left out", m.unlearned.Load())
	}
}

// A policy ends with its port: what was answered is not any more from the next
// batch on, be it published or found by Lookup.
func TestPolicyEndsWithPort(t *testing.T) {
	frame := who(gatewayIP).bytes()
	m := newMemory(Options{RatePerSecond: -1, SenderPerSecond: -1}, testPolicy())
	if len(m.one(7, frame)) != 1 {
		t.Fatal("not answered")
	}
	m.publish()
	if len(m.one(7, frame)) != 0 || m.total[IgnoreNotWorkload].Load() != 1 {
		t.Errorf("published no more: %s", m.total.load())
	}
	if n := len(m.ports.stats()); n != 0 {
		t.Errorf("%d ports are left", n)
	}

	known := testPolicy()
	m = newMemory(Options{RatePerSecond: -1, SenderPerSecond: -1, Lookup: func(int) (*Policy, bool) { return known, known != nil }})
	if len(m.one(7, frame)) != 1 {
		t.Fatal("not answered by Lookup's word")
	}
	known = nil
	if len(m.one(7, frame)) != 1 {
		t.Error("Lookup's word does not hold until the next Publish")
	}
	m.publish()
	if len(m.one(7, frame)) != 0 || m.total[IgnoreNotWorkload].Load() != 1 {
		t.Errorf("found no more: %s", m.total.load())
	}

	c := &changing{routed: map[netip.Addr]ProxyDecision{}, behind: true}
	known = testPolicy()
	known.Routes = c
	m = newMemory(Options{Behind: c.news, Lookup: func(int) (*Policy, bool) { return known, known != nil }})
	m.one(7, who(noRouteIP).bytes())
	c.routed[noRouteIP], known = ProxyYes, nil
	m.publish()
	if m.again(); len(m.sent) != 0 || m.total.load() != (Counts{Queued: 1, IgnoreNotWorkload: 1}) {
		t.Errorf("held by a policy that Lookup gave: %s", m.total.load())
	}
}

// Nothing of a frame is left for the next.
func TestFramesAreReadApart(t *testing.T) {
	m := newMemory(Options{}, testPolicy())
	m.receive(7, who(gatewayIP).bytes())
	m.receive(7, []byte{1})
	m.sock.rx.addrs[1].Pkttype = unix.PACKET_OTHERHOST
	m.run()
	m.wantCounts(t, "broadcast, then one byte", 7, Counts{Answered: 1, DropTooSmall: 1})
}

// TestSenderRate: one who asks without end has its share, and those behind the same
// interface, a prober too, have theirs; so has the interface, whoever asks.
func TestSenderRate(t *testing.T) {
	const burst, sender = 100, 10
	m := newMemory(Options{RatePerSecond: 1, Burst: burst, SenderPerSecond: 1, SenderBurst: sender}, testPolicy())
	from := func(a netip.Addr) []byte { return who(gatewayIP).with(func(r *request) { r.spa = a }).bytes() }
	ask := func(n int, frame []byte) (answers int) {
		for range n {
			answers += len(m.one(7, frame))
		}
		return answers
	}
	if n := ask(2*sender, from(remoteIP)); n != sender {
		t.Errorf("%d answers to one sender, want %d", n, sender)
	}
	probe := from(netip.IPv4Unspecified())
	if a, b := ask(1, from(outsideIP)), ask(sender, probe); a != 1 || b != sender {
		t.Errorf("%d answers to another sender, %d to a prober", a, b)
	}
	if n := ask(1, probe); n != 0 {
		t.Error("one who probes without end is answered without end")
	}
	m.time += int64(time.Second)
	if n := ask(2, from(remoteIP)); n != 1 {
		t.Errorf("%d answers a second later, want 1", n)
	}
	spoofed := 0
	for i := range 4 * burst {
		spoofed += ask(1, from(netip.AddrFrom4([4]byte{10, 99, byte(i >> 8), byte(i)})))
	}
	if all := m.total[Answered].Load(); all != burst+1 || m.total[DropSenderRate].Load() != sender+2 {
		t.Errorf("%d answers in all, %d of them to ever new senders; %d refused for their sender", all, spoofed, m.total[DropSenderRate].Load())
	}
}
