package e2e

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
)

// Addresses that every lab has.
const (
	gateway6 = "fe80::ecee:eeff:feee:eeee"
	host0IP6 = "fd00:192:168:1::32"
	host1IP6 = "fd00:192:168:1::16"
)

// pods6 are the pods of a host as those see them who speak IPv6.
func pods6(t testing.TB, l *lab.Lab, host int) (all []lab.Pod) {
	t.Helper()
	for _, p := range pods(l, host) {
		all = append(all, labtest.OverIPv6(t, p))
	}
	return all
}

// start6 is start for tests of IPv6.
func start6(t *testing.T, spec lab.Spec, args ...string) *world {
	t.Helper()
	labtest.NeedIPv6(t)
	return start(t, spec, args...)
}

// kernelForwards6 has the hosts' kernels forward IPv6.
func kernelForwards6(t *testing.T, l *lab.Lab) {
	t.Helper()
	for _, host := range []string{"host0", "host1"} {
		if err := l.SetSysctl(host, "net.ipv6.conf.all.forwarding", "1"); err != nil {
			t.Fatal(err)
		}
	}
}

// TestIPv6Forms has every pair of pods and hosts talk, in each form of the lab.
func TestIPv6Forms(t *testing.T) {
	labtest.Need(t, "ping", "ip")
	labtest.NeedIPv6(t)
	for _, form := range lab.Forms() {
		for _, engine := range []string{"af_packet", "ebpf", "none"} {
			t.Run(fmt.Sprintf("%s,%s", form, engine), func(t *testing.T) {
				t.Parallel()
				testIPv6Form(t, lab.Spec{Form: form, PodsPerHost: 2}, engine)
			})
		}
	}
}

func testIPv6Form(t *testing.T, spec lab.Spec, engine string) {
	l := labtest.New(t, spec)
	if engine == "none" { // neighbour solicitations alone are answered: the kernel has to forward
		kernelForwards6(t, l)
	}
	w := &world{Lab: l}
	w.daemons(t, "--engine", engine)

	mine, others := pods6(t, l, 0), pods6(t, l, 1)
	for range 5 { // nobody knows anybody: the first packet has to arrive
		flushNeighbours(t, l)
		wantTTL(t, l, mine[0].Node, ip(others[0]), 62)
	}
	wantTTL(t, l, mine[0].Node, ip(mine[1]), 63)
	flushNeighbours(t, l)
	wantTTL(t, l, others[1].Node, ip(others[0]), 63)
	wantTTL(t, l, mine[0].Node, host0IP6, 64) // its own host
	wantTTL(t, l, mine[0].Node, host1IP6, 63)
	flushNeighbours(t, l)
	wantTTL(t, l, "host0", ip(mine[0]), 64)
	wantTTL(t, l, "host0", ip(others[0]), 63)
	for _, p := range mine {
		ping(t, l, p.Node, host1IP6)
		if got := run(t, l, p.Node, "ip neigh show "+gateway6); !strings.Contains(got, answerMAC) {
			t.Errorf("%s's gateway: %s", p.Name, got)
		}
	}
	if engine == "none" {
		return
	}
	for _, host := range []string{"host0", "host1"} {
		for _, key := range []string{"forwarding", "proxy_ndp"} {
			if v, err := l.Sysctl(host, "net.ipv6.conf.all."+key); err != nil || v != "0" {
				t.Errorf("%s: net.ipv6.conf.all.%s is %s, %v", host, key, v, err)
			}
		}
	}
	closedKernel(t, l)
}

// TestIPv6NewPods has each new pod reached, and reach others, with its first packet.
func TestIPv6NewPods(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ping")
	for _, form := range []lab.Form{lab.FormCalico, lab.FormSlash32} {
		w := start6(t, lab.Spec{Form: form})
		old := pods6(t, w.Lab, 1)[0]
		for i := range 10 {
			p, err := w.AddPod(t.Context(), 0, lab.PodOptions{})
			if err != nil {
				t.Fatal(err)
			}
			from, to := labtest.OverIPv6(t, p), old
			if i%2 == 1 {
				from, to = to, from
			}
			wantTTL(t, w.Lab, from.Node, ip(to), 62)
		}
	}
}

