package netstate

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// BenchmarkLoadRoutes loads a million routes over 200 gateways as a dump does,
// kernel apart, and says what memory they keep.
func BenchmarkLoadRoutes(b *testing.B) {
	b.Run("IPv4", func(b *testing.B) {
		benchmarkLoad(b, IPv4, func(i int) payload {
			return rtmsg(32, unix.RT_TABLE_MAIN, 0).attr(unix.RTA_DST, 10, byte(i>>16), byte(i>>8), byte(i)).
				attr(unix.RTA_GATEWAY, 192, 0, 2, byte(i%200)).u32(unix.RTA_OIF, uint32(2+i%7))
		})
	})
	b.Run("IPv6", func(b *testing.B) {
		benchmarkLoad(b, IPv6, func(i int) payload {
			dst, gateway := [16]byte{0: 0x20, 1: 0x01, 3: byte(i >> 16), 4: byte(i >> 8), 5: byte(i)}, [16]byte{0: 0xfe, 1: 0x80, 15: byte(i % 200)}
			m := rtmsg(48, unix.RT_TABLE_MAIN, 0)
			m[0] = unix.AF_INET6
			return m.attr(unix.RTA_DST, dst[:]...).attr(unix.RTA_GATEWAY, gateway[:]...).u32(unix.RTA_OIF, uint32(2+i%7)).u32(unix.RTA_PRIORITY, 1024)
		})
	})
}

func benchmarkLoad(b *testing.B, family Family, message func(i int) payload) {
	const count = 1_000_000
	messages := make([]payload, count)
	for i := range messages {
		messages[i] = message(i)
	}
	var kept uint64
	for b.Loop() {
		b.StopTimer()
		before := heap()
		b.StartTimer()
		s, n := newState(true), &snapshot{}
		n.begin(kind{unix.RTM_GETROUTE, family}, s)
		for _, m := range messages {
			n.add(s, family, unix.RTM_NEWROUTE, m)
		}
		s.adoptRoutes(n)
		b.StopTimer()
		kept = heap() - before
		if got := s.fib(family).routes.count; got != count {
			b.Fatal(got)
		}
		runtime.KeepAlive(s)
		b.StartTimer()
	}
	b.ReportMetric(float64(kept)/count, "bytes/route")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/count, "ns/route")
}

// BenchmarkChangeRoute applies what the kernel tells of one change after the
// other to one of a million routes, as Run does.
func BenchmarkChangeRoute(b *testing.B) {
	const count = 1_000_000
	message := func(i, gateway int) payload {
		return rtmsg(32, unix.RT_TABLE_MAIN, 0).attr(unix.RTA_DST, 10, byte(i>>16), byte(i>>8), byte(i)).
			attr(unix.RTA_GATEWAY, 192, 0, 2, byte(gateway%200)).u32(unix.RTA_OIF, 2)
	}
	s := newState(false)
	for i := range count {
		s.apply(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, message(i, i))
	}
	told := 0
	s.emit = func(Event) { told++ }
	var messages [2][1 << 16]payload
	for i := range messages[0] {
		messages[0][i], messages[1][i] = message(i*7919%count, i+1), message(i*7919%count, i+2)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		s.apply(unix.RTM_NEWROUTE, unix.NLM_F_REPLACE, messages[i>>16&1][i&(1<<16-1)])
	}
	if told == 0 {
		b.Error("no change")
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
