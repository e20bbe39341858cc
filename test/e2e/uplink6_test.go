package e2e

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"proxyarpd/arpd"
	"proxyarpd/internal/lab/labtest"
	"proxyarpd/internal/wire"
)

// Addresses of the network that the hosts' uplink lan0 is in, as those of uplink_test.go.
const (
	lanCIDR6    = "2001:db8:2::/64"
	lanPodIP6   = "2001:db8:2::50"
	lanHostIP6  = "2001:db8:2::100"
	lanNobody6  = "2001:db8:2::51"
	lanSubnet6  = "2001:db8:2::7000/116"
	lanInRange6 = "2001:db8:2::7070"
)

// newSegment6 is newSegment with IPv6: the first pod of each host has lanPodIP6.
func newSegment6(t *testing.T) *segment {
	t.Helper()
	labtest.NeedIPv6(t)
	labtest.Need(t, "ndisc6")
	s := newSegment(t)
	s.do("host0: ip addr add 2001:db8:2::1/64 dev lan0 nodad", "host1: ip addr add 2001:db8:2::2/64 dev lan0 nodad", s.station+": ip addr add "+lanHostIP6+"/64 dev lan0 nodad")
	for _, p := range s.pods {
		s.do(p.Node + ": ip addr add " + lanPodIP6 + "/128 dev eth0 nodad")
	}
	for name, value := range map[string]string{"accept_dad": "1", "dad_transmits": "1"} {
		if err := s.SetSysctl(s.station, "net.ipv6.conf.lan0."+name, value); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// snooping is a bridge that snoops and asks (MLDv2: a thousand groups are reported in few
// packets), and brings groups to members alone. Should a
// report be lost, as where a CPU's backlog is full, it notices after ten seconds.
const snooping = "type bridge mcast_snooping 1 mcast_querier 1 mcast_query_interval 100 mcast_startup_query_interval 100 mcast_query_response_interval 10 mcast_last_member_interval 10 mcast_membership_interval 1000 mcast_mld_version 2"

// snoops has a bridge bring solicitations to those alone who have joined their group.
func (s *segment) snoops(node, bridge string) {
	s.do(node + ": ip link set " + bridge + " " + snooping)
}

// route6 says which host has lanPodIP6.
func (s *segment) route6(host int, add bool) {
	verb := "del"
	if add {
		verb = "add"
	}
	s.do(fmt.Sprintf("host%d: ip route %s %s/128 dev %s", host, verb, lanPodIP6, s.pods[host].Iface))
}

// solicits is ndisc6 from the station: the MAC that answers, "" if nobody does.
func (s *segment) solicits(target string) string {
	s.tb.Helper()
	out, code := try(s.tb, s.Lab, s.station, "ndisc6 -q -1 -r 2 -w 500 -s "+lanHostIP6+" "+target+" lan0")
	if code != 0 {
		return ""
	}
	return strings.ToLower(strings.TrimSpace(out))
}

// mayHave reports whether duplicate address detection lets the station have an address.
func (s *segment) mayHave(t *testing.T, address string) bool {
	t.Helper()
	s.do(s.station + ": ip addr add " + address + "/64 dev lan0")
	defer func() { s.do(s.station + ": ip addr del " + address + "/64 dev lan0") }()
	state := ""
	await(t, "duplicate address detection of "+address, func() bool {
		state = run(t, s.Lab, s.station, "ip addr show dev lan0 to "+address)
		return strings.Contains(state, "dadfailed") || state != "" && !strings.Contains(state, "tentative")
	})
	return !strings.Contains(state, "dadfailed")
}

// advertised is the target of an unsolicited advertisement, if a frame is one.
func advertised(f wire.Ethernet) (target netip.Addr, ok bool) {
	msg := discovery(f, wire.ICMPv6NeighAdvert)
	if msg == nil || msg.Flags() != wire.NDOverride || wire.IPv6(f.Payload()).Dst() != wire.AllNodes {
		return target, false
	}
	return msg.Target(), true
}

// TestAnswerUplink6: a station reaches a workload in its own network, by each engine.
func TestAnswerUplink6(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{"af_packet", "ebpf", "none"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			s := newSegment6(t)
			if engine == "none" {
				kernelForwards6(t, s.Lab)
			}
			s.route6(0, true)
			s.do("host0: ip route add " + lanSubnet6 + " dev " + s.pods[0].Iface)
			s.d = append(s.d, labtest.Daemon(t, s.Lab, "host0", "--engine", engine, "--answer-uplink", lanCIDR6))
			own := macOf(t, s.Lab, "host0", lanUplink)
			for target, want := range map[string]string{lanPodIP6: own, lanInRange6: own, lanNobody6: "", ip6Of(s): "", gateway6: "", "2001:db8:2::1": own} {
				if got := s.solicits(target); got != want {
					t.Errorf("%q answers for %s, want %q", got, target, want)
				}
			}
			// What has a route, and is not here.
			elsewhere := []string{"2001:db8:2::61/128 via " + host1IP6 + " dev " + uplink, "unreachable 2001:db8:2::62/128", "blackhole 2001:db8:2::63/128",
				"prohibit 2001:db8:2::64/128", "2001:db8:2::65/128 dev lan0"}
			for _, r := range elsewhere {
				s.do("host0: ip -6 route add " + r)
			}
			asks := listen(t, s.Lab, s.station, lanUplink, unix.ETH_P_IPV6)
			fence := asks.whoHas6(lanInRange6, lanHostIP6)
			for i, r := range elsewhere {
				for _, from := range []string{lanHostIP6, ""} {
					if asks.answersBefore(asks.whoHas6(fmt.Sprintf("2001:db8:2::%d", 61+i), from), fence) {
						t.Errorf("route %s: answered, asked from %q", r, from)
					}
				}
			}
			if s.mayHave(t, lanPodIP6) {
				t.Error("the station may have the workload's address, too")
			}
			if !s.mayHave(t, lanNobody6) {
				t.Error("the station may not have an address that nobody has")
			}
			run(t, s.Lab, s.station, "ip -6 neigh flush dev lan0")
			wantTTL(t, s.Lab, s.station, lanPodIP6, 63)
			ping(t, s.Lab, s.pods[0].Node, lanHostIP6, "-I", lanPodIP6)
			s.captures6(t)
			if a := s.of(0, lanUplink); a.Held != 1 || a.Taken != 1 {
				t.Errorf("a shorter prefix is not announced: %+v", a)
			}
		})
	}
}

