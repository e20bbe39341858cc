package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
	"proxyarpd/internal/wire"
)

// TestRoutesFollow changes the kernel's routes and rules under the program.
func TestRoutesFollow(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ip", "ping")
	l := labtest.New(t, lab.Spec{Form: lab.FormSlash32, PodsPerHost: 2})
	secondWire(t, l)
	labtest.Daemon(t, l, "host0", "--workload", "veth*", "--rp-filter", "0") // sources that no pod has; on host1 the stations see what arrives
	pod := listen(t, l, "ns0", "eth0", unix.ETH_P_ARP)
	wires := map[string]*station{uplink: listen(t, l, "host1", uplink, unix.ETH_P_IP), second: listen(t, l, "host1", second, unix.ETH_P_IP)}
	n := uint32(0)
	leavesBy := func(name, src, dst string, within time.Duration) bool {
		t.Helper()
		n++
		pod.send(datagram(mac(t, answerMAC), pod.mac, src, dst, n, 20))
		return wires[name].next(within, func(f wire.Ethernet) bool { i, ok := number(f); return ok && i == n }) != nil
	}
	for _, host := range []string{"host0", "host1"} {
		set(t, l, host, "net/ipv6/conf/"+second+"/disable_ipv6", "0")
	}
	run(t, l, "host0", "ip addr add fe80::32/64 dev "+second+" nodad")
	run(t, l, "host1", "ip addr add fe80::16/64 dev "+second+" nodad")
	const dst = "198.51.100.7"
	for _, c := range []struct {
		name, command, src, way string
	}{
		{"a route", "ip route add 198.51.100.0/24 via " + host1IP, "10.20.1.2", uplink},
		{"a longer prefix", "ip route add 198.51.100.0/25 via 192.168.2.16", "10.20.1.2", second},
		{"the longer one is gone", "ip route del 198.51.100.0/25", "10.20.1.2", uplink},
		{"replaced", "ip route replace 198.51.100.0/24 via 192.168.2.16", "10.20.1.2", second},
		{"a better metric", "ip route replace 198.51.100.0/24 via 192.168.2.16 metric 50", "10.20.1.2", second},
		{"the best metric is 0", "ip route append 198.51.100.0/24 via " + host1IP + " metric 10", "10.20.1.2", second},
		{"only metric 10 and 50 are left", "ip route del 198.51.100.0/24 via 192.168.2.16 metric 0", "10.20.1.2", uplink},
		{"a rule by source", "ip rule add from 10.20.1.2 lookup 100 priority 100", "10.20.1.2", uplink}, // table 100 is empty
		{"its table gets a route", "ip route add default via 192.168.2.16 table 100", "10.20.1.2", second},
		{"another source", "true", "10.20.1.4", uplink},
		{"a rule by interface", "ip rule add iif veth0 lookup 101 priority 50", "10.20.1.2", second},
		{"its table gets a route", "ip route add 198.51.100.7 via " + host1IP + " table 101", "10.20.1.2", uplink},
		{"the rule is gone", "ip rule del iif veth0 lookup 101 priority 50", "10.20.1.2", second},
		{"the other rule, too", "ip rule del from 10.20.1.2 lookup 100 priority 100", "10.20.1.2", uplink},
		{"on-link gateway", "ip route replace 198.51.100.7 via 192.168.77.16 dev " + second + " onlink", "10.20.1.2", second},
		{"a gateway again", "ip route replace 198.51.100.7 via " + host1IP, "10.20.1.2", uplink},
		{"an IPv6 gateway, to be resolved", "ip route replace 198.51.100.7 via inet6 fe80::16 dev " + second, "10.20.1.2", second},
	} {
		if strings.Contains(c.command, "onlink") {
			run(t, l, "host1", "ip addr add 192.168.77.16/32 dev lo")
		}
		run(t, l, "host0", c.command)
		// The program hears of it a moment later.
		await(t, fmt.Sprintf("%s (%s): from %s by %s", c.name, c.command, c.src, c.way), func() bool {
			return leavesBy(c.way, c.src, dst, patience/100)
		})
		if c.command == "true" {
			continue
		}
		for range 5 { // and stays so
			if !leavesBy(c.way, c.src, dst, patience) {
				t.Errorf("%s: not by %s", c.name, c.way)
			}
		}
	}
	wantTTL(t, l, "ns0", "10.20.1.4", 63)
}

