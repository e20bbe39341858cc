package livecapture

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"proxyarpd/forward/claim"
	"proxyarpd/forward/route"
	"proxyarpd/internal/pktring"
	"proxyarpd/internal/wire"
)

// newHost6 is newHost with IPv6 on two of its interfaces.
func newHost6() *host {
	b := route.NewBuilder(route.Policy{IPv6: true, Punt: []netip.Prefix{netip.MustParsePrefix("2001:db8::99/128")}})
	up := route.LinkUp | route.LinkEthernet
	b.SetLink(route.Link{Ifindex: testPod, Name: "cali1", MTU: 1500, MTU6: 1500, Flags: up | route.LinkWorkload})
	b.SetLink(route.Link{Ifindex: kernelPod, Name: "cali2", MTU: 1500, MTU6: 1400, Flags: up | route.LinkWorkload | route.LinkKernelForwards6})
	b.SetLink(route.Link{Ifindex: testHost, Name: "ens192", MTU: 1500, Flags: up | route.LinkUplink})
	add := func(table uint32, prefix string, kind route.Type, dev int32) {
		p := netip.MustParsePrefix(prefix)
		b.SetRoutes(table, p, []route.Route{{Table: table, Type: kind, Nexthops: []route.Nexthop{{Ifindex: dev, Weight: 1}}}})
	}
	add(route.TableMain, "2001:db8::2/128", route.TypeUnicast, testPod)
	add(route.TableLocal, "2001:db8::1/128", route.TypeLocal, testPod)
	return &host{table: b.Publish(), left: map[claim.Owner]uint64{}}
}

// frame6 is an Ethernet frame with an IPv6 packet.
func frame6(dst string, next, hops uint8, payload ...byte) []byte {
	b := make([]byte, wire.EthernetLen+wire.IPv6Len, 128)
	binary.BigEndian.PutUint16(b[12:], unix.ETH_P_IPV6)
	wire.PutIPv6(b[wire.EthernetLen:], 0, 0, len(payload), next, hops, netip.MustParseAddr("2001:db8::3").As16(), netip.MustParseAddr(dst).As16())
	return append(b, payload...)
}

// TestLeftToKernel6: why a frame of IPv6 is the kernel's.
func TestLeftToKernel6(t *testing.T) {
	plain, guards, gso, nat := newHost6(), newHost6(), newHost6(), newHost6()
	guards.left[claim.RAGuard], gso.left[claim.GSO], nat.translated = 1, 1, true
	const udp = wire.ProtoUDP
	there, here := frame6("2001:db8::2", udp, 64), frame6("2001:db8::1", udp, 64)
	advert := []byte{wire.ICMPv6RouterAdvert, 0, 0, 0}
	options := append([]byte{wire.ProtoICMPv6, 0, 1, 4, 0, 0, 0, 0}, advert...)
	for name, c := range map[string]struct {
		src   *host
		index int32
		data  []byte
		len   int
		kind  uint8
		want  route.Verdict
	}{
		"to the host":               {plain, testPod, here, 0, 0, route.Local},
		"to its link-local address": {plain, testPod, frame6("fe80::1", udp, 64), 0, 0, route.Local},
		"no whole header":           {plain, testPod, there[:53], 0, 0, route.Local},
		"to --punt":                 {plain, testPod, frame6("2001:db8::99", udp, 64), 0, 0, route.Punt},
		"over the share":            {plain, testPod, there, 0, 0, route.DropRateLimit},
		"to others":                 {plain, testPod, there, 0, unix.PACKET_OTHERHOST, route.DropOtherHost},
		"to a group":                {plain, testPod, there, 0, unix.PACKET_MULTICAST, route.IgnoreType},
		"there is no IPv6":          {plain, testHost, there, 0, 0, route.IgnoreProto},
		"translated":                {nat, kernelPod, there, 0, 0, route.PuntFlow},
		"translated, but not there": {nat, testPod, there, 0, 0, route.DropRateLimit},
		"super-packet":              {gso, kernelPod, there, 1415, 0, route.PuntGSO},
		"as long as may be":         {gso, kernelPod, there, 1414, 0, route.DropRateLimit},
		"a router's":                {guards, testPod, frame6("ff02::1", wire.ProtoICMPv6, 255, advert...), 0, unix.PACKET_MULTICAST, route.DropRAGuard},
		"a router's behind options": {guards, testPod, frame6("ff02::1", wire.ProtoDestOpts, 255, options...), 0, unix.PACKET_MULTICAST, route.DropRAGuard},
		"none was dropped":          {plain, testPod, frame6("ff02::1", wire.ProtoICMPv6, 255, advert...), 0, unix.PACKET_MULTICAST, route.IgnoreType},
		"from far away":             {guards, testPod, frame6("ff02::1", wire.ProtoICMPv6, 64, advert...), 0, unix.PACKET_MULTICAST, route.IgnoreType},
	} {
		s := pktring.Slot{Ifindex: c.index, Hatype: unix.ARPHRD_ETHER, Data: c.data, Len: max(c.len, len(c.data)), PktType: c.kind}
		if v, known := leftToKernel(c.src, &s); !known || route.Verdict(v) != c.want {
			t.Errorf("%s: %v (%v), want %v", name, route.Verdict(v), known, c.want)
		}
	}
}