// TestIPv6Traceroute meets both hosts, by their own addresses.
func TestIPv6Traceroute(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "traceroute")
	w := start6(t, lab.Spec{Form: lab.FormCalico, PodsPerHost: 2})
	mine, others := pods6(t, w.Lab, 0), pods6(t, w.Lab, 1)
	for _, c := range []struct {
		method, to string
		hops       []string
	}{
		{"-U", ip(others[0]), []string{host0IP6, host1IP6, ip(others[0])}},
		{"-I", ip(others[0]), []string{host0IP6, host1IP6, ip(others[0])}},
		{"-U", ip(mine[1]), []string{host0IP6, ip(mine[1])}},
		{"-U", host1IP6, []string{host0IP6, host1IP6}},
	} {
		out := run(t, w.Lab, mine[0].Node, "traceroute -6 -n -q1 -N1 -w2 "+c.method+" "+c.to)
		var hops []string
		for _, m := range regexp.MustCompile(`(?m)^ *\d+ +(\S+)`).FindAllStringSubmatch(out, -1) {
			hops = append(hops, m[1])
		}
		if strings.Join(hops, " ") != strings.Join(c.hops, " ") {
			t.Errorf("traceroute %s %s: hops %v, want %v\n%s", c.method, c.to, hops, c.hops, out)
		}
	}
}

// TestIPv6NoWay expects the right word, or silence, where there is no way on. The
// routes are made, and unmade, while the program runs.
func TestIPv6NoWay(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ping", "ip")
	w := start6(t, lab.Spec{Form: lab.FormCalico, PodsPerHost: 6})
	for i, c := range []struct{ route, says string }{
		{"", "Destination unreachable: No route"},
		{"unreachable 2001:db8::1", "Destination unreachable: No route"},
		{"prohibit 2001:db8::1", "Destination unreachable: Administratively prohibited"},
		{"blackhole 2001:db8::1", ""},
		{"throw 2001:db8::1", "Destination unreachable: No route"},
	} {
		if c.route != "" {
			run(t, w.Lab, "host0", "ip -6 route replace "+c.route)
		}
		// A pod each: a pod gets an error a second.
		out, code := try(t, w.Lab, pods(w.Lab, 0)[i].Node, "ping -n -c1 -W1 2001:db8::1")
		m := regexp.MustCompile(`(?m)^From (\S+) icmp_seq=1 (.*)$`).FindStringSubmatch(out)
		switch {
		case code != 1:
			t.Errorf("%q: exit %d\n%s", c.route, code, out)
		case c.says == "" && m != nil, c.says != "" && (m == nil || m[1] != host0IP6 || m[2] != c.says):
			t.Errorf("%q: want %q from %s:\n%s", c.route, c.says, host0IP6, out)
		}
		if c.route != "" {
			run(t, w.Lab, "host0", "ip -6 route del "+c.route)
		}
	}
	run(t, w.Lab, "host0", "ip -6 route add 2001:db8::1 via "+host1IP6)
	run(t, w.Lab, "host1", "ip addr add 2001:db8::1/128 dev lo") // which first has a route by lo, and then one to it
	await(t, "host1 answers", func() bool {
		_, code := try(t, w.Lab, pods(w.Lab, 0)[4].Node, "ping -n -c1 -W1 2001:db8::1")
		return code == 0
	})
	if ttl := ping(t, w.Lab, pods(w.Lab, 0)[5].Node, "2001:db8::1", "-W5"); ttl != 63 {
		t.Errorf("ttl %d, want 63", ttl)
	}
}

