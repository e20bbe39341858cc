package e2e

import (
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
	"proxyarpd/internal/nstest"
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
	// Datagrams tell nobody that they arrive, as ping does (MSG_CONFIRM).
	probes := func(from, to lab.Pod, dev, next string) {
		t.Helper()
		family := "ipv4"
		if to.Addr.Addr().Is6() {
			family = "ipv6"
		}
		for name, value := range map[string]string{"base_reachable_time_ms": "60", "delay_first_probe_time": "0", "retrans_time_ms": "300"} {
			if err := s.SetSysctl(from.Node, "net."+family+".neigh."+dev+"."+name, value); err != nil {
				t.Fatal(err)
			}
		}
		run(t, s.Lab, from.Node, "ip neigh flush dev "+dev) // their timers are of before
		labtest.Warm(t, s.Lab, from.Node, ip(to))
		heard := listen(t, s.Lab, from.Node, dev, unix.ETH_P_ALL) // what goes out, too
		flow := labtest.StartFlow(t, s.Lab, from, to, 1)
		unicast, others := 0, 0
		for unicast < 3 && others == 0 {
			f := heard.next(patience, func(f wire.Ethernet) bool { return f.Src() == heard.mac && asks(f, next) }) // others announce
			if f == nil {
				t.Fatalf("%s: %s is not probed: %s", from.Node, next, run(t, s.Lab, from.Node, "ip neigh show dev "+dev))
			}
			if f.Dst().IsMulticast() {
				others++
			} else {
				unicast++
			}
		}
		overflowed := nstest.BacklogDrops(t)
		if sent, missing, _ := flow.StopMissing(); others > 0 || nstest.Unexplained(t, len(missing), sent, overflowed) > 0 {
			t.Errorf("%s: %s is probed %d times, and asked for as if it had gone %d times; of %d datagrams %d lost", from.Node, next, unicast, others, sent, len(missing))
		}
	}
	on := func(p lab.Pod, address string) lab.Pod {
		a := netip.MustParseAddr(address)
		p.Addr = netip.PrefixFrom(a, a.BitLen())
		return p
	}
	station := pods(s.Lab, 1)[1]
	probes(on(station, lanHostIP), on(s.pods[0], lanPodIP), lanUplink, lanPodIP)
	probes(on(station, lanHostIP6), on(s.pods[0], lanPodIP6), lanUplink, lanPodIP6)
	probes(pods(s.Lab, 0)[0], pods(s.Lab, 0)[1], "eth0", gateway)
	probes(pods6(t, s.Lab, 0)[0], pods6(t, s.Lab, 0)[1], "eth0", gateway6)
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
	s := newSegment6(t)
	router := linkLocalOf(t, s.Lab, s.station, lanUplink)
	s.do("host0: ip -6 addr flush dev lan0 scope global", s.station+": ip -6 addr flush dev lan0 scope global",
		"host0: ip -6 route add "+lanCIDR6+" dev lan0", "host0: ip -6 route add 2001:db8:77::/64 via "+router+" dev lan0",
		s.station+": ip addr add "+beyond+"/128 dev lo", s.station+": ip -6 route add "+lanCIDR6+" dev lan0")
	s.route6(0, true)
	s.d = append(s.d, labtest.Daemon(t, s.Lab, "host0", "--answer-uplink", lanCIDR6))
	own := macOf(t, s.Lab, "host0", lanUplink)
	heard := listen(t, s.Lab, s.station, lanUplink, unix.ETH_P_IPV6)
	q := heard.whoHas6(lanPodIP6, router)
	heard.send(q.frame())
	f := heard.next(patience, q.isAnswer)
	if f == nil || f.Src().String() != own {
		st := statusOf(t, s.d[0])
		t.Fatalf("who asks from %s has no answer: %+v", router, st.port(lanUplink))
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

// TestNoLinkLocal: a host end without a link-local address can't solicit the pod behind
// it, as the kernel alone could not. The pod that asks for its gateway is answered all the
// same, and known by that; who is not known is unreachable, and why is told.
func TestNoLinkLocal(t *testing.T) {
	t.Parallel()
	w := start6(t, lab.Spec{Form: lab.FormCalico})
	speaks, silent, far := pods6(t, w.Lab, 0)[0], pods6(t, w.Lab, 0)[1], pods6(t, w.Lab, 1)[0]
	for _, p := range []lab.Pod{speaks, silent} {
		run(t, w.Lab, "host0", "ip link set "+p.Iface+" addrgenmode none")
		run(t, w.Lab, "host0", "ip addr flush dev "+p.Iface+" scope link")
		run(t, w.Lab, "host0", "ip neigh flush dev "+p.Iface)
		if err := w.SetSysctl("host0", "net.ipv6.neigh."+p.Iface+".retrans_time_ms", "100"); err != nil {
			t.Fatal(err)
		}
	}
	wantTTL(t, w.Lab, speaks.Node, ip(far), 62)
	out, code := try(t, w.Lab, far.Node, "ping -n -c1 -W5 "+ip(silent))
	if want := "From " + host0IP6 + " icmp_seq=1 Destination unreachable: Address unreachable"; code != 1 || !strings.Contains(out, want) {
		t.Errorf("want %q:\n%s", want, out)
	}
	var st struct {
		Workloads []struct {
			Name string
			IPv6 struct{ Why string }
		}
	}
	w.d[0].StatusJSON(t, &st)
	for _, i := range st.Workloads {
		if !strings.Contains(i.IPv6.Why, "it has no link-local address") {
			t.Errorf("%+v", i)
		}
	}
	run(t, w.Lab, "host0", "ip addr add "+gateway6+"/64 dev "+silent.Iface+" nodad")
	await(t, "it is reached by an address that comes", func() bool {
		_, code := try(t, w.Lab, far.Node, "ping -n -c1 -W1 "+ip(silent))
		return code == 0
	})
}
