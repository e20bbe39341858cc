package route_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"proxyarpd/forward/route"
	"proxyarpd/forward/route/routetest"
	"proxyarpd/internal/wire"
)

// BenchmarkDecide is what a decision takes on a dual-stack host with a thousand
// workloads: one flow to another of them, to another host's, and from there; and a
// thousand flows to as many workloads.
func BenchmarkDecide(b *testing.B) {
	h := routetest.Crowd(1000)
	t := h.Publish()
	for _, family := range []route.Family{route.IPv4, route.IPv6} {
		own, far := routetest.CrowdAddr(family, 7), routetest.CrowdFar(family)
		many := make([]netip.Addr, 1000)
		for i := range many {
			many[i] = routetest.CrowdAddr(family, i)
		}
		for _, c := range []struct {
			name     string
			in       int32
			src, dst []netip.Addr
		}{
			{"pod-to-pod", routetest.CrowdLink(7), []netip.Addr{own}, []netip.Addr{routetest.CrowdAddr(family, 8)}},
			{"pod-to-uplink", routetest.CrowdLink(7), []netip.Addr{own}, []netip.Addr{far}},
			{"uplink-to-pod", routetest.IfUplink, []netip.Addr{far}, []netip.Addr{own}},
			{"uplink-to-1000", routetest.IfUplink, []netip.Addr{far}, many},
		} {
			b.Run(fmt.Sprintf("%s/%s", c.name, family), func(b *testing.B) {
				packets := make([][]byte, len(c.dst))
				for i := range packets {
					packets[i] = datagram(c.src[0], c.dst[i])
				}
				in := t.Link(c.in)
				b.ReportAllocs()
				at := 0
				for b.Loop() {
					var d route.Decision
					if decide(t, packets[at], in, &d); d.Verdict != route.Forward {
						b.Fatalf("%+v", d)
					}
					if at++; at == len(packets) {
						at = 0
					}
				}
			})
		}
	}
}

// datagram is one of 18 bytes.
func datagram(src, dst netip.Addr) []byte {
	const upper = 8 + 18
	var b, udp []byte
	if src.Is6() {
		b = make([]byte, wire.IPv6Len+upper)
		wire.PutIPv6(b, 0, 0x12345, upper, wire.ProtoUDP, 64, src.As16(), dst.As16())
		udp = b[wire.IPv6Len:]
	} else {
		b = make([]byte, wire.IPv4MinLen+upper)
		wire.PutIPv4(b, 0, len(b), 1, wire.IPv4DF, 64, wire.ProtoUDP, src.As4(), dst.As4())
		udp = b[wire.IPv4MinLen:]
	}
	binary.BigEndian.PutUint32(udp, 4000<<16|5000)
	binary.BigEndian.PutUint16(udp[4:], upper)
	return b
}
