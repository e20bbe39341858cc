package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
)

// snapshot is all of a host's interfaces that the program could change: flags,
// MACs, queueing disciplines, filters, programs, neighbours made by hand.
func snapshot(t testing.TB, l *lab.Lab, node string) string {
	t.Helper()
	var b strings.Builder
	b.WriteString(run(t, l, node, "ip -d -o link show"))
	b.WriteString(run(t, l, node, "tc qdisc show"))
	b.WriteString(run(t, l, node, "ip neigh show nud permanent"))
	err := l.Do(node, func() error {
		all, err := net.Interfaces()
		for _, i := range all {
			for _, at := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
				r, err := link.QueryPrograms(link.QueryOptions{Target: i.Index, Attach: at})
				if err != nil {
					return fmt.Errorf("%s: tcx programs: %w", i.Name, err)
				}
				fmt.Fprintf(&b, "%s: %d programs at %v\n", i.Name, len(r.Programs), at)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range append(pods(l, 0), lab.Pod{Iface: uplink}) {
		for _, side := range []string{"ingress", "egress"} {
			b.WriteString(run(t, l, node, "tc filter show dev "+p.Iface+" "+side))
		}
	}
	return b.String()
}

// TestLeavesAsFound ends the program in both ways and compares.
func TestLeavesAsFound(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ip", "tc", "ping")
	for _, claim := range []string{"tcx", "clsact"} {
		for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
			l := labtest.New(t, lab.Spec{Form: lab.FormSlash32, PodsPerHost: 2})
			first := pods(l, 0)[0]
			run(t, l, "host0", "ip neigh add "+ip(first)+" lladdr "+first.PeerMAC+" dev "+first.Iface+" nud permanent")
			before := snapshot(t, l, "host0")
			w := &world{Lab: l}
			w.daemons(t, "--claim", claim)
			wantTTL(t, l, "ns0", "10.20.1.3", 62)
			during := snapshot(t, l, "host0")
			if during == before || !strings.Contains(during, answerMAC) {
				t.Errorf("%s: the snapshot does not tell that it runs:\n%s", claim, during)
			}
			p := w.d[0]
			if _, err := os.Stat(p.Control); err != nil {
				t.Error(err)
			}
			p.Cmd.Process.Signal(sig)
			if err := p.Wait(t); err != nil {
				t.Errorf("%v: %v", sig, err)
			}
			if after := snapshot(t, l, "host0"); after != before {
				t.Errorf("%s, %v: before\n%s\nafter\n%s", claim, sig, before, after)
			}
			if left, _ := filepath.Glob(p.Control + "*"); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		}
	}
}

// TestStartAndStopUnderTraffic takes over from a kernel that forwards, and
// gives back.
func TestStartAndStopUnderTraffic(t *testing.T) {
	labtest.Need(t, "ping")
	l := labtest.New(t, lab.Spec{Form: lab.FormCalico, PodsPerHost: 40}) // each takes time to let go of
	calicoSettings(t, l)
	across := [2]lab.Pod{pods(l, 0)[0], pods(l, 1)[0]}
	near := [2]lab.Pod{pods(l, 0)[0], pods(l, 0)[1]}
	for _, p := range l.Pods() { // between two daemons nobody answers
		run(t, l, p.Node, "ip neigh replace "+gateway+" lladdr "+answerMAC+" dev "+p.Peer+" nud permanent")
	}
	flows := map[string]*labtest.Flow{
		"across":   labtest.StartFlow(t, l, across[0], across[1], 1),
		"back":     labtest.StartFlow(t, l, across[1], across[0], 1),
		"one host": labtest.StartFlow(t, l, near[0], near[1], 1),
	}
	for _, claim := range []string{"tcx", "clsact", "tcx"} {
		p := labtest.Daemon(t, l, "host0", "--claim", claim)
		taken := statusOf(t, p).Forward.PacketsOut
		await(t, "the program forwards the flows", func() bool { return statusOf(t, p).Forward.PacketsOut > taken+100 })
		p.Stop(t)
	}
	for name, f := range flows {
		sent, lost, doubled := f.Stop()
		t.Logf("%s: %d of %d lost in three starts and stops, at most %v without any", name, lost, sent, f.Gap())
		if doubled > 0 || lost > 60 { // 20 ms a stop: who else wants the CPUs delays it
			t.Errorf("%s: %d lost and %d doubled of %d", name, lost, doubled, sent)
		}
	}
}
