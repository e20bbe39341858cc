package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
)

// birdConfig is one host's: it announces its block of pods, as Calico's nodes
// do, over two sessions, and writes what it learns into the kernel. Of two ways
// that with the higher preference is taken.
func birdConfig(host, wire1, wire2 int) string {
	local, remote := 32, 16
	if host == 1 {
		local, remote = remote, local
	}
	session := func(wire, preference int) string {
		return fmt.Sprintf(`
protocol bgp wire%[1]d {
  local 192.168.%[1]d.%[2]d as 64512;
  neighbor 192.168.%[1]d.%[3]d as 64512;
  direct;
  connect delay time 1; connect retry time 1; error wait time 1, 1;
  ipv4 { import filter { bgp_local_pref = %[4]d; accept; }; export where proto = "blocks"; next hop self; };
}
`, wire, local, remote, preference)
	}
	return fmt.Sprintf(`log stderr all;
router id 192.168.1.%d;
protocol device { scan time 60; }
protocol kernel { scan time 60; ipv4 { import none; export all; }; }
protocol static blocks { ipv4; route 10.65.%d.0/24 blackhole; }
`, local, host) + session(1, wire1) + session(2, wire2)
}

// bird is a running BIRD.
type bird struct {
	*program
	l    *lab.Lab
	node string
	host int
	dir  string
}

func startBird(t testing.TB, l *lab.Lab, host, wire1, wire2 int) *bird {
	t.Helper()
	labtest.Need(t, "bird", "birdc")
	dir, err := os.MkdirTemp("", "bird") // short: it holds a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	b := &bird{l: l, node: fmt.Sprintf("host%d", host), host: host, dir: dir}
	b.write(t, wire1, wire2)
	b.program = spawn(t, l, b.node, fmt.Sprintf("bird -f -c %[1]s/conf -s %[1]s/ctl -P %[1]s/pid", dir))
	b.await("Started")
	return b
}

func (b *bird) write(t testing.TB, wire1, wire2 int) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(b.dir, "conf"), []byte(birdConfig(b.host, wire1, wire2)), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (b *bird) birdc(command string) {
	b.t.Helper()
	if out := run(b.t, b.l, b.node, "birdc -s "+b.dir+"/ctl "+command); strings.Contains(out, "error") {
		b.t.Fatalf("birdc %s: %s", command, out)
	}
}

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
	b0, b1 := startBird(t, l, 0, 200, 100), startBird(t, l, 1, 200, 100)
	way(1)
	wantTTL(t, l, from.Node, ip(to), 62)
	wantTTL(t, l, to.Node, ip(from), 62)
	wantTTL(t, l, pods(l, 0)[1].Node, ip(pods(l, 1)[1]), 62)
	for _, b := range []*bird{b0, b1} { // both ways have to be known before one is taken away
		await(t, "both sessions of "+b.node, func() bool {
			return strings.Count(run(t, l, b.node, "birdc -s "+b.dir+"/ctl show protocols"), "Established") == 2
		})
	}

	for _, move := range []struct {
		name string
		wire int
		do   func()
		lost int // at most, of 1000 a second
	}{
		{"the other way is preferred", 2, func() {
			for _, b := range []*bird{b0, b1} {
				b.write(t, 100, 200)
				b.birdc("configure")
			}
		}, 0},
		{"the way in use is withdrawn", 1, func() { b1.birdc("disable wire2") }, 0},
		{"both are there again", 2, func() { b1.birdc("enable wire2") }, 0},
		// BIRD finds its neighbour gone when the kernel says so, which may
		// take linkwatch a second; what was sent meanwhile is lost.
		{"the wire in use is cut", 1, func() { run(t, l, "host1", "ip link set "+second+" down") }, 1500},
	} {
		for _, p := range news {
			p.mark()
		}
		there, back := labtest.StartFlow(t, l, from, to, 1), labtest.StartFlow(t, l, to, from, 1)
		before := statusOf(t, w.d[0])
		move.do()
		way(move.wire)
		await(t, "traffic on the new way", func() bool {
			s := statusOf(t, w.d[0])
			name := []string{"", uplink, second}[move.wire]
			return s.port(name) != nil && s.port(name).took() > before.port(name).took()+10
		})
		for _, f := range []*labtest.Flow{there, back} {
			sent, lost, doubled := f.Stop()
			t.Logf("%s: %d of %d lost, at most %v without any", move.name, lost, sent, f.Gap())
			if lost > move.lost || doubled > 0 {
				t.Errorf("%s: of %d datagrams %d are lost and %d came twice, want %d at most", move.name, sent, lost, doubled, move.lost)
			}
		}
		wantTTL(t, l, from.Node, ip(to), 62)
	}
}