// TestIPv6DeadNextHop asks for what does not answer: a gateway on the wire, and a
// pod that is gone behind its interface.
func TestIPv6DeadNextHop(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ping", "ip")
	w := start6(t, lab.Spec{Form: lab.FormCalico, PodsPerHost: 2})
	mine, others := pods6(t, w.Lab, 0), pods6(t, w.Lab, 1)
	run(t, w.Lab, "host0", "ip -6 route add 2001:db8::2 via fd00:192:168:1::99")
	run(t, w.Lab, "host0", "ip -6 route add fd00:10:65::66 dev "+mine[1].Iface)
	began := time.Now()
	wantTTL(t, w.Lab, mine[0].Node, ip(others[0]), 62)
	alive := time.Since(began)
	for _, dst := range []string{"2001:db8::2", "fd00:10:65::66"} {
		began := time.Now()
		out, code := try(t, w.Lab, mine[0].Node, "ping -n -c1 -W6 "+dst)
		took := time.Since(began)
		if want := "From " + host0IP6 + " icmp_seq=1 Destination unreachable: Address unreachable"; code != 1 || !strings.Contains(out, want) {
			t.Errorf("want %q:\n%s", want, out)
		}
		// Three solicitations, a second apart (net.ipv6.neigh.*.retrans_time_ms).
		if took < 2*time.Second || took > 5*time.Second+10*alive {
			t.Errorf("%s: told after %v, want about 3 s; an answer took %v", dst, took, alive)
		}
	}
	wantTTL(t, w.Lab, mine[0].Node, ip(others[0]), 62)
	// It comes to life.
	run(t, w.Lab, "host1", "ip addr add fd00:192:168:1::99/64 dev "+uplink)
	run(t, w.Lab, "host1", "ip addr add 2001:db8::2/128 dev lo")
	// The kernel hears solicitations for a new address a moment later, on a busy machine after all three of them.
	await(t, "the next hop is there", func() bool {
		_, code := try(t, w.Lab, mine[0].Node, "ping -n -c1 -W5 2001:db8::2")
		return code == 0
	})
	if ttl := ping(t, w.Lab, mine[0].Node, "2001:db8::2", "-W5"); ttl != 63 {
		t.Errorf("ttl %d, want 63", ttl)
	}
}

// TestIPv6MTU sends what does not fit into a pod and into the wire: the sender is
// told, and TCP and tracepath find out.
func TestIPv6MTU(t *testing.T) {
	labtest.Need(t, "ping", "iperf3", "tracepath", "ip")
	for _, c := range []struct {
		name   string
		wire   int
		router string // who has to say so
		host   int    // of whom
	}{
		{"pod", 0, host1IP6, 1},
		{"wire", narrow, host0IP6, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			labtest.NeedIPv6(t)
			w := &world{Lab: labtest.New(t, lab.Spec{Form: lab.FormCalico, PodsPerHost: 3, WireMTU: c.wire})}
			from, to := pods6(t, w.Lab, 0), pods6(t, w.Lab, 1)[0]
			if c.wire == 0 {
				run(t, w.Lab, "host1", fmt.Sprintf("ip link set %s mtu %d", to.Iface, narrow))
				run(t, w.Lab, to.Node, fmt.Sprintf("ip link set %s mtu %d", to.Peer, narrow))
				// Else the pod's own TCP would ask for segments that fit.
				run(t, w.Lab, to.Node, fmt.Sprintf("ip -6 route replace default via %s dev %s onlink advmss 1440", gateway6, to.Peer))
			}
			w.daemons(t)

			out, code := try(t, w.Lab, from[0].Node, "ping -n -c1 -W1 -M do -s 1452 "+ip(to))
			if want := fmt.Sprintf("From %s icmp_seq=1 Packet too big: mtu=%d", c.router, narrow); code != 1 || !strings.Contains(out, want) {
				t.Errorf("want %q:\n%s", want, out)
			}
			if got := run(t, w.Lab, from[0].Node, "ip route get "+ip(to)); !strings.Contains(got, fmt.Sprintf("mtu %d", narrow)) {
				t.Errorf("the pod has not learnt it: %s", got)
			}
			ping(t, w.Lab, from[0].Node, ip(to), "-M", "do", "-s", fmt.Sprint(narrow-48)) // this fits exactly
			// The sender fragments; the first reply may tell the other pod that it has to as well.
			ping(t, w.Lab, from[0].Node, ip(to), "-s", "1452", "-c3", "-i0.2")
			awaitDrops(t, w.d[c.host], "PKT_TOO_BIG", 1)

			if out := run(t, w.Lab, from[1].Node, "tracepath -n "+ip(to)); !strings.Contains(out, fmt.Sprintf("Resume: pmtu %d hops 3 back 3", narrow)) {
				t.Errorf("tracepath:\n%s", out)
			}
			before := statusOf(t, w.d[c.host])
			r := transfer(t, w.Lab, from[2].Node, to, "-n 20M")
			after := statusOf(t, w.d[c.host])
			if n := after.Forward.Drops["PKT_TOO_BIG"] - before.Forward.Drops["PKT_TOO_BIG"]; n == 0 || n > 100 {
				t.Errorf("%d packets were too big while TCP learnt the MTU", n)
			}
			t.Logf("with path MTU discovery: %.0f Mbit/s", r.End.Received.BPS/1e6)
		})
	}
}

