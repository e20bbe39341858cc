package e2e

import (
	"strings"
	"testing"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
	"proxyarpd/internal/nstest"
)

// TestGRO has the uplink of host1 put packets together that came over the wire
// one by one, in each way that a device can, before the program sees them.
func TestGRO(t *testing.T) {
	labtest.Need(t, "iperf3", "ethtool", "tcpdump")
	for _, feature := range []string{"rx-gro-list off rx-udp-gro-forwarding off", "rx-udp-gro-forwarding on", "rx-gro-list on"} {
		t.Run(feature, func(t *testing.T) {
			t.Parallel()
			w := start(t, lab.Spec{Form: lab.FormSlash32})
			run(t, w.Lab, "host0", "ethtool -K "+uplink+" tx off tso off gso off sg off")
			if out, code := try(t, w.Lab, "host1", "ethtool -K "+uplink+" gro on "+feature); code != 0 {
				nstest.Skip(t, "GRO of a veth: %s", out)
			}
			from, to := pods(w.Lab, 0)[0], pods(w.Lab, 1)[0]
			seen := tcpdump(t, w.Lab, "host1", uplink, "-Q in greater 2000")
			r := transfer(t, w.Lab, from.Node, to, "-n 50M")
			t.Logf("TCP: %.0f Mbit/s, %.0f retransmissions", r.End.Received.BPS/1e6, r.End.Sent.Retransmits)
			if n := strings.Count(seen.stop(""), "\n"); n == 0 {
				t.Error("nothing was put together: this tested nothing")
			} else {
				t.Logf("%d super-packets", n)
			}
			wantTTL(t, w.Lab, from.Node, ip(to), 62)
			labtest.EachOnce(t, w.Lab, from, to, 10000)
			// Cut before it leaves, the pod's kernel checks every sum.
			run(t, w.Lab, "host1", "ethtool -K "+to.Iface+" tx off tso off gso off sg off")
			labtest.EachOnce(t, w.Lab, from, to, 10000)
			transfer(t, w.Lab, from.Node, to, "-n 10M")
			if drops := statusOf(t, w.d[1]).Forward.Drops; len(drops) != 0 {
				t.Errorf("drops: %v", drops)
			}
		})
	}
}
