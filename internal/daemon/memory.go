package daemon

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"time"

	"proxyarpd/internal/status"
)

// What a burst has taken goes back to the kernel when it is over. The runtime by
// itself keeps it for minutes: it looks for what is dead when the heap has grown by as
// much again, and after a calm of two minutes, and keeps a tenth more than it
// needed then. To look costs some ms of CPU time, a collection's, and the datapath,
// which allocates nothing, does not take part in it.
const (
	memoryTick  = 5 * time.Second
	memoryCalm  = 1 << 20 // bytes that a calm daemon allocates between two ticks, at most
	memorySlack = 2 << 20 // bytes beyond what there was after the last time; or an eighth of that
	memoryPause = 15 * time.Second
)

// memory is what Go's runtime says of the process.
type memory struct {
	objects, free, unused uint64 // of the heap; all three are resident
	live                  uint64 // of the objects, what the last collection found in use
	allocated             uint64 // bytes, since the start
	goroutines            uint64
}

func (m *memory) held() uint64 { return m.objects + m.free + m.unused }

// readMemory does not stop the world.
func readMemory() (m memory) {
	to := []*uint64{&m.objects, &m.free, &m.unused, &m.live, &m.allocated, &m.goroutines}
	samples := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/free:bytes"},
		{Name: "/memory/classes/heap/unused:bytes"}, {Name: "/gc/heap/live:bytes"}, {Name: "/gc/heap/allocs:bytes"}, {Name: "/sched/goroutines:goroutines"}}
	metrics.Read(samples)
	for i := range samples {
		if samples[i].Value.Kind() == metrics.KindUint64 {
			*to[i] = samples[i].Value.Uint64()
		}
	}
	return m
}

// returner decides when memory goes back.
type returner struct {
	allocated uint64 // at the last tick
	settled   uint64 // held after the last time; 0: there was none
	last      time.Time
}

// due reports whether it is worth while now.
func (r *returner) due(m memory, now time.Time) bool {
	calm := m.allocated-r.allocated < memoryCalm
	r.allocated = m.allocated
	return calm && now.Sub(r.last) >= memoryPause && m.held() > r.settled+max(memorySlack, r.settled/8)
}

// done takes what is held after it.
func (r *returner) done(m memory, now time.Time) {
	r.settled, r.allocated, r.last = m.held(), m.allocated, now
}

// returnMemory gives back what is not needed, until ctx ends.
func (d *Daemon) returnMemory(ctx context.Context) {
	tick := time.NewTicker(memoryTick)
	defer tick.Stop()
	var r returner
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			if r.due(readMemory(), now) {
				debug.FreeOSMemory()
				r.done(readMemory(), now)
			}
		}
	}
}

// processStatus is what the daemon itself takes.
func processStatus() status.Process {
	m := readMemory()
	return status.Process{Goroutines: m.goroutines, Heap: m.objects, Live: m.live, Unused: m.free + m.unused, Resident: residentMemory()}
}

// residentMemory is that of the process in bytes, 0 if it can't be told
// (/proc/self/statm, proc_pid_statm(5)).
func residentMemory() uint64 {
	b, err := os.ReadFile("/proc/self/statm")
	fields := strings.Fields(string(b))
	if err != nil || len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseUint(fields[1], 10, 64)
	return pages * uint64(os.Getpagesize())
}
