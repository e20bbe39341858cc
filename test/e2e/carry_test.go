package e2e

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
)

// carrying starts a host whose daemon carries, with some pods.
func carrying(t *testing.T, pods int, args ...string) *world {
	return start(t, lab.Spec{Hosts: 1, Form: lab.FormCalico, PodsPerHost: pods}, append(args, "--engine", "ebpf")...)
}

// sumUp holds the counters of a daemon to each other: all that came in went out,
// was dropped for a reason, was left to somebody, or waits. What was refused before
// the ring did not come in.
func sumUp(t *testing.T, s *status, waiting uint64) {
	t.Helper()
	var ended, own uint64
	for reason, n := range s.Forward.Drops {
		if reason != "PARP_RATE_LIMIT" && reason != "FULL_RING" {
			ended += n
		}
	}
	for verdict, n := range s.Forward.Verdicts {
		switch verdict {
		case "queue": // they have an end as well
		case "local": // left to the kernel before the ring: neighbour discovery
		case "originate":
			own += n
		default:
			ended += n
		}
	}
	if s.Forward.PacketsIn != ended+waiting || s.Forward.PacketsOut != s.Forward.Verdicts["forward"]+own {
		t.Errorf("%d came in, %d ended and %d wait; %d went out: %+v", s.Forward.PacketsIn, ended, waiting, s.Forward.PacketsOut, s.Forward)
	}
}

// TestCarriedOnce: of a flow through the programs each datagram arrives once, and
// is counted once, however the programs are attached.
func TestCarriedOnce(t *testing.T) {
	labtest.Need(t, "iperf3")
	for _, claim := range []string{"tcx", "clsact"} {
		t.Run(claim, func(t *testing.T) {
			w := carrying(t, 2, "--claim", claim)
			eachFamily(t, w, func(t *testing.T, a, b lab.Pod) { testCarriedOnce(t, w, a, b) })
		})
	}
}

// eachFamily runs a test with the pods of the first host, as those see them who speak
// IPv4, and IPv6.
func eachFamily(t *testing.T, w *world, test func(t *testing.T, a, b lab.Pod)) {
	t.Run("IPv4", func(t *testing.T) { test(t, pods(w.Lab, 0)[0], pods(w.Lab, 0)[1]) })
	t.Run("IPv6", func(t *testing.T) {
		labtest.NeedIPv6(t)
		test(t, pods6(t, w.Lab, 0)[0], pods6(t, w.Lab, 0)[1])
	})
}

func testCarriedOnce(t *testing.T, w *world, a, b lab.Pod) {
	const n = 10000
	labtest.Warm(t, w.Lab, a.Node, ip(b))
	before := statusOf(t, w.d[0])
	labtest.EachOnce(t, w.Lab, a, b, n)
	s := statusOf(t, w.d[0])
	if carried := s.Forward.Carried - before.Forward.Carried; carried < n {
		t.Errorf("%d of %d carried", carried, n)
	}
	if in := s.Forward.PacketsIn - before.Forward.PacketsIn; in < n || in > n+50 {
		t.Errorf("%d counted of %d", in, n)
	}
	sumUp(t, &s, 0)
	if carried := s.port(a.Iface).Carried - before.port(a.Iface).Carried; carried < n {
		t.Errorf("%s: %d carried", a.Iface, carried)
	}
	before = s
	transfer(t, w.Lab, a.Node, b, "-n 50M")
	s = statusOf(t, w.d[0])
	if frames := s.port(a.Iface).Carried - before.port(a.Iface).Carried; frames < 50e6/1e6 || frames > 50e6/5000 {
		t.Errorf("%d super-packets of TCP carried", frames)
	}
}

// TestCarriedOrder: a flow whose next hop becomes known while it is under way
// stays in order: what waits in userspace comes first.
func TestCarriedOrder(t *testing.T) {
	w := carrying(t, 2)
	eachFamily(t, w, func(t *testing.T, a, b lab.Pod) { testCarriedOrder(t, w, a, b) })
}

