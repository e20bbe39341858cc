package bench

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

const memHow = "host0 has that many workload interfaces, all up, each with a route, or, dual-stack, with one of each family. Start-up is from exec to the end of " +
	"`proxyarpd status --wait 30s`, its own start included. VmRSS and Pss are proxyarpd's own right then (/proc/PID/status, smaps_rollup), " +
	"and what is mapped of sockets (smaps), which VmRSS holds as far as it has been touched; what eBPF maps and socket queues take in the kernel is not in it. Descriptors are those open right then (/proc/PID/fd)."

// mem: memory and start-up time by the number of interfaces.
func (r *run) mem() (steps []*step) {
	counts := []int{1, 100, 1000}
	if r.Quick {
		counts = []int{1, 100}
	}
	for _, n := range counts {
		steps = append(steps, r.memOf(n, false))
	}
	if hasIPv6() {
		steps = append(steps, r.memOf(counts[len(counts)-1], true))
	}
	return steps
}

// memOf is mem with n interfaces, of one family or dual-stack.
func (r *run) memOf(n int, dual bool) *step {
	what, suffix := ", "+count(n, "interface"), ""
	if dual {
		what, suffix = ", "+count(n, "dual-stack interface"), "-dual"
	}
	params := map[string]float64{"workloads": float64(n)}
	return &step{
		figures: []Figure{{Work: "start-up" + what, Kind: "start" + suffix, Unit: "ms", Params: params},
			{Work: "VmRSS" + what, Kind: "memory" + suffix, Unit: "MB", Params: params},
			{Work: "of that RssAnon" + what, Kind: "memory-anon" + suffix, Unit: "MB", Params: params},
			{Work: "Pss" + what, Kind: "memory-pss" + suffix, Unit: "MB", Params: params},
			{Work: "mapped receive rings" + what, Kind: "memory-rings" + suffix, Unit: "MB", Params: params},
			{Work: "descriptors" + what, Kind: "descriptors" + suffix, Unit: "descriptors", Params: params}},
		contestants: r.proxyarpds(), hosts: oneHost, turn: time.Duration(n)*time.Millisecond/2 + 100*time.Millisecond,
		prepare: func(b *bed) error {
			if err := b.bulk.grow(r.ctx, n); err != nil || !dual {
				return err
			}
			return b.bulk.dual(r.ctx, n)
		},
		measure: func(_ *bed, c contestant) ([]Value, error) {
			d := c.(*daemon)
			pid := d.runs[0].cmd.Process.Pid
			m, err := memory(pid)
			if err != nil {
				return nil, err
			}
			open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
			if err != nil {
				return nil, fmt.Errorf("bench: descriptors: %w", err)
			}
			return []Value{{X: float64(d.ready.Microseconds()) / 1e3}, {Figure: 1, X: m["VmRSS"]}, {Figure: 2, X: m["RssAnon"]},
				{Figure: 3, X: m["Pss"]}, {Figure: 4, X: m["rings"]}, {Figure: 5, X: float64(len(open))}}, nil
		},
	}
}

// hasIPv6 reports whether the kernel has IPv6.
func hasIPv6() bool {
	_, err := os.Stat("/proc/sys/net/ipv6")
	return err == nil
}

// memory reads a process's lines in kB, in MB.
func memory(pid int) (map[string]float64, error) {
	out := map[string]float64{}
	for _, file := range []string{"status", "smaps_rollup"} {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
		if err != nil {
			return nil, fmt.Errorf("bench: memory: %w", err)
		}
		for line := range strings.Lines(string(b)) {
			f := strings.Fields(line)
			if len(f) != 3 || f[2] != "kB" {
				continue
			}
			if kb, err := strconv.ParseFloat(f[1], 64); err == nil {
				out[strings.TrimSuffix(f[0], ":")] = kb / 1000
			}
		}
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", pid))
	if err != nil {
		return nil, fmt.Errorf("bench: memory: %w", err)
	}
	socket := false
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		switch {
		case len(f) > 0 && !strings.HasSuffix(f[0], ":"):
			socket = strings.Contains(line, "socket:[")
		case len(f) == 3 && f[0] == "Size:" && socket:
			kb, _ := strconv.ParseFloat(f[1], 64)
			out["rings"] += kb / 1000
		}
	}
	return out, nil
}