// captures6 looks at the verdicts of solicitations by the uplink.
func (s *segment) captures6(t *testing.T) {
	t.Helper()
	// The kernels look for each other by the same messages.
	shown := spawn(t, s.Lab, "host0", labtest.Binary(t)+" capture --control "+s.d[0].Control+" -lni lan0 icmp6 and ( ip6[40] = 135 or ip6[40] = 136 ) and src net "+lanCIDR6)
	shown.await("listening")
	s.solicits(lanPodIP6)
	s.solicits(lanNobody6)
	for _, want := range []string{
		"neighbor solicitation, who has " + lanPodIP6 + ", length 32 => answer is-at " + macOf(t, s.Lab, "host0", lanUplink),
		"neighbor advertisement, tgt is " + lanPodIP6 + ", length 32 => originate",
		"neighbor solicitation, who has " + lanNobody6 + ", length 32 => ignore nd-no-workload",
	} {
		shown.await(regexp.QuoteMeta(want))
	}
	shown.cmd.Process.Signal(syscall.SIGINT)
	shown.end()
}

// ip6Of is an address that is not in lanCIDR6, of a workload.
func ip6Of(s *segment) string { return ip(pods6(s.tb, s.Lab, 0)[0]) }

// TestAnswerUplink6Move: an address goes to another host, whose daemon says so at once.
func TestAnswerUplink6Move(t *testing.T) {
	t.Parallel()
	s := newSegment6(t)
	s.route6(0, true)
	s.daemons(t, "--answer-uplink", lanCIDR6)
	s.moves(t, lanPodIP6, s.route6, func() string { return s.solicits(lanPodIP6) })
}

