package forward_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"proxyarpd/forward"
	"proxyarpd/forward/route"
)

// TestScanLeavesRoom: one pod that scans a subnet must not keep others from
// waiting for a next hop, in numbers or in bytes. As in all tests of what takes
// time, the time is synctest's: it stands still while a busy machine computes.
func TestScanLeavesRoom(t *testing.T) { synctest.Test(t, testScanLeavesRoom) }

func testScanLeavesRoom(t *testing.T) {
	for name, payload := range map[string]int{"many next hops": 18, "many bytes": 1400} {
		l, p, b, q := newLoop(t)
		subnet := netip.MustParsePrefix("10.90.0.0/16")
		b.SetRoutes(route.TableMain, subnet, []route.Route{{Table: route.TableMain, Type: route.TypeUnicast,
			Nexthops: []route.Nexthop{{Ifindex: forward.IfUplink, Weight: 1}}}})
		l.Publish(b.Publish())
		const scanned = 6000
		for i := range scanned {
			p.Inject(forward.IfPod1, forward.Packet("10.65.0.1", fmt.Sprintf("10.90.%d.%d", i>>8, i&255), payload))
		}
		for range scanned/forward.BatchUsual + 1 {
			once(t, l)
		}
		held := scanned - int(counts(l, route.DropNeighQueueFull))
		if held == 0 || held > 1024 || len(*q) != held {
			t.Errorf("%s: %d packets of a scan wait, the kernel was asked for %d", name, held, len(*q))
		}
		for i := range 10 {
			p.Inject(forward.IfPod2, forward.Packet("10.65.0.2", fmt.Sprintf("10.90.200.%d", i), payload))
		}
		once(t, l)
		if n := len(*q) - held; n != 10 {
			t.Errorf("%s: of 10 next hops of another pod the kernel was asked for %d", name, n)
		}
		// When it is over the scanner may begin anew.
		l.Age(11 * time.Second)
		once(t, l)
		if n := counts(l, route.DropNeighFailed); n != uint64(held)+10 {
			t.Errorf("%s: %d timed out, want %d", name, n, held+10)
		}
		before := len(*q)
		p.Inject(forward.IfPod1, forward.Packet("10.65.0.1", "10.90.1.1", payload))
		once(t, l)
		if len(*q) != before+1 {
			t.Errorf("%s: no room after all have timed out", name)
		}
	}
}

// TestShareComesBack: who has used up its next hops gets them back as they time
// out, also while others keep the queue from ever being empty.
func TestShareComesBack(t *testing.T) { synctest.Test(t, testShareComesBack) }

func testShareComesBack(t *testing.T) {
	l, p, b, q := newLoop(t)
	b.SetRoutes(route.TableMain, netip.MustParsePrefix("10.90.0.0/16"), []route.Route{{Table: route.TableMain, Type: route.TypeUnicast,
		Nexthops: []route.Nexthop{{Ifindex: forward.IfUplink, Weight: 1}}}})
	l.Publish(b.Publish())
	send := func(from int32, src, dst string) bool {
		before := len(*q)
		p.Inject(from, forward.Packet(src, dst, 18))
		once(t, l)
		return slices.ContainsFunc((*q)[before:], func(a asked) bool { return a.addr == netip.MustParseAddr(dst) })
	}
	const share = 512
	for i := range share {
		if !send(forward.IfPod1, "10.65.0.1", fmt.Sprintf("10.90.%d.%d", i>>8, i&255)) {
			t.Fatalf("the next hop %d is not asked for", i)
		}
	}
	if send(forward.IfPod1, "10.65.0.1", "10.90.9.9") {
		t.Fatal("more than its share")
	}
	l.Age(4 * time.Second)
	if !send(forward.IfPod2, "10.65.0.2", "10.90.200.1") {
		t.Fatal("another's is not asked for")
	}
	l.Age(2 * time.Second)
	once(t, l)
	if n := counts(l, route.DropNeighFailed); n < share {
		t.Fatalf("%d timed out", n)
	}
	if !send(forward.IfPod1, "10.65.0.1", "10.90.9.9") {
		t.Error("the share does not come back")
	}
}

// TestFailedBefore: that a neighbour had failed before a packet began to wait for it
// ends no wait, only that it fails again.
func TestFailedBefore(t *testing.T) { synctest.Test(t, testFailedBefore) }

func testFailedBefore(t *testing.T) {
	l, p, b, _ := newLoop(t)
	dead := netip.MustParseAddr("192.168.1.77")
	b.SetNeighbour(forward.IfUplink, dead, &route.Neighbour{Failed: true})
	l.Publish(b.Publish())
	p.Inject(forward.IfPod1, forward.Packet("10.65.0.1", "10.67.0.2", 18))
	once(t, l)
	b.SetNeighbour(forward.IfPod1, netip.MustParseAddr("10.65.0.9"), &route.Neighbour{Valid: true})
	l.Publish(b.Publish())
	once(t, l)
	if n := counts(l, route.DropNeighFailed); n != 0 {
		t.Fatal("ended by what was known before")
	}
	b.SetNeighbour(forward.IfUplink, dead, &route.Neighbour{Failed: true})
	l.Publish(b.Publish())
	once(t, l)
	if n := counts(l, route.DropNeighFailed); n != 1 {
		t.Error("waits on")
	}
}
