package e2e

import (
	"testing"

	"github.com/vishvananda/netlink"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
	"proxyarpd/internal/nstest"
)

// TestBigTCP lets pods send super-packets of more than 64 KB (BIG TCP): the total length of
// IPv4 is 0 then (Linux 6.3), and IPv6 has a jumbo payload option (Linux 5.19).
func TestBigTCP(t *testing.T) {
	labtest.Need(t, "iperf3")
	w := start(t, lab.Spec{Form: lab.FormCalico, PodsPerHost: 2})
	const size = 185000
	for _, family := range []struct {
		name, frames string
		limits       [2]func(netlink.Link, int) error
		pods         []lab.Pod
	}{
		{"IPv4", "tcp and greater 70000", [...]func(netlink.Link, int) error{netlink.LinkSetGSOIPv4MaxSize, netlink.LinkSetGROIPv4MaxSize}, pods(w.Lab, 0)},
		{"IPv6", "ip6 and greater 70000", [...]func(netlink.Link, int) error{netlink.LinkSetGSOMaxSize, netlink.LinkSetGROMaxSize}, pods6(t, w.Lab, 0)},
	} {
		t.Run(family.name, func(t *testing.T) {
			if family.name == "IPv6" {
				labtest.NeedIPv6(t)
			}
			big := func(node, dev string) {
				err := w.Lab.Do(node, func() error {
					l, err := netlink.LinkByName(dev)
					if err != nil {
						return err
					}
					for _, set := range family.limits {
						if err := set(l, size); err != nil {
							return err
						}
					}
					return nil
				})
				if err != nil {
					nstest.Skip(t, "BIG TCP: %v", err)
				}
			}
			for _, p := range family.pods {
				big(p.Node, p.Peer)
				big("host0", p.Iface)
			}
			before := statusOf(t, w.d[0])
			frames := tcpdump(t, w.Lab, "host0", family.pods[0].Iface, "-Q in "+family.frames)
			r := transfer(t, w.Lab, family.pods[0].Node, family.pods[1], "-n 200M")
			if len(frames.stop("")) == 0 {
				t.Error("no frame of more than 70000 bytes was sent: this tested nothing")
			}
			// The server counts until the client says that it is done, which may overtake what the sockets hold.
			if r.End.Received.Bytes < 200e6-8e6 {
				t.Errorf("%.0f bytes received", r.End.Received.Bytes)
			}
			t.Logf("%.0f Mbit/s, %.0f retransmissions", r.End.Received.BPS/1e6, r.End.Sent.Retransmits)
			s := statusOf(t, w.d[0])
			if s.Forward.PacketsIn == before.Forward.PacketsIn {
				t.Error("none of it was forwarded here")
			}
			if n := s.Forward.Drops["PKT_TOO_BIG"] + s.Forward.Drops["SKB_GSO_SEG"] + s.Forward.Drops["IP_INHDR"]; n != 0 {
				t.Errorf("drops: %v", s.Forward.Drops)
			}
		})
	}
}
