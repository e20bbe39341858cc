package forward

import (
	"encoding/binary"
	"net/netip"

	"proxyarpd/internal/wire"
)

// The host of the tests: two workloads, an uplink with a router behind it.
const (
	ifPod1, ifPod2, ifUplink, ifSmall = 11, 12, 20, 21
)

var (
	macHost   = wire.MAC{0xee, 0xee, 0xee, 0xee, 0xee, 0xee}
	macPod1   = wire.MAC{2, 0, 0, 0, 0, 1}
	macPod2   = wire.MAC{2, 0, 0, 0, 0, 2}
	macUplink = wire.MAC{2, 0, 0, 0, 1, 0}
	macRouter = wire.MAC{2, 0, 0, 0, 1, 1}
	addrPod1  = netip.MustParseAddr("10.65.0.1")
	addrPod2  = netip.MustParseAddr("10.65.0.2")
)

func testBuilder(p Policy) *Builder {
	b := NewBuilder(p)
	flags := LinkUp | LinkEthernet
	b.SetLink(Link{Ifindex: ifPod1, Name: "cali1", Flags: flags | LinkWorkload, MAC: macHost, MTU: 1500, Slot: 1})
	b.SetLink(Link{Ifindex: ifPod2, Name: "cali2", Flags: flags | LinkWorkload, MAC: macHost, MTU: 1500, Slot: 2})
	b.SetLink(Link{Ifindex: ifUplink, Name: "ens192", Flags: flags | LinkUplink, MAC: macUplink, MTU: 1500, Slot: 3})
	b.SetAddresses(ifUplink, []Address{{Local: netip.MustParseAddr("192.168.1.32"), Prefix: netip.MustParsePrefix("192.168.1.0/24")}})
	b.SetLink(Link{Ifindex: ifSmall, Name: "ens193", Flags: flags | LinkUplink, MAC: macUplink, MTU: 600, Slot: 4})
	unicast := func(prefix string, ifindex int32, via string) {
		nh := Nexthop{Ifindex: ifindex, Weight: 1}
		if via != "" {
			nh.Gateway = netip.MustParseAddr(via)
		}
		p := netip.MustParsePrefix(prefix)
		b.SetRoutes(TableMain, p, []Route{{Table: TableMain, Type: RouteUnicast, Nexthops: []Nexthop{nh}}})
	}
	typed := func(table uint32, prefix string, t RouteType) {
		p := netip.MustParsePrefix(prefix)
		b.SetRoutes(table, p, []Route{{Table: table, Type: t}})
	}
	unicast("10.65.0.1/32", ifPod1, "")
	unicast("10.65.0.2/32", ifPod2, "")
	unicast("10.65.1.0/24", ifUplink, "192.168.1.16")
	unicast("10.66.0.0/16", ifSmall, "192.168.2.1")
	unicast("10.67.0.0/16", ifUplink, "192.168.1.77") // does not answer
	unicast("192.168.1.0/24", ifUplink, "")
	typed(TableMain, "10.70.0.0/16", RouteBlackhole)
	typed(TableMain, "10.71.0.0/16", RouteUnreachable)
	typed(TableMain, "10.72.0.0/16", RouteProhibit)
	typed(TableLocal, "192.168.1.32/32", RouteLocal)
	typed(TableLocal, "192.168.1.255/32", RouteBroadcast)
	b.SetNeighbour(ifPod1, addrPod1, &Neighbour{MAC: macPod1, Valid: true})
	b.SetNeighbour(ifPod2, addrPod2, &Neighbour{MAC: macPod2, Valid: true})
	b.SetNeighbour(ifUplink, netip.MustParseAddr("192.168.1.16"), &Neighbour{MAC: macRouter, Valid: true})
	b.SetNeighbour(ifSmall, netip.MustParseAddr("192.168.2.1"), &Neighbour{MAC: macRouter, Valid: true})
	return b
}

// packet makes a virtio_net_hdr, an Ethernet frame and a UDP datagram in it.
func packet(src, dst string, payload int, edit ...func(vnet Vnet, ip wire.IPv4)) []byte {
	total := wire.IPv4MinLen + 8 + payload
	b := make([]byte, VnetLen+wire.EthernetLen+total)
	eth := wire.Ethernet(b[VnetLen:])
	eth.SetDst(macHost)
	eth.SetSrc(macPod1)
	eth.SetType(wire.EtherTypeIPv4)
	ip := wire.IPv4(eth.Payload())
	wire.PutIPv4(ip, 0, total, 0x1234, 0, 64, wire.ProtoUDP, netip.MustParseAddr(src).As4(), netip.MustParseAddr(dst).As4())
	udp := ip.Payload()
	binary.BigEndian.PutUint16(udp[0:], 4000)
	binary.BigEndian.PutUint16(udp[2:], 5000)
	binary.BigEndian.PutUint16(udp[4:], uint16(8+payload))
	for i := range udp[8:] {
		udp[8+i] = byte(i)
	}
	putL4Checksum(ip, udp, 6)
	for _, e := range edit {
		e(Vnet(b), ip)
		if ip.HeaderValid() {
			ip.UpdateHeaderChecksum()
		}
	}
	return b
}

func df(_ Vnet, ip wire.IPv4) { ip.SetFrag(wire.IPv4DF) }

func ttl(n uint8) func(Vnet, wire.IPv4) { return func(_ Vnet, ip wire.IPv4) { ip[8] = n } }

// tcpGSO makes a TCP super-packet of payload bytes with segments of size bytes.
func tcpGSO(src, dst string, payload, size int, flags uint16) []byte {
	total := wire.IPv4MinLen + 20 + payload
	b := make([]byte, VnetLen+wire.EthernetLen+total)
	eth := wire.Ethernet(b[VnetLen:])
	eth.SetDst(macHost)
	eth.SetSrc(macPod1)
	eth.SetType(wire.EtherTypeIPv4)
	ip := wire.IPv4(eth.Payload())
	wire.PutIPv4(ip, 0, total, 7, flags, 64, wire.ProtoTCP, netip.MustParseAddr(src).As4(), netip.MustParseAddr(dst).As4())
	tcp := ip.Payload()
	binary.BigEndian.PutUint32(tcp[4:], 1000)
	tcp[12], tcp[13] = 5<<4, 0x10|tcpPSH|tcpFIN|tcpCWR
	for i := range tcp[20:] {
		tcp[20+i] = byte(i * 7)
	}
	v := Vnet(b)
	v[0], v[1] = vnetNeedsCsum, gsoTCPv4
	binary.NativeEndian.PutUint16(v[2:], wire.EthernetLen+40)
	binary.NativeEndian.PutUint16(v[4:], uint16(size))
	binary.NativeEndian.PutUint16(v[6:], wire.EthernetLen+20)
	binary.NativeEndian.PutUint16(v[8:], 16)
	return b
}
