package forward_test

import (
	"net/netip"
	"testing"

	"proxyarpd/forward"
	"proxyarpd/forward/route"
	"proxyarpd/internal/wire"
)

// TestRedirectQuotes: a redirect tells of the better gateway and quotes the packet
// with what its options bore when it came, not with what the router put in.
func TestRedirectQuotes(t *testing.T) {
	l, p, b, _ := newLoop(t)
	b.SetLink(route.Link{Ifindex: forward.IfUplink, Name: "ens192", Flags: route.LinkUp | route.LinkEthernet | route.LinkUplink | route.LinkKernelForwards,
		MTU: 1500, Slot: 3, Conf: route.LinkConf{SendRedirects: true, SharedMedia: true}})
	sender, router := netip.MustParseAddr("192.168.1.50"), netip.MustParseAddr("192.168.1.16")
	preferred := netip.MustParseAddr("192.168.1.99")
	b.SetNeighbour(forward.IfUplink, sender, &route.Neighbour{MAC: wire.MAC{2, 5}, Valid: true})
	b.SetRoutes(route.TableMain, netip.MustParsePrefix("10.65.1.0/24"), []route.Route{{Table: route.TableMain, Type: route.TypeUnicast, Source: preferred,
		Nexthops: []route.Nexthop{{Ifindex: forward.IfUplink, Gateway: router, Weight: 1}}}})
	l.Publish(b.Publish())
	p.Inject(forward.IfUplink, forward.Packet(sender.String(), "10.65.1.9", 40, func(_ forward.Vnet, ip wire.IPv4) {
		ip[0] = 0x47
		copy(ip[20:], []byte{7, 7, 4, 0, 0, 0, 0, 0}) // a record of the route, room for one
	}))
	once(t, l)
	sent := p.Sent()
	if len(sent) != 2 {
		t.Fatalf("%d sent: %v", len(sent), l.Counters().Read().ByVerdict)
	}
	recorded := func(h wire.IPv4) netip.Addr { return netip.AddrFrom4([4]byte(h[23:27])) }
	redirect, packet := ip(sent[0]), ip(sent[1])
	if redirect.Protocol() != wire.ProtoICMP {
		redirect, packet = packet, redirect
	}
	if recorded(packet) != preferred {
		t.Errorf("the packet bears %v", recorded(packet))
	}
	msg := redirect.Payload()
	if msg[0] != wire.ICMPRedirect || msg[1] != 1 || netip.AddrFrom4([4]byte(msg[4:8])) != router || redirect.DstAddr() != sender {
		t.Fatalf("% x", redirect)
	}
	if own := netip.MustParseAddr("192.168.1.32"); recorded(wire.IPv4(msg[8:])) != own {
		t.Errorf("the quote bears %v, want %v", recorded(wire.IPv4(msg[8:])), own)
	}
}
