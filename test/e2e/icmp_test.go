package e2e

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
)

// TestTraceroute meets both hosts, by their own addresses.
func TestTraceroute(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "traceroute")
	w := start(t, lab.Spec{Form: lab.FormSlash32, PodsPerHost: 2})
	for _, c := range []struct {
		method, to string
		hops       []string
	}{
		{"-U", "10.20.1.3", []string{host0IP, host1IP, "10.20.1.3"}},
		{"-I", "10.20.1.3", []string{host0IP, host1IP, "10.20.1.3"}},
		{"-U", "10.20.1.4", []string{host0IP, "10.20.1.4"}},
		{"-U", host1IP, []string{host0IP, host1IP}},
	} {
		out := run(t, w.Lab, "ns0", "traceroute -n -q1 -N1 -w2 "+c.method+" "+c.to)
		var hops []string
		for _, m := range regexp.MustCompile(`(?m)^ *\d+ +(\S+)`).FindAllStringSubmatch(out, -1) {
			hops = append(hops, m[1])
		}
		if strings.Join(hops, " ") != strings.Join(c.hops, " ") {
			t.Errorf("traceroute %s %s: hops %v, want %v\n%s", c.method, c.to, hops, c.hops, out)
		}
	}
	awaitDrops(t, w.d[0], "PARP_TTL_EXPIRED", 4)
	awaitDrops(t, w.d[1], "PARP_TTL_EXPIRED", 2)
}

// TestNoWay expects the right word, or silence, where there is no way on. The
// routes are made, and unmade, while the program runs.
func TestNoWay(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ping", "ip")
	w := start(t, lab.Spec{Form: lab.FormSlash32, PodsPerHost: 5})
	for i, c := range []struct {
		route, says, reason string
	}{
		{"", "Destination Net Unreachable", "IP_INNOROUTES"},
		{"unreachable 10.9.0.1", "Destination Host Unreachable", "PARP_ROUTE_UNREACHABLE"},
		{"prohibit 10.9.0.1", "Packet filtered", "PARP_ROUTE_PROHIBIT"},
		{"blackhole 10.9.0.1", "", "PARP_ROUTE_BLACKHOLE"},
		{"throw 10.9.0.1", "Destination Net Unreachable", "IP_INNOROUTES"},
	} {
		if c.route != "" {
			run(t, w.Lab, "host0", "ip route replace "+c.route)
		}
		before := statusOf(t, w.d[0]).Forward.Drops[c.reason]
		// A pod each: of several errors at once a pod gets two, as from the kernel.
		out, code := try(t, w.Lab, pods(w.Lab, 0)[i].Node, "ping -n -c1 -W1 10.9.0.1")
		m := regexp.MustCompile(`(?m)^From (\S+) icmp_seq=1 (.*)$`).FindStringSubmatch(out)
		switch {
		case code != 1:
			t.Errorf("%q: exit %d\n%s", c.route, code, out)
		case c.says == "" && m != nil, c.says != "" && (m == nil || m[1] != host0IP || m[2] != c.says):
			t.Errorf("%q: want %q from %s:\n%s", c.route, c.says, host0IP, out)
		}
		awaitDrops(t, w.d[0], c.reason, before+1)
		if c.route != "" {
			run(t, w.Lab, "host0", "ip route del "+c.route)
		}
	}
	run(t, w.Lab, "host0", "ip route add 10.9.0.1 via "+host1IP)
	run(t, w.Lab, "host1", "ip addr add 10.9.0.1/32 dev lo")
	wantTTL(t, w.Lab, "ns0", "10.9.0.1", 63)
}

// TestDeadNextHop asks for what does not answer ARP: a gateway on the wire, and
// a pod that is gone behind its interface.
func TestDeadNextHop(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ping", "ip")
	w := start(t, lab.Spec{Form: lab.FormSlash32, PodsPerHost: 2})
	run(t, w.Lab, "host0", "ip route add 10.9.0.2 via 192.168.1.99")
	run(t, w.Lab, "host0", "ip route add 10.20.1.66 dev veth1 scope link")
	began := time.Now()
	wantTTL(t, w.Lab, "ns0", "10.20.1.3", 62)
	alive := time.Since(began)
	for i, dst := range []string{"10.9.0.2", "10.20.1.66"} {
		began := time.Now()
		out, code := try(t, w.Lab, "ns0", "ping -n -c1 -W6 "+dst)
		took := time.Since(began)
		if want := "From " + host0IP + " icmp_seq=1 Destination Host Unreachable"; code != 1 || !strings.Contains(out, want) {
			t.Errorf("want %q:\n%s", want, out)
		}
		// Three requests, a second apart (net.ipv4.neigh.*.retrans_time_ms).
		if took < 2*time.Second || took > 5*time.Second+10*alive {
			t.Errorf("%s: told after %v, want about 3 s; an answer took %v", dst, took, alive)
		}
		awaitDrops(t, w.d[0], "NEIGH_FAILED", uint64(i+1))
	}
	// Meanwhile, and afterwards, the others are served.
	wantTTL(t, w.Lab, "ns0", "10.20.1.3", 62)
	// It comes to life.
	run(t, w.Lab, "host1", "ip addr add 192.168.1.99/24 dev "+uplink)
	run(t, w.Lab, "host1", "ip addr add 10.9.0.2/32 dev lo")
	wantTTL(t, w.Lab, "ns0", "10.9.0.2", 63)
}
