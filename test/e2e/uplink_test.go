package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/arpd"
	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
	"proxyarpd/internal/wire"
)

// Addresses of the network that the hosts' uplink lan0 is in, and of workloads there.
const (
	lanCIDR    = "192.0.2.0/24"
	lanUplink  = "lan0"
	lanPodIP   = "192.0.2.50"
	lanHostIP  = "192.0.2.100" // a station's
	lanNobody  = "192.0.2.51"  // has no route
	lanSubnet  = "192.0.2.64/28"
	lanInRange = "192.0.2.70" // in the subnet, which is routed to a workload as a whole
)

// segment is a lab whose hosts have an uplink each on one switch, with a station.
type segment struct {
	*world
	tb          testing.TB
	sw, station string // nodes
	pods        [2]lab.Pod
}

func (s *segment) do(lines ...string) {
	for _, line := range lines {
		node, command, _ := strings.Cut(line, ": ")
		run(s.tb, s.Lab, node, command)
	}
}

// newSegment makes it; the first pod of each host has lanPodIP, to which no route leads.
func newSegment(t *testing.T) *segment {
	t.Helper()
	labtest.Need(t, "ip", "ping", "arping")
	l := labtest.New(t, lab.Spec{Form: lab.FormCalico, PodsPerHost: 2})
	s := &segment{world: &world{Lab: l}, tb: t, sw: pods(l, 0)[1].Node, station: pods(l, 1)[1].Node, pods: [2]lab.Pod{pods(l, 0)[0], pods(l, 1)[0]}}
	s.do(s.sw+": ip link add sw type bridge", s.sw+": ip link set sw up")
	for i, host := range []string{"host0", "host1", s.station} {
		s.plug(host, lanUplink, fmt.Sprintf("port%d", i))
	}
	s.do("host0: ip addr add 192.0.2.1/24 dev lan0", "host1: ip addr add 192.0.2.2/24 dev lan0", s.station+": ip addr add "+lanHostIP+"/24 dev lan0")
	for _, p := range s.pods {
		s.do(p.Node + ": ip addr add " + lanPodIP + "/32 dev eth0")
	}
	return s
}

// plug connects a node to the switch.
func (s *segment) plug(node, name, port string) {
	s.do(s.sw+": ip link add "+port+" type veth peer name "+name+" netns "+netnsOf(s.tb, s.Lab, node),
		s.sw+": ip link set "+port+" master sw up", node+": ip link set "+name+" up")
}

// route says which host has lanPodIP.
func (s *segment) route(host int, add bool) {
	verb := "del"
	if add {
		verb = "add"
	}
	s.do(fmt.Sprintf("host%d: ip route %s %s/32 dev %s scope link", host, verb, lanPodIP, s.pods[host].Iface))
}

// neighbour is the MAC that the station has for an address.
func (s *segment) neighbour(address string) string {
	out, _ := try(s.tb, s.Lab, s.station, "ip neigh show "+address+" dev lan0")
	if m := regexp.MustCompile(`lladdr (\S+)`).FindStringSubmatch(out); m != nil {
		return m[1]
	}
	return ""
}

// asks is arping from the station.
func (s *segment) asks(args string) (mac string, replies, code int) {
	s.tb.Helper()
	return arpingBy(s.tb, s.Lab, s.station, lanUplink, args)
}

// uplinkStatus is what is told of --answer-uplink.
type uplinkStatus struct {
	Uplinks []struct {
		Name         string
		Answers      string
		ARPReplies   uint64 `json:"arp_replies"`
		ARPVerdicts  counts `json:"arp_verdicts"`
		UplinkClaims uint64 `json:"uplink_claims"`
		Announced    *announced
	}
	Conflicts []struct {
		Kind, Interface, Address, MAC, Other string
		Count                                uint64
	}
}

type announced struct {
	Held, Waiting                 int
	Taken, Released, Sent, Failed uint64
}

