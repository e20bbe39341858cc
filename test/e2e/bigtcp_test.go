package e2e

import (
	"testing"

	"github.com/vishvananda/netlink"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
	"proxyarpd/internal/nstest"
)

// TestBigTCP lets pods send super-packets of more than 64 KB, whose IPv4 total
// length is 0 (BIG TCP, Linux 6.3).
func TestBigTCP(t *testing.T) {
	labtest.Need(t, "iperf3")
	w := start(t, lab.Spec{Form: lab.FormCalico, PodsPerHost: 2})
	const size = 185000
	big := func(node, dev string) {
		err := w.Lab.Do(node, func() error {
			l, err := netlink.LinkByName(dev)
			if err != nil {
				return err
			}
			if err := netlink.LinkSetGSOIPv4MaxSize(l, size); err != nil {
				return err
			}
			return netlink.LinkSetGROIPv4MaxSize(l, size)
		})
		if err != nil {
			nstest.Skip(t, "BIG TCP for IPv4 (Linux 6.3): %v", err)
		}
	}
	mine := pods(w.Lab, 0)
	for _, p := range mine {
		big(p.Node, p.Peer)
		big("host0", p.Iface)
	}
	frames := tcpdump(t, w.Lab, "host0", mine[0].Iface, "-Q in tcp and greater 70000")
	r := transfer(t, w.Lab, mine[0].Node, mine[1], "-n 200M")
	if len(frames.stop("")) == 0 {
		t.Error("no frame of more than 70000 bytes was sent: this tested nothing")
	}
	// The server counts until the client says that it is done, which may overtake what the sockets hold.
	if r.End.Received.Bytes < 200e6-8e6 {
		t.Errorf("%.0f bytes received", r.End.Received.Bytes)
	}
	t.Logf("%.0f Mbit/s, %.0f retransmissions", r.End.Received.BPS/1e6, r.End.Sent.Retransmits)
	s := statusOf(t, w.d[0])
	if n := s.Forward.Drops["PKT_TOO_BIG"] + s.Forward.Drops["SKB_GSO_SEG"] + s.Forward.Drops["IP_INHDR"]; n != 0 {
		t.Errorf("drops: %v", s.Forward.Drops)
	}
}