func testCarriedOrder(t *testing.T, w *world, a, b lab.Pod) {
	before := statusOf(t, w.d[0])
	in := labtest.ListenUDP(t, w.Lab, b.Node, netip.AddrPortFrom(b.Addr.Addr(), 9))
	out := labtest.DialUDP(t, w.Lab, a.Node, netip.AddrPortFrom(b.Addr.Addr(), 9))
	labtest.Warm(t, w.Lab, a.Node, ip(b))
	number, got, behind, last := uint32(0), 0, 0, int64(-1)
	for range 20 {
		run(t, w.Lab, "host0", "ip neigh flush dev "+b.Iface)
		for range 400 {
			var m [64]byte
			binary.BigEndian.PutUint32(m[:], number)
			number++
			if _, err := out.Write(m[:]); err != nil {
				t.Fatal(err)
			}
			if number%4 == 0 {
				time.Sleep(50 * time.Microsecond)
			}
		}
	}
	for {
		var m [64]byte
		in.SetReadDeadline(time.Now().Add(time.Second))
		if _, err := in.Read(m[:]); err != nil {
			break
		}
		n := int64(binary.BigEndian.Uint32(m[:]))
		if n <= last {
			t.Logf("%d came behind %d", n, last)
			behind++
		}
		last, got = max(n, last), got+1
	}
	s := statusOf(t, w.d[0])
	carried, waited := s.Forward.Carried-before.Forward.Carried, s.Forward.Verdicts["queue"]-before.Forward.Verdicts["queue"]
	t.Logf("%d of %d arrived, %d carried, %d waited", got, number, carried, waited)
	// On a busy machine the kernel puts off what one CPU was handed (ksoftirqd), and
	// what another CPU carries comes first: a few. All that waited would be hundreds.
	if behind > 20 {
		t.Errorf("%d came too late", behind)
	}
	full := int(s.Forward.Drops["NEIGH_QUEUEFULL"] - before.Forward.Drops["NEIGH_QUEUEFULL"]) // a busy machine resolves slowly
	if got+full < int(number)*9/10 || carried == 0 || waited == 0 {
		t.Errorf("%d of %d arrived; %+v", got, number, s.Forward)
	}
	sumUp(t, &s, 0)
}

// TestCarriedDown: packets to a pod whose end is down end by name, and the sums
// hold.
func TestCarriedDown(t *testing.T) {
	w := carrying(t, 2)
	a, b := pods(w.Lab, 0)[0], pods(w.Lab, 0)[1]
	labtest.Warm(t, w.Lab, a.Node, ip(b))
	labtest.EachOnce(t, w.Lab, a, b, 100)
	run(t, w.Lab, b.Node, "ip link set eth0 down")
	await(t, "no carrier", func() bool {
		s := statusOf(t, w.d[0])
		try(t, w.Lab, a.Node, "ping -c 1 -W 0.1 "+ip(b))
		return s.Forward.Drops["PARP_IF_DOWN"]+s.Forward.Drops["NEIGH_FAILED"] > 0
	})
	await(t, "all ended", func() bool {
		s := statusOf(t, w.d[0])
		var ended uint64
		for _, n := range s.Forward.Drops {
			ended += n
		}
		return s.Forward.PacketsIn == ended+s.Forward.Verdicts["forward"]
	})
	run(t, w.Lab, b.Node, "ip link set eth0 up")
	run(t, w.Lab, b.Node, "ip route replace "+gateway+" dev eth0")
	run(t, w.Lab, b.Node, "ip route replace default via "+gateway+" dev eth0")
	labtest.Warm(t, w.Lab, a.Node, ip(b))
	before := statusOf(t, w.d[0]).Forward.Carried
	labtest.EachOnce(t, w.Lab, a, b, 1000)
	if now := statusOf(t, w.d[0]).Forward.Carried; now < before+900 {
		t.Errorf("up again, and %d of 1000 carried", now-before)
	}
}

