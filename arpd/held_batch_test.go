package arpd

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

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

// A slot that is used again holds the new frame alone.
func TestHeldSlotIsUsedAgain(t *testing.T) {
	m, c, _ := newChanging()
	long := who(noRouteIP).with(func(q *request) { q.trailer, q.sha = 400, otherMAC }).bytes()
	m.one(7, long)
	m.expire()
	m.again()
	short := who(noRouteIP).bytes()
	m.one(7, short)
	if s := &m.held.slots[0]; !bytes.Equal(s.data, short) {
		t.Errorf("%d bytes: %x", len(s.data), s.data)
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