// of finds what is told of an uplink.
func (s *segment) of(host int, name string) (a announced) {
	s.tb.Helper()
	var st uplinkStatus
	s.d[host].StatusJSON(s.tb, &st)
	for _, u := range st.Uplinks {
		if u.Name == name && u.Announced != nil {
			return *u.Announced
		}
	}
	return a
}

// isAnnouncement reports whether a frame announces an address.
func isAnnouncement(f wire.Ethernet, address string) bool {
	a := wire.ARP(f.Payload())
	return f.Type() == wire.EtherTypeARP && a.Valid() && a.Op() == wire.ARPRequest && a.SenderIP() == a.TargetIP() &&
		(address == "" || a.SenderIP().String() == address)
}

// TestAnswerUplink: a station reaches a workload in its own network, by each engine.
func TestAnswerUplink(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{"af_packet", "ebpf", "none"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			s := newSegment(t)
			forwarding(t, s.Lab, "host0", map[bool]string{true: "1", false: "0"}[engine == "none"])
			s.route(0, true)
			s.do("host0: ip route add " + lanSubnet + " dev " + s.pods[0].Iface)
			s.d = append(s.d, labtest.Daemon(t, s.Lab, "host0", "--engine", engine, "--answer-uplink", lanCIDR))
			own := macOf(t, s.Lab, "host0", lanUplink)
			for _, c := range []struct {
				name, args, mac string
				replies, code   int
			}{
				{"broadcast", "-b -c2 -w5 " + lanPodIP, own, 2, 0},
				{"unicast too", "-c2 -w5 " + lanPodIP, own, 2, 0},
				{"probe: it is in use", "-D -c1 -w5 " + lanPodIP, own, 1, 1},
				{"by a shorter prefix", "-b -c1 -w5 " + lanInRange, own, 1, 0},
				{"no route", "-b -c1 -w1 " + lanNobody, "", 0, 1},
				{"probe, no route", "-D -c1 -w1 " + lanNobody, "", 0, 0},
				{"not in the prefix", "-b -c1 -w1 " + ip(s.pods[0]), "", 0, 1},
				{"the gateway of workloads", "-b -c1 -w1 " + gateway, "", 0, 1},
				{"the host's own, by its kernel", "-b -c1 -w5 192.0.2.1", own, 1, 0},
			} {
				if mac, replies, code := s.asks(c.args); mac != c.mac || replies != c.replies || code != c.code {
					t.Errorf("%s: %q answers, %d replies, exit %d; want %q, %d, %d", c.name, mac, replies, code, c.mac, c.replies, c.code)
				}
			}
			run(t, s.Lab, s.station, "ip neigh flush all")
			wantTTL(t, s.Lab, s.station, lanPodIP, 63)
			ping(t, s.Lab, s.pods[0].Node, lanHostIP, "-I", lanPodIP)
			var st uplinkStatus
			s.d[0].StatusJSON(t, &st)
			for _, u := range st.Uplinks {
				if u.Name != lanUplink {
					continue
				}
				if v := u.ARPVerdicts; u.Answers != own || v["answer"] != u.ARPReplies || v["answer"] < 6 || v["arp-no-workload"] != 2 || v["arp-not-proxied"] < 2 || v["local"] == 0 {
					t.Errorf("%+v", u)
				}
			}
			if a := s.of(0, lanUplink); a.Held != 1 || a.Taken != 1 {
				t.Errorf("a shorter prefix is not announced: %+v", a)
			}
			if engine == "ebpf" {
				s.showsAnnouncement(t)
			}
			s.explains(t, engine)
			s.captures(t)
			s.measured(t)
		})
	}
}

