package route

import (
	"net/netip"
	"runtime"
	"runtime/metrics"
	"testing"
	"time"

	"proxyarpd/internal/fulltable"
)

const million = 1_000_000

const ifUplink = 20

// fullTable fills a builder with a full table over 200 next hops.
func fullTable(b *Builder, prefixes []netip.Prefix) {
	for i, p := range prefixes {
		setVia(b, p, i)
	}
}

// setVia gives a prefix one of 200 next hops.
func setVia(b *Builder, p netip.Prefix, hop int) {
	nh := Nexthop{Ifindex: ifUplink, Gateway: netip.AddrFrom4([4]byte{192, 168, 1, byte(1 + hop%200)}), Weight: 1}
	if p.Addr().Is6() {
		nh.Gateway = netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 15: byte(1 + hop%200)})
	}
	b.SetRoutes(TableMain, p, []Route{{Table: TableMain, Type: TypeUnicast, Protocol: 12, Nexthops: []Nexthop{nh}}})
}

// allocated is what the heap holds, and has ever given out, in bytes.
func allocated() (held, total uint64) {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc, m.TotalAlloc
}

// gcSeconds is the CPU time that the collector has taken.
func gcSeconds() float64 {
	s := []metrics.Sample{{Name: "/cpu/classes/gc/total:cpu-seconds"}}
	metrics.Read(s)
	return s[0].Value.Float64()
}

// BenchmarkMillionLoad: time and memory of a full table.
func BenchmarkMillionLoad(b *testing.B) { benchmarkLoad(b, fulltable.Prefixes(million, 1)) }

// BenchmarkMillionLoad6 is the same for IPv6: of a router's table, and of workloads.
func BenchmarkMillionLoad6(b *testing.B) {
	b.Run("full", func(b *testing.B) { benchmarkLoad(b, fulltable.Prefixes6(million, 1)) })
	b.Run("hosts", func(b *testing.B) { benchmarkLoad(b, fulltable.Hosts6(million, 1)) })
}

func benchmarkLoad(b *testing.B, prefixes []netip.Prefix) {
	var held uint64
	for b.Loop() {
		b.StopTimer()
		before, _ := allocated()
		b.StartTimer()
		builder := NewBuilder(Policy{})
		fullTable(builder, prefixes)
		builder.Publish()
		b.StopTimer()
		after, _ := allocated()
		held = after - before
		runtime.KeepAlive(builder)
		b.StartTimer()
	}
	b.ReportMetric(float64(held)/million, "bytes/route")
}

// BenchmarkMillionLookup: random destinations miss the caches, hot ones don't.
func BenchmarkMillionLookup(b *testing.B) {
	benchmarkLookup(b, fulltable.Prefixes(million, 1), fulltable.Addrs)
}

// BenchmarkMillionLookup6 is the same for IPv6.
func BenchmarkMillionLookup6(b *testing.B) {
	b.Run("full", func(b *testing.B) { benchmarkLookup(b, fulltable.Prefixes6(million, 1), fulltable.Addrs6) })
	b.Run("hosts", func(b *testing.B) { benchmarkLookup(b, fulltable.Hosts6(million, 1), fulltable.Addrs6) })
}

func benchmarkLookup(b *testing.B, prefixes []netip.Prefix, draw func([]netip.Prefix, int, uint64) []netip.Addr) {
	builder := NewBuilder(Policy{})
	fullTable(builder, prefixes)
	t := builder.Publish()
	for name, n := range map[string]int{"random": 1 << 20, "hot": 1 << 8} {
		addrs := draw(prefixes, n, 1)
		b.Run(name, func(b *testing.B) {
			at := 0
			for b.Loop() {
				if t.Lookup(addrs[at&(n-1)], netip.Addr{}, 1, 0) == nil {
					b.Fatal("no route")
				}
				at++
			}
		})
	}
}

// BenchmarkMillionChange: what changes cost that are published one by one, or
// as a burst is, 4096 at a time.
func BenchmarkMillionChange(b *testing.B) { benchmarkChange(b, fulltable.Prefixes(million, 1)) }

// BenchmarkMillionChange6 is the same for IPv6.
func BenchmarkMillionChange6(b *testing.B) { benchmarkChange(b, fulltable.Prefixes6(million, 1)) }

func benchmarkChange(b *testing.B, prefixes []netip.Prefix) {
	builder := NewBuilder(Policy{})
	fullTable(builder, prefixes)
	builder.Publish()
	for name, batch := range map[string]int{"one": 1, "burst": 4096} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			began, gc := time.Now(), gcSeconds()
			at := 0
			for b.Loop() {
				// Every third one goes, or comes again.
				switch p := prefixes[at*7919%million]; {
				case at%3 != 0:
					setVia(builder, p, at+1)
				default:
					builder.SetRoutes(TableMain, p, nil)
				}
				if at++; at%batch == 0 {
					builder.Publish()
				}
			}
			b.ReportMetric((gcSeconds()-gc)/time.Since(began).Seconds()*100, "gc-%cpu")
		})
	}
}
