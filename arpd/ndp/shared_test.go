package ndp

import (
	"context"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"proxyarpd/arpd"
	"proxyarpd/internal/wire"
)

// newRoute is a routing table that learns of noRouteIP when it is told so.
type newRoute struct {
	testRoutes
	mu   sync.Mutex
	come bool
}

func (r *newRoute) Proxy(target, sender netip.Addr, ifindex int) arpd.ProxyDecision {
	r.mu.Lock()
	defer r.mu.Unlock()
	if target == noRouteIP && r.come {
		return arpd.ProxyYes
	}
	return r.testRoutes.Proxy(target, sender, ifindex)
}

// A solicitation that is faster than the news of its route, or of its interface, is
// answered when that comes.
func TestHeld(t *testing.T) {
	l := newLab(t)
	s := l.veth("cali1", deviceMAC, false)
	routes := new(newRoute)
	p := s.policy()
	p.Routes = routes
	known, asked := false, 0 // Run's
	r := l.start(Options{
		Lookup: func(ifindex int) (*Policy, bool) {
			if !known {
				return nil, true
			}
			return p, true
		},
		Behind: func() bool {
			if asked++; asked == 2 {
				known = true
			}
			if asked == 4 {
				routes.mu.Lock()
				routes.come = true
				routes.mu.Unlock()
			}
			return true
		},
	})
	s.ask(who(noRouteIP), answerMAC, false)
	await(t, r, "it was held, and is answered", func(st arpd.Stats) bool {
		return st.ByVerdict == counts(map[Verdict]uint64{arpd.Queued: 1, arpd.Answered: 1})
	})
}

// neighbours is a table that lacks all.
type neighbours chan arpd.Asker

func (neighbours) Lacks(arpd.Asker) bool     { return true }
func (n neighbours) Learn(a arpd.Asker) bool { n <- a; return true }
func (n neighbours) told(t *testing.T) arpd.Asker {
	t.Helper()
	select {
	case a := <-n:
		return a
	case <-time.After(patience):
		t.Fatal("nobody is learnt")
		return arpd.Asker{}
	}
}

// Who is answered is learnt, but for duplicate address detection; one whose address is
// not routed here is told of, but not by a link-local address.
func TestLearns(t *testing.T) {
	l := newLab(t)
	s := l.veth("cali1", deviceMAC, false)
	n, unrouted := make(neighbours, 10), make(neighbours, 10)
	r := l.start(Options{Neighbours: n, Unrouted: func(a arpd.Asker) { unrouted <- a }})
	r.Publish(map[int]*Policy{s.index: s.policy()})
	s.ask(probe(gatewayIP), answerMAC, true)
	s.ask(unicast(gatewayIP), answerMAC, true) // without link-layer address
	s.ask(who(gatewayIP), answerMAC, true)
	s.ask(who(gatewayIP).with(func(q *solicit) { q.from = podLL }), answerMAC, true)
	s.ask(who(gatewayIP).with(func(q *solicit) { q.from = outsideIP }), answerMAC, true)
	for _, from := range []netip.Addr{podIP, podLL, outsideIP} {
		if got, want := n.told(t), (arpd.Asker{Index: s.index, IP: from, MAC: s.mac, Target: gatewayIP}); got != want {
			t.Errorf("learnt %+v, want %+v", got, want)
		}
	}
	if a := unrouted.told(t); a.IP != outsideIP || len(n) != 0 || len(unrouted) != 0 {
		t.Errorf("%+v is not routed here, %d more learnt, %d not routed", a, len(n), len(unrouted))
	}
}

// Each address of a sender has its share of answers, and the interface has one.
func TestRates(t *testing.T) {
	l := newLab(t)
	s := l.veth("cali1", deviceMAC, false)
	r := l.start(Options{RatePerSecond: 1, Burst: 5, SenderPerSecond: 1, SenderBurst: 3})
	r.Publish(map[int]*Policy{s.index: s.policy()})
	for _, from := range []netip.Addr{podIP, podIP, podIP, podIP, outsideIP, podLL, localIP} {
		s.send(s.own(who(gatewayIP).with(func(q *solicit) { q.from = from })).bytes())
	}
	await(t, r, "all end", func(st arpd.Stats) bool {
		return st.ByVerdict == counts(map[Verdict]uint64{arpd.Answered: 5, arpd.DropSenderRate: 1, arpd.DropRateLimit: 1})
	})
}

