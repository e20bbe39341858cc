package e2e

import (
	"strings"
	"testing"
	"time"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
)

// bridged is a host whose first pod is behind a bridge, with the host's own addresses on
// it; the second is not.
func bridged(t *testing.T) (l *lab.Lab, behind, beside lab.Pod) {
	t.Helper()
	labtest.Need(t, "ping", "ip")
	labtest.NeedIPv6(t)
	l = labtest.New(t, lab.Spec{Form: lab.FormSlash32, Hosts: 1, PodsPerHost: 2})
	all := pods(l, 0)
	behind, beside = all[0], all[1]
	for _, line := range []string{
		"ip link add br0 type bridge", "ip link set br0 address 02:00:5e:00:53:99 up", "ip link set " + behind.Iface + " master br0",
		"ip addr add fe80::1/64 dev br0 nodad", "ip addr add 10.77.0.1/32 dev br0",
		"ip route replace " + ip(behind) + "/32 dev br0", "ip -6 route replace " + ip(labtest.OverIPv6(t, behind)) + "/128 dev br0",
	} {
		run(t, l, "host0", line)
	}
	run(t, l, behind.Node, "ip route add 10.77.0.1 dev eth0 scope link")
	return l, behind, beside
}

// TestBridgeKeepsMAC: a bridge takes frames to its own MAC alone, so with --keep-mac that is
// what is answered.
func TestBridgeKeepsMAC(t *testing.T) {
	t.Parallel()
	l, behind, beside := bridged(t)
	labtest.Daemon(t, l, "host0", append(flags(lab.FormSlash32), "--workload", "br0", "--keep-mac")...)
	wantTTL(t, l, behind.Node, ip(beside), 63)
	wantTTL(t, l, behind.Node, ip(labtest.OverIPv6(t, beside)), 63)
}

// TestBridgeMAC: as a bridge gets another MAC, who knows it by the former one is told.
func TestBridgeMAC(t *testing.T) {
	t.Parallel()
	l, behind, beside := bridged(t)
	addresses := []string{"10.77.0.1", "fe80::1"}
	ping(t, l, behind.Node, addresses[0])
	ping(t, l, behind.Node, addresses[1]+"%eth0")
	labtest.Daemon(t, l, "host0", append(flags(lab.FormSlash32), "--workload", "br0")...)
	for _, address := range addresses {
		entry := ""
		if !labtest.Within(3*time.Second, func() bool { // it would ask again after some 30 s
			entry = run(t, l, behind.Node, "ip neigh show dev eth0 to "+address)
			return strings.Contains(entry, answerMAC)
		}) {
			t.Errorf("the pod has %q", entry)
		}
	}
	wantTTL(t, l, behind.Node, ip(beside), 63)
	wantTTL(t, l, behind.Node, ip(labtest.OverIPv6(t, beside)), 63)
}
