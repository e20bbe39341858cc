package ebpf

import (
	"net/netip"
	"testing"

	"proxyarpd/forward/route"
	"proxyarpd/internal/wire"
)

// TestAskers: who may ask follows the table.
func TestAskers(t *testing.T) {
	a := newAnswering(t)
	ask := func(from string) []byte {
		group := wire.SolicitedNode(gateways6[0].As16())
		src := netip.MustParseAddr(from).As16()
		f := make([]byte, wire.EthernetLen+wire.IPv6Len+wire.NDLen+wire.NDOptLinkLayerLen)
		wire.PutAdvertisement(f, askerMAC, src, gateways6[0].As16(), 0, wire.MulticastMAC(group), group)
		msg := f[wire.EthernetLen+wire.IPv6Len:]
		msg[wire.NDLen] = wire.NDOptSourceLinkLayer
		wire.PutICMPv6(msg, wire.ICMPv6NeighSolicit, 0, 0, src, group)
		return f
	}
	wants := func(when, from string, want bool) {
		t.Helper()
		got, _, err := a.set.Carrier().TryAnswer(asksAt, ask(from))
		if err != nil || (got != nil) != want {
			t.Errorf("%s, %s: answered %v, %v", when, from, got != nil, err)
		}
	}
	wants("at first", "fe80::1", true)
	wants("at first", "fd00:65::1", true)
	b := route.NewBuilder(route.Policy{IPv6: true})
	link := a.table.Link(asksAt)
	b.SetLink(route.Link{Ifindex: asksAt, Name: "cali", Flags: link.Flags, MAC: link.MAC, MTU: 1500, MTU6: 1500, Slot: link.Slot})
	publish := func() {
		t.Helper()
		if err := a.mirror.publish(b.Publish()); err != nil {
			t.Fatal(err)
		}
	}
	publish()
	wants("nothing is known", "fe80::1", true)
	wants("nothing is known", "fd00:65::1", false)
	addr := netip.MustParseAddr("fd00:65::1")
	neighbour := func(mac wire.MAC) {
		b.SetNeighbour(asksAt, addr, &route.Neighbour{MAC: mac, Valid: true})
		publish()
	}
	routed := func(bits int, on bool) {
		t.Helper()
		var routes []route.Route
		if on {
			routes = []route.Route{{Table: route.TableMain, Type: route.TypeUnicast, Nexthops: []route.Nexthop{{Ifindex: asksAt, Weight: 1}}}}
		}
		b.SetRoutes(route.TableMain, netip.PrefixFrom(addr, bits).Masked(), routes)
		publish()
	}
	neighbour(askerMAC)
	wants("not routed", "fd00:65::1", false)
	for _, bits := range []int{128, 64} {
		routed(bits, true)
		wants("routed", "fd00:65::1", true)
		wants("another one", "fd00:65::9", false)
		neighbour(strangerMAC)
		wants("by another MAC", "fd00:65::1", false)
		neighbour(askerMAC)
		wants("by its MAC again", "fd00:65::1", true)
		routed(bits, false)
		wants("not routed any more", "fd00:65::1", false)
	}
	a.mirror.stop()
	wants("at the end", "fe80::1", false)
}
