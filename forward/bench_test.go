package forward_test

import (
	"fmt"
	"testing"

	"proxyarpd/forward"
	"proxyarpd/forward/memconn"
	"proxyarpd/forward/route"
	"proxyarpd/forward/route/routetest"
	"proxyarpd/internal/wire"
)

// BenchmarkFlows is the way of a packet through a loaded loop without a kernel: batches
// of 256 datagrams of one flow, which leave as super-packets, of 16, and of 256, which
// leave one by one; from a workload to another host's, on a dual-stack host with a
// thousand workloads.
func BenchmarkFlows(b *testing.B) {
	const size = 256
	table := routetest.Crowd(1000).Publish()
	for _, flows := range []int{1, 16, size} {
		for _, family := range []route.Family{route.IPv4, route.IPv6} {
			b.Run(fmt.Sprintf("%d/%s", flows, family), func(b *testing.B) {
				p := memconn.New()
				p.Discard = true
				l := forward.NewLoop(p, forward.Options{})
				l.Publish(table)
				frames := make([][]byte, size)
				for i := range frames {
					frames[i] = flowFrame(family, i%flows, i/flows)
				}
				f := forward.NewTestBatch(frames, routetest.CrowdLink(7))
				b.ReportAllocs()
				for b.Loop() {
					f.Reset()
					l.Process(f)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/size, "ns/packet")
				if n := counts(l, route.Forward); n != uint64(b.N*size) {
					b.Errorf("%d of %d forwarded", n, b.N*size)
				}
			})
		}
	}
}

// BenchmarkFlowsReset is what BenchmarkFlows does beside it all.
func BenchmarkFlowsReset(b *testing.B) {
	const size = 256
	for _, family := range []route.Family{route.IPv4, route.IPv6} {
		b.Run(family.String(), func(b *testing.B) {
			frames := make([][]byte, size)
			for i := range frames {
				frames[i] = flowFrame(family, 0, i)
			}
			f := forward.NewTestBatch(frames, 1)
			for b.Loop() {
				f.Reset()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/size, "ns/packet")
		})
	}
}

// flowFrame is the nth datagram of a flow, told from others by its port.
func flowFrame(family route.Family, flow, n int) []byte {
	src, dst := routetest.CrowdAddr(family, 7).String(), routetest.CrowdFar(family).String()
	if family == route.IPv6 {
		return forward.Packet6(src, dst, 18, func(_ forward.Vnet, ip wire.IPv6) {
			ip.Payload()[1] = byte(flow)
			forward.PutL4Checksum(ip, ip.Payload(), 6)
		})
	}
	return forward.Packet(src, dst, 18, func(_ forward.Vnet, ip wire.IPv4) {
		ip.SetID(uint16(n))
		ip.Payload()[1] = byte(flow)
		forward.PutL4Checksum(ip, ip.Payload(), 6)
	})
}
