package e2e

import (
	"fmt"
	"strings"
	"testing"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
)

// TestBIRD has two BIRDs tell each other by BGP where the pods are. No route
// between the hosts is anybody else's. Then the routes move, under traffic.
func TestBIRD(t *testing.T) {
	labtest.Need(t, "ip", "ping")
	l := labtest.New(t, lab.Spec{Form: lab.FormCalico})
	secondWire(t, l)
	run(t, l, "host0", "ip route del 10.65.1.0/24")
	run(t, l, "host1", "ip route del 10.65.0.0/24")
	w := &world{Lab: l}
	w.daemons(t)
	from, to := pods(l, 0)[0], pods(l, 1)[0]
	if out, code := try(t, l, from.Node, "ping -n -c1 -W1 "+ip(to)); code != 1 || !strings.Contains(out, "Net Unreachable") {
		t.Errorf("without a route:\n%s", out)
	}

	// What the kernels are told.
	news := []*program{spawn(t, l, "host0", "ip monitor route"), spawn(t, l, "host1", "ip monitor route")}
	way := func(wire int) {
		t.Helper()
		for host, p := range news {
			p.await(fmt.Sprintf(`(?m)^10\.65\.%d\.0/24 via 192\.168\.%d\.%d dev \S+ proto bird`, 1-host, wire, []int{16, 32}[host]))
		}
	}
	b := birds(t, l, peering{prefer: [2]int{200, 100}})
	way(1)
	wantTTL(t, l, from.Node, ip(to), 62)
	wantTTL(t, l, to.Node, ip(from), 62)
	wantTTL(t, l, pods(l, 0)[1].Node, ip(pods(l, 1)[1]), 62)
	for _, b := range b { // both ways have to be known before one is taken away
		b.established()
	}

	for _, move := range []struct {
		name string
		wire int
		do   func()
		lost int // at most, of 1000 a second
	}{
		{"the other way is preferred", 2, func() {
			for _, b := range b {
				b.configure(100, 200)
			}
		}, 0},
		{"the way in use is withdrawn", 1, func() { b[1].birdc("disable wire2") }, 0},
		{"both are there again", 2, func() { b[1].birdc("enable wire2") }, 0},
		// BIRD finds its neighbour gone when the kernel says so, which may
		// take linkwatch a second; what was sent meanwhile is lost.
		{"the wire in use is cut", 1, func() { run(t, l, "host1", "ip link set "+second+" down") }, 1500},
	} {
		for _, p := range news {
			p.mark()
		}
		w.moves(t, move.name, move.lost, [][2]lab.Pod{{from, to}, {to, from}}, func() {
			before := statusOf(t, w.d[0])
			move.do()
			way(move.wire)
			await(t, "traffic on the new way", func() bool {
				s := statusOf(t, w.d[0])
				name := []string{"", uplink, second}[move.wire]
				return s.port(name) != nil && s.port(name).took() > before.port(name).took()+10
			})
		})
		wantTTL(t, l, from.Node, ip(to), 62)
	}
}

// moves changes something under traffic of a packet a millisecond each way, of which no
// more than so many may be lost, and none doubled.
func (w *world) moves(t *testing.T, name string, most int, ways [][2]lab.Pod, do func()) {
	t.Helper()
	var flows []*labtest.Flow
	for _, p := range ways {
		flows = append(flows, labtest.StartFlow(t, w.Lab, p[0], p[1], 1))
	}
	do()
	for _, f := range flows {
		sent, lost, doubled := f.Stop()
		t.Logf("%s: %d of %d lost, at most %v without any", name, lost, sent, f.Gap())
		if lost > most || doubled > 0 {
			t.Errorf("%s: of %d datagrams %d are lost and %d came twice, want %d at most", name, sent, lost, doubled, most)
		}
	}
}

