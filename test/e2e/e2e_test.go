// Package e2e holds the tests that drive the whole program, in the labs of
// internal/lab, with the tools that an operator would use: ping, arping,
// iperf3, tcpdump, traceroute, nft, tc, BIRD.
package e2e

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
	"proxyarpd/internal/nstest"
)

// Names of what stands in each second line of these tests.
var (
	await = labtest.Await
	exec3 = labtest.Exec
	ip    = labtest.IP
	mac   = labtest.MAC
	pods  = labtest.Pods
	run   = labtest.Line
	try   = labtest.Try
)

const (
	// patience is how long something that must happen is waited for.
	patience = labtest.Patience
	// fence is the number of the datagram behind the last one.
	fence = labtest.Fence
)

// Addresses and names that every lab has.
const (
	gateway   = "169.254.1.1"
	answerMAC = "ee:ee:ee:ee:ee:ee"
	host0IP   = "192.168.1.32"
	host1IP   = "192.168.1.16"
	uplink    = "ens192"
)

// world is a lab with a daemon in each host.
type world struct {
	*lab.Lab
	d []*labtest.Process
}

// start makes a lab and starts a daemon with the same flags in each host.
func start(t *testing.T, spec lab.Spec, args ...string) *world {
	t.Helper()
	w := &world{Lab: labtest.New(t, spec)}
	w.daemons(t, args...)
	return w
}

func (w *world) daemons(t *testing.T, args ...string) {
	t.Helper()
	for host := range w.Spec().Hosts {
		p := labtest.Daemon(t, w.Lab, fmt.Sprintf("host%d", host), append(flags(w.Spec().Form), args...)...)
		w.d = append(w.d, p)
		t.Cleanup(func() { // before its end
			if t.Failed() {
				out, errw, _ := exec3(t, w.Lab, p.Node, labtest.Binary(t), "status", "--control", p.Control)
				t.Logf("%s# proxyarpd status\n%s%s", p.Node, out, errw)
			}
		})
	}
}

// flags are those that the form of a lab takes.
func flags(f lab.Form) []string {
	switch f {
	case lab.FormArticle:
		return []string{"--workload", "veth*", "--proxy", "10.20.1.0/24"}
	case lab.FormSlash32:
		return []string{"--workload", "veth*"}
	}
	return nil // cali* is the default
}

var ttlRE = regexp.MustCompile(`bytes from .*icmp_seq=.* ttl=(\d+) `)

// starved is how long the daemons of a lab must have waited for a CPU for that to excuse a packet that is late: news that
// are this old, packets do not wait for.
const starved = 100 * time.Millisecond

// ping sends one echo request and returns the TTL of its reply; there has to be one within the second. It is sent again
// where the CPUs' backlogs have dropped frames, or the daemons have got no CPU.
func ping(t testing.TB, l *lab.Lab, from, to string, options ...string) int {
	t.Helper()
	var out string
	for try := 0; ; try++ {
		overflowed, waited := nstest.BacklogDrops(t), labtest.WaitedForCPU(t, l)
		var err error
		if out, err = labtest.Output(t, l, from, "ping", append([]string{"-n", "-c1", "-W1", to}, options...)...); err == nil {
			break
		}
		overflowed, waited = nstest.BacklogDrops(t)-overflowed, labtest.WaitedForCPU(t, l)-waited
		if try == 4 || overflowed == 0 && waited < starved {
			t.Fatal(err)
		}
		t.Logf("the CPUs' backlogs have dropped %d frames of all namespaces, the daemons have waited %v for a CPU, and: %v", overflowed, waited, err)
	}
	m := ttlRE.FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("%s# ping %s: no reply in\n%s", from, to, out)
	}
	ttl, _ := strconv.Atoi(m[1])
	return ttl
}

// wantTTL pings and checks how many routers the reply has met.
func wantTTL(t testing.TB, l *lab.Lab, from, to string, want int) {
	t.Helper()
	if got := ping(t, l, from, to); got != want {
		t.Errorf("%s# ping %s: ttl %d, want %d", from, to, got, want)
	}
}

type counts map[string]uint64

// status is what scripts read of `status -o json`, and what is counted here.
type status struct {
	PID       int
	Version   string
	Engine    string
	Workers   int
	Claim     string
	Ready     bool
	Workloads []port
	Uplinks   []port
	ARP       struct {
		Verdicts counts
		Unrouted uint64
		Carried  uint64
	}
	Forward struct {
		PacketsIn  uint64   `json:"packets_in"`
		PacketsOut uint64   `json:"packets_out"`
		ByWorker   []uint64 `json:"by_worker"`
		Carried    uint64
		Waiting    int64
		Returned   uint64
		Verdicts   counts
		Drops      counts
		Egress     egressDrops `json:"egress_drops"`
	}
	Kernel struct {
		Learned   uint64 `json:"neighbours_learned"`
		Unlearned uint64 `json:"neighbours_unlearned"`
		Unwritten uint64 `json:"neighbours_unwritten"`
		PutBack   uint64 `json:"neighbours_put_back"`
	}
}

type port struct {
	Name        string
	Index       int
	MAC         string
	Answers     string
	Up          bool
	Forwards    bool
	Error       string
	ARPRequests uint64 `json:"arp_requests"`
	ARPReplies  uint64 `json:"arp_replies"`
	ARPUnrouted uint64 `json:"arp_unrouted"`
	Unlearned   uint64 `json:"neighbours_unlearned"`
	ARPVerdicts counts `json:"arp_verdicts"`
	Received    uint64
	Carried     uint64
	Local       uint64
	Punted      uint64
	Egress      egressDrops `json:"egress_drops"`
}

type egressDrops struct{ Device, Qdisc uint64 }

func statusOf(t testing.TB, p *labtest.Process) status {
	t.Helper()
	var s status
	p.StatusJSON(t, &s)
	return s
}

// took is how many frames from there did not go to the kernel.
func (p *port) took() uint64 { return p.Received + p.Carried }

// port finds an interface by name.
func (s *status) port(name string) *port {
	for _, list := range [][]port{s.Workloads, s.Uplinks} {
		if i := slices.IndexFunc(list, func(p port) bool { return p.Name == name }); i >= 0 {
			return &list[i]
		}
	}
	return nil
}

// awaitDrops waits until a reason has been counted at least n times.
func awaitDrops(t testing.TB, p *labtest.Process, reason string, n uint64) {
	t.Helper()
	var s status
	await(t, fmt.Sprintf("%d %s; daemon in %s", n, reason, p.Node), func() bool {
		s = statusOf(t, p)
		return s.Forward.Drops[reason] >= n
	})
}

// flushNeighbours makes every node forget what it has learnt.
func flushNeighbours(t testing.TB, l *lab.Lab) {
	t.Helper()
	for _, n := range l.Nodes() {
		run(t, l, n.Name, "ip neigh flush all")
	}
}
