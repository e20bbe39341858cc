package e2e

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
)

// netnsOf is the namespace of a node, for `ip link ... netns`.
func netnsOf(t testing.TB, l *lab.Lab, node string) string {
	t.Helper()
	for _, n := range l.Nodes() {
		if n.Name == node {
			return n.Netns
		}
	}
	t.Fatalf("no node %s", node)
	return ""
}

// lan makes a network beside the pods': lan0 of host0 leads to the namespace of
// host0's last pod, which stands for a station there, and to nothing of the pod.
func lan(t testing.TB, l *lab.Lab) (station string) {
	t.Helper()
	all := pods(l, 0)
	station = all[len(all)-1].Node
	for _, line := range []string{
		"host0: ip link add lan0 type veth peer name lan0 netns " + netnsOf(t, l, station),
		"host0: ip addr add 198.51.100.1/24 dev lan0", "host0: ip link set lan0 up",
		station + ": ip addr add 198.51.100.2/24 dev lan0", station + ": ip link set lan0 up",
		station + ": ip route add 192.168.1.0/24 via 198.51.100.1",
		"host1: ip route add 198.51.100.0/24 via " + host0IP,
	} {
		node, command, _ := strings.Cut(line, ": ")
		run(t, l, node, command)
	}
	for _, node := range []string{"host0", station} { // before, it loses what it is to send
		await(t, "lan0 is up", func() bool { return strings.Contains(run(t, l, node, "ip -br link show lan0"), " UP ") })
	}
	return station
}

// macOf is the MAC of an interface.
func macOf(t testing.TB, l *lab.Lab, node, name string) string {
	t.Helper()
	m := regexp.MustCompile(`link/ether (\S+)`).FindStringSubmatch(run(t, l, node, "ip link show "+name))
	if m == nil {
		t.Fatalf("%s: %s has no MAC", node, name)
	}
	return m[1]
}