// TestCarriedARP: requests that the program answers get one answer, the
// responder's, and are counted as its are.
func TestCarriedARP(t *testing.T) {
	labtest.Need(t, "arping")
	w := carrying(t, 2)
	a, b := pods(w.Lab, 0)[0], pods(w.Lab, 0)[1]
	labtest.Warm(t, w.Lab, a.Node, ip(b)) // who is known now
	if err := w.SetSysctl("host0", "net.ipv4.conf."+a.Iface+".proxy_arp", "1"); err != nil {
		t.Fatal(err)
	}
	before := statusOf(t, w.d[0])
	out := run(t, w.Lab, a.Node, "arping -c 4 -w 10 -I eth0 -s "+ip(a)+" "+gateway)
	s := statusOf(t, w.d[0])
	p, was := s.port(a.Iface), before.port(a.Iface)
	if n := p.ARPRequests - was.ARPRequests; n != 4 || p.ARPReplies-was.ARPReplies != 4 || s.ARP.Verdicts["answer"]-before.ARP.Verdicts["answer"] != 4 || strings.Count(out, "reply from") != 4 {
		t.Errorf("%d requests, %d replies counted\n%s", n, p.ARPReplies-was.ARPReplies, out)
	}
	if s.ARP.Carried-before.ARP.Carried != 4 {
		t.Errorf("%d answered by the program\n%s", s.ARP.Carried-before.ARP.Carried, out)
	}
	if p.ARPUnrouted != was.ARPUnrouted {
		t.Error("unrouted")
	}
}

// TestCarriedCaptured: packets are carried while somebody captures, and shown as
// they came and as they left.
func TestCarriedCaptured(t *testing.T) {
	w := carrying(t, 2)
	eachFamily(t, w, func(t *testing.T, a, b lab.Pod) { testCarriedCaptured(t, w, a, b) })
}

func testCarriedCaptured(t *testing.T, w *world, a, b lab.Pod) {
	in4, was, is, length := !b.Addr.Addr().Is6(), `IP \(tos 0x0, ttl 64.*\n`, `IP \(tos 0x0, ttl 63.*\n`, "/32"
	if !in4 {
		was, is, length = `IP6 \(.*hlim 64`, `IP6 \(.*hlim 63`, "/128"
	}
	labtest.Warm(t, w.Lab, a.Node, ip(b))
	c := spawn(t, w.Lab, "host0", labtest.Binary(t)+" capture --control "+w.d[0].Control+" -nvi "+a.Iface+" -i "+b.Iface+" udp or arp")
	c.await("listening on")
	before := statusOf(t, w.d[0]).Forward.Carried
	const n = 2000
	labtest.EachOnce(t, w.Lab, a, b, n)
	if carried := statusOf(t, w.d[0]).Forward.Carried - before; carried < n {
		t.Errorf("%d of %d carried while somebody captures", carried, n)
	}
	if in4 {
		run(t, w.Lab, a.Node, "arping -c 1 -w 10 -I eth0 -s "+ip(a)+" "+gateway)
		c.await("=> originate")
	}
	c.cmd.Process.Signal(syscall.SIGINT)
	out := c.end()
	ids := map[string]int{}
	for _, want := range []string{
		`(?m)^\S+ ` + a.Iface + ` In  ` + was + `.* => forward ` + b.Iface + ` route ` + ip(b) + length + ` #(\d+)$`,
		`(?m)^\S+ ` + b.Iface + ` Out ` + is + `.* => forward from ` + a.Iface + ` #(\d+)$`,
	} {
		all := regexp.MustCompile(want).FindAllStringSubmatch(out, -1)
		if len(all) < n || len(all) > n+50 {
			t.Errorf("%d of %d are like %s:\n%.3000s", len(all), n, want, out)
		}
		for _, m := range all {
			ids[m[1]]++
		}
	}
	if len(ids) < n || len(ids) > n+50 {
		t.Errorf("%d ids of %d packets", len(ids), n)
	}
	if in4 && strings.Count(out, "is-at ee:ee:ee:ee:ee:ee, length 28 => originate") != 1 {
		t.Errorf("no ARP reply, or several:\n%s", out[max(0, len(out)-3000):])
	}
}

// TestCarriedCapturedFast: a capture does not slow down what is carried too fast
// for it, and tells how much it has not shown.
func TestCarriedCapturedFast(t *testing.T) {
	w := carrying(t, 2)
	a, b := pods(w.Lab, 0)[0], pods(w.Lab, 0)[1]
	labtest.Warm(t, w.Lab, a.Node, ip(b))
	c := spawn(t, w.Lab, "host0", labtest.Binary(t)+" capture --control "+w.d[0].Control+" -nw /dev/null -Q in -i "+a.Iface)
	c.await("listening on")
	from := func() int { s := statusOf(t, w.d[0]); return int(s.port(a.Iface).Carried) }
	before := from()
	s := labtest.DialNumbered(t, w.Lab, a.Node, b, 1000)
	s.Size = 1400
	s.Send(60000, nil)
	var carried int
	await(t, "all are carried", func() bool {
		carried = from() - before
		return carried >= 60000
	})
	c.cmd.Process.Signal(syscall.SIGINT)
	out := c.end()
	sum, all := 0, regexp.MustCompile(`(?m)^(\d+) packets? (?:received by filter|dropped by kernel)`).FindAllStringSubmatch(out, -1)
	for _, m := range all {
		count, _ := strconv.Atoi(m[1])
		sum += count
	}
	t.Logf("%d carried\n%s", carried, out)
	if len(all) != 2 || sum < carried || sum > carried+1000 {
		t.Errorf("%d of %d are accounted for", sum, carried)
	}
}