// A responder that takes over answers what the other one held, and counts on.
func TestHandedOver(t *testing.T) {
	l := newLab(t)
	s := l.veth("cali1", deviceMAC, false)
	routes := new(newRoute)
	p := s.policy()
	p.Routes = routes
	first, err := Open(Options{Behind: func() bool { return true }})
	l.must(err)
	first.Publish(map[int]*Policy{s.index: p})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- first.Run(ctx) }()
	s.ask(who(gatewayIP), answerMAC, true)
	s.ask(probe(gatewayIP), answerMAC, true)
	q := s.own(who(noRouteIP))
	s.send(q.bytes())
	await(t, first, "it is held", func(st arpd.Stats) bool { return st.ByVerdict[arpd.Queued] == 1 })
	cancel()
	l.must(<-done)
	s.send(s.own(who(remoteIP)).bytes()) // nobody reads
	held, counted := first.Held(), first.Counted()
	if len(held) != 1 {
		t.Fatalf("%d are held", len(held))
	}
	fd, err := unix.Dup(first.FD())
	l.must(err)
	second, err := Open(Options{Handed: &arpd.Handed{FD: fd}})
	l.must(err)
	l.must(first.Close())
	routes.come = true
	second.Publish(map[int]*Policy{s.index: p})
	second.GoOn(held, &counted)
	ctx, cancel = context.WithCancel(context.Background())
	go func() { done <- second.Run(ctx) }()
	for _, target := range []netip.Addr{noRouteIP, remoteIP} {
		got, err := s.advert(patience)
		l.must(err)
		if at := wire.ND(wire.IPv6(wire.Ethernet(got).Payload()).Payload()).Target(); at != target {
			t.Errorf("answered for %v, want %v", at, target)
		}
	}
	await(t, second, "all are counted", func(st arpd.Stats) bool {
		return st.ByVerdict == counts(map[Verdict]uint64{arpd.Queued: 1, arpd.Answered: 4}) && st.Defended == 1 && st.Interfaces[s.index].Defended == 1
	})
	cancel()
	l.must(<-done)
	l.must(second.Close())
}

// A station of the network that has an address with another MAC goes over to ours, by
// the announcement alone.
func TestAnnounced(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	s := l.veth("ens1", deviceMAC, false)
	l.inPod(func() { l.sysctl("conf/eth-ens1/disable_ipv6", "0") })
	old := &netlink.Neigh{LinkIndex: s.link.Attrs().Index, Family: netlink.FAMILY_V6, State: netlink.NUD_REACHABLE, IP: remoteIP.AsSlice(), HardwareAddr: otherMAC[:]}
	l.must(l.podLinks.NeighSet(old))
	a, err := arpd.OpenAnnouncer()
	l.must(err)
	defer a.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go a.Run(ctx)
	a.Halt()
	a.Hold(arpd.Announcement{Index: s.index, IP: remoteIP, MAC: deviceMAC})
	if _, err := s.advert(20 * time.Millisecond); err == nil {
		t.Error("announced, while another process announces")
	}
	a.Resume()
	got, err := s.advert(patience)
	l.must(err)
	checkReply(t, got, &Solicitation{Target: remoteIP, From: anyIP}, deviceMAC, false)
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		all, err := l.podLinks.NeighList(s.link.Attrs().Index, netlink.FAMILY_V6)
		l.must(err)
		now := wire.MAC{}
		for _, n := range all {
			if n.IP.Equal(old.IP) {
				now = wire.MAC(n.HardwareAddr)
			}
		}
		if now == deviceMAC {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the station sends to %v still", now)
		}
	}
	if _, err := s.advert(arpd.AnnounceInterval + patience); err != nil {
		t.Errorf("it is not repeated: %v", err)
	}
}
