package e2e

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
)

// narrow is an MTU below the pods' 1500.
const narrow = 1300

// TestMTU sends what does not fit: into a narrow pod on the other host, on the
// same host, and into a narrow wire.
func TestMTU(t *testing.T) {
	labtest.Need(t, "ping", "iperf3", "tcpdump", "ip")
	for _, c := range []struct {
		name    string
		wire    int
		narrow  func(*lab.Lab) lab.Pod // the pod behind the narrow place
		router  string                 // who has to say so
		counted int                    // the host whose program counts
	}{
		{"pod on the other host", 0, func(l *lab.Lab) lab.Pod { return pods(l, 1)[0] }, host1IP, 1},
		{"pod on the same host", 0, func(l *lab.Lab) lab.Pod { return pods(l, 0)[1] }, host0IP, 0},
		{"wire", narrow, func(l *lab.Lab) lab.Pod { return pods(l, 1)[0] }, host0IP, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := &world{Lab: labtest.New(t, lab.Spec{Form: lab.FormSlash32, PodsPerHost: 2, WireMTU: c.wire})}
			from, to := pods(w.Lab, 0)[0], c.narrow(w.Lab)
			if c.wire == 0 {
				run(t, w.Lab, fmt.Sprintf("host%d", to.Host), fmt.Sprintf("ip link set %s mtu %d", to.Iface, narrow))
				run(t, w.Lab, to.Node, fmt.Sprintf("ip link set %s mtu %d", to.Peer, narrow))
				// Else the pod's own TCP would ask for segments that fit.
				run(t, w.Lab, to.Node, fmt.Sprintf("ip route replace default via %s dev %s advmss 1460", gateway, to.Peer))
			}
			w.daemons(t)
			testMTU(t, w, from, to, c.router, c.counted)

			run(t, w.Lab, "host0", "ip link set "+uplink+" mtu 1500")
			run(t, w.Lab, "host1", "ip link set "+uplink+" mtu 1500")
			run(t, w.Lab, fmt.Sprintf("host%d", to.Host), "ip link set "+to.Iface+" mtu 1500")
			run(t, w.Lab, to.Node, "ip link set "+to.Peer+" mtu 1500")
			await(t, "all is wide", func() bool {
				run(t, w.Lab, from.Node, "ip route flush cache")
				_, code := try(t, w.Lab, from.Node, "ping -n -c1 -W1 -M do -s 1472 "+ip(to))
				return code == 0
			})
		})
	}
}

func testMTU(t *testing.T, w *world, from, to lab.Pod, router string, counted int) {
	// DF clear: cut into pieces on the way, and put together by the pod.
	pieces := tcpdump(t, w.Lab, to.Node, to.Peer, "-c 6 -Q in icmp")
	for range 3 {
		ping(t, w.Lab, from.Node, ip(to), "-M", "dont", "-s", "1472")
	}
	text := pieces.read("-v")
	if n := strings.Count(text, "flags [+]"); n < 3 || strings.Contains(text, "bad cksum") {
		t.Errorf("%d first pieces came:\n%s", n, text)
	}
	for _, m := range regexp.MustCompile(`proto ICMP \(1\), length (\d+)\)`).FindAllStringSubmatch(text, -1) {
		if len(m[1]) > 4 || len(m[1]) == 4 && m[1] > fmt.Sprint(narrow) {
			t.Errorf("a piece of %s bytes", m[1])
		}
	}

	// DF set: the sender is told, by whom and what fits.
	out, code := try(t, w.Lab, from.Node, "ping -n -c1 -W1 -M do -s 1472 "+ip(to))
	if want := fmt.Sprintf("From %s icmp_seq=1 Frag needed and DF set (mtu = %d)", router, narrow); code != 1 || !strings.Contains(out, want) {
		t.Errorf("want %q:\n%s", want, out)
	}
	awaitDrops(t, w.d[counted], "PKT_TOO_BIG", 1)
	if got := run(t, w.Lab, from.Node, "ip route get "+ip(to)); !strings.Contains(got, fmt.Sprintf("mtu %d", narrow)) {
		t.Errorf("the pod has not learnt it: %s", got)
	}
	ping(t, w.Lab, from.Node, ip(to), "-M", "do", "-s", fmt.Sprint(narrow-28)) // this fits exactly

	// TCP finds out by itself; its super-packets are judged by their segments.
	run(t, w.Lab, from.Node, "ip route flush cache")
	if err := w.SetSysctl(from.Node, "net.ipv4.tcp_mtu_probing", "0"); err != nil {
		t.Fatal(err)
	}
	before := statusOf(t, w.d[counted])
	r := transfer(t, w.Lab, from.Node, to, "-n 20M")
	after := statusOf(t, w.d[counted])
	if n := after.Forward.Drops["PKT_TOO_BIG"] - before.Forward.Drops["PKT_TOO_BIG"]; n == 0 || n > 100 {
		t.Errorf("%d packets were too big while TCP learnt the MTU", n)
	}
	t.Logf("with PMTUD: %.0f Mbit/s", r.End.Received.BPS/1e6)
	if n := after.Forward.PacketsOut - before.Forward.PacketsOut; n > 20e6/1000 {
		t.Errorf("%d packets for 20 MB: super-packets that fit by their segments were cut", n)
	}

	// Without DF even super-packets get through, in pieces.
	run(t, w.Lab, from.Node, "ip route flush cache")
	if err := w.SetSysctl(from.Node, "net.ipv4.ip_no_pmtu_disc", "1"); err != nil {
		t.Fatal(err)
	}
	before = after
	r = transfer(t, w.Lab, from.Node, to, "-n 5M -M 1400")
	after = statusOf(t, w.d[counted])
	t.Logf("in pieces: %.0f Mbit/s", r.End.Received.BPS/1e6)
	if n := after.Forward.Drops["PKT_TOO_BIG"] - before.Forward.Drops["PKT_TOO_BIG"]; n > 0 {
		t.Errorf("%d packets without DF were too big", n)
	}
	if n := after.Forward.Drops["SKB_GSO_SEG"]; n > 0 {
		t.Errorf("%d packets could not be cut", n)
	}
}
