package bench

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"proxyarpd/internal/lab"
)

const memHow = "start-up and memory: host0 has that many workload interfaces, all up, each with a route. Start-up is from exec to the end of " +
	"`proxyarpd status --wait 30s`, its own start included. VmRSS and Pss are proxyarpd's own right then (/proc/PID/status, smaps_rollup), " +
	"and what is mapped of sockets (smaps), which VmRSS holds as far as it has been touched; what eBPF maps and socket queues take in the kernel is not in it."

// mem: memory and start-up time by the number of interfaces.
func (r *run) mem() (err error) {
	counts := []int{1, 200, 1000}
	if r.Quick {
		counts = []int{1, 200}
	}
	b, err := r.newBed(lab.NoPods)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	pod, err := b.AddPod(r.ctx, 1, lab.PodOptions{}) // its namespace holds the other ends
	if err != nil {
		return err
	}
	k, err := openBulk(b, pod.Node)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, k.Close()) }()
	for _, n := range counts {
		for len(k.links) < n {
			l, err := k.add()
			if err == nil {
				err = k.up(l)
			}
			if err == nil {
				err = k.route(l)
			}
			if err != nil {
				return err
			}
			if r.ctx.Err() != nil {
				return r.ctx.Err()
			}
		}
		what := fmt.Sprintf(", %d interface%s", n, plural(n))
		err := r.take(b, turns{
			work: "start-up" + what, how: memHow, hosts: []int{0}, contestants: []contestant{r.proxyarpd()},
			measure: func(c contestant) ([]Value, error) {
				p := c.(*daemon).runs[0]
				memory, err := memory(p.cmd.Process.Pid)
				if err != nil {
					return nil, err
				}
				return []Value{
					{Work: "start-up" + what, Unit: "ms", X: float64(p.ready.Microseconds()) / 1e3},
					{Work: "VmRSS" + what, Unit: "MB", X: memory["VmRSS"]},
					{Work: "of that RssAnon" + what, Unit: "MB", X: memory["RssAnon"]},
					{Work: "Pss" + what, Unit: "MB", X: memory["Pss"]},
					{Work: "mapped receive rings" + what, Unit: "MB", X: memory["rings"]},
				}, nil
			},
		})
		if err != nil {
			return err
		}
	}
	return nil
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