// echoes is how many echo requests the kernel of a node was delivered.
func echoes(t testing.TB, l *lab.Lab, node string) int {
	t.Helper()
	lines := strings.Split(run(t, l, node, "cat /proc/thread-self/net/snmp"), "\n")
	for i, line := range lines[:len(lines)-1] {
		if strings.HasPrefix(line, "Icmp: InMsgs") {
			n, err := strconv.Atoi(strings.Fields(lines[i+1])[slices.Index(strings.Fields(line), "InEchos")])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal("no InEchos in /proc/net/snmp")
	return 0
}

func forwarding(t testing.TB, l *lab.Lab, node, value string) {
	t.Helper()
	if err := l.SetSysctl(node, "net.ipv4.ip_forward", value); err != nil {
		t.Fatal(err)
	}
}

// TestOtherNetworks has a host whose kernel routes between two networks of
// others go on with that, and be told from pods' packets in what is counted and
// shown. Where the kernel does not forward, nobody does.
func TestOtherNetworks(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ping", "ip")
	w := &world{Lab: labtest.New(t, lab.Spec{Form: lab.FormCalico, PodsPerHost: 2})}
	station := lan(t, w.Lab)
	forwarding(t, w.Lab, "host0", "1")
	wantTTL(t, w.Lab, station, host1IP, 63) // before
	w.daemons(t)
	pod, far := pods(w.Lab, 0)[0], pods(w.Lab, 1)[0]
	wantTTL(t, w.Lab, pod.Node, ip(far), 62)
	before := statusOf(t, w.d[0])

	shown := spawn(t, w.Lab, "host0", labtest.Binary(t)+" capture --control "+w.d[0].Control+" -lni lan0 -c1 icmp")
	shown.await("listening")
	wantTTL(t, w.Lab, station, host1IP, 63)
	if out := shown.end(); !strings.Contains(out, "=> punt transit #") {
		t.Errorf("shown as\n%s", out)
	}
	wantTTL(t, w.Lab, station, "192.168.1.16", 63)
	wantTTL(t, w.Lab, "host1", "198.51.100.2", 63)
	after := statusOf(t, w.d[0])
	if n := after.Forward.Verdicts["transit"] - before.Forward.Verdicts["transit"]; n != 6 {
		t.Errorf("three round trips are %d packets of transit, want 6", n)
	}
	if n := after.Forward.PacketsIn - before.Forward.PacketsIn; n != 0 {
		t.Errorf("%d packets taken of networks that are none of ours", n)
	}
	if n := after.port("lan0").Punted; n < 3 {
		t.Errorf("lan0: %d punted", n)
	}

	// To and from a workload is ours, from there too.
	run(t, w.Lab, "host0", "ip route get 198.51.100.2") // the route is there
	run(t, w.Lab, station, "ip route add "+ip(pod)+" via 198.51.100.1")
	wantTTL(t, w.Lab, pod.Node, "198.51.100.2", 63)
	if n := statusOf(t, w.d[0]).Forward.PacketsIn - after.Forward.PacketsIn; n != 2 {
		t.Errorf("a round trip between a pod and that network: %d packets taken, want 2", n)
	}

	// A change counts at once.
	forwarding(t, w.Lab, "host0", "0")
	await(t, "the news that nobody forwards", func() bool {
		try(t, w.Lab, station, "ping -n -c1 -W1 "+host1IP)
		return statusOf(t, w.d[0]).Forward.Drops["PARP_TRANSIT"] > 0
	})
	forwarding(t, w.Lab, "host0", "1")
	await(t, "the kernel forwards again", func() bool {
		_, code := try(t, w.Lab, station, "ping -n -c1 -W1 "+host1IP)
		return code == 0
	})
}

// TestHairpin: what goes out by the uplink that it came by is the kernel's, which
// tells the sender of the better way.
func TestHairpin(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ping")
	for _, transit := range []bool{false, true} {
		w := &world{Lab: labtest.New(t, lab.Spec{Form: lab.FormCalico})}
		forwarding(t, w.Lab, "host0", "1")
		station := pods(w.Lab, 1)[0].Node // a third one on the wire
		for _, line := range []string{
			"host1: ip link add mv0 link ens192 type macvlan mode bridge",
			"host1: ip link set mv0 netns " + netnsOf(t, w.Lab, station),
			station + ": ip addr add 192.168.1.60/24 dev mv0", station + ": ip link set mv0 up",
			station + ": ip route add 192.168.1.16 via " + host0IP + " dev mv0",
			"host1: ip route add 192.168.1.60 via " + host0IP,
		} {
			node, command, _ := strings.Cut(line, ": ")
			run(t, w.Lab, node, command)
		}
		var flags []string
		if transit {
			flags = []string{"--transit"}
		}
		w.d = append(w.d, labtest.Daemon(t, w.Lab, "host0", flags...))
		out := run(t, w.Lab, "host1", "ping -n -c1 -W1 192.168.1.60")
		if !strings.Contains(out, "1 received") || strings.Contains(out, "DUP") || !strings.Contains(out, "Redirect Host") {
			t.Errorf("transit %v:\n%s", transit, out)
		}
		s := statusOf(t, w.d[0])
		if ours := s.Forward.Verdicts["forward"]; (ours == 0) == transit {
			t.Errorf("transit %v: forwarded here %d, verdicts %v", transit, ours, s.Forward.Verdicts)
		}
	}
}

// TestReceivesOnly has an uplink that no route leads over, and that has no
// address, bring packets for pods: the way there is not the way back.
func TestReceivesOnly(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ping", "ip", "tc")
	for _, forwards := range []string{"0", "1"} {
		w := &world{Lab: labtest.New(t, lab.Spec{Form: lab.FormCalico})}
		pod, far := pods(w.Lab, 0)[0], pods(w.Lab, 1)[0]
		for _, line := range []string{
			"host0: ip link add ens193 type veth peer name ens193 netns " + netnsOf(t, w.Lab, "host1"),
			"host0: ip link set ens193 up", "host1: ip link set ens193 up",
			"host1: ip addr add 192.0.2.2/24 dev ens193",
			"host1: ip route replace " + ip(pod) + " via 192.0.2.1 dev ens193",
		} {
			node, command, _ := strings.Cut(line, ": ")
			run(t, w.Lab, node, command)
		}
		mac := macOf(t, w.Lab, "host0", "ens193")
		run(t, w.Lab, "host1", "ip neigh add 192.0.2.1 lladdr "+mac+" dev ens193")
		forwarding(t, w.Lab, "host0", forwards)
		w.daemons(t)
		// The other host takes the reply by ens192 with loose source validation.
		wantTTL(t, w.Lab, far.Node, ip(pod), 62)
		await(t, "ens193 is there", func() bool { s := statusOf(t, w.d[0]); return s.port("ens193") != nil })
		if forwards == "0" {
			if s := statusOf(t, w.d[0]); s.port("ens193").took() == 0 {
				t.Errorf("nothing came by ens193: %+v", s.Uplinks)
			}
		} else {
			await(t, "it is taken from the kernel", func() bool {
				wantTTL(t, w.Lab, far.Node, ip(pod), 62)
				s := statusOf(t, w.d[0])
				return s.port("ens193").took() > 0
			})
		}
		out := run(t, w.Lab, far.Node, "ping -n -c10 -i0.01 -W1 "+ip(pod))
		if !strings.Contains(out, "10 received") || strings.Contains(out, "DUP") {
			t.Errorf("forwarding %s:\n%s", forwards, out)
		}
	}
}

// TestReceivesOnlyWithProgram leaves such an uplink to the kernel if it has a
// queueing discipline or filters of its own, and begins all the same.
func TestReceivesOnlyWithProgram(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "tc", "ping")
	w := &world{Lab: labtest.New(t, lab.Spec{Form: lab.FormCalico})}
	for _, line := range []string{
		"ip link add idle0 type veth peer name idle1", "ip link set idle0 up", "ip link set idle1 up",
		"tc qdisc add dev idle0 clsact", "tc filter add dev idle0 ingress protocol ip u32 match u32 0 0",
	} {
		run(t, w.Lab, "host0", line)
	}
	w.daemons(t)
	wantTTL(t, w.Lab, pods(w.Lab, 0)[0].Node, ip(pods(w.Lab, 1)[0]), 62)
	await(t, "idle0 is left alone, and it is said why", func() bool {
		s := statusOf(t, w.d[0])
		p := s.port("idle0")
		return p != nil && !p.Forwards && strings.Contains(p.Error, "clsact ingress of idle0")
	})
	if s := statusOf(t, w.d[0]); !s.Ready {
		t.Error("not ready")
	}
	// A route that leads there makes it matter: its packets are refused, not smuggled past the filter.
	run(t, w.Lab, "host0", "ip route add 203.0.113.0/24 dev idle0")
	await(t, "packets to it are refused", func() bool {
		try(t, w.Lab, pods(w.Lab, 0)[0].Node, "ping -n -c1 -W1 203.0.113.1")
		return statusOf(t, w.d[0]).Forward.Drops["PARP_IF_UNKNOWN"] > 0
	})
}

// TestTranslatedFlows has the kernel translate what it is left by --punt: the
// replies are its own as well, and come back as what was asked.
func TestTranslatedFlows(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "nft", "ping", "traceroute")
	w := &world{Lab: labtest.New(t, lab.Spec{Form: lab.FormCalico, PodsPerHost: 2})}
	from, near, far := pods(w.Lab, 0)[0], pods(w.Lab, 0)[1], pods(w.Lab, 1)[0]
	calicoSettings(t, w.Lab)
	run(t, w.Lab, "host0", "nft add table ip services")
	run(t, w.Lab, "host0", "nft add chain ip services pre { type nat hook prerouting priority -100 ; }")
	run(t, w.Lab, "host0", "nft add rule ip services pre ip daddr 10.96.0.10 dnat to "+ip(far))
	run(t, w.Lab, "host0", "nft add rule ip services pre ip daddr 10.96.0.11 dnat to "+ip(near))
	w.daemons(t, "--punt", "10.96.0.0/12", "--bypass-policy")
	for _, c := range []struct {
		to  string
		ttl int
	}{{"10.96.0.10", 62}, {"10.96.0.11", 63}, {ip(far), 62}, {ip(near), 63}} {
		out := run(t, w.Lab, from.Node, "ping -n -c2 -i0.1 -W1 -s 3000 "+c.to) // in fragments, too
		if !strings.Contains(out, "2 received") || strings.Contains(out, "DUP") {
			t.Errorf("%s:\n%s", c.to, out)
		}
		wantTTL(t, w.Lab, from.Node, c.to, c.ttl)
	}
	if s := statusOf(t, w.d[0]); s.Forward.Verdicts["punted-flow"] == 0 || s.Forward.Verdicts["forward"] == 0 {
		t.Errorf("verdicts %v", s.Forward.Verdicts)
	}
	// An error about such a flow, of a router behind the host, is translated too.
	if out := run(t, w.Lab, from.Node, "traceroute -n -I -w1 -q1 -m5 10.96.0.10"); strings.Count(out, "10.96.0.10") < 2 || strings.Contains(out, "*") {
		t.Error(out)
	}
}

