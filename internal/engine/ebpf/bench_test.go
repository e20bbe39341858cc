package ebpf

import (
	"net/netip"
	"testing"
	"time"

	"proxyarpd/forward/route"
	"proxyarpd/forward/route/routetest"
	"proxyarpd/internal/fulltable"
)

// BenchmarkMillion follows changes of a full table: one at a time, and a thousand.
func BenchmarkMillion(b *testing.B) {
	const size = 1000000
	prefixes := fulltable.Prefixes(size+1000, 1)
	builder := routetest.Host(route.Policy{})
	set := func(p netip.Prefix, via byte) {
		builder.SetRoutes(route.TableMain, p, []route.Route{{Table: route.TableMain, Type: route.TypeUnicast,
			Nexthops: []route.Nexthop{{Ifindex: routetest.IfUplink, Gateway: netip.AddrFrom4([4]byte{192, 168, 1, via}), Weight: 1}}}})
	}
	for i, p := range prefixes[:size] {
		set(p, byte(50+i%150))
	}
	m := testMirror()
	began := time.Now()
	if err := m.publish(builder.Publish()); err != nil {
		b.Fatal(err)
	}
	loaded := time.Since(began)
	chunks := len(m.chunks.used)
	for _, batch := range []int{1, 1000} {
		b.Run(map[int]string{1: "one", 1000: "thousand"}[batch], func(b *testing.B) {
			n := 0
			for b.Loop() {
				b.StopTimer()
				for i := range batch {
					set(prefixes[(n*7919+i*104729)%size], byte(50+n%150))
				}
				n++
				t := builder.Publish()
				b.StartTimer()
				if err := m.publish(t); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*batch), "ns/change")
			b.ReportMetric(loaded.Seconds(), "s/load")
			b.ReportMetric(float64(chunks)*1032/1e6, "MB/chunks")
		})
	}
}
