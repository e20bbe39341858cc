package netstate

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// BenchmarkLoadRoutes loads a million routes over 200 gateways as a dump does,
// kernel apart, and says what memory they keep.
func BenchmarkLoadRoutes(b *testing.B) {
	const count = 1_000_000
	message := func(i int) payload {
		return rtmsg(32, unix.RT_TABLE_MAIN, 0).attr(unix.RTA_DST, 10, byte(i>>16), byte(i>>8), byte(i)).
			attr(unix.RTA_GATEWAY, 192, 0, 2, byte(i%200)).u32(unix.RTA_OIF, uint32(2+i%7))
	}
	messages := make([]payload, count)
	for i := range messages {
		messages[i] = message(i)
	}
	var kept uint64
	for b.Loop() {
		b.StopTimer()
		before := heap()
		b.StartTimer()
		s, n := newState(), &snapshot{}
		n.begin(unix.RTM_GETROUTE, s)
		for _, m := range messages {
			n.add(unix.RTM_NEWROUTE, m)
		}
		s.adoptRoutes(n.routes)
		b.StopTimer()
		kept = heap() - before
		if s.RouteCount() != count {
			b.Fatal(s.RouteCount())
		}
		runtime.KeepAlive(s)
		b.StartTimer()
	}
	b.ReportMetric(float64(kept)/count, "bytes/route")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/count, "ns/route")
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