// TestBIRDOverIPv6 has two BIRDs speak over IPv6 alone, and tell each other the pods' host
// routes of both families: IPv4's with IPv6 next hops (RFC 8950). There are two wires with
// a session each, one between link-local addresses, and both ways are taken. Routes come
// and go under traffic of both families.
func TestBIRDOverIPv6(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ip", "ping", "iperf3", "traceroute", "tracepath", "ndisc6")
	labtest.NeedIPv6(t)
	l := labtest.New(t, lab.Spec{Form: lab.FormCalico})
	secondWire(t, l)
	p := peering{over6: true, prefer: [2]int{100, 100}}
	for host, routes := range [][]string{{"10.65.1.0/24", "fd00:10:65:1::/64"}, {"10.65.0.0/24", "fd00:10:65::/64"}} {
		node := fmt.Sprintf("host%d", host)
		for _, r := range routes {
			run(t, l, node, "ip route del "+r)
		}
		p.linkLocal[host] = linkLocalOf(t, l, node, second)
		for _, family := range []string{"ipv4", "ipv6"} { // by ports, so that two pods use both ways
			if err := l.SetSysctl(node, "net."+family+".fib_multipath_hash_policy", "1"); err != nil {
				t.Fatal(err)
			}
		}
	}
	w := &world{Lab: l}
	w.daemons(t)
	here, there := pods(l, 0), pods(l, 1)
	here6, there6 := pods6(t, l, 0), pods6(t, l, 1)
	if out, code := try(t, l, here[0].Node, "ping -n -c1 -W1 "+ip(there6[0])); code != 1 || !strings.Contains(out, "No route") {
		t.Errorf("without a route:\n%s", out)
	}
	b := birds(t, l, p)
	for _, b := range b {
		b.established()
	}
	// has waits for host routes to the pods with so many ways.
	has := func(ways int) {
		t.Helper()
		for host, far := range [][]lab.Pod{there, here} {
			node := fmt.Sprintf("host%d", host)
			for _, p := range far {
				for _, a := range []string{p.Addr.String(), p.Addr6.String()} {
					await(t, fmt.Sprintf("%s has %d ways to %s", node, ways, a), func() bool {
						out := run(t, l, node, "ip route show "+a+" proto bird")
						if strings.Contains(a, ":") {
							out = run(t, l, node, "ip -6 route show "+a+" proto bird")
						}
						v4by6 := strings.Contains(a, ":") || ways == 0 || strings.Contains(out, "via inet6 ")
						return strings.Count(out, " via ") == ways && v4by6
					})
				}
			}
		}
	}
	has(2)
	reaches := func(from string, to lab.Pod) {
		t.Helper()
		if ttl := ping(t, l, from, ip(to), "-W10"); ttl != 62 {
			t.Errorf("%s# ping %s: ttl %d, want 62", from, ip(to), ttl)
		}
	}
	for _, pair := range [][2]lab.Pod{{here[0], there[0]}, {there[1], here[1]}, {here6[0], there6[0]}, {there6[1], here6[1]}} {
		reaches(pair[0].Node, pair[1])
	}
	bothWays := func(from string, to lab.Pod) {
		t.Helper()
		before := statusOf(t, w.d[1])
		r := transfer(t, l, from, to, "-n 40M -P8")
		after := statusOf(t, w.d[1])
		for _, name := range []string{uplink, second} {
			if after.port(name).took() < before.port(name).took()+100 {
				t.Errorf("to %s: nothing by %s", ip(to), name)
			}
		}
		t.Logf("to %s by both ways: %.0f Mbit/s", ip(to), r.End.Received.BPS/1e6)
	}
	bothWays(here[0].Node, there[0])
	bothWays(here6[0].Node, there6[0])
	out := run(t, l, here[0].Node, "traceroute -6 -n -q1 -N1 -w2 "+ip(there6[0]))
	if !strings.Contains(out, " 1  "+host0IP6) || !strings.Contains(out, " 3  "+ip(there6[0])) {
		t.Errorf("traceroute:\n%s", out)
	}
	if out := run(t, l, here[0].Node, "tracepath -n "+ip(there6[0])); !strings.Contains(out, "Resume: pmtu 1500 hops 3 back 3") {
		t.Errorf("tracepath:\n%s", out)
	}
	if out, code := try(t, l, here[0].Node, "ndisc6 -m -w 500 "+gateway6+" eth0"); code != 0 || strings.Count(out, "Target link-layer address") != 1 {
		t.Errorf("ndisc6, exit %d:\n%s", code, out)
	}

	flows := [][2]lab.Pod{{here[0], there[0]}, {there[1], here[1]}, {here6[0], there6[0]}, {there6[1], here6[1]}}
	for _, change := range []struct {
		name string
		ways int
		do   func()
		lost int
	}{
		{"one way is withdrawn", 1, func() { b[1].birdc("disable wire2") }, 0},
		{"it is there again", 2, func() { b[1].birdc("enable wire2") }, 0},
		{"host routes go: their blocks' remain", 0, func() {
			for _, b := range b {
				b.birdc("disable podsipv4")
				b.birdc("disable podsipv6")
			}
		}, 0},
		{"host routes come", 2, func() {
			for _, b := range b {
				b.birdc("enable podsipv4")
				b.birdc("enable podsipv6")
			}
		}, 0},
		{"a wire is cut", 1, func() { run(t, l, "host1", "ip link set "+uplink+" down") }, 1500},
	} {
		w.moves(t, change.name, change.lost, flows, func() { change.do(); has(change.ways) })
		reaches(here[0].Node, there[0])
		reaches(here[0].Node, there6[0])
	}
	closedKernel(t, l)
	for _, host := range []string{"host0", "host1"} {
		if v, err := l.Sysctl(host, "net.ipv6.conf.all.forwarding"); err != nil || v != "0" {
			t.Errorf("%s: net.ipv6.conf.all.forwarding is %s, %v", host, v, err)
		}
	}
}
