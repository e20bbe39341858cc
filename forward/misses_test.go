package forward_test

import (
	"net/netip"
	"testing"
	"testing/synctest"

	"proxyarpd/forward"
	"proxyarpd/forward/memconn"
	"proxyarpd/forward/route"
)

// strict is a workload interface with source validation.
func strict(ifindex int32, name string) route.Link {
	l := route.Link{Ifindex: ifindex, Name: name, Flags: route.LinkUp | route.LinkEthernet | route.LinkWorkload, MTU: 1500, Slot: 9}
	l.Conf.RPFilter = 1
	return l
}

// TestSourceMissHeld: a new workload's first packet may be faster than the news
// of the route to it, by which its source is judged.
func TestSourceMissHeld(t *testing.T) { synctest.Test(t, testSourceMissHeld) }

func testSourceMissHeld(t *testing.T) {
	l, p, b, _ := newLoop(t)
	b.SetLink(strict(30, "cali30"))
	l.Publish(b.Publish())
	p.Inject(30, forward.Packet("10.65.0.30", "10.65.0.2", 18))
	once(t, l)
	if n := len(p.Sent()); n != 0 || counts(l, route.DropIPRPFilter) != 0 {
		t.Fatalf("%d sent, counters %v", n, l.Counters().Read().ByVerdict)
	}
	prefix := netip.MustParsePrefix("10.65.0.30/32")
	b.SetRoutes(route.TableMain, prefix, []route.Route{{Table: route.TableMain, Type: route.TypeUnicast,
		Nexthops: []route.Nexthop{{Ifindex: 30, Weight: 1}}}})
	l.Publish(b.Publish())
	once(t, l)
	if sent := p.Sent(); len(sent) != 1 || sent[0].Ifindex != forward.IfPod2 {
		t.Errorf("%d sent, counters %v", len(sent), l.Counters().Read().ByVerdict)
	}
}

// TestIncomplete: as long as the tables may be old nobody is told that there is
// no way.
func TestIncomplete(t *testing.T) { synctest.Test(t, testIncomplete) }

func testIncomplete(t *testing.T) {
	p, incomplete := memconn.New(), true
	l := forward.NewLoop(p, forward.Options{Behind: func() bool { return false }, Incomplete: func() bool { return incomplete }})
	l.Publish(forward.TestBuilder(route.Policy{}).Publish())
	for range 2 {
		for _, dst := range []string{"172.16.0.1", "10.71.0.1"} { // no route, and one that says so
			p.Inject(forward.IfPod1, forward.Packet("10.65.0.1", dst, 18))
			once(t, l)
		}
		want := 2
		if incomplete {
			want = 0
		}
		if n := len(p.Sent()); n != want {
			t.Errorf("%d sent, want %d", n, want)
		}
		incomplete = false
	}
	if counts(l, route.DropIPInNoRoutes) != 2 || counts(l, route.DropRouteUnreachable) != 2 {
		t.Error(l.Counters().Read().ByVerdict)
	}
}

// TestMissesLeaveRoom: a flood of packets without a way must not keep those of
// others from being held.
func TestMissesLeaveRoom(t *testing.T) { synctest.Test(t, testMissesLeaveRoom) }

func testMissesLeaveRoom(t *testing.T) {
	l, p, _, _ := newLoop(t)
	for range 500 {
		p.Inject(forward.IfPod1, forward.Packet("10.65.0.1", "172.16.0.1", 18))
	}
	for range 500/forward.BatchUsual + 1 {
		once(t, l)
	}
	before := counts(l, route.Queue)
	p.Inject(forward.IfPod2, forward.Packet("10.65.0.2", "172.16.0.1", 18))
	once(t, l)
	if after := counts(l, route.Queue); after != before+1 {
		t.Errorf("%d held before, %d after", before, after)
	}
}

// waker counts how often the loop is woken.
type waker struct {
	*memconn.Conn
	woken int
}

func (w *waker) Wake() { w.woken++; w.Conn.Wake() }

// TestPublishWakes: a table that is published while a packet begins to wait is
// looked at without delay, and when nothing waits any more none wakes the loop.
func TestPublishWakes(t *testing.T) {
	p := &waker{Conn: memconn.New()}
	b := forward.TestBuilder(route.Policy{})
	var l *forward.Loop
	l = forward.NewLoop(p, forward.Options{Behind: func() bool {
		if p.woken == 0 {
			b.SetRoutes(route.TableMain, netip.MustParsePrefix("172.16.0.0/12"), []route.Route{{Table: route.TableMain, Type: route.TypeUnicast,
				Nexthops: []route.Nexthop{{Ifindex: forward.IfPod2, Gateway: netip.MustParseAddr("10.65.0.2"), Weight: 1}}}})
			l.Publish(b.Publish())
		}
		return true
	}})
	l.Publish(b.Publish())
	p.Inject(forward.IfPod1, forward.Packet("10.65.0.1", "172.16.0.1", 18))
	once(t, l)
	if p.woken != 1 || len(p.Sent()) != 0 {
		t.Fatalf("woken %d times", p.woken)
	}
	once(t, l)
	if n := len(p.Sent()); n != 1 {
		t.Fatalf("%d sent, counters %v", n, l.Counters().Read().ByVerdict)
	}
	l.Publish(b.Publish())
	if p.woken != 1 {
		t.Error("woken though nothing waits")
	}
}
