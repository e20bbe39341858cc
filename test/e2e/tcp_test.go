package e2e

import (
	"regexp"
	"strconv"
	"strings"
	"testing"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
)

// TestTransfer moves data between pods with all the offloads that veths have.
func TestTransfer(t *testing.T) {
	labtest.Need(t, "iperf3")
	w := start(t, lab.Spec{Form: lab.FormSlash32, PodsPerHost: 2})
	mine, others := pods(w.Lab, 0), pods(w.Lab, 1)
	for _, c := range []struct {
		name string
		to   lab.Pod
		args string
	}{
		{"one host", mine[1], "-n 200M"},
		{"one host, back", mine[1], "-n 200M -R"},
		{"across", others[0], "-n 200M"},
		{"across, four streams", others[0], "-n 100M -P4"},
	} {
		r := transfer(t, w.Lab, mine[0].Node, c.to, c.args)
		t.Logf("%s: %.0f Mbit/s, %.0f retransmissions", c.name, r.End.Received.BPS/1e6, r.End.Sent.Retransmits)
		if r.End.Received.Bytes < 50e6 {
			t.Errorf("%s: %.0f bytes received", c.name, r.End.Received.Bytes)
		}
	}
	for _, to := range []lab.Pod{mine[1], others[0]} {
		r := transfer(t, w.Lab, mine[0].Node, to, "-u -b 20M -l 1400 -t1")
		if r.End.Sum.Packets < 1000 || r.End.Sum.Lost > 0 {
			t.Errorf("UDP to %s: %.0f of %.0f datagrams lost", to.Name, r.End.Sum.Lost, r.End.Sum.Packets)
		}
	}
	if s := statusOf(t, w.d[0]); s.Forward.Drops["SKB_GSO_SEG"] != 0 || s.Forward.Drops["IP_CSUM"] != 0 {
		t.Errorf("drops: %v", s.Forward.Drops)
	}
}

// TestChecksums looks at what comes over a wire that computes no checksum and
// cuts no segment: what the pods left to the devices is done by then.
func TestChecksums(t *testing.T) {
	labtest.Need(t, "iperf3", "tcpdump", "ethtool")
	for _, podsToo := range []bool{false, true} {
		name := "uplinks without offloads"
		if podsToo {
			name = "nobody has offloads"
		}
		t.Run(name, func(t *testing.T) {
			w := start(t, lab.Spec{Form: lab.FormSlash32})
			off := func(node, dev string) {
				run(t, w.Lab, node, "ethtool -K "+dev+" tx off tso off gso off gro off sg off")
			}
			for host, node := range []string{"host0", "host1"} {
				off(node, uplink)
				if podsToo {
					p := pods(w.Lab, host)[0]
					off(node, p.Iface)
					off(p.Node, p.Peer)
				}
			}
			from, to := pods(w.Lab, 0)[0], pods(w.Lab, 1)[0]
			there := tcpdump(t, w.Lab, "host1", uplink, "-Q in ip")
			back := tcpdump(t, w.Lab, "host0", uplink, "-Q in ip")
			transfer(t, w.Lab, from.Node, to, "-n 8M")
			transfer(t, w.Lab, from.Node, to, "-n 2M -R")
			r := transfer(t, w.Lab, from.Node, to, "-u -b 20M -l 700 -n 2M")
			if r.End.Sum.Lost > 0 {
				t.Errorf("%.0f of %.0f datagrams lost", r.End.Sum.Lost, r.End.Sum.Packets)
			}
			checkCapture(t, "there", there.stop("-e -vv"), 4000, 2000)
			checkCapture(t, "back", back.stop("-e -vv"), 1000, 1)
		})
	}
}

var (
	lengthRE = regexp.MustCompile(`ethertype IPv4 \(0x0800\), length (\d+):`)
	badRE    = regexp.MustCompile(`\(incorrect|bad (udp )?cksum|no cksum`)
)

// checkCapture reads tcpdump -e -vv.
func checkCapture(t *testing.T, name, text string, tcp, udp int) {
	t.Helper()
	good := strings.Count(text, "(correct)")
	goodUDP := strings.Count(text, "[udp sum ok]")
	if good < tcp || goodUDP < udp {
		t.Errorf("%s: %d good TCP and %d good UDP checksums, want %d and %d at least", name, good, goodUDP, tcp, udp)
	}
	for line := range strings.Lines(text) {
		if badRE.MatchString(line) {
			t.Fatalf("%s: %s", name, line)
		}
		m := lengthRE.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		if n, _ := strconv.Atoi(m[1]); n > 1514 {
			t.Fatalf("%s: frame of %d bytes: %s", name, n, line)
		}
	}
}
