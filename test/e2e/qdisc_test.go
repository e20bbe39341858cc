package e2e

import (
	"fmt"
	"testing"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
)

// TestBandwidthLimit puts a limit on a pod's interface while the program runs,
// as the CNI's bandwidth plugin does: it holds, for TCP and for UDP.
func TestBandwidthLimit(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "iperf3", "tc")
	w := start(t, lab.Spec{Form: lab.FormSlash32, PodsPerHost: 2})
	from, to := pods(w.Lab, 0)[0], pods(w.Lab, 0)[1]
	const rate = 8e6
	run(t, w.Lab, "host0", "tc qdisc add dev "+to.Iface+" root tbf rate 8mbit burst 16kb latency 20ms")
	const size = 1000
	r := transfer(t, w.Lab, from.Node, to, fmt.Sprintf("-u -b 80M -l %d -t1", size))
	sum := r.End.Sum
	passed, sent := (sum.Packets-sum.Lost)*size*8/sum.Seconds, sum.Packets*size*8/sum.Seconds
	if passed > 1.5*rate {
		t.Errorf("UDP: %.1f Mbit/s of %.1f pass a limit of 8", passed/1e6, sent/1e6)
	}
	if sent < 2*rate {
		t.Errorf("UDP: %.1f Mbit/s are sent, too few to be limited", sent/1e6)
	}
	r = transfer(t, w.Lab, from.Node, to, "-t1")
	if r.End.Received.BPS > 1.5*rate {
		t.Errorf("TCP: %.1f Mbit/s pass a limit of 8", r.End.Received.BPS/1e6)
	}
	run(t, w.Lab, "host0", "tc qdisc del dev "+to.Iface+" root")
	r = transfer(t, w.Lab, from.Node, to, "-u -b 80M -l 1000 -t1")
	if share := 1 - r.End.Sum.Lost/r.End.Sum.Packets; share < 0.9 {
		t.Errorf("UDP: %.0f of %.0f lost though the limit is gone", r.End.Sum.Lost, r.End.Sum.Packets)
	}
}