// TestUpperDevice has a device on an uplink, in another namespace, whose frames
// bear the uplink's MAC: they are not ours, though nobody else would forward them.
func TestUpperDevice(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ip", "ping")
	w := &world{Lab: labtest.New(t, lab.Spec{Form: lab.FormCalico, PodsPerHost: 2})}
	pod, child := pods(w.Lab, 0)[0], pods(w.Lab, 0)[1].Node
	for _, line := range []string{
		"host0: ip link add mv0 link " + uplink + " type macvlan mode passthru",
		"host0: ip link set mv0 netns " + netnsOf(t, w.Lab, child),
		child + ": ip addr add 192.168.1.50/24 dev mv0", child + ": ip link set mv0 up",
	} {
		node, command, _ := strings.Cut(line, ": ")
		run(t, w.Lab, node, command)
	}
	w.daemons(t)
	wantTTL(t, w.Lab, "host1", "192.168.1.50", 64)
	await(t, "it is counted as what it may be", func() bool { return statusOf(t, w.d[0]).Forward.Verdicts["upper-device"] > 0 })
	wantTTL(t, w.Lab, pods(w.Lab, 1)[0].Node, ip(pod), 62) // by the same uplink
}

// TestLocalElsewhere: the kernel delivers by any route of type local, wherever
// it stands. One that only some sources take can't be told from the destination:
// where nobody else would forward it the packet is taken, and given back.
func TestLocalElsewhere(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ip", "ping")
	w := &world{Lab: labtest.New(t, lab.Spec{Form: lab.FormCalico})}
	pod := pods(w.Lab, 0)[0]
	for _, line := range []string{
		"ip route add local 10.99.0.1/32 dev lo table main",
		"ip route add local 10.99.1.0/24 dev lo table local",
		fmt.Sprintf("ip rule add pref 100 from %s lookup 100", ip(pod)),
		"ip route add local 10.99.0.2/32 dev lo table 100",
	} {
		run(t, w.Lab, "host0", line)
	}
	w.daemons(t)
	// The kernel does not answer for an address of other tables than local, but it
	// takes what comes for it.
	delivered := func(to string) {
		t.Helper()
		before := echoes(t, w.Lab, "host0")
		try(t, w.Lab, pod.Node, "ping -n -c1 -W0.1 "+to)
		await(t, to+" is delivered", func() bool { return echoes(t, w.Lab, "host0") == before+1 })
	}
	before := statusOf(t, w.d[0])
	delivered("10.99.0.1")
	wantTTL(t, w.Lab, pod.Node, "10.99.1.7", 64)
	if n := statusOf(t, w.d[0]).Forward.PacketsIn - before.Forward.PacketsIn; n != 0 {
		t.Errorf("%d packets for the host were taken", n)
	}
	delivered("10.99.0.2")
	s := statusOf(t, w.d[0])
	if s.Forward.Returned != 1 || s.Forward.Verdicts["local"] != 3 || s.Forward.Drops["PARP_LOCAL_LATE"] != 0 {
		t.Errorf("returned %d, verdicts %v, drops %v", s.Forward.Returned, s.Forward.Verdicts, s.Forward.Drops)
	}
	wantTTL(t, w.Lab, pod.Node, ip(pods(w.Lab, 1)[0]), 62)
	// Where the kernel forwards, what can't be told is its own.
	forwarding(t, w.Lab, "host0", "1")
	await(t, "the news of forwarding", func() bool {
		delivered("10.99.0.2")
		return statusOf(t, w.d[0]).Forward.Verdicts["transit"] > 0
	})
	if n := statusOf(t, w.d[0]).Forward.Drops["PARP_LOCAL_LATE"]; n != 0 {
		t.Errorf("%d lost", n)
	}
}

