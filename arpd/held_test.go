package arpd

import (
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
	"time"
)

// kernel is a routing table whose news can be kept back.
type kernel struct {
	noUplink
	routed atomic.Pointer[netip.Addr] // what Proxy knows as routed
	behind atomic.Bool
}

func (k *kernel) Proxy(target, _ netip.Addr, _ int) ProxyDecision {
	if a := k.routed.Load(); a != nil && *a == target {
		return ProxyYes
	}
	return ProxyNo
}

func (k *kernel) Routed(sender netip.Addr, _ int) bool { return sender == podIP }

func (l *lab) startBehind(k *kernel, stations ...*station) *Responder {
	l.t.Helper()
	r := l.start(Options{Behind: k.behind.Load})
	policies := map[int]*Policy{}
	for _, s := range stations {
		p := s.policy()
		p.Routes = k
		policies[s.index] = p
	}
	r.Publish(policies)
	return r
}

// A request that is faster than the news of its route is answered when that comes.
func TestResponderHoldsForRoute(t *testing.T) {
	l := newLab(t)
	s := l.veth("cali1")
	var k kernel
	p := s.policy()
	p.Routes = &k
	asked := 0
	r := l.start(Options{Behind: func() bool { // on Run's goroutine
		if asked++; asked == 2 { // it is looked at again: the request is held
			k.routed.Store(&noRouteIP)
		}
		return true // other news may follow
	}})
	r.Publish(map[int]*Policy{s.index: p})
	q := s.who(noRouteIP.String())
	l.must(s.send(q.bytes()))
	got, err := s.reply(patience)
	l.must(err)
	checkReply(t, got, q.bytes(), answerMAC)
	await(t, r, "it was held, and ends as answered", func(st Stats) bool {
		i := st.Interfaces[s.index]
		return i.Requests == 1 && i.Replies == 1 && i.ByVerdict[Queued] == 1 && i.ByVerdict[IgnoreNotProxied] == 0
	})
}

// Without its route a request ends as soon as there is no more news, or in time.
func TestResponderHoldEnds(t *testing.T) {
	l := newLab(t)
	s := l.veth("cali1")
	var k kernel
	r := l.startBehind(&k, s)
	ends := func(what string, refused uint64) time.Duration {
		began := time.Now()
		l.must(s.send(s.who(noRouteIP.String()).bytes()))
		await(t, r, what, func(st Stats) bool {
			k.behind.Store(k.behind.Load() && (what != "no more news" || st.ByVerdict[Queued] == 0))
			return st.ByVerdict[IgnoreNotProxied] == refused
		})
		return time.Since(began)
	}
	ends("nothing to wait for", 1)
	if n := r.Stats().ByVerdict[Queued]; n != 0 {
		t.Errorf("%d held for nothing", n)
	}
	k.behind.Store(true)
	ends("no more news", 2)
	k.behind.Store(true)
	if took := ends("news without end", 3); took < holdTime {
		t.Errorf("given up after %v, want %v", took, holdTime)
	}
	if n := r.Stats().ByVerdict[Queued]; n != 2 {
		t.Errorf("%d were held, want 2", n)
	}
	// Held or not, a gateway is answered at once.
	s.ask(s.who(gatewayIP.String()))
}

// A flood of one interface is decided at once, and leaves room for others.
func TestResponderHoldsFew(t *testing.T) {
	l := newLab(t)
	noisy, calm := l.veth("cali1"), l.veth("cali2")
	var k kernel
	k.behind.Store(true)
	r := l.startBehind(&k, noisy, calm)
	for range 200 {
		l.must(noisy.send(noisy.who(noRouteIP.String()).bytes()))
	}
	await(t, r, "what is too much is refused", func(st Stats) bool {
		return st.Interfaces[noisy.index].ByVerdict[IgnoreNotProxied] >= 200-2*heldShare
	})
	l.must(calm.send(calm.who(noRouteIP.String()).bytes()))
	await(t, r, "the other's is held", func(st Stats) bool { return st.Interfaces[calm.index].ByVerdict[Queued] == 1 })
	await(t, r, "all end", func(st Stats) bool { return st.ByVerdict[IgnoreNotProxied] == 201 })
}

func TestHolder(t *testing.T) {
	var h holder
	f := frame{data: make([]byte, ReplyLen)}
	for i := range 3 * heldRequests {
		f.ifindex = i % 3
		f.data[0] = byte(i)
		h.add(f, int64(i))
	}
	if h.n != heldRequests {
		t.Fatalf("%d held, want %d", h.n, heldRequests)
	}
	kept := 0
	for i := range h.n {
		if i%2 == 1 {
			h.keep(kept, i)
			kept++
		}
	}
	h.n = kept
	for i := range h.slots[:h.n] {
		if s := &h.slots[i]; s.data[0] != byte(2*i+1) || s.since != int64(2*i+1) {
			t.Errorf("slot %d: frame %d since %d", i, s.data[0], s.since)
		}
	}
	if allocs := testing.AllocsPerRun(100, func() { h.add(f, 1); h.n = kept }); allocs != 0 {
		t.Errorf("%v allocations for a slot that was used before", allocs)
	}
}

// Gateways are answered whoever asks, and those who are not routed here counted.
func TestResponderCountsUnrouted(t *testing.T) {
	l := newLab(t)
	s := l.veth("cali1")
	var k kernel
	r := l.startBehind(&k, s)
	ask := func(sender netip.Addr) {
		q := s.who(gatewayIP.String())
		q.spa = sender
		s.ask(q)
	}
	for _, c := range []struct {
		name   string
		sender netip.Addr
		behind bool
		want   uint64
	}{
		{"routed", podIP, false, 0},
		{"probe", netip.IPv4Unspecified(), false, 0},
		{"not routed, but perhaps a moment ago", outsideIP, true, 0},
		{"not routed", outsideIP, false, 1},
		{"again", remoteIP, false, 2},
	} {
		k.behind.Store(c.behind)
		ask(c.sender)
		if st := r.Stats(); st.Unrouted != c.want || st.Interfaces[s.index].Unrouted != c.want {
			t.Errorf("%s: %d, on the interface %d, want %d", c.name, st.Unrouted, st.Interfaces[s.index].Unrouted, c.want)
		}
	}
}

// What is held does not keep Run from ending.
func TestResponderEndsWhileHolding(t *testing.T) {
	l := newLab(t)
	s := l.veth("cali1")
	var k kernel
	k.behind.Store(true)
	r, err := Open(Options{Behind: k.behind.Load})
	l.must(err)
	p := s.policy()
	p.Routes = &k
	r.Publish(map[int]*Policy{s.index: p})
	done := make(chan error, 1)
	go func() { done <- r.Run(t.Context()) }()
	l.must(s.send(s.who(noRouteIP.String()).bytes()))
	await(t, r, "held", func(st Stats) bool { return st.ByVerdict[Queued] == 1 })
	l.must(r.Close())
	select {
	case err := <-done:
		if err != os.ErrClosed {
			t.Errorf("Run: %v", err)
		}
	case <-time.After(patience):
		t.Error("Run does not end")
	}
}
