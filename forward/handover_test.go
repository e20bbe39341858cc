package forward_test

import (
	"testing"

	"proxyarpd/forward"
	"proxyarpd/forward/memconn"
	"proxyarpd/forward/route"
	"proxyarpd/internal/wire"
)

// TestHandover: what waits in the loop of one process goes on waiting in another's, and
// leaves once, in order, as it would have left: packets of both families, those for a next
// hop and those for a route.
func TestHandover(t *testing.T) {
	old, p, b, _ := newLoop6(t)
	late := memconn.New()
	missing := forward.NewLoop(late, forward.Options{}) // is behind: it waits for routes
	missing.Publish(b.Publish())
	for i := range 2 {
		p.Inject(forward.IfPod1, forward.Packet6(pod1, silent, 18+i))
		p.Inject(forward.IfPod1, forward.Packet("10.65.0.1", "10.67.0.2", 18+i))
		late.Inject(forward.IfPod1, forward.Packet6(pod1, "2001:db8:9::1", 18+i))
	}
	once(t, old)
	once(t, missing)
	all := append(old.Waiting(), missing.Waiting()...)
	if len(all) != 6 || len(p.Sent()) != 0 || len(late.Sent()) != 0 {
		t.Fatalf("%d wait: %+v", len(all), all)
	}
	c := memconn.New()
	l := forward.NewLoop(c, forward.Options{Behind: func() bool { return false }})
	l.Publish(b.Publish())
	mac := wire.MAC{2, 7, 7, 7, 7, 7}
	l.Hold(all)
	// Nothing is on its way any more, so who has no route is told so.
	sent := c.Sent()
	if len(sent) != 2 || ip6(sent[0]).NextHeader() != wire.ProtoICMPv6 || counts(l, route.DropIPInNoRoutes) != 2 {
		t.Fatalf("%d sent, %v", len(sent), l.Counters().Read().ByVerdict)
	}
	b.SetNeighbour(forward.IfUplink, addr("fe80::77"), &route.Neighbour{MAC: mac, Valid: true})
	b.SetNeighbour(forward.IfUplink, addr("192.168.1.77"), &route.Neighbour{MAC: mac, Valid: true})
	l.Publish(b.Publish())
	once(t, l)
	lengths := map[wire.EtherType]int{}
	for _, s := range c.Sent() {
		eth := wire.Ethernet(s.Buf[forward.VnetLen:])
		if s.Type != eth.Type() || eth.Dst() != mac || s.Ifindex != forward.IfUplink {
			t.Errorf("sent % x as %#x by %d", s.Buf, s.Type, s.Ifindex)
		}
		before := lengths[s.Type]
		if lengths[s.Type] = len(s.Buf); before != 0 && len(s.Buf) != before+1 {
			t.Errorf("type %#x: %d bytes after %d", s.Type, len(s.Buf), before)
		}
		if hops := ip6(s)[7]; s.Type == wire.EtherTypeIPv6 && hops != 63 {
			t.Errorf("hop limit %d", hops)
		}
		if h := ip(s); s.Type == wire.EtherTypeIPv4 && (h.TTL() != 63 || !h.ChecksumOK()) {
			t.Errorf("TTL %d", h.TTL())
		}
	}
	if len(lengths) != 2 || counts(l, route.Forward) != 4 {
		t.Errorf("%v: %v", lengths, l.Counters().Read().ByVerdict)
	}
}
