package forward_test

import (
	"net/netip"
	"slices"
	"testing"

	"proxyarpd/forward"
	"proxyarpd/forward/route"
	"proxyarpd/internal/wire"
)

// TestAskedAgain: an interface that gets another MAC loses its neighbours, and
// those that are being asked for. Whoever waits must not wait for a time-out.
func TestAskedAgain(t *testing.T) {
	l, p, b, q := newLoop(t)
	p.Inject(forward.IfPod1, forward.Packet("10.65.0.1", "10.67.0.2", 18))
	once(t, l)
	b.SetRoutes(route.TableMain, netip.MustParsePrefix("10.80.0.0/16"), nil) // something else changes
	l.Publish(b.Publish())
	once(t, l)
	router := netip.MustParseAddr("192.168.1.77")
	want := []asked{{forward.IfUplink, router}}
	if !slices.Equal(*q, want) {
		t.Fatalf("asked %v, want once", *q)
	}
	b.SetLink(route.Link{Ifindex: forward.IfUplink, Name: "ens192", Flags: route.LinkUp | route.LinkEthernet | route.LinkUplink,
		MAC: wire.MAC{2, 7, 7, 7, 7, 7}, MTU: 1500, Slot: 3})
	l.Publish(b.Publish())
	for range 3 {
		once(t, l)
	}
	if want = append(want, want[0]); !slices.Equal(*q, want) {
		t.Errorf("after another MAC: asked %v, want once more", *q)
	}
	b.SetNeighbour(forward.IfUplink, router, &route.Neighbour{MAC: wire.MAC{2, 8, 8, 8, 8, 8}, Valid: true})
	l.Publish(b.Publish())
	once(t, l)
	if sent := p.Sent(); len(sent) != 1 || wire.Ethernet(sent[0].Buf[forward.VnetLen:]).Src() != (wire.MAC{2, 7, 7, 7, 7, 7}) {
		t.Errorf("sent %v", sent)
	}
}
