package arpd

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/wire"
)

// changing is a routing table that changes, and the news of it.
type changing struct {
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
	return newMemory(Options{RatePerSecond: -1, Behind: c.news}, p), c, p
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

// A reply goes to the interface that was asked on and the MAC that asked, by the
// socket that passes by the queue unless the interface is settled.
func TestReplyIsAddressed(t *testing.T) {
	for _, settled := range []bool{false, true} {
		p := testPolicy()
		p.Settled = settled
		m := newMemory(Options{}, p)
		frame := who(gatewayIP).with(func(q *request) { q.src = otherMAC }).bytes()
		if len(m.one(7, frame)) != 1 {
			t.Fatal("no reply")
		}
		used, idle := m.sock.direct, m.sock.queued
		if settled {
			used, idle = idle, used
		}
		if sa := used.tx.addrs[0]; sa.Ifindex != 7 || wire.MAC(sa.Addr[:6]) != podMAC || sa.Halen != 6 || sa.Protocol != htons(unix.ETH_P_ARP) {
			t.Errorf("settled %t: to %+v", settled, sa)
		}
		if used.tx.iovs[0].Len != ReplyLen || idle.tx.addrs[0].Ifindex != 0 {
			t.Errorf("settled %t: %d bytes, by the other %+v", settled, used.tx.iovs[0].Len, idle.tx.addrs[0])
		}
	}
}

// failing takes what is staged but for some.
type failing struct {
	*memoryConn
	fails map[int]unix.Errno
	calls int
}

func (c *failing) Write(func(fd uintptr) bool) error {
	c.calls++
	c.s.n, c.s.errno = 0, 0
	for i := c.s.from; i < c.s.staged; i++ {
		if errno := c.fails[i]; errno != 0 {
			if c.s.n == 0 {
				c.s.errno = errno
			}
			return nil
		}
		c.s.n++
	}
	return nil
}

// A reply that can't be sent is lost alone, with the verdict that says why.
func TestReplyIsLostAlone(t *testing.T) {
	for _, c := range []struct {
		errno          unix.Errno
		direct, queued Verdict
	}{
		{unix.ENETDOWN, DropIfDown, DropIfDown},
		{unix.ENXIO, DropIfDown, DropIfDown},
		{unix.ENODEV, DropIfDown, DropIfDown},
		{unix.ENOBUFS, DropIfDown, DropQdisc},
		{unix.EAGAIN, DropSend, DropSend},
		{unix.EINVAL, DropSend, DropSend},
	} {
		for settled, want := range map[bool]Verdict{false: c.direct, true: c.queued} {
			p := testPolicy()
			p.Settled = settled
			m := newMemory(Options{}, p)
			m.sock.direct.direct = true
			out := m.sock.via(p)
			raw := &failing{&memoryConn{m: m, s: out}, map[int]unix.Errno{0: c.errno, 2: c.errno, 5: c.errno, 6: c.errno}, 0}
			out.raw = raw
			var lost []int
			m.SetTap(func(_ uint64, _ int, frame, reply []byte, v Verdict) uint64 {
				if v != Answered {
					lost = append(lost, int(frame[len(frame)-1]))
				}
				if (reply == nil) != (v != Answered) {
					t.Errorf("%v with a reply of %d bytes", v, len(reply))
				}
				return 0
			})
			for i := range 8 {
				frame := who(gatewayIP).with(func(q *request) { q.trailer = 1 }).bytes()
				frame[len(frame)-1] = byte(i)
				m.receive(7, frame)
			}
			m.run()
			m.wantCounts(t, c.errno.Error(), 7, counts(map[Verdict]uint64{Answered: 4, want: 4}))
			if !slices.Equal(lost, []int{0, 2, 5, 6}) || raw.calls != 7 {
				t.Errorf("%v: lost %v in %d calls", c.errno, lost, raw.calls)
			}
		}
	}
}

// What is held is answered when its route is known, from what was read when it came.
func TestHeldIsAnswered(t *testing.T) {
	m, c, _ := newChanging()
	type event struct {
		id    uint64
		v     Verdict
		frame string
	}
	var seen []event
	m.SetTap(func(id uint64, _ int, frame, reply []byte, v Verdict) uint64 {
		seen = append(seen, event{id, v, string(frame)})
		if (v == Answered) != (reply != nil) {
			t.Errorf("%v with a reply of %d bytes", v, len(reply))
		}
		return uint64(40 + len(seen))
	})
	held := who(noRouteIP).with(func(q *request) { q.trailer = 18 }).bytes()
	if sent := m.one(7, held); len(sent) != 0 {
		t.Fatalf("answered %x", sent)
	}
	m.wantCounts(t, "held", 7, Counts{Queued: 1})
	if got := m.ports.stats()[7]; got.Requests != 0 {
		t.Errorf("%d requests before its end", got.Requests)
	}
	m.one(7, who(gatewayIP).with(func(q *request) { q.sha, q.spa = otherMAC, outsideIP }).bytes()) // comes in its buffer
	m.wantCounts(t, "another", 7, Counts{Queued: 1, Answered: 1})

	c.routed[noRouteIP] = ProxyYes
	m.sent = nil
	m.again()
	if len(m.sent) != 1 {
		t.Fatalf("%d answers, want 1", len(m.sent))
	}
	checkReply(t, m.sent[0], held, answerMAC)
	m.wantCounts(t, "answered", 7, Counts{Queued: 1, Answered: 2})
	if m.again(); m.held.n != 0 || len(m.sent) != 1 {
		t.Errorf("%d held, %d answers", m.held.n, len(m.sent))
	}
	want := []event{{0, Queued, string(held)}, {0, Answered, seen[1].frame}, {41, Answered, string(held)}}
	if !slices.Equal(seen, want) {
		t.Errorf("seen %v, want %v", seen, want)
	}
}

// What is held ends when there is no more news, when its time is over, and not before.
func TestHeldEnds(t *testing.T) {
	for _, how := range []string{"no more news", "time is over", "local", "gone", "no policy", "another policy"} {
		m, c, p := newChanging()
		want := IgnoreNotProxied
		m.one(7, who(noRouteIP).bytes())
		for range 3 {
			m.again()
		}
		if m.held.n != 1 {
			t.Fatalf("%s: %d held", how, m.held.n)
		}
		q := *p
		switch how {
		case "no more news":
			c.behind = false
		case "time is over":
			m.expire()
		case "local":
			c.routed[noRouteIP], want = ProxyLocal, Local
		case "gone":
			m.lookup = func(int) (*Policy, bool) { return nil, true }
			c.routed[noRouteIP], want = ProxyYes, DropUnknownIf
			m.publish()
		case "no policy": // a policy ends with its port, whatever routes there are
			c.routed[noRouteIP], want = ProxyYes, IgnoreNotWorkload
			m.publish()
		case "another policy":
			c.routed[noRouteIP] = ProxyYes
			q.Proxy = nil
			m.publish(&q)
			m.again()
			m.expire()
		}
		m.again()
		if got := m.total.load(); got != counts(map[Verdict]uint64{Queued: 1, want: 1}) || m.held.n != 0 || len(m.sent) != 0 {
			t.Errorf("%s: %s, %d held, %d answers", how, got, m.held.n, len(m.sent))
		}
	}
}

// A frame is told to be untagged by the MAC that the device had when it came. The
// one that the daemon gives it meanwhile does not make it a tagged one.
func TestHeldWhileMACIsSet(t *testing.T) {
	m, c, p := newChanging()
	frame := who(noRouteIP).with(func(q *request) { q.dst = answerMAC }).bytes()
	m.receive(7, frame)
	m.sock.rx.addrs[0].Pkttype = unix.PACKET_OTHERHOST
	m.run()
	m.wantCounts(t, "held", 7, Counts{Queued: 1})
	q := *p
	q.Own, q.Alias = q.Answer, nil
	m.publish(&q)
	c.routed[noRouteIP] = ProxyYes
	m.keep = true
	m.again()
	m.wantCounts(t, "answered", 7, Counts{Queued: 1, Answered: 1})
	if len(m.sent) != 1 {
		t.Fatalf("%d answers", len(m.sent))
	}
	checkReply(t, m.sent[0], frame, answerMAC)
}

// Only what a route would make answered is held, and of what there is no room
// for nothing.
func TestWhatIsHeld(t *testing.T) {
	for _, c := range []struct {
		name   string
		req    request
		behind bool
		want   Verdict
	}{
		{"in --proxy", who(noRouteIP), true, Queued},
		{"no news", who(noRouteIP), false, IgnoreNotProxied},
		{"not in --proxy", who(outsideIP), true, IgnoreNotProxied},
		{"probe", who(noRouteIP).with(func(q *request) { q.spa = netip.IPv4Unspecified() }), true, IgnoreProbe},
		{"to another", who(noRouteIP).with(func(q *request) { q.dst = otherMAC }), true, IgnoreOtherhost},
		{"gateway", who(gatewayIP), true, Answered},
	} {
		m, k, _ := newChanging()
		k.behind = c.behind
		m.one(7, c.req.bytes())
		m.wantCounts(t, c.name, 7, counts(map[Verdict]uint64{c.want: 1}))
	}
	m, _, p := newChanging()
	p.Routes = nil
	m.one(7, who(noRouteIP).bytes())
	m.wantCounts(t, "without routes", 7, Counts{IgnoreNotProxied: 1})

	m, k, _ := newChanging()
	for range heldShare + 1 {
		m.receive(7, who(noRouteIP).bytes())
	}
	m.run()
	m.wantCounts(t, "more than its share", 7, Counts{Queued: heldShare, IgnoreNotProxied: 1})
	if k.asked != 1 {
		t.Errorf("asked %d times in a batch whether there is news", k.asked)
	}
	if m.again(); k.asked != 2 {
		t.Errorf("asked %d times after one more look", k.asked)
	}
}

// What Routes learns between the judgement and the word that there is no more news
// counts at once.
func TestRouteComesMeanwhile(t *testing.T) {
	m, c, _ := newChanging()
	m.behind = func() bool { c.routed[noRouteIP] = ProxyYes; return false }
	if sent := m.one(7, who(noRouteIP).bytes()); len(sent) != 1 {
		t.Error("not answered")
	}
	m.wantCounts(t, "answered", 7, Counts{Answered: 1})
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
	if got := newMemory(Options{RatePerSecond: -1}).ports.limit; got != (limit{}) {
		t.Errorf("without a bound %+v", got)
	}
}

// Who is answered is handed on, an interface's share of them.
func TestLearn(t *testing.T) {
	n := &table{has: map[netip.Addr]wire.MAC{knownIP: podMAC}, denied: outsideIP}
	m := newMemory(Options{RatePerSecond: -1, Neighbours: n}, testPolicy())
	for _, c := range []struct {
		name string
		req  request
		want []Asker
	}{
		{"gateway", who(gatewayIP), []Asker{{7, podIP, podMAC, gatewayIP}}},
		{"proxied", who(remoteIP), []Asker{{7, podIP, podMAC, remoteIP}}},
		{"by another Ethernet source", who(gatewayIP).with(func(q *request) { q.src = otherMAC }), []Asker{{7, podIP, podMAC, gatewayIP}}},
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
	m := newMemory(Options{RatePerSecond: -1}, testPolicy())
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
	m = newMemory(Options{RatePerSecond: -1, Lookup: func(int) (*Policy, bool) { return known, known != nil }})
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

// A slot that is used again holds the new frame alone.
func TestHeldSlotIsUsedAgain(t *testing.T) {
	m, c, _ := newChanging()
	long := who(noRouteIP).with(func(q *request) { q.trailer, q.sha = 400, otherMAC }).bytes()
	m.one(7, long)
	m.expire()
	m.again()
	short := who(noRouteIP).bytes()
	m.one(7, short)
	if s := &m.held.slots[0]; !bytes.Equal(s.data, short) || s.request.senderMAC() != podMAC || !bytes.Equal(s.request.TargetHardwareAddr, make([]byte, 6)) {
		t.Errorf("%d bytes of %v", len(s.data), s.request)
	}
	c.routed[noRouteIP] = ProxyYes
	m.sent = nil
	m.again()
	if len(m.sent) != 1 {
		t.Fatal("not answered")
	}
	checkReply(t, m.sent[0], short, answerMAC)
}

// What is held is looked at again after holdTick, not with each batch, and given
// up after holdTime, not before.
func TestHeldTimes(t *testing.T) {
	m, c, _ := newChanging()
	m.one(7, who(noRouteIP).bytes())
	came := m.time
	for m.again(); m.held.n != 0 && m.time < came+2*int64(holdTime); m.retry() {
		asked := c.asked
		if m.time++; m.held.looked != m.time-1 {
			t.Fatalf("looked at %d ns, it is %d", m.held.looked, m.time)
		}
		m.retry()
		m.time += int64(holdTick) - 2
		if m.retry(); c.asked != asked {
			t.Fatal("looked again at once")
		}
		m.time++
	}
	if took := time.Duration(m.time - came); took != holdTime {
		t.Errorf("given up after %v, want %v", took, holdTime)
	}
}

// Whether there is news is asked anew for each batch, and once.
func TestNewsIsOfTheBatch(t *testing.T) {
	m, c, _ := newChanging()
	for i, behind := range []bool{false, true, false} {
		c.behind, c.asked = behind, 0
		for range 3 {
			m.receive(7, who(noRouteIP).bytes())
		}
		before := m.total[Queued].Load()
		m.run()
		if held := m.total[Queued].Load() - before; (held == 3) != behind || (held == 0) == behind || c.asked != 1 {
			t.Errorf("batch %d: %d held, asked %d times", i, held, c.asked)
		}
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

// What stays held keeps its bytes when its neighbour's slot is used again.
func TestHeldKeepTheirBytes(t *testing.T) {
	m, c, _ := newChanging()
	ask := func(target netip.Addr, sha byte) []byte {
		return who(target).with(func(q *request) { q.sha[5] = sha }).bytes()
	}
	one, two, three := netip.MustParseAddr("10.20.1.101"), netip.MustParseAddr("10.20.1.102"), netip.MustParseAddr("10.20.1.103")
	m.one(7, ask(one, 1))
	m.one(7, ask(two, 2))
	c.routed[one] = ProxyYes
	m.again()
	m.one(7, ask(three, 3))
	c.routed[two], c.routed[three] = ProxyYes, ProxyYes
	var shown [][]byte
	m.SetTap(func(_ uint64, _ int, frame, _ []byte, _ Verdict) uint64 {
		shown = append(shown, bytes.Clone(frame))
		return 0
	})
	m.sent = nil
	m.again()
	if len(m.sent) != 2 || len(shown) != 2 {
		t.Fatalf("%d answers, %d shown", len(m.sent), len(shown))
	}
	checkReply(t, m.sent[0], ask(two, 2), answerMAC)
	checkReply(t, m.sent[1], ask(three, 3), answerMAC)
	if !bytes.Equal(shown[0], ask(two, 2)) || !bytes.Equal(shown[1], ask(three, 3)) {
		t.Errorf("shown %x", shown)
	}
}

// A closed socket takes nothing, and the batch ends all the same.
func TestSocketIsClosed(t *testing.T) {
	m := newMemory(Options{}, testPolicy())
	m.sock.direct.raw = &closedConn{}
	for range 3 {
		m.receive(7, who(gatewayIP).bytes())
	}
	m.run()
	m.wantCounts(t, "closed", 7, Counts{DropSend: 3})
}

type closedConn struct{ memoryConn }

func (*closedConn) Write(func(fd uintptr) bool) error { return os.ErrClosed }

func TestSetTap(t *testing.T) {
	m := newMemory(Options{}, testPolicy())
	seen := 0
	m.SetTap(func(uint64, int, []byte, []byte, Verdict) uint64 { seen++; return 0 })
	m.one(7, who(gatewayIP).bytes())
	m.SetTap(nil)
	m.one(7, who(gatewayIP).bytes())
	if seen != 1 {
		t.Errorf("%d frames were seen, want 1", seen)
	}
}

// TestReceivedFrame is what is read of a message beside its bytes.
func TestReceivedFrame(t *testing.T) {
	// struct cmsghdr, then struct tpacket_auxdata with the VLAN tag at its end.
	aux := func(level, typ, status uint32, tci uint16) (words [controlLen / 8]uint64) {
		b := binary.NativeEndian.AppendUint64(nil, uint64(auxLen))
		b = binary.NativeEndian.AppendUint32(b, level)
		b = binary.NativeEndian.AppendUint32(b, typ)
		b = binary.NativeEndian.AppendUint32(b, status)
		b = append(b, make([]byte, 12)...)
		b = binary.NativeEndian.AppendUint16(b, tci)
		b = append(b, make([]byte, controlLen-len(b))...)
		for i := range words {
			words[i] = binary.NativeEndian.Uint64(b[8*i:])
		}
		return words
	}
	const valid = unix.TP_STATUS_VLAN_VALID
	tagged := aux(unix.SOL_PACKET, unix.PACKET_AUXDATA, valid, 5)
	for _, c := range []struct {
		name      string
		pkttype   uint8
		control   [controlLen / 8]uint64
		used      int
		length    uint32
		otherhost bool
		vlan      bool
	}{
		{"plain", unix.PACKET_HOST, tagged, 0, 60, false, false},
		{"another host's", unix.PACKET_OTHERHOST, tagged, 0, 60, true, false},
		{"tagged", unix.PACKET_BROADCAST, tagged, auxLen, 60, false, true},
		{"cut", unix.PACKET_BROADCAST, tagged, auxLen - 1, 60, false, false},
		{"a priority alone", 0, aux(unix.SOL_PACKET, unix.PACKET_AUXDATA, valid, 0xe000), auxLen, 60, false, false},
		{"no tag", 0, aux(unix.SOL_PACKET, unix.PACKET_AUXDATA, 0, 5), auxLen, 60, false, false},
		{"another message", 0, aux(unix.SOL_PACKET, unix.PACKET_AUXDATA+1, valid, 5), auxLen, 60, false, false},
		{"another layer's", 0, aux(unix.SOL_SOCKET, unix.PACKET_AUXDATA, valid, 5), auxLen, 60, false, false},
		{"longer than the buffer", 0, tagged, 0, snapLen + 1, false, false},
	} {
		b := newRxBatch()
		b.addrs[1].Ifindex, b.addrs[1].Pkttype = 7, c.pkttype
		b.hdrs[1].n, b.control[1] = c.length, c.control
		b.hdrs[1].hdr.SetControllen(c.used)
		f := b.frame(1)
		if f.ifindex != 7 || len(f.data) != int(min(c.length, snapLen)) || &f.data[0] != &b.data[1][0] || f.otherhost != c.otherhost || f.vlan != c.vlan {
			t.Errorf("%s: %d bytes, interface %d, another host's %t, tagged %t", c.name, len(f.data), f.ifindex, f.otherhost, f.vlan)
		}
	}
}

// The kernel writes how much it used: room is made again before the next call.
func TestRoomIsMadeAgain(t *testing.T) {
	b := newRxBatch()
	for i := range 3 {
		b.hdrs[i].hdr.Namelen, b.hdrs[i].hdr.Flags = 1, 1
		b.hdrs[i].hdr.SetControllen(1)
	}
	b.used = 3
	b.reset()
	for i := range b.hdrs {
		if h := &b.hdrs[i].hdr; h.Namelen != sockaddrLen || int(h.Controllen) != controlLen || h.Flags != 0 {
			t.Errorf("message %d: %+v", i, h)
		}
	}
}