// TestMultipath spreads flows over two wires; each flow stays on one.
func TestMultipath(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ip")
	l := labtest.New(t, lab.Spec{Form: lab.FormSlash32})
	secondWire(t, l)
	run(t, l, "host0", "ip route add 198.51.100.0/24 nexthop via "+host1IP+" weight 1 nexthop via 192.168.2.16 weight 3")
	p := labtest.Daemon(t, l, "host0", "--workload", "veth*")
	pod := listen(t, l, "ns0", "eth0", unix.ETH_P_ARP)
	const flows = 200
	way := map[uint32]string{}
	collect := func(rounds int) map[string]int {
		t.Helper()
		wires := map[string]*station{uplink: listen(t, l, "host1", uplink, unix.ETH_P_IP), second: listen(t, l, "host1", second, unix.ETH_P_IP)}
		for range rounds {
			in := statusOf(t, p).Forward.PacketsIn
			for i := range uint32(flows) {
				pod.send(datagram(mac(t, answerMAC), pod.mac, "10.20.1.2", fmt.Sprintf("198.51.100.%d", i), i, 20))
			}
			// A pod that sends faster is policed.
			await(t, "the flows are taken", func() bool { return statusOf(t, p).Forward.PacketsIn >= in+flows })
		}
		// Behind them, one on each wire.
		for _, dst := range []string{host1IP, "192.168.2.16"} {
			pod.send(datagram(mac(t, answerMAC), pod.mac, "10.20.1.2", dst, fence, 20))
		}
		clear(way)
		used, total := map[string]int{}, 0
		for name, s := range wires {
			for {
				f := s.next(patience, func(f wire.Ethernet) bool { _, ok := number(f); return ok })
				if f == nil {
					t.Fatalf("nothing more by %s after %d packets", name, total)
				}
				i, _ := number(f)
				if i == fence {
					break
				}
				total++
				used[name]++
				if before, ok := way[i]; ok && before != name {
					t.Errorf("flow %d goes by %s and by %s", i, before, name)
				}
				way[i] = name
			}
		}
		if total != flows*rounds {
			t.Errorf("%d of %d packets arrive", total, flows*rounds)
		}
		return used
	}
	used := collect(1) // these wait for their neighbours
	if share := float64(used[second]) / flows; share < 0.6 || share > 0.9 {
		t.Errorf("of weights 1 and 3: %v", used)
	}
	t.Logf("of weights 1 and 3: %v", used)
	collect(5)

	// A dead way is none. Of that the kernel tells in no route's message.
	run(t, l, "host0", "ip link set "+second+" down")
	await(t, second+" is seen to be down", func() bool {
		s := statusOf(t, p)
		i := s.port(second)
		return i == nil || !i.Up
	})
	one := listen(t, l, "host1", uplink, unix.ETH_P_IP)
	for i := range uint32(flows) {
		pod.send(datagram(mac(t, answerMAC), pod.mac, "10.20.1.2", fmt.Sprintf("198.51.100.%d", i), i, 20))
	}
	alive := map[uint32]bool{}
	for len(alive) < flows {
		f := one.next(patience, func(f wire.Ethernet) bool { n, ok := number(f); return ok && n < flows })
		if f == nil {
			t.Fatalf("%d of %d flows are lost with their wire", flows-len(alive), flows)
		}
		i, _ := number(f)
		alive[i] = true
	}
	run(t, l, "host0", "ip link set "+second+" up")
	await(t, second+" is used again", func() bool { return collect(1)[second] > 0 })
	if drops := statusOf(t, p).Forward.Drops; len(drops) != 0 {
		t.Errorf("drops: %v", drops)
	}
}

// TestNeighbours changes what the kernel knows of a pod's MAC.
func TestNeighbours(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ip", "ping", "arping")
	l := labtest.New(t, lab.Spec{Form: lab.FormSlash32, PodsPerHost: 2})
	w := &world{Lab: l}
	first, other := pods(l, 0)[0], pods(l, 0)[1]
	// This pod answers no ARP: only an entry that an operator made reaches it.
	if err := l.SetSysctl(first.Node, "net.ipv4.conf.all.arp_ignore", "8"); err != nil {
		t.Fatal(err)
	}
	run(t, l, "host0", "ip neigh replace "+ip(first)+" lladdr "+first.PeerMAC+" dev "+first.Iface+" nud permanent")
	permanent := func(when string) {
		t.Helper()
		if got := run(t, l, "host0", "ip neigh show "+ip(first)); !strings.Contains(got, first.PeerMAC) || !strings.Contains(got, "PERMANENT") {
			t.Errorf("%s: %q", when, got)
		}
	}
	w.daemons(t)
	if got := linkMAC(t, l, "host0", first.Iface); got != answerMAC {
		t.Errorf("MAC %s", got)
	}
	permanent("after the MAC was set")
	for range 3 {
		wantTTL(t, l, "ns1", ip(first), 62)
		wantTTL(t, l, other.Node, ip(first), 63)
	}
	permanent("in use")
	wantTTL(t, l, "host0", ip(first), 64)

	// A pod gets another MAC, and says so (net.ipv4.conf.*.arp_notify, or
	// whoever restores a snapshot).
	wantTTL(t, l, "ns1", ip(other), 62)
	const moved = "02:00:5e:00:53:99"
	run(t, l, other.Node, "ip link set eth0 address "+moved)
	run(t, l, other.Node, "arping -U -c1 -I eth0 "+ip(other))
	await(t, "the kernel has the new MAC", func() bool {
		return strings.Contains(run(t, l, "host0", "ip neigh show "+ip(other)), moved)
	})
	wantTTL(t, l, "ns1", ip(other), 62)
	wantTTL(t, l, first.Node, ip(other), 63)

	// One that the operator writes, and takes away.
	began := time.Now()
	run(t, l, "host0", "ip neigh replace "+ip(other)+" lladdr 02:00:5e:00:53:98 dev "+other.Iface+" nud permanent")
	await(t, "a wrong permanent entry is used", func() bool {
		_, code := try(t, l, "ns1", "ping -n -c1 -W1 "+ip(other))
		return code == 1
	})
	run(t, l, "host0", "ip neigh del "+ip(other)+" dev "+other.Iface)
	await(t, "it is resolved again", func() bool {
		_, code := try(t, l, "ns1", "ping -n -c1 -W1 "+ip(other))
		return code == 0
	})
	t.Logf("entry by hand, and gone: %v", time.Since(began).Round(time.Millisecond))

	w.d[0].Stop(t)
	permanent("after the program's end")
	if got := linkMAC(t, l, "host0", first.Iface); got != first.MAC {
		t.Errorf("MAC %s, was %s", got, first.MAC)
	}
}
