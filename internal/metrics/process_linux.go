package metrics

import (
	"os"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/status"
)

var started = time.Now()

// process adds what is known of this process. What can't be read is left out.
func (p *page) process(s *status.Process) {
	p.gauge(goroutines, float64(s.Goroutines))
	p.gauge(startTime, float64(started.UnixMilli())/1000)
	var use unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &use) == nil {
		seconds := time.Duration(use.Utime.Nano() + use.Stime.Nano()).Seconds()
		sample(p.of(cpuSeconds, "counter"), cpuSeconds.name, cpuSeconds, nil, float(seconds))
	}
	if s.Resident > 0 {
		p.gauge(resident, float64(s.Resident))
	}
	if all, err := os.ReadDir("/proc/self/fd"); err == nil {
		p.gauge(openFDs, float64(len(all)-1)) // the directory's own
	}
}
