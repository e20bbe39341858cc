package bench

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"proxyarpd/internal/lab"
)

// circumstances notes what the figures depend on, as far as it can be told before there is a lab.
func (r *run) circumstances() {
	c := Circumstances{Began: time.Now(), Command: strings.Join(os.Args, " "), CPUs: runtime.NumCPU(), Go: runtime.Version(),
		Rounds: r.Rounds, Family: r.Family, Programs: map[string]string{}, Interfaces: map[string]string{}, Sysctls: map[string]string{}}
	cpus := usableCPUs()
	c.Pinning = fmt.Sprintf("usable CPUs %v of %d; sender n on the nth, all else unpinned", cpus, onlineCPUs())
	c.Trial = fmt.Sprintf("%v after %v of warm-up (RFC 2544 section 24 asks for 60 s)", r.Trial, warmUp(r.Trial))
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		c.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	c.Load = firstLine("/proc/loadavg")
	c.Governor = firstLine("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		c.Model = field(string(b), "model name")
		c.Virtual = strings.Contains(" "+field(string(b), "flags")+" ", " hypervisor ")
	}
	if b, err := os.ReadFile("/proc/meminfo"); err == nil {
		kb, _ := strconv.Atoi(strings.TrimSuffix(field(string(b), "MemTotal"), " kB"))
		c.MemoryMB = kb / 1000
	}
	const look = 500 * time.Millisecond
	before, began := others(), time.Now()
	_ = r.interval(look)
	c.Others = others().since(before, time.Since(began))
	c.Version = r.Version
	for program, args := range map[string]string{"iperf3": "--version", "ping": "-V"} {
		if out, err := exec.CommandContext(r.ctx, program, args).Output(); err == nil {
			c.Programs[program], _, _ = strings.Cut(string(out), "\n")
		}
	}
	if out, err := exec.CommandContext(r.ctx, r.Binary, "--version").Output(); err == nil {
		c.Programs["under test"] = strings.TrimSpace(string(out))
	}
	c.Topology = "a lab of two hosts and their pods, on veths"
	if r.Between != nil {
		c.Topology = r.lab.found.String()
	}
	if r.Family == familyIPv6 {
		c.Topology += ", IPv6"
	}
	r.report.Circumstances = c
}

func firstLine(path string) string {
	b, _ := os.ReadFile(path)
	line, _, _ := strings.Cut(string(b), "\n")
	return line
}

// field is the value of the first line that begins with a name and a colon.
func field(text, name string) string {
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// noted are the sysctls on which forwarding depends.
var noted = []string{
	"net/ipv4/ip_forward", "net/ipv4/conf/all/proxy_arp", "net/ipv4/conf/all/rp_filter", "net/ipv4/neigh/default/proxy_delay",
	"net/ipv6/conf/all/forwarding",
	"net/ipv4/ip_early_demux", "net/core/netdev_max_backlog", "net/core/netdev_budget", "net/core/rps_sock_flow_entries",
	"net/core/rmem_max", "net/core/bpf_jit_enable", "net/ipv4/tcp_congestion_control", "net/ipv4/tcp_rmem",
}

// surroundings notes interfaces and sysctls of the bed, before any contestant has started.
func (r *run) surroundings(b *bed) {
	c := &r.report.Circumstances
	at := map[string]lab.Pod{"sender": b.sender(0), "receiver": b.receiver([]int{0})}
	for role, p := range at {
		_ = b.Do(p.Node, func() error {
			c.Interfaces[role+" "+p.Peer] = describeLink(p.Peer)
			return nil
		})
	}
	node := "from"
	if b.found == nil || r.Between.Host != "" {
		node = host(0)
		_ = b.Do(node, func() error {
			links, err := netlink.LinkList()
			for _, l := range links {
				name := l.Attrs().Name
				if name == b.sender(0).Iface || name == b.receiver([]int{0}).Iface || name == "ens192" {
					c.Interfaces["host "+name] = describeLink(name)
				}
			}
			return err
		})
	}
	_ = b.Do(node, func() error {
		for _, key := range noted {
			if v := firstLine("/proc/sys/" + key); v != "" {
				c.Sysctls[strings.ReplaceAll(key, "/", ".")] = v
			}
		}
		return nil
	})
}

// describeLink speaks of an interface of the calling thread's namespace.
func describeLink(name string) string {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err.Error()
	}
	a := l.Attrs()
	text := fmt.Sprintf("%s, MTU %d, %d rx and %d tx queues", l.Type(), a.MTU, a.NumRxQueues, a.NumTxQueues)
	if on, err := offloads(name); err == nil {
		text += ", on: " + on
	}
	return text
}
