package metrics

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

var started = time.Now()

// process adds what is known of this process. What can't be read is left out.
func (p *page) process() {
	p.gauge(goroutines, float64(runtime.NumGoroutine()))
	p.gauge(startTime, float64(started.UnixMilli())/1000)
	var use unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &use) == nil {
		seconds := time.Duration(use.Utime.Nano() + use.Stime.Nano()).Seconds()
		sample(p.of(cpuSeconds, "counter"), cpuSeconds.name, cpuSeconds, nil, float(seconds))
	}
	if b, err := os.ReadFile("/proc/self/statm"); err == nil {
		if fields := strings.Fields(string(b)); len(fields) > 1 {
			if pages, err := strconv.ParseUint(fields[1], 10, 64); err == nil {
				p.gauge(resident, float64(pages)*float64(os.Getpagesize()))
			}
		}
	}
	if all, err := os.ReadDir("/proc/self/fd"); err == nil {
		p.gauge(openFDs, float64(len(all)-1)) // the directory's own
	}
}
