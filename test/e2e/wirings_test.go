package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
)

// settingsOf gives the configuration that docs/WIRINGS.md names.
func settingsOf(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "docs", "WIRINGS.md"))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)<!-- " + name + " -->\n```yaml\n(.*?)```").FindSubmatch(b)
	if m == nil {
		t.Fatalf("docs/WIRINGS.md: no settings of %s", name)
	}
	return string(m[1])
}

// wiring is a host whose pods somebody else wires, and a neighbour of it on the LAN without a daemon.
type wiring struct {
	*testing.T
	l *lab.Lab
}

func newWiring(t *testing.T) *wiring {
	return &wiring{t, labtest.New(t, lab.Spec{Form: lab.FormSlash32, Hosts: 2, PodsPerHost: 2})}
}

// each runs lines on a node.
func (w *wiring) each(node string, lines ...string) {
	w.Helper()
	for _, line := range lines {
		run(w, w.l, node, line)
	}
}

func (w *wiring) sysctl(key, value string) {
	w.Helper()
	if err := w.l.SetSysctl("host0", key, value); err != nil {
		w.Fatal(err)
	}
}

// byDaemon pings and fails the test unless the reply has met one router, once, and that was the daemon.
func (w *wiring) byDaemon(p *labtest.Process, from, to string) {
	w.Helper()
	before := statusOf(w, p)
	out := run(w, w.l, from, "ping -n -c3 -i0.05 -W5 "+to)
	if !strings.Contains(out, "3 received") || strings.Contains(out, "DUP") || strings.Count(out, "ttl=63") != 3 {
		w.Errorf("%s to %s:\n%s", from, to, out)
	}
	after := statusOf(w, p)
	// A packet that waited for a next hop is counted as queued before it is forwarded.
	if n := after.Forward.PacketsOut - before.Forward.PacketsOut; n < 6 {
		w.Errorf("%s to %s: the daemon has forwarded %d packets of 6; verdicts %v, drops %v", from, to, n, after.Forward.Verdicts, after.Forward.Drops)
	}
}

// TestWirings has hosts wired as others than Calico do, with the settings of docs/WIRINGS.md.
func TestWirings(t *testing.T) {
	labtest.Need(t, "ip", "ping", "arping", "nft")
	t.Run("incus", func(t *testing.T) { t.Parallel(); testIncus(t) })
	t.Run("aws", func(t *testing.T) { t.Parallel(); testAWS(t) })
}

// incusNIC wires an instance as internal/server/device/nic_routed.go of Incus does.
func (w *wiring) incusNIC(p lab.Pod) {
	w.Helper()
	w.sysctl("net.ipv4.conf."+p.Iface+".rp_filter", "1")
	w.each("host0", "ip address add 169.254.0.1/32 dev "+p.Iface)
	w.sysctl("net.ipv4.conf."+p.Iface+".forwarding", "1")
	w.each("host0",
		"ip route replace "+ip(p)+"/32 dev "+p.Iface,
		"ip neigh add proxy "+ip(p)+" dev "+uplink,
		"nft add table inet incus",
		"nft add chain inet incus prert."+p.Iface+" { type filter hook prerouting priority -300 ; policy accept ; }",
		"nft add rule inet incus prert."+p.Iface+" iif "+p.Iface+" fib saddr . iif oif missing drop")
	w.each(p.Node,
		"ip route del default",
		"ip route del 169.254.1.1 dev "+p.Peer,
		"ip route add 169.254.0.1 dev "+p.Peer+" scope link",
		"ip route add default via 169.254.0.1 dev "+p.Peer)
	// The LAN asks for the instance's address itself.
	w.each("host1", "ip route replace "+ip(p)+"/32 dev "+uplink+" scope link")
}

