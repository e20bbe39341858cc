package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
	"proxyarpd/internal/wire"
)

const host1Second = "192.168.2.16"

// routeChanges are pairs of changes of the way to an address: by one wire, and
// by the other. The first of each list prepares.
func routeChanges(to string) map[string][3]string {
	byFirst, bySecond := " via "+host1IP+" dev "+uplink, " via "+host1Second+" dev "+second
	return map[string][3]string{
		"replace": {"route add " + to + byFirst, "route replace " + to + bySecond, "route replace " + to + byFirst},
		"metric": {"route add " + to + byFirst + " metric 20", "route add " + to + bySecond + " metric 10",
			"route del " + to + " metric 10"},
		"longer prefix": {"route add 10.20.0.0/17" + byFirst, "route add " + to + bySecond, "route del " + to},
		"next hops": {"route add " + to + " nexthop" + byFirst + " nexthop" + bySecond, "route replace " + to + " nexthop" + bySecond + " nexthop" + byFirst + " weight 7",
			"route replace " + to + byFirst},
		"object":       {"nexthop add id 7" + byFirst + "\nroute add " + to + " nhid 7", "nexthop replace id 7" + bySecond, "nexthop replace id 7" + byFirst},
		"group":        {"nexthop add id 7" + byFirst + "\nnexthop add id 8" + bySecond + "\nnexthop add id 9 group 7\nroute add " + to + " nhid 9", "nexthop replace id 9 group 7/8", "nexthop replace id 9 group 7"},
		"object alone": {"nexthop add id 7" + byFirst + "\nroute add " + to + " nhid 7", "nexthop replace id 7" + bySecond, "nexthop replace id 7" + byFirst},
	}
}

// TestRoutesChangeUnderTraffic changes the way to a pod a hundred times while
// numbered datagrams go there, each of which has to arrive once: by the kernel's
// forwarding, and by ours.
func TestRoutesChangeUnderTraffic(t *testing.T) {
	labtest.Need(t, "ip", "ping")
	for _, by := range []string{"kernel", "proxyarpd"} {
		for name := range routeChanges("") {
			t.Run(by+"/"+name, func(t *testing.T) {
				t.Parallel()
				l := labtest.New(t, lab.Spec{Form: lab.FormSlash32})
				secondWire(t, l)
				for _, dev := range []string{"all", uplink, second} { // what comes by the other wire is not spoofed
					set(t, l, "host1", "net/ipv4/conf/"+dev+"/rp_filter", "0")
				}
				if name == "object alone" {
					set(t, l, "host0", "net/ipv4/nexthop_compat_mode", "0")
				}
				if by == "kernel" {
					kernelForwards(t, l)
				} else {
					(&world{Lab: l}).daemons(t)
				}
				changeUnderTraffic(t, l, routeChanges(pods(l, 1)[0].Addr.Addr().String())[name])
			})
		}
	}
}

func set(t *testing.T, l *lab.Lab, node, key, value string) {
	t.Helper()
	if err := l.SetSysctl(node, key, value); err != nil {
		t.Fatal(err)
	}
}

func changeUnderTraffic(t *testing.T, l *lab.Lab, lines [3]string) {
	const packets, changes, perMS = 5000, 100, 6 // at least
	from, to := pods(l, 0)[0], pods(l, 1)[0]
	for _, gw := range []string{host1IP, host1Second} {
		run(t, l, "host0", "ping -n -c1 -W2 "+gw) // the kernel queues for a neighbour, and loses what is too much
	}
	dir := t.TempDir()
	batch := func(name string, lines ...string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return "ip -batch " + file
	}
	run(t, l, "host0", "ip route flush exact "+ip(to))
	run(t, l, "host0", batch("prepare", lines[0]))
	wantTTL(t, l, from.Node, ip(to), 62)
	change := batch("change", lines[1], lines[2], lines[1], lines[2])
	f := labtest.StartPaced(t, l, from, to, perMS)
	changed := 0
	for f.Got() < packets || changed < changes {
		if changed > 50*changes { // far more than the time for all packets
			t.Errorf("only %d packets have arrived", f.Got())
			break
		}
		run(t, l, "host0", change)
		changed += 4
	}
	sent, lost, doubled := f.Stop()
	if lost > 0 || doubled > 0 {
		t.Errorf("of %d datagrams %d are lost and %d arrive more than once", sent, lost, doubled)
	}
	t.Logf("%d changes, %d datagrams, longest gap %v", changed, sent, f.Gap())
	staysBy(t, l, from, to)
}

// staysBy sees that, when all is quiet, what is sent takes the first wire.
func staysBy(t *testing.T, l *lab.Lab, from, to lab.Pod) {
	t.Helper()
	pod := listen(t, l, from.Node, "eth0", unix.ETH_P_ARP)
	gatewayMAC := mac(t, linkMAC(t, l, "host0", from.Iface))
	// All protocols: those of one come behind the tc program of host1.
	wires := map[string]*station{uplink: listen(t, l, "host1", uplink, unix.ETH_P_ALL), second: listen(t, l, "host1", second, unix.ETH_P_ALL)}
	n := uint32(1 << 24)
	by := func(name string, within time.Duration) bool {
		n++
		pod.send(datagram(gatewayMAC, pod.mac, ip(from), ip(to), n, 20))
		return wires[name].next(within, func(f wire.Ethernet) bool { i, ok := number(f); return ok && i == n }) != nil
	}
	await(t, fmt.Sprintf("%s by %s", ip(to), uplink), func() bool { return by(uplink, patience/100) })
	for range 5 {
		if !by(uplink, patience) {
			t.Errorf("%s is not sent by %s", ip(to), uplink)
		}
	}
}
