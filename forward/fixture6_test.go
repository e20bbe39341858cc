package forward

import (
	"encoding/binary"
	"net/netip"

	"proxyarpd/forward/route"
	"proxyarpd/forward/route/routetest"
	"proxyarpd/internal/wire"
)

// ifTun is an uplink without a link layer.
const ifTun = 30

var (
	router6 = netip.MustParseAddr("fe80::16")
	dead6   = netip.MustParseAddr("fe80::77")
	own6    = netip.MustParseAddr("2001:db8:ff::32")
	own6LL  = netip.MustParseAddr("fe80::32")
)

// builder6 is the host of the tests with IPv6, too: pods in 2001:db8::/64, a router behind
// the uplink and one behind a TUN device, and as many bad routes as there are of IPv4.
func builder6(p route.Policy) *route.Builder {
	p.IPv6 = true
	b := testBuilder(p)
	flags := route.LinkUp | route.LinkEthernet
	b.SetLink(route.Link{Ifindex: ifPod1, Name: "cali1", Flags: flags | route.LinkWorkload, MAC: macHost, MTU: 1500, MTU6: 1500, Slot: 1})
	b.SetLink(route.Link{Ifindex: ifPod2, Name: "cali2", Flags: flags | route.LinkWorkload, MAC: macHost, MTU: 1500, MTU6: 1500, Slot: 2})
	b.SetLink(route.Link{Ifindex: ifUplink, Name: "ens192", Flags: flags | route.LinkUplink, MAC: macUplink, MTU: 1500, MTU6: 1500, Slot: 3})
	b.SetLink(route.Link{Ifindex: ifSmall, Name: "ens193", Flags: flags | route.LinkUplink, MAC: macUplink, MTU: 600, MTU6: 1280, Slot: 4})
	b.SetLink(route.Link{Ifindex: ifTun, Name: "tun0", Flags: route.LinkUp | route.LinkUplink, MTU: 1500, MTU6: 1500, Slot: 5})
	prefix := netip.MustParsePrefix
	b.SetAddresses(route.IPv6, ifUplink, []route.Address{{Local: own6, Prefix: prefix("2001:db8:ff::/64")}, {Local: own6LL, Prefix: prefix("fe80::/64"), Scope: 253}})
	b.SetAddresses(route.IPv6, ifPod1, []route.Address{{Local: netip.MustParseAddr("fe80::ecee:eeff:feee:eeee"), Prefix: prefix("fe80::/64"), Scope: 253}})
	unicast := func(to string, ifindex int32, via netip.Addr) {
		p := prefix(to)
		b.SetRoutes(route.TableMain, p, []route.Route{{Table: route.TableMain, Type: route.TypeUnicast, Metric: 1024, Dev: ifindex,
			Nexthops: []route.Nexthop{{Ifindex: ifindex, Gateway: via, Weight: 1}}}})
	}
	typed := func(table uint32, to string, t route.Type) {
		b.SetRoutes(table, prefix(to), []route.Route{{Table: table, Type: t, Metric: 1024}})
	}
	none := netip.Addr{}
	unicast("2001:db8::1/128", ifPod1, none)
	unicast("2001:db8::2/128", ifPod2, none)
	unicast("2001:db8:1::/64", ifUplink, router6)
	unicast("2001:db8:2::/64", ifSmall, router6)
	unicast("2001:db8:3::/64", ifUplink, dead6)
	unicast("2001:db8:4::/64", ifTun, none)
	unicast("2001:db8:ff::/64", ifUplink, none)
	typed(route.TableMain, "2001:db8:70::/48", route.TypeBlackhole)
	typed(route.TableMain, "2001:db8:71::/48", route.TypeUnreachable)
	typed(route.TableMain, "2001:db8:72::/48", route.TypeProhibit)
	typed(route.TableLocal, own6.String()+"/128", route.TypeLocal)
	b.SetNeighbour(ifPod1, netip.MustParseAddr("2001:db8::1"), &route.Neighbour{MAC: macPod1, Valid: true})
	b.SetNeighbour(ifPod2, netip.MustParseAddr("2001:db8::2"), &route.Neighbour{MAC: routetest.MACPod2, Valid: true})
	b.SetNeighbour(ifUplink, router6, &route.Neighbour{MAC: macRouter, Valid: true})
	b.SetNeighbour(ifSmall, router6, &route.Neighbour{MAC: macRouter, Valid: true})
	return b
}

// framed6 puts an IPv6 packet into a frame from pod 1, behind a virtio_net_hdr.
func framed6(v Vnet, ip wire.IPv6) []byte {
	b := make([]byte, VnetLen+wire.EthernetLen, VnetLen+wire.EthernetLen+len(ip))
	copy(b, v)
	eth := wire.Ethernet(b[VnetLen:])
	eth.SetDst(macHost)
	eth.SetSrc(macPod1)
	eth.SetType(wire.EtherTypeIPv6)
	return append(b, ip...)
}

// packet6 makes a virtio_net_hdr, an Ethernet frame and a UDP datagram in it.
func packet6(src, dst string, payload int, edit ...func(vnet Vnet, ip wire.IPv6)) []byte {
	ip := make(wire.IPv6, wire.IPv6Len+8+payload)
	wire.PutIPv6(ip, 0, 0x12345, 8+payload, wire.ProtoUDP, 64, netip.MustParseAddr(src).As16(), netip.MustParseAddr(dst).As16())
	udp := ip.Payload()
	binary.BigEndian.PutUint32(udp, 4000<<16|5000)
	binary.BigEndian.PutUint16(udp[4:], uint16(8+payload))
	for i := range udp[8:] {
		udp[8+i] = byte(i)
	}
	putL4Checksum(ip, udp, 6)
	b := framed6(make(Vnet, VnetLen), ip)
	for _, e := range edit {
		e(Vnet(b), wire.IPv6(b[VnetLen+wire.EthernetLen:]))
	}
	return b
}

// withOptions puts a hop-by-hop header of 8 bytes with an option before the upper layer.
func withOptions(b []byte, option ...byte) []byte {
	ip := wire.IPv6(b[VnetLen+wire.EthernetLen:])
	header := append([]byte{ip.NextHeader(), 0}, option...)
	for n := 8 - len(header); n > 0; n = 8 - len(header) {
		if n == 1 {
			header = append(header, wire.IPv6OptPad1)
			break
		}
		header = append(append(header, wire.IPv6OptPadN, byte(n-2)), make([]byte, n-2)...)
	}
	out := append(append(append([]byte(nil), b[:VnetLen+wire.EthernetLen+wire.IPv6Len]...), header...), ip[wire.IPv6Len:]...)
	ip = wire.IPv6(out[VnetLen+wire.EthernetLen:])
	ip[6] = wire.ProtoHopByHop
	ip.SetPayloadLen(len(ip) - wire.IPv6Len)
	return out
}

func hops(n uint8) func(Vnet, wire.IPv6) { return func(_ Vnet, ip wire.IPv6) { ip[7] = n } }