func testIncus(t *testing.T) {
	w := newWiring(t)
	w.sysctl("net.ipv4.conf."+uplink+".forwarding", "1") // Incus refuses the NIC without
	all := pods(w.l, 0)
	for _, p := range all {
		w.incusNIC(p)
	}
	before := run(t, w.l, "host0", "ip -br link show dev "+all[0].Iface)
	d := startConfigured(t, w.l, "host0", settingsOf(t, "incus"))
	late, err := w.l.AddPod(t.Context(), 0, lab.PodOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w.incusNIC(late)
	d.AwaitReady(t)
	for _, p := range []lab.Pod{all[0], late} {
		w.byDaemon(d.Process, p.Node, ip(all[1]))
		w.byDaemon(d.Process, p.Node, host1IP)
		w.byDaemon(d.Process, "host1", ip(p))
		run(t, w.l, p.Node, "ping -n -c1 -W5 169.254.0.1") // the host itself
		// The kernel answers for its address, and nobody else.
		out := strings.ToLower(run(t, w.l, p.Node, "arping -c2 -w5 -I "+p.Peer+" 169.254.0.1"))
		if strings.Count(out, "reply from") != 2 || strings.Count(out, "["+p.MAC+"]") != 2 {
			t.Errorf("answers for the gateway, whose MAC is %s:\n%s", p.MAC, out)
		}
	}
	if out, _ := try(t, w.l, "host0", labtest.Binary(t)+" doctor --control "+d.Control+" --workload veth* --keep-mac --bypass-policy"); strings.Contains(out, "error ") {
		t.Errorf("doctor:\n%s", out)
	}
	d.Stop(t)
	if after := run(t, w.l, "host0", "ip -br link show dev "+all[0].Iface); after != before {
		t.Errorf("the host's end was %s and is %s", before, after)
	}
	run(t, w.l, all[0].Node, "ping -n -c1 -W5 "+ip(all[1])) // by the kernel, as before
}

// awsPod wires a pod as cmd/routed-eni-cni-plugin/driver/driver.go of amazon-vpc-cni-k8s does, and gives the name of its
// interface; table is that of its network interface, 0 for the first one's.
func (w *wiring) awsPod(p lab.Pod, n, table string) (iface string) {
	w.Helper()
	iface = "eni0a1b2c3d4e" + n
	w.each("host0", "ip link set "+p.Iface+" down", "ip link set "+p.Iface+" name "+iface, "ip link set "+iface+" up")
	w.each(p.Node, "ip neigh replace 169.254.1.1 lladdr "+p.MAC+" dev "+p.Peer+" nud permanent",
		"ip -6 address flush dev "+p.Peer+" scope global") // a cluster of IPv4
	w.each("host0",
		"ip route replace "+ip(p)+"/32 dev "+iface+" scope link",
		"ip rule add pref 512 to "+ip(p)+" lookup main")
	if table != "" {
		w.each("host0", "ip rule add pref 1536 from "+ip(p)+" lookup "+table)
	}
	return iface
}

func testAWS(t *testing.T) {
	const far = "198.51.100.1"
	w := newWiring(t)
	w.sysctl("net.ipv4.ip_forward", "1")
	all := pods(w.l, 0)
	first := w.awsPod(all[0], "1", "")
	second := w.awsPod(all[1], "2", "2")
	w.each("host0",
		"ip rule add pref 1024 fwmark 0x80/0x80 lookup main",
		"ip route add default via "+host1IP+" dev "+uplink+" table 2")
	w.each("host1", "ip address add "+far+"/32 dev lo")
	d := startConfigured(t, w.l, "host0", settingsOf(t, "aws"))
	late, err := w.l.AddPod(t.Context(), 0, lab.PodOptions{})
	if err != nil {
		t.Fatal(err)
	}
	third := w.awsPod(late, "3", "")
	await(t, third+" is known by its name, and up", func() bool {
		s := statusOf(t, d.Process)
		p := s.port(third)
		return p != nil && p.Up
	})
	d.AwaitReady(t)
	w.byDaemon(d.Process, all[0].Node, ip(all[1]))
	w.byDaemon(d.Process, late.Node, ip(all[0]))
	w.byDaemon(d.Process, all[0].Node, host1IP)
	w.byDaemon(d.Process, "host1", ip(late))
	// The table that a rule by source names has a route; main has none.
	w.byDaemon(d.Process, all[1].Node, far)
	if out, code := try(t, w.l, all[0].Node, "ping -n -c1 -W5 "+far); code == 0 || !strings.Contains(out, "nreachable") {
		t.Errorf("by the table main: exit status %d\n%s", code, out)
	}
	s := statusOf(t, d.Process)
	for i, name := range []string{first, second, third} {
		pod := append(pods(w.l, 0)[:2:2], late)[i]
		p := s.port(name)
		if p == nil || p.MAC != pod.MAC || !p.Forwards || p.ARPRequests != 0 {
			t.Errorf("%s, whose MAC was %s: %+v", name, pod.MAC, p)
		}
	}
	if out, code := try(t, w.l, "host0", labtest.Binary(t)+" doctor --control "+d.Control+" --workload eni* --keep-mac"); code != 0 {
		t.Errorf("doctor:\n%s", out)
	}
}