// TestCaptureNamesRule: what a capture says of a packet is the rule that it took,
// with source and destination where they belong.
func TestCaptureNamesRule(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ip", "ping")
	w := &world{Lab: labtest.New(t, lab.Spec{Form: lab.FormCalico, PodsPerHost: 2})}
	pod, far := pods(w.Lab, 0)[0], pods(w.Lab, 1)[0]
	for _, line := range []string{
		"ip rule add pref 100 from " + ip(pod) + " lookup 100",
		"ip rule add pref 110 from " + ip(far) + " lookup 110",
		"ip route add " + ip(far) + " via " + host1IP + " dev " + uplink + " table 100",
		"ip route add " + ip(pod) + " dev " + pod.Iface + " table 110",
	} {
		run(t, w.Lab, "host0", line)
	}
	w.daemons(t)
	wantTTL(t, w.Lab, pod.Node, ip(far), 62)
	shown := spawn(t, w.Lab, "host0", labtest.Binary(t)+" capture --control "+w.d[0].Control+" -vlni any -c4 icmp")
	shown.await("listening")
	wantTTL(t, w.Lab, pod.Node, ip(far), 62)
	out := shown.end()
	for _, want := range []string{"rule 100, table 100", "rule 110, table 110"} {
		if strings.Count(out, want) != 1 {
			t.Errorf("want %q once:\n%s", want, out)
		}
	}
}
