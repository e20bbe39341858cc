package e2e

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
	"proxyarpd/internal/wire"
)

// What other proxies of neighbour discovery have failed at.

// TestUnicastProbes: a neighbour that is known is probed by unicast when it may have gone
// (RFC 4861 section 7.3.3, RFC 1122 section 2.3.2.1). It is there each time: no packet of
// a flow is lost, and nobody has to ask by multicast again. Both a pod that probes its
// gateway, and a station that probes a workload of its network.
func TestUnicastProbes(t *testing.T) {
	t.Parallel()
	s := newSegment6(t)
	s.route(0, true)
	s.route6(0, true)
	s.d = append(s.d, labtest.Daemon(t, s.Lab, "host0", "--answer-uplink", lanCIDR, "--answer-uplink", lanCIDR6))
	pod := pods6(t, s.Lab, 0)[0]
	probes := func(node, dev, target, to string, host, iface string) {
		t.Helper()
		family := "ipv4"
		if strings.Contains(target, ":") {
			family = "ipv6"
		}
		for name, value := range map[string]string{"base_reachable_time_ms": "60", "delay_first_probe_time": "0", "retrans_time_ms": "100", "ucast_solicit": "3", "mcast_solicit": "3"} {
			if err := s.SetSysctl(node, "net."+family+".neigh."+dev+"."+name, value); err != nil {
				t.Fatal(err)
			}
		}
		run(t, s.Lab, node, "ip neigh flush dev "+dev)
		ping(t, s.Lab, node, to)
		heard := listen(t, s.Lab, host, iface, map[string]int{"ipv4": unix.ETH_P_ARP, "ipv6": unix.ETH_P_IPV6}[family])
		if out := run(t, s.Lab, node, "ping -n -i 0.02 -c 40 "+to); !strings.Contains(out, "40 received") {
			t.Errorf("%s: %s: while %s is probed:\n%s", node, family, target, out)
		}
		unicast, broadcast := 0, 0
		for {
			f := heard.next(100*time.Millisecond, func(f wire.Ethernet) bool { return asks(f, target) })
			if f == nil {
				break
			}
			if f.Dst().IsMulticast() {
				broadcast++
			} else {
				unicast++
			}
		}
		if unicast < 3 || broadcast > 0 {
			t.Errorf("%s: %s is probed %d times by unicast, and asked for %d times", node, target, unicast, broadcast)
		}
	}
	probes(s.station, lanUplink, lanPodIP, lanPodIP, "host0", lanUplink)
	probes(s.station, lanUplink, lanPodIP6, lanPodIP6, "host0", lanUplink)
	probes(pod.Node, "eth0", gateway, host0IP, "host0", pod.Iface)
	probes(pod.Node, "eth0", gateway6, host0IP6, "host0", pod.Iface)
}

// asks reports whether a frame asks for an address by ARP or neighbour discovery.
func asks(f wire.Ethernet, target string) bool {
	if f.Type() == wire.EtherTypeARP {
		a := wire.ARP(f.Payload())
		return a.Valid() && a.Op() == wire.ARPRequest && a.TargetIP().String() == target
	}
	msg := discovery(f, wire.ICMPv6NeighSolicit)
	return msg != nil && msg.Target().String() == target
}

// TestAnswerUplink6LinkLocal: who asks is a router of the network, which solicits from its
// link-local address for what it forwards, and on no interface of either side is a global
// address.
func TestAnswerUplink6LinkLocal(t *testing.T) {
	t.Parallel()
	const beyond = "2001:db8:77::1"
	for _, engine := range []string{"af_packet", "ebpf"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			s := newSegment6(t)
			router := linkLocalOf(t, s.Lab, s.station, lanUplink)
			s.do("host0: ip -6 addr flush dev lan0 scope global", s.station+": ip -6 addr flush dev lan0 scope global",
				"host0: ip -6 route add "+lanCIDR6+" dev lan0", "host0: ip -6 route add 2001:db8:77::/64 via "+router+" dev lan0",
				s.station+": ip addr add "+beyond+"/128 dev lo", s.station+": ip -6 route add "+lanCIDR6+" dev lan0")
			s.route6(0, true)
			s.d = append(s.d, labtest.Daemon(t, s.Lab, "host0", "--engine", engine, "--answer-uplink", lanCIDR6))
			own := macOf(t, s.Lab, "host0", lanUplink)
			heard := listen(t, s.Lab, s.station, lanUplink, unix.ETH_P_IPV6)
			q := heard.whoHas6(lanPodIP6, router)
			heard.send(q.frame())
			f := heard.next(patience, q.isAnswer)
			if f == nil || f.Src().String() != own {
				t.Fatalf("who asks from %s has no answer: %+v", router, statusOf(t, s.d[0]).port(lanUplink))
			}
			run(t, s.Lab, s.station, "ip -6 neigh flush dev lan0")
			if ttl := ping(t, s.Lab, s.station, lanPodIP6, "-I", beyond); ttl != 63 {
				t.Errorf("ttl %d, want 63", ttl)
			}
			out := run(t, s.Lab, "host0", labtest.Binary(t)+" explain "+lanPodIP6+" --iif lan0 --from "+router+" --control "+s.d[0].Control)
			if want := "without the workloads' routes " + lanPodIP6 + " would be sought here: answered with " + own; !strings.Contains(out, want) {
				t.Errorf("no %q in\n%s", want, out)
			}
			if !s.mayHave(t, lanNobody6) || s.mayHave(t, lanPodIP6) {
				t.Error("duplicate address detection is wrong")
			}
		})
	}
}

// linkLocalOf is the link-local address of an interface, once it may be used.
func linkLocalOf(t *testing.T, l *lab.Lab, node, dev string) (address string) {
	t.Helper()
	await(t, "the link-local address of "+dev, func() bool {
		out := run(t, l, node, "ip -br -6 addr show dev "+dev+" scope link -tentative")
		for _, field := range strings.Fields(out) {
			if strings.HasPrefix(field, "fe80:") {
				address, _, _ = strings.Cut(field, "/")
			}
		}
		return address != ""
	})
	return address
}