// TestCarriedKilled: nothing is left of a daemon that was killed, and where the
// kernel forwards it has the flow.
func TestCarriedKilled(t *testing.T) {
	w := carrying(t, 2)
	a, b := pods(w.Lab, 0)[0], pods(w.Lab, 0)[1]
	for _, key := range []string{"net.ipv4.conf.all.forwarding", "net.ipv4.conf." + a.Iface + ".forwarding", "net.ipv4.conf." + b.Iface + ".forwarding"} {
		if err := w.SetSysctl("host0", key, "1"); err != nil {
			t.Fatal(err)
		}
	}
	labtest.Warm(t, w.Lab, a.Node, ip(b))
	await(t, "carried", func() bool {
		try(t, w.Lab, a.Node, "ping -c 1 -W 1 "+ip(b))
		return statusOf(t, w.d[0]).Forward.Carried > 0
	})
	flow := labtest.StartFlow(t, w.Lab, a, b, 1)
	flow.Progress(200)
	w.d[0].Kill()
	flow.Progress(300)
	sent, lost, doubled := flow.Stop()
	t.Logf("%d sent, %d lost, %d doubled", sent, lost, doubled)
	if lost > 50 || doubled > 0 {
		t.Errorf("%d lost, %d doubled of %d", lost, doubled, sent)
	}
}

// TestCarriedDropped: what the kernel loses behind the programs is told apart, so
// that what was forwarded has arrived or is counted.
func TestCarriedDropped(t *testing.T) {
	labtest.Need(t, "tc")
	w := carrying(t, 2)
	a, b := pods(w.Lab, 0)[0], pods(w.Lab, 0)[1]
	labtest.Warm(t, w.Lab, a.Node, ip(b))
	run(t, w.Lab, "host0", "tc qdisc add dev "+b.Iface+" root tbf rate 8mbit burst 16kb latency 20ms")
	const n = 5000
	r := labtest.Receive(t, w.Lab, b, 1000000)
	s := labtest.DialNumbered(t, w.Lab, a.Node, b, 100)
	s.Size = 1000
	for sent := 0; statusOf(t, w.d[0]).Forward.Egress.Qdisc == 0; { // else by the peer, past the limit, until the daemon sees it
		sent += 100
		s.Send(sent, nil)
	}
	sums := func() (carried, got, dropped uint64) {
		st := statusOf(t, w.d[0])
		each := st.port(b.Iface).Egress
		if each != st.Forward.Egress {
			t.Errorf("of %s %+v, of all %+v", b.Iface, each, st.Forward.Egress)
		}
		return st.port(a.Iface).Carried, uint64(r.Got()), st.Forward.Egress.Qdisc
	}
	await(t, "the queue is empty", func() bool {
		return strings.Contains(run(t, w.Lab, "host0", "tc -s qdisc show dev "+b.Iface), "backlog 0b 0p")
	})
	carried, got, dropped := sums()
	s.Send(s.Sent()+n, nil)
	await(t, "the sums hold", func() bool {
		c, g, d := sums()
		return c-carried >= n && c-carried == g-got+d-dropped
	})
	c, g, d := sums()
	t.Logf("%d carried, %d arrived, %d dropped", c-carried, g-got, d-dropped)
	if d-dropped < n/2 || g == got {
		t.Errorf("%d arrived, %d dropped of %d", g-got, d-dropped, n)
	}
	if text := w.d[0].Status(t); !strings.Contains(text, fmt.Sprintf("dropped at the egress: 0 by devices, %d by queueing disciplines", d)) {
		t.Error(text)
	}
}

