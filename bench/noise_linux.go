package bench

import (
	"context"
	"os"
	"strconv"
	"strings"
	"time"
)

// ticksPerSecond is USER_HZ, in which /proc speaks.
const ticksPerSecond = 100

// cpuOthers is the CPU time, in ticks, of all processes that are neither this one,
// nor descended from it, nor a kernel thread; of others() also what the hypervisor stole.
type cpuOthers uint64

// others is what other processes have taken, and what the hypervisor stole.
func others() cpuOthers { return otherProcesses() + cpuOthers(procStat()[7]) }

// otherProcesses looks at /proc. The time of a child that has been waited for moves to its
// parent, so the sum keeps what a compiler ran and ended meanwhile.
func otherProcesses() cpuOthers {
	type proc struct {
		ppid  int
		ticks uint64
	}
	procs := map[int]proc{}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		b, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue // it has ended
		}
		s := string(b)
		f := strings.Fields(s[strings.LastIndexByte(s, ')')+1:])
		if len(f) < 15 {
			continue
		}
		ppid, _ := strconv.Atoi(f[1])
		var ticks uint64
		for _, at := range []int{11, 12, 13, 14} { // utime, stime, cutime, cstime
			n, _ := strconv.ParseUint(f[at], 10, 64)
			ticks += n
		}
		procs[pid] = proc{ppid, ticks}
	}
	self := os.Getpid()
	ours := func(pid int) bool {
		for ; pid > 0; pid = procs[pid].ppid {
			if pid == self || pid == 2 { // 2 is kthreadd
				return true
			}
		}
		return false
	}
	var sum cpuOthers
	for pid, p := range procs {
		// This process's own parent (go run) waits for us: nothing of ours
		// is in its children's time before we end.
		if !ours(pid) {
			sum += cpuOthers(p.ticks)
		}
	}
	return sum
}

// since is how many CPUs the others took between two looks.
func (o cpuOthers) since(before cpuOthers, d time.Duration) float64 {
	if o < before { // nobody waited for somebody's end
		return 0
	}
	return float64(o-before) / ticksPerSecond / d.Seconds()
}

// awaitQuiet waits until others take less than noisy of a CPU over a fifth of a
// second, at most limit. It says whether they do.
func awaitQuiet(ctx context.Context, limit time.Duration) bool {
	const look = 200 * time.Millisecond
	deadline := time.Now().Add(limit)
	for {
		before, began := others(), time.Now()
		select {
		case <-time.After(look):
		case <-ctx.Done():
			return false
		}
		if others().since(before, time.Since(began)) < noisy {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
	}
}