// explains asks which rule decides about requests by the uplink.
func (s *segment) explains(t *testing.T, engine string) {
	t.Helper()
	for _, c := range []struct{ target, from, verdict, reason, says string }{
		{lanPodIP, lanHostIP, "answer", "null", "it is this interface: answered with"},
		{lanPodIP, "0.0.0.0", "answer", "null", "the probe is answered with"},
		{lanNobody, lanHostIP, "ignore", `"arp-no-workload"`, "none of type unicast leads over a workload interface"},
		{lanPodIP, "192.168.1.16", "ignore", `"arp-way-back"`, "it is another interface"},
		{ip(s.pods[0]), lanHostIP, "ignore", `"arp-not-proxied"`, "is in none of [" + lanCIDR + "]"},
		{"192.0.2.1", lanHostIP, "local", "null", "the kernel answers"},
	} {
		for _, way := range []string{"--control " + s.d[0].Control, "--answer-uplink " + lanCIDR + " --engine " + engine} {
			out := run(t, s.Lab, "host0", labtest.Binary(t)+" explain "+c.target+" --iif lan0 --from "+c.from+" -o json "+way)
			var a struct {
				ARP struct {
					Verdict string
					Reason  json.RawMessage
					Steps   []struct{ Says string }
				}
			}
			if err := json.Unmarshal([]byte(out), &a); err != nil {
				t.Fatal(err)
			}
			if last := a.ARP.Steps[len(a.ARP.Steps)-1].Says; a.ARP.Verdict != c.verdict || string(a.ARP.Reason) != c.reason || !strings.Contains(last, c.says) {
				t.Errorf("%s tell %s (%s): %+v", c.target, c.from, way, a.ARP)
			}
		}
	}
}