// TestCarriedStopped: where the kernel forwards it has the flow soon after the
// daemon was stopped, and the programs again once it goes on.
func TestCarriedStopped(t *testing.T) {
	w := carrying(t, 2)
	a, b := pods(w.Lab, 0)[0], pods(w.Lab, 0)[1]
	for _, key := range []string{"net.ipv4.conf.all.forwarding", "net.ipv4.conf." + a.Iface + ".forwarding", "net.ipv4.conf." + b.Iface + ".forwarding"} {
		if err := w.SetSysctl("host0", key, "1"); err != nil {
			t.Fatal(err)
		}
	}
	labtest.Warm(t, w.Lab, a.Node, ip(b))
	carried := func() uint64 { return statusOf(t, w.d[0]).Forward.Carried }
	await(t, "carried", func() bool {
		try(t, w.Lab, a.Node, "ping -c 1 -W 1 "+ip(b))
		return carried() > 0
	})
	byKernel := func() string { // /proc/net/snmp: Ip: ... ForwDatagrams
		fields := strings.Fields(strings.Split(run(t, w.Lab, "host0", "grep ^Ip: /proc/net/snmp"), "\n")[1])
		return fields[6]
	}
	flow := labtest.StartFlow(t, w.Lab, a, b, 1)
	flow.Progress(1500) // it is asked, and answers
	before := byKernel()
	if now := byKernel(); now != before {
		t.Errorf("the kernel forwards: %s, %s", before, now)
	}
	w.d[0].Cmd.Process.Signal(syscall.SIGSTOP)
	stopped := time.Now()
	await(t, "the kernel forwards", func() bool { return byKernel() != before })
	t.Logf("after %v", time.Since(stopped))
	flow.Progress(300)
	w.d[0].Cmd.Process.Signal(syscall.SIGCONT)
	again := carried()
	await(t, "carried again", func() bool { return carried() > again+100 })
	sent, lost, doubled := flow.Stop()
	s := statusOf(t, w.d[0])
	t.Logf("%d sent, %d lost, %d doubled; %+v", sent, lost, doubled, s.Forward)
	if lost > 0 || doubled > 0 || s.Forward.Verdicts["reader-stalled"] == 0 {
		t.Errorf("%d lost, %d doubled of %d", lost, doubled, sent)
	}
}

// TestCarriedChanges: a flow loses nothing while other routes come and go, ten
// thousand a second, longer and shorter than its own.
func TestCarriedChanges(t *testing.T) {
	labtest.Need(t, "ip")
	w := carrying(t, 2)
	eachFamily(t, w, func(t *testing.T, a, b lab.Pod) { testCarriedChanges(t, w, a, b) })
}

func testCarriedChanges(t *testing.T, w *world, a, b lab.Pod) {
	before := statusOf(t, w.d[0])
	labtest.Warm(t, w.Lab, a.Node, ip(b))
	lines := strings.Builder{}
	const changes = 10000
	for i := range changes / 4 {
		wide, narrow := fmt.Sprintf("10.%d.0.0/16 dev %s", 64+i%2, a.Iface), fmt.Sprintf("10.65.%d.%d/32 dev %s", i%2, 100+i%100, b.Iface)
		if b.Addr.Addr().Is6() {
			wide, narrow = fmt.Sprintf("fd00:10:%d::/48 dev %s", 64+i%2, a.Iface), fmt.Sprintf("fd00:10:65:%d::%d/128 dev %s", i%2, 100+i%100, b.Iface)
		}
		fmt.Fprintf(&lines, "route replace %s\nroute replace %s\nroute del %s\nroute del %s\n", wide, narrow, narrow, wide)
	}
	file := filepath.Join(t.TempDir(), "batch")
	if err := os.WriteFile(file, []byte(lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	flow := labtest.StartFlow(t, w.Lab, a, b, 5)
	began := time.Now()
	for range 3 {
		run(t, w.Lab, "host0", "ip -batch "+file)
	}
	took := time.Since(began)
	sent, lost, doubled := flow.Stop()
	s := statusOf(t, w.d[0])
	t.Logf("%d changes in %v; %d sent, %d lost, %d doubled, %d carried", 3*changes, took.Round(time.Millisecond), sent, lost, doubled, s.Forward.Carried-before.Forward.Carried)
	if lost > 0 || doubled > 0 || s.Forward.Carried-before.Forward.Carried < uint64(sent)/2 {
		t.Errorf("%+v", s.Forward)
	}
	sumUp(t, &s, 0)
}
