package routetest

import (
	"fmt"
	"net/netip"

	"proxyarpd/forward/route"
	"proxyarpd/internal/wire"
)

// Crowd builds a dual-stack host as Calico has it, with so many workloads: a /32 and a
// /128 each, on whose source strict validation is done; a default route, and the blocks
// of fifty other hosts.
func Crowd(workloads int) *route.Builder {
	b := route.NewBuilder(route.Policy{IPv6: true})
	flags := route.LinkUp | route.LinkEthernet
	prefix := netip.MustParsePrefix
	linkLocal := func(host string) route.Address {
		return route.Address{Local: netip.MustParseAddr(host), Prefix: prefix("fe80::/64"), Scope: 253}
	}
	b.SetLink(route.Link{Ifindex: IfUplink, Name: "ens192", Flags: flags | route.LinkUplink, MAC: MACUplink, MTU: 1500, MTU6: 1500, Slot: 1})
	b.SetAddresses(route.IPv4, IfUplink, []route.Address{{Local: netip.MustParseAddr("192.168.1.32"), Prefix: prefix("192.168.1.0/24")}})
	b.SetAddresses(route.IPv6, IfUplink, []route.Address{{Local: netip.MustParseAddr("2001:db8:ff::32"), Prefix: prefix("2001:db8:ff::/64")}, linkLocal("fe80::32")})
	unicast := func(p netip.Prefix, ifindex int32, via netip.Addr) {
		b.SetRoutes(route.TableMain, p, []route.Route{{Table: route.TableMain, Type: route.TypeUnicast, Dev: ifindex,
			Nexthops: []route.Nexthop{{Ifindex: ifindex, Gateway: via, Weight: 1}}}})
	}
	for _, p := range []string{"192.168.1.32/32", "127.0.0.0/8", "2001:db8:ff::32/128"} {
		b.SetRoutes(route.TableLocal, prefix(p), []route.Route{{Table: route.TableLocal, Type: route.TypeLocal}})
	}
	b.SetRoutes(route.TableLocal, prefix("192.168.1.255/32"), []route.Route{{Table: route.TableLocal, Type: route.TypeBroadcast}})
	routers := [...]netip.Addr{netip.MustParseAddr("192.168.1.1"), netip.MustParseAddr("fe80::1")}
	for _, r := range routers {
		b.SetNeighbour(IfUplink, r, &route.Neighbour{MAC: MACRouter, Valid: true})
	}
	unicast(prefix("0.0.0.0/0"), IfUplink, routers[0])
	unicast(prefix("::/0"), IfUplink, routers[1])
	unicast(prefix("192.168.1.0/24"), IfUplink, netip.Addr{})
	unicast(prefix("2001:db8:ff::/64"), IfUplink, netip.Addr{})
	for i := range 50 {
		other := [...]netip.Addr{netip.AddrFrom4([4]byte{192, 168, 1, byte(100 + i)}), netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 15: byte(100 + i)})}
		for family, via := range other {
			block := CrowdAddr(route.Family(family), 100_000+64*i)
			p, _ := block.Prefix(block.BitLen() - 6)
			unicast(p, IfUplink, via)
			b.SetNeighbour(IfUplink, via, &route.Neighbour{MAC: MACRouter, Valid: true})
		}
	}
	for i := range workloads {
		index := CrowdLink(i)
		b.SetLink(route.Link{Ifindex: index, Name: fmt.Sprintf("cali%d", i), Flags: flags | route.LinkWorkload, MAC: MACHost, MTU: 1500, MTU6: 1500,
			Slot: uint32(2 + i), Conf: route.LinkConf{RPFilter: 1}, Conf6: route.LinkConf6{RPFilter: 1}})
		b.SetAddresses(route.IPv6, index, []route.Address{linkLocal("fe80::ecee:eeff:feee:eeee")})
		for _, family := range []route.Family{route.IPv4, route.IPv6} {
			a := CrowdAddr(family, i)
			unicast(netip.PrefixFrom(a, a.BitLen()), index, netip.Addr{})
			b.SetNeighbour(index, a, &route.Neighbour{MAC: wire.MAC{2, 0, 0, 1, byte(i >> 8), byte(i)}, Valid: true})
		}
	}
	return b
}

// CrowdLink is the interface of a workload of Crowd.
func CrowdLink(i int) int32 { return int32(1000 + i) }

// CrowdAddr is the address of a workload, in blocks of 64.
func CrowdAddr(family route.Family, i int) netip.Addr {
	if family == route.IPv6 {
		return netip.AddrFrom16([16]byte{0xfd, 0, 0, 0x65, 8: 0x5a, 9: 0xc3, 10: 0x17, 11: 0xe0, 13: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)})
	}
	return netip.AddrFrom4([4]byte{10, 65 + byte(i>>16), byte(i >> 8), byte(i)})
}

// CrowdFar is the address of a workload of another host.
func CrowdFar(family route.Family) netip.Addr { return CrowdAddr(family, 100_000+64*7+5) }
