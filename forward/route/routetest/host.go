// Package routetest has hosts for tests of what decides by a route.Table: one
// that is always the same, and random ones. Tests import it.
package routetest

import (
	"net/netip"

	"proxyarpd/forward/route"
	"proxyarpd/internal/wire"
)

// The host of the tests: two workloads, an uplink with a router behind it.
const (
	IfPod1, IfPod2, IfUplink, IfSmall = 11, 12, 20, 21
)

// Its addresses, and those of whom it talks to.
var (
	MACHost   = wire.MAC{0xee, 0xee, 0xee, 0xee, 0xee, 0xee}
	MACPod1   = wire.MAC{2, 0, 0, 0, 0, 1}
	MACPod2   = wire.MAC{2, 0, 0, 0, 0, 2}
	MACUplink = wire.MAC{2, 0, 0, 0, 1, 0}
	MACRouter = wire.MAC{2, 0, 0, 0, 1, 1}
	AddrPod1  = netip.MustParseAddr("10.65.0.1")
	AddrPod2  = netip.MustParseAddr("10.65.0.2")
)

// Host builds it.
func Host(p route.Policy) *route.Builder {
	b := route.NewBuilder(p)
	flags := route.LinkUp | route.LinkEthernet
	b.SetLink(route.Link{Ifindex: IfPod1, Name: "cali1", Flags: flags | route.LinkWorkload, MAC: MACHost, MTU: 1500, Slot: 1})
	b.SetLink(route.Link{Ifindex: IfPod2, Name: "cali2", Flags: flags | route.LinkWorkload, MAC: MACHost, MTU: 1500, Slot: 2})
	b.SetLink(route.Link{Ifindex: IfUplink, Name: "ens192", Flags: flags | route.LinkUplink, MAC: MACUplink, MTU: 1500, Slot: 3})
	b.SetAddresses(route.IPv4, IfUplink, []route.Address{{Local: netip.MustParseAddr("192.168.1.32"), Prefix: netip.MustParsePrefix("192.168.1.0/24")}})
	b.SetLink(route.Link{Ifindex: IfSmall, Name: "ens193", Flags: flags | route.LinkUplink, MAC: MACUplink, MTU: 600, Slot: 4})
	unicast := func(prefix string, ifindex int32, via string) {
		nh := route.Nexthop{Ifindex: ifindex, Weight: 1}
		if via != "" {
			nh.Gateway = netip.MustParseAddr(via)
		}
		p := netip.MustParsePrefix(prefix)
		b.SetRoutes(route.TableMain, p, []route.Route{{Table: route.TableMain, Type: route.TypeUnicast, Nexthops: []route.Nexthop{nh}}})
	}
	typed := func(table uint32, prefix string, t route.Type) {
		p := netip.MustParsePrefix(prefix)
		b.SetRoutes(table, p, []route.Route{{Table: table, Type: t}})
	}
	unicast("10.65.0.1/32", IfPod1, "")
	unicast("10.65.0.2/32", IfPod2, "")
	unicast("10.65.1.0/24", IfUplink, "192.168.1.16")
	unicast("10.66.0.0/16", IfSmall, "192.168.2.1")
	unicast("10.67.0.0/16", IfUplink, "192.168.1.77") // does not answer
	unicast("192.168.1.0/24", IfUplink, "")
	typed(route.TableMain, "10.70.0.0/16", route.TypeBlackhole)
	typed(route.TableMain, "10.71.0.0/16", route.TypeUnreachable)
	typed(route.TableMain, "10.72.0.0/16", route.TypeProhibit)
	typed(route.TableLocal, "192.168.1.32/32", route.TypeLocal)
	typed(route.TableLocal, "192.168.1.255/32", route.TypeBroadcast)
	b.SetNeighbour(IfPod1, AddrPod1, &route.Neighbour{MAC: MACPod1, Valid: true})
	b.SetNeighbour(IfPod2, AddrPod2, &route.Neighbour{MAC: MACPod2, Valid: true})
	b.SetNeighbour(IfUplink, netip.MustParseAddr("192.168.1.16"), &route.Neighbour{MAC: MACRouter, Valid: true})
	b.SetNeighbour(IfSmall, netip.MustParseAddr("192.168.2.1"), &route.Neighbour{MAC: MACRouter, Valid: true})
	return b
}