// TestIPv6Transfer moves data between pods with all the offloads that veths have.
func TestIPv6Transfer(t *testing.T) {
	labtest.Need(t, "iperf3")
	w := start6(t, lab.Spec{Form: lab.FormCalico, PodsPerHost: 2})
	mine, others := pods6(t, w.Lab, 0), pods6(t, w.Lab, 1)
	for _, c := range []struct {
		name string
		to   lab.Pod
		args string
	}{
		{"one host", mine[1], "-n 100M"},
		{"one host, back", mine[1], "-n 100M -R"},
		{"across, four streams", others[0], "-n 60M -P4"},
	} {
		r := transfer(t, w.Lab, mine[0].Node, c.to, c.args)
		t.Logf("%s: %.0f Mbit/s, %.0f retransmissions", c.name, r.End.Received.BPS/1e6, r.End.Sent.Retransmits)
		// What lies in the sockets' buffers at the end, up to 10 MB of each stream, iperf3 does not read.
		if r.End.Received.Bytes < 15e6 {
			t.Errorf("%s: %.0f bytes received", c.name, r.End.Received.Bytes)
		}
	}
	for _, to := range []lab.Pod{mine[1], others[0]} {
		r := transfer(t, w.Lab, mine[0].Node, to, "-u -b 20M -l 1400 -t1")
		if r.End.Sum.Packets < 1000 || r.End.Sum.Lost > 0 {
			t.Errorf("UDP to %s: %.0f of %.0f datagrams lost", to.Name, r.End.Sum.Lost, r.End.Sum.Packets)
		}
	}
}

// TestIPv6Checksums looks at what comes over a wire that computes no checksum and
// cuts no segment.
func TestIPv6Checksums(t *testing.T) {
	labtest.Need(t, "iperf3", "tcpdump", "ethtool")
	w := start6(t, lab.Spec{Form: lab.FormCalico})
	for _, node := range []string{"host0", "host1"} {
		run(t, w.Lab, node, "ethtool -K "+uplink+" tx off tso off gso off gro off sg off")
	}
	from, to := pods6(t, w.Lab, 0)[0], pods6(t, w.Lab, 1)[0]
	there := tcpdump(t, w.Lab, "host1", uplink, "-Q in ip6")
	transfer(t, w.Lab, from.Node, to, "-n 8M")
	r := transfer(t, w.Lab, from.Node, to, "-u -b 20M -l 700 -n 2M")
	if r.End.Sum.Lost > 0 {
		t.Errorf("%.0f of %.0f datagrams lost", r.End.Sum.Lost, r.End.Sum.Packets)
	}
	text := there.stop("-e -vv")
	checkCapture(t, "there", text, 1000, 1000) // tcpdump may lose some
	for _, m := range regexp.MustCompile(`ethertype IPv6 \(0x86dd\), length (\d{4,}):`).FindAllStringSubmatch(text, -1) {
		if m[1] > "1514" {
			t.Fatalf("a frame of %s bytes", m[1])
		}
	}
}
