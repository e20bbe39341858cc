package forward

import (
	"encoding/binary"
	"net/netip"

	"proxyarpd/forward/route"
	"proxyarpd/forward/route/routetest"
	"proxyarpd/internal/wire"
)

// The host of the tests: see routetest.Host.
const (
	ifPod1, ifPod2, ifUplink, ifSmall = routetest.IfPod1, routetest.IfPod2, routetest.IfUplink, routetest.IfSmall
)

var (
	macHost     = routetest.MACHost
	macPod1     = routetest.MACPod1
	macUplink   = routetest.MACUplink
	macRouter   = routetest.MACRouter
	testBuilder = routetest.Host
)

// putL4Checksum computes a TCP or UDP checksum that stands at off of l4, which is behind ip's
// header.
func putL4Checksum(ip, l4 []byte, off int) {
	_, proto := upper(ip)
	if checksumAt(proto) != off {
		panic("another protocol's checksum")
	}
	finishChecksum(l4, proto, uint32(^wire.Fold(pseudoSum(ip, proto, 0))))
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

func icmpError(typ, code uint8, rest uint32) route.ICMPError {
	return route.ICMPError{Type: typ, Code: code, Rest: rest}
}
