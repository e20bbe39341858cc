package daemon

import (
	"net/netip"
	"testing"

	"proxyarpd/arpd"
	"proxyarpd/forward/route"
)

// TestProxyRoutes asks as the responder does, for each request that comes.
func TestProxyRoutes(t *testing.T) {
	const pod, other = 7, 8
	b := route.NewBuilder(route.Policy{})
	for _, r := range []struct {
		prefix  string
		ifindex int32
	}{{"10.65.0.7/32", pod}, {"10.65.0.8/32", other}} {
		prefix := netip.MustParsePrefix(r.prefix)
		b.SetRoutes(route.TableMain, prefix, []route.Route{{Table: route.TableMain, Type: route.TypeUnicast,
			Nexthops: []route.Nexthop{{Ifindex: r.ifindex, Weight: 1}}}})
	}
	strict := route.Link{Ifindex: pod, Name: "cali7", Flags: route.LinkUp | route.LinkEthernet | route.LinkWorkload}
	strict.Conf.RPFilter = 1
	b.SetLink(strict)
	var p proxyRoutes
	its, others, nobodys := netip.MustParseAddr("10.65.0.7"), netip.MustParseAddr("10.65.0.8"), netip.MustParseAddr("10.66.0.1")
	if p.Proxy(others, its, pod) != arpd.ProxyNo || p.Routed(its, pod) {
		t.Error("knows routes before any was told")
	}
	p.table.Store(b.Publish())
	for _, c := range []struct {
		target, sender netip.Addr
		ifindex        int
		proxy          arpd.ProxyDecision
		routed         bool // the sender
	}{
		{others, its, pod, arpd.ProxyYes, true},
		{its, its, pod, arpd.ProxyNo, true},         // back out of where it is asked
		{nobodys, its, pod, arpd.ProxyNo, true},     // no route
		{others, nobodys, pod, arpd.ProxyNo, false}, // rp_filter
		{others, others, pod, arpd.ProxyNo, false},  // rp_filter: routed elsewhere
		{its, others, other, arpd.ProxyNo, true},    // an interface that is not known
	} {
		if got := p.Proxy(c.target, c.sender, c.ifindex); got != c.proxy {
			t.Errorf("who has %v tell %v on %d: %v, want %v", c.target, c.sender, c.ifindex, got, c.proxy)
		}
		if got := p.Routed(c.sender, c.ifindex); got != c.routed {
			t.Errorf("%v is routed to %d: %t", c.sender, c.ifindex, got)
		}
	}
	if n := testing.AllocsPerRun(100, func() { p.Proxy(others, its, pod); p.Routed(its, pod) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestUplinkLinkLocal: a router of the network asks from a link-local address, which no
// route leads to: of several uplinks the one answers by which the target would be sought.
func TestUplinkLinkLocal(t *testing.T) {
	const pod, first, second = 7, 8, 9
	b := route.NewBuilder(route.Policy{})
	b.SetLink(route.Link{Ifindex: pod, Name: "cali7", MTU6: 1500, Flags: route.LinkUp | route.LinkEthernet | route.LinkWorkload})
	for _, index := range []int32{first, second} {
		b.SetLink(route.Link{Ifindex: index, Name: "lan", MTU6: 1500, Flags: route.LinkUp | route.LinkEthernet | route.LinkUplink})
	}
	over := func(ifindex int32) []route.Route {
		return []route.Route{{Table: route.TableMain, Type: route.TypeUnicast, Nexthops: []route.Nexthop{{Ifindex: ifindex, Weight: 1}}}}
	}
	target, router := netip.MustParseAddr("2001:db8:2::50"), netip.MustParseAddr("fe80::1")
	b.SetRoutes(route.TableMain, netip.MustParsePrefix("2001:db8:2::50/128"), over(pod))
	b.SetRoutes(route.TableMain, netip.MustParsePrefix("2001:db8:2::/64"), over(first))
	var p proxyRoutes
	p.table.Store(b.Publish())
	for index, want := range map[int]arpd.UplinkDecision{first: arpd.UplinkYes, second: arpd.UplinkElsewhere} {
		for _, sender := range []netip.Addr{router, netip.IPv6Unspecified()} {
			if got := p.Uplink(target, sender, macAddr{2, 1}, index); got != want {
				t.Errorf("%v asks on %d: %v, want %v", sender, index, got, want)
			}
		}
		if got := p.Uplink(netip.MustParseAddr("2001:db8:2::51"), router, macAddr{2, 1}, index); got != arpd.UplinkNo {
			t.Errorf("for an address that nobody has: %v", got)
		}
	}
}

// BenchmarkReadIfConf is what following the settings of one interface costs.
func BenchmarkReadIfConf(b *testing.B) {
	for b.Loop() {
		readIfConf("lo", kernelConf, true)
	}
}