// TestAnswerUplink6Carrier: when the uplink's carrier returns, what is there is announced
// anew, and solicitations come again. The switch snoops: it brings them to those alone
// who have joined their group.
func TestAnswerUplink6Carrier(t *testing.T) {
	t.Parallel()
	s := newSegment6(t)
	s.snoops(s.sw, "sw")
	s.route6(0, true)
	s.d = append(s.d, labtest.Daemon(t, s.Lab, "host0", "--answer-uplink", lanCIDR6))
	await(t, "it is announced", func() bool { return s.of(0, lanUplink).Sent == arpd.AnnounceNum })
	heard := listen(t, s.Lab, s.station, lanUplink, unix.ETH_P_IPV6)
	for range 2 {
		s.do(s.sw+": ip link set port0 down", s.sw+": ip link set port0 up")
		if heard.next(patience, func(f wire.Ethernet) bool {
			target, ok := advertised(f)
			return ok && target.String() == lanPodIP6
		}) == nil {
			t.Fatalf("not announced: %+v", s.of(0, lanUplink))
		}
	}
	await(t, "the switch has the group of the address", func() bool {
		return strings.Contains(run(t, s.Lab, s.sw, "bridge mdb show dev sw"), "port0 grp ff02::1:ff00:50")
	})
	own := macOf(t, s.Lab, "host0", lanUplink)
	if mac := s.solicits(lanPodIP6); mac != own {
		t.Errorf("%q answers, want %s", mac, own)
	}
	s.route6(0, false)
	await(t, "the group is left", func() bool {
		return !strings.Contains(run(t, s.Lab, s.sw, "bridge mdb show dev sw"), "port0 grp ff02::1:ff00:50")
	})
}

// TestAnswerUplink6Twice: of two uplinks on one segment one answers and announces.
func TestAnswerUplink6Twice(t *testing.T) {
	t.Parallel()
	s := newSegment6(t)
	s.plug("host0", "lan1", "port9")
	s.do("host0: ip addr add 2001:db8:2::3/64 dev lan1 nodad")
	s.d = append(s.d, labtest.Daemon(t, s.Lab, "host0", "--answer-uplink", lanCIDR6))
	first, second := macOf(t, s.Lab, "host0", lanUplink), macOf(t, s.Lab, "host0", "lan1")
	s.route6(0, true)
	await(t, "it is announced", func() bool { return s.of(0, lanUplink).Sent+s.of(0, "lan1").Sent == arpd.AnnounceNum })
	mac, other := first, "lan1"
	if s.of(0, "lan1").Sent > 0 {
		mac, other = second, lanUplink
	}
	if a := s.of(0, other); a.Sent != 0 || a.Held != 0 {
		t.Errorf("%s announces, too: %+v", other, a)
	}
	for _, source := range []string{lanHostIP6, linkLocalOf(t, s.Lab, s.station, lanUplink)} {
		out, _ := try(t, s.Lab, s.station, "ndisc6 -q -m -w 500 -r 1 -s "+source+" "+lanPodIP6+" lan0")
		if got := strings.Fields(strings.ToLower(out)); len(got) != 1 || got[0] != mac {
			t.Errorf("%q answer %s, want %s alone", got, source, mac)
		}
	}
	var st uplinkStatus
	if s.d[0].StatusJSON(t, &st); len(st.Conflicts) > 0 {
		t.Errorf("one uplink takes the other for somebody else: %+v", st.Conflicts)
	}
}

