package bench

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cpuUse is where CPU time went: at first since boot, then between two looks.
type cpuUse struct {
	at        time.Time
	idle      time.Duration // of all CPUs, and what the hypervisor took
	softirq   time.Duration
	forwarder time.Duration // of the contestant's processes
	others    time.Duration // of processes that have no part in it
	busy      time.Duration // of all CPUs, but for others

	took      time.Duration
	perSecond float64       // packets that arrived
	generator time.Duration // of its threads, a frame
}

const tick = time.Second / ticksPerSecond

// cpuTimes looks at all CPUs and at the contestant's processes.
func cpuTimes(c contestant) cpuUse {
	u := cpuUse{at: time.Now()}
	f := procStat()
	u.idle = time.Duration(f[3]+f[4]+f[7]) * tick // idle, iowait, steal
	u.softirq = time.Duration(f[6]) * tick
	u.others = time.Duration(otherProcesses()) * tick
	for _, p := range c.processes() {
		u.forwarder += p.cpuTime()
	}
	return u
}

// procStat is the line cpu of /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal, in ticks.
func procStat() (fields [8]uint64) {
	b, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(b), "\n")
	for i, f := range strings.Fields(line) {
		if i > 0 && i <= len(fields) {
			fields[i-1], _ = strconv.ParseUint(f, 10, 64)
		}
	}
	return fields
}

// since is what went between two looks. Busy is what is not idle: that the kernel measures, while it samples the rest.
func (u cpuUse) since(before cpuUse) cpuUse {
	took := u.at.Sub(before.at)
	d := cpuUse{at: u.at, took: took, idle: u.idle - before.idle, softirq: u.softirq - before.softirq, forwarder: u.forwarder - before.forwarder}
	if u.others > before.others {
		d.others = u.others - before.others
	}
	d.busy = max(0, took*time.Duration(onlineCPUs())-d.idle-d.others)
	return d
}

// perPacket is a share of the time, in ns a packet that arrived.
func (u cpuUse) perPacket(d time.Duration) float64 {
	return float64(d.Nanoseconds()) / (u.perSecond * u.took.Seconds())
}

// onlineCPUs counts the machine's CPUs, whether or not this process may use them.
func onlineCPUs() int {
	b, err := os.ReadFile("/sys/devices/system/cpu/online")
	if err != nil {
		return runtime.NumCPU()
	}
	n := 0
	for part := range strings.SplitSeq(strings.TrimSpace(string(b)), ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		from, errFrom := strconv.Atoi(first)
		to, errTo := strconv.Atoi(last)
		if errFrom != nil || errTo != nil {
			return runtime.NumCPU()
		}
		n += to - from + 1
	}
	return n
}

// usableCPUs are those that this process may run on.
func usableCPUs() (cpus []int) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return []int{0}
	}
	for i := range len(set) * 64 {
		if set.IsSet(i) {
			cpus = append(cpus, i)
		}
	}
	return cpus
}

// maxSenders is how many senders the most of the works have: as many as there are CPUs, within reason.
func maxSenders() int { return min(max(runtime.NumCPU(), 1), 16) }