// captures looks at the verdicts of requests by the uplink.
func (s *segment) captures(t *testing.T) {
	t.Helper()
	shown := spawn(t, s.Lab, "host0", labtest.Binary(t)+" capture --control "+s.d[0].Control+" -lni lan0 -c3 arp and arp[6:2] < 3 and host "+lanHostIP+" and ( host "+lanPodIP+" or host "+lanNobody+" )")
	shown.await("listening")
	s.asks("-b -c1 -w1 " + lanNobody)
	s.asks("-b -c1 -w5 " + lanPodIP)
	out := shown.end()
	for _, want := range []string{
		"who-has " + lanNobody + " (ff:ff:ff:ff:ff:ff) tell " + lanHostIP + ", length 28 => ignore arp-no-workload",
		"who-has " + lanPodIP + " (ff:ff:ff:ff:ff:ff) tell " + lanHostIP + ", length 28 => answer is-at " + macOf(t, s.Lab, "host0", lanUplink),
		"Reply " + lanPodIP + " is-at",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

// showsAnnouncement: what the daemon announces is told from what the host sends.
func (s *segment) showsAnnouncement(t *testing.T) {
	t.Helper()
	shown := spawn(t, s.Lab, "host0", labtest.Binary(t)+" capture --control "+s.d[0].Control+" -lni lan0 -c1 arp and src host "+lanPodIP)
	shown.await("listening")
	s.route(0, false)
	s.route(0, true)
	if out, want := shown.end(), "Request who-has "+lanPodIP+" tell "+lanPodIP+", length 28 => originate"; !strings.Contains(out, want) {
		t.Errorf("no %q in\n%s", want, out)
	}
}

// measured: status names what is announced, and the metrics have it.
func (s *segment) measured(t *testing.T) {
	t.Helper()
	if out := s.d[0].Status(t); !strings.Contains(out, "announced on lan0: 1 addresses, ") {
		t.Errorf("status:\n%s", out)
	}
}

// TestAnswerUplinkMove: an address goes to another host, whose daemon says so at once.
// No station has a stale entry for longer than the announcement takes.
func TestAnswerUplinkMove(t *testing.T) {
	t.Parallel()
	s := newSegment(t)
	s.route(0, true)
	s.daemons(t, "--answer-uplink", lanCIDR)
	s.moves(t, lanPodIP, s.route, func() string {
		mac, replies, _ := s.asks("-b -c1 -w5 " + lanPodIP)
		if replies != 1 {
			t.Errorf("%d replies", replies)
		}
		return mac
	})
}

// moves has an address, which route has lead to a workload of a host, go from host0 to
// host1 and back. answers asks who has it.
func (s *segment) moves(t *testing.T, addr string, route func(host int, on bool), answers func() (mac string)) {
	t.Helper()
	macs := [2]string{macOf(t, s.Lab, "host0", lanUplink), macOf(t, s.Lab, "host1", lanUplink)}
	wantTTL(t, s.Lab, s.station, addr, 63)
	if m := s.neighbour(addr); m != macs[0] {
		t.Fatalf("the station has %s, want host0's %s", m, macs[0])
	}
	const interval, many = 20 * time.Millisecond, 160
	from, to := 0, 1
	for range 2 { // there and back: the second time host0 announces anew
		ping := spawn(t, s.Lab, s.station, fmt.Sprintf("ping -n -O -i %v -c %d %s", interval.Seconds(), many, addr))
		ping.await("icmp_seq=25 ttl")
		took := time.Now()
		route(from, false)
		route(to, true)
		await(t, "the station sends to the other host", func() bool { return s.neighbour(addr) == macs[to] })
		t.Logf("the entry is another one after %v", time.Since(took).Round(time.Millisecond))
		out := ping.end()
		m := regexp.MustCompile(`(\d+) received`).FindStringSubmatch(out)
		if m == nil {
			t.Fatal(out)
		}
		received, _ := strconv.Atoi(m[1])
		lost := time.Duration(many-received) * interval
		t.Logf("%d of %d lost: %v", many-received, many, lost)
		if lost > arpd.AnnounceInterval { // of which the first announcement may be lost
			t.Errorf("%v of a flow lost; without an announcement it would be %v\n%s", lost, time.Duration(many-25)*interval, out)
		}
		if a, b := s.of(from, lanUplink), s.of(to, lanUplink); a.Held != 0 || a.Released == 0 || b.Held != 1 || b.Taken == 0 || b.Sent == 0 {
			t.Errorf("%+v, then %+v", a, b)
		}
		if mac := answers(); mac != macs[to] {
			t.Errorf("%s answers, want host%d", mac, to)
		}
		from, to = to, from
	}
	for host := range s.d {
		var st uplinkStatus
		if s.d[host].StatusJSON(t, &st); len(st.Conflicts) > 0 {
			t.Errorf("a move is no conflict: host%d has %+v", host, st.Conflicts)
		}
	}
}

// TestAnswerUplinkTwice: of two uplinks on one segment one answers and announces.
func TestAnswerUplinkTwice(t *testing.T) {
	t.Parallel()
	s := newSegment(t)
	s.plug("host0", "lan1", "port9")
	s.do("host0: ip addr add 192.0.2.3/24 dev lan1")
	heard := listen(t, s.Lab, s.station, lanUplink, unix.ETH_P_ARP)
	s.d = append(s.d, labtest.Daemon(t, s.Lab, "host0", "--answer-uplink", lanCIDR))
	first, second := macOf(t, s.Lab, "host0", lanUplink), macOf(t, s.Lab, "host0", "lan1")
	s.route(0, true)
	await(t, "it is announced", func() bool { return s.of(0, lanUplink).Sent == arpd.AnnounceNum })
	for _, args := range []string{"-b -c3 -w5 ", "-D -c1 -w5 "} {
		if mac, replies, _ := s.asks(args + lanPodIP); mac != first || replies != 1 && args != "-b -c3 -w5 " || replies > 3 {
			t.Errorf("%s: %s answers, %d replies; want %s", args, mac, replies, first)
		}
	}
	if a := s.of(0, "lan1"); a != (announced{}) {
		t.Errorf("the second one announces: %+v", a)
	}
	// The first goes: the address is the second one's, which says so.
	s.do("host0: ip link set lan0 down")
	await(t, "the other uplink has taken it", func() bool { return s.neighbour(lanPodIP) == second || s.of(0, "lan1").Sent == arpd.AnnounceNum })
	if mac, replies, _ := s.asks("-b -c1 -w5 " + lanPodIP); mac != second || replies != 1 {
		t.Errorf("%s answers, %d replies; want %s, 1", mac, replies, second)
	}
	by := map[wire.MAC]int{}
	for {
		f := heard.next(100*time.Millisecond, func(f wire.Ethernet) bool { return isAnnouncement(f, lanPodIP) })
		if f == nil {
			break
		}
		by[f.Src()]++
	}
	if by[mac(t, first)] != arpd.AnnounceNum || by[mac(t, second)] == 0 {
		t.Errorf("announcements by %v", by)
	}
	var st uplinkStatus
	if s.d[0].StatusJSON(t, &st); len(st.Conflicts) > 0 {
		t.Errorf("one uplink takes the other for somebody else: %+v", st.Conflicts)
	}
}

// TestAnswerUplinkConflict: who goes on claiming an address that is announced is told of
// everywhere; the route decides all the same.
func TestAnswerUplinkConflict(t *testing.T) {
	t.Parallel()
	s := newSegment(t)
	heard := listen(t, s.Lab, s.station, lanUplink, unix.ETH_P_ARP)
	other := wire.MAC{2, 0, 0x5e, 0, 0x53, 0x77}
	claim := arp{dst: wire.Broadcast, src: other, sha: other, op: wire.ARPReply, spa: lanPodIP, tpa: lanHostIP, tha: heard.mac}
	s.d = append(s.d, labtest.Daemon(t, s.Lab, "host0", "--answer-uplink", lanCIDR))
	status := func() (st uplinkStatus) { s.d[0].StatusJSON(t, &st); return st }
	heard.send(claim.frame()) // who had it until now
	s.route(0, true)
	await(t, "it is announced", func() bool { return s.of(0, lanUplink).Waiting == 1 && s.of(0, lanUplink).Sent == 1 })
	heard.send(claim.frame())
	await(t, "it is announced in full", func() bool { return s.of(0, lanUplink).Sent == arpd.AnnounceNum })
	if st := status(); len(st.Conflicts) > 0 {
		t.Errorf("a claim before the last announcement: %+v", st.Conflicts)
	}
	await(t, "the claim is noticed", func() bool {
		heard.send(claim.frame())
		return len(status().Conflicts) == 1
	})
	st := status()
	if c := st.Conflicts[0]; c.Kind != "uplink-claim" || c.Interface != lanUplink || c.Address != lanPodIP || c.MAC != other.String() || c.Other != s.pods[0].Iface {
		t.Errorf("%+v", c)
	}
	if out := s.d[0].Status(t); !strings.Contains(out, "lan0: "+other.String()+" claims the address "+lanPodIP+", which is routed to "+s.pods[0].Iface) {
		t.Errorf("status:\n%s", out)
	}
	if out, _, code := exec3(t, s.Lab, "host0", labtest.Binary(t), "doctor", "--control", s.d[0].Control); code != 1 || !strings.Contains(out, "error uplink-claim: lan0: the address "+lanPodIP) {
		t.Errorf("doctor, exit %d:\n%s", code, out)
	}
	for range 500 {
		heard.send(claim.frame())
	}
	await(t, "all are counted", func() bool { s := statusOf(t, s.d[0]); return s.port(lanUplink).ARPVerdicts["arp-reply"] >= 503 })
	if n := strings.Count(s.d[0].Stderr(), "somebody else claims an address"); n != 1 {
		t.Errorf("it is logged %d times", n)
	}
	if a := s.of(0, lanUplink); a.Sent != arpd.AnnounceNum || a.Held != 1 {
		t.Errorf("it is defended: %+v", a)
	}
	if mac, _, _ := s.asks("-b -c1 -w5 " + lanPodIP); mac != macOf(t, s.Lab, "host0", lanUplink) {
		t.Errorf("the route decides: %s answers", mac)
	}
}

// TestAnswerUplinkCarrier: when the uplink's carrier returns, what is there is announced
// anew, however short it was away.
func TestAnswerUplinkCarrier(t *testing.T) {
	t.Parallel()
	s := newSegment(t)
	s.route(0, true)
	s.d = append(s.d, labtest.Daemon(t, s.Lab, "host0", "--answer-uplink", lanCIDR))
	await(t, "it is announced", func() bool { return s.of(0, lanUplink).Sent == arpd.AnnounceNum })
	heard := listen(t, s.Lab, s.station, lanUplink, unix.ETH_P_ARP)
	for range 2 {
		s.do(s.sw+": ip link set port0 down", s.sw+": ip link set port0 up")
		if heard.next(patience, func(f wire.Ethernet) bool { return isAnnouncement(f, lanPodIP) }) == nil {
			t.Fatalf("not announced: %+v", s.of(0, lanUplink))
		}
	}
	wantTTL(t, s.Lab, s.station, lanPodIP, 63)
}

// TestAnswerUplinkReload: a prefix comes and goes, without a lost packet of others.
func TestAnswerUplinkReload(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{"af_packet", "none"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			s := newSegment(t)
			forwarding(t, s.Lab, "host0", map[bool]string{true: "1", false: "0"}[engine == "none"])
			s.route(0, true)
			file := filepath.Join(t.TempDir(), "proxyarpd.yaml")
			write := func(list string) {
				t.Helper()
				if err := os.WriteFile(file, []byte("engine: "+engine+"\nanswer-uplink: ["+list+"]\n"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			write("")
			s.d = append(s.d, labtest.Daemon(t, s.Lab, "host0", "--config", file))
			reload := func() { run(t, s.Lab, "host0", labtest.Binary(t)+" reload --control "+s.d[0].Control) }
			answered := func(want int) {
				t.Helper()
				if _, replies, _ := s.asks("-b -c1 -w1 " + lanPodIP); replies != want {
					t.Errorf("%d replies, want %d", replies, want)
				}
			}
			answered(0)
			write("192.0.2.48/29")
			reload()
			answered(1)
			await(t, "it is announced", func() bool { return s.of(0, lanUplink).Sent == arpd.AnnounceNum })
			own := macOf(t, s.Lab, "host0", lanUplink)
			run(t, s.Lab, s.station, "ip neigh replace "+lanPodIP+" lladdr "+own+" dev lan0 nud permanent")
			ping := spawn(t, s.Lab, s.station, "ping -n -i 0.005 -c 200 "+lanPodIP)
			ping.await("icmp_seq=2 ttl")
			write("192.0.2.48/29, 198.51.100.0/24")
			reload()
			if a := s.of(0, lanUplink); a.Held != 1 || a.Taken != 1 || a.Sent != arpd.AnnounceNum {
				t.Errorf("what stays is announced anew: %+v", a)
			}
			write("198.51.100.0/24")
			reload()
			answered(0)
			if a := s.of(0, lanUplink); a.Held != 0 || a.Released != 1 {
				t.Errorf("%+v", a)
			}
			write("")
			reload()
			answered(0)
			if out := ping.end(); !strings.Contains(out, "200 received") {
				t.Errorf("%s", out)
			}
		})
	}
}

// TestAnswerUplinkLikeKernel asks a host that answers by the kernel's proxy_arp what it
// asks ours. They differ where it says so, and the same who ask are neighbours then.
func TestAnswerUplinkLikeKernel(t *testing.T) {
	t.Parallel()
	s := newSegment(t)
	for _, set := range [][2]string{{"ip_forward", "1"}, {"conf.all.rp_filter", "0"}, {"conf.lan0.proxy_arp", "1"}, {"neigh.lan0.proxy_delay", "0"}} {
		if err := s.SetSysctl("host1", "net.ipv4."+set[0], set[1]); err != nil {
			t.Fatal(err)
		}
	}
	// 10.7H.0.0/16 is host H's: 1 leads to its pod, 2 out by lan0, 3 by ens192, 4 nowhere.
	for host := range 2 {
		for net, way := range map[string]string{"1.0/24": "dev " + s.pods[host].Iface, "0.0/16": "via " + lanHostIP, "2.0/24": "via " + lanHostIP, "3.0/24": "via " + []string{host1IP, host0IP}[host]} {
			s.do(fmt.Sprintf("host%d: ip route add 10.7%d.%s %s", host, host, net, way))
		}
		s.do(fmt.Sprintf("host%d: ip route add unreachable 10.7%d.4.0/24", host, host), fmt.Sprintf("host%d: ip addr add 10.7%d.9.9/32 dev lo", host, host))
	}
	heard := listen(t, s.Lab, s.station, lanUplink, unix.ETH_P_ARP)
	s.d = append(s.d, labtest.Daemon(t, s.Lab, "host0", "--answer-uplink", "10.70.0.0/16"))
	for _, filter := range []string{"0", "1"} {
		for host := range 2 {
			if err := s.SetSysctl(fmt.Sprintf("host%d", host), "net.ipv4.conf.lan0.rp_filter", filter); err != nil {
				t.Fatal(err)
			}
		}
		await(t, "rp_filter is known", func() bool {
			out := run(t, s.Lab, "host0", labtest.Binary(t)+" explain 10.70.1.1 --iif lan0 --from "+lanHostIP+" --control "+s.d[0].Control)
			return strings.Contains(out, "may come by lan0 (rp_filter "+filter+")")
		})
		for n, c := range []struct {
			name, target, sender string // %d: the host's number
			ours, kernels        bool
		}{
			{"a workload's", "10.7%d.1.1", lanHostIP, true, true},
			{"back out of the interface", "10.7%d.2.1", lanHostIP, false, false},
			{"to another uplink: --answer-uplink is for workloads", "10.7%d.3.1", lanHostIP, false, true},
			{"unreachable", "10.7%d.4.1", lanHostIP, false, false},
			{"an address of the host", "10.7%d.9.9", lanHostIP, true, true},
			{"a sender behind a router of this network", "10.7%d.1.1", "10.7%d.2.7", true, true},
			{"a sender who is answered by another interface", "10.7%d.1.1", "10.7%d.3.7", false, filter == "0"},
			{"a sender with a workload's address", "10.7%d.1.1", "10.7%d.1.7", false, filter == "0"},
			{"a sender with an address of the host", "10.7%d.1.1", "10.7%d.9.9", false, false},
			{"a sender that nobody is routed to", "10.7%d.1.1", "203.0.113.7", false, filter == "0"},
			{"a probe: the address is in use", "10.7%d.1.1", "0.0.0.0", true, false},
			{"an announcement", "10.7%d.1.1", "10.7%d.1.1", false, filter == "0"},
			{"multicast", "224.0.0.9", lanHostIP, false, false},
			{"a multicast sender", "10.7%d.1.1", "224.0.0.9", false, false},
		} {
			for host, want := range []bool{c.ours, c.kernels} {
				of := func(pattern string) string { return strings.Replace(pattern, "%d", strconv.Itoa(host), 1) }
				behind := fmt.Sprintf("192.0.2.%d", 110+n+50*len(filter)*host)
				heard.send(heard.whoHas(of(c.target), of(c.sender)).frame())
				heard.send(heard.whoHas(of("10.7%d.1.200"), behind).frame())
				answered := false
				for {
					f := heard.next(patience, func(f wire.Ethernet) bool { return wire.ARP(f.Payload()).Op() == wire.ARPReply })
					if f == nil {
						t.Fatalf("host%d: %s: not even the request behind it is answered", host, c.name)
					}
					if wire.ARP(f.Payload()).TargetIP().String() == behind {
						break
					}
					answered = true
				}
				if answered != want {
					t.Errorf("rp_filter %s, host%d: %s: answered %t", filter, host, c.name, answered)
				}
				await(t, behind+" is a neighbour", func() bool {
					return strings.Contains(run(t, s.Lab, fmt.Sprintf("host%d", host), "ip neigh show "+behind+" dev lan0"), heard.mac.String())
				})
			}
		}
	}
}