// TestAnswerUplink6Conflict: who goes on advertising an address that is announced is told
// of; the route decides all the same.
func TestAnswerUplink6Conflict(t *testing.T) {
	t.Parallel()
	s := newSegment6(t)
	heard := listen(t, s.Lab, s.station, lanUplink, unix.ETH_P_IPV6)
	other := wire.MAC{2, 0, 0x5e, 0, 0x53, 0x77}
	target := netip.MustParseAddr(lanPodIP6).As16()
	claim := make([]byte, wire.AdvertisementLen)
	wire.PutAdvertisement(claim, other, target, target, wire.NDOverride, wire.MulticastMAC(wire.AllNodes), wire.AllNodes)
	s.d = append(s.d, labtest.Daemon(t, s.Lab, "host0", "--answer-uplink", lanCIDR6))
	status := func() (st uplinkStatus) { s.d[0].StatusJSON(t, &st); return st }
	heard.send(claim) // who had it until now
	s.route6(0, true)
	await(t, "it is announced in full", func() bool { return s.of(0, lanUplink).Sent == arpd.AnnounceNum })
	if st := status(); len(st.Conflicts) > 0 {
		t.Errorf("a claim before the last announcement: %+v", st.Conflicts)
	}
	await(t, "the claim is noticed", func() bool {
		heard.send(claim)
		return len(status().Conflicts) == 1
	})
	if c := status().Conflicts[0]; c.Kind != "uplink-claim" || c.Interface != lanUplink || c.Address != lanPodIP6 || c.MAC != other.String() || c.Other != s.pods[0].Iface {
		t.Errorf("%+v", c)
	}
	if out := s.d[0].Status(t); !strings.Contains(out, "lan0: "+other.String()+" claims the address "+lanPodIP6+", which is routed to "+s.pods[0].Iface) {
		t.Errorf("status:\n%s", out)
	}
	if out, _, code := exec3(t, s.Lab, "host0", labtest.Binary(t), "doctor", "--control", s.d[0].Control); code != 1 || !strings.Contains(out, "error uplink-claim: lan0: the address "+lanPodIP6) {
		t.Errorf("doctor, exit %d:\n%s", code, out)
	}
	for range 100 {
		heard.send(claim)
	}
	await(t, "all are counted", func() bool { return status().Conflicts[0].Count >= 101 })
	if n := strings.Count(s.d[0].Stderr(), "somebody else claims an address"); n != 1 {
		t.Errorf("it is logged %d times", n)
	}
	if a := s.of(0, lanUplink); a.Sent != arpd.AnnounceNum || a.Held != 1 {
		t.Errorf("it is defended: %+v", a)
	}
	if mac := s.solicits(lanPodIP6); mac != macOf(t, s.Lab, "host0", lanUplink) {
		t.Errorf("the route decides: %q answers", mac)
	}
	if text, want := s.d[0].Status(t), lanUplink+": "+other.String()+" claims the address "+lanPodIP6+", which is routed to "+s.pods[0].Iface; !strings.Contains(text, want) {
		t.Errorf("status has no %q:\n%s", want, text)
	}
	s.do(s.station + ": ip addr add " + lanPodIP6 + "/64 dev lan0 nodad") // doctor asks itself
	want := "error uplink-claim: lan0: " + macOf(t, s.Lab, s.station, lanUplink) + " answers for the address " + lanPodIP6 + ", which is routed to " + s.pods[0].Iface
	if out, _, code := exec3(t, s.Lab, "host0", labtest.Binary(t), "doctor", "--control", s.d[0].Control); code != 1 || !strings.Contains(out, want) {
		t.Errorf("doctor, exit %d, no %q:\n%s", code, want, out)
	}
}

// TestGateway6Claimed: a workload that says that it is the gateway is told of.
func TestGateway6Claimed(t *testing.T) {
	t.Parallel()
	s := newSegment6(t)
	s.d = append(s.d, labtest.Daemon(t, s.Lab, "host0"))
	pod := listen(t, s.Lab, s.pods[0].Node, "eth0", unix.ETH_P_IPV6)
	target := netip.MustParseAddr(gateway6).As16()
	claim := make([]byte, wire.AdvertisementLen)
	wire.PutAdvertisement(claim, pod.mac, target, target, wire.NDOverride, wire.MulticastMAC(wire.AllNodes), wire.AllNodes)
	await(t, "the claim is noticed", func() bool {
		pod.send(claim)
		var st uplinkStatus
		s.d[0].StatusJSON(t, &st)
		return len(st.Conflicts) == 1 && st.Conflicts[0].Address == gateway6 && st.Conflicts[0].MAC == pod.mac.String() && st.Conflicts[0].Interface == s.pods[0].Iface
	})
}
