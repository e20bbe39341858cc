package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
	"proxyarpd/internal/wire"
)

// TestProxySenders: a target of --proxy is answered to whom rp_filter lets in, a
// gateway to everybody, and those who are not routed to their interface are counted.
func TestProxySenders(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ip")
	for _, engine := range []string{"af_packet", "ebpf", "none"} {
		for filter, spoofed := range []bool{0: true, 1: false, 2: false} { // loose is strict where the interface has no address
			w := start(t, lab.Spec{PodsPerHost: 2}, "--engine", engine, "--rp-filter", fmt.Sprint(filter))
			pod := listen(t, w.Lab, "ns0", "eth0", unix.ETH_P_ARP)
			unrouted := func() uint64 {
				s := statusOf(t, w.d[0])
				if n := s.port("veth0").ARPUnrouted; n != s.ARP.Unrouted {
					t.Errorf("engine %s, --rp-filter %d: %d requests of senders that are not routed here, in all %d", engine, filter, n, s.ARP.Unrouted)
				}
				return s.ARP.Unrouted
			}
			for _, c := range []struct {
				name, target, sender string
				want, unrouted       bool
			}{
				{"its own", "10.20.1.3", "10.20.1.2", true, false},
				{"routed to another pod", "10.20.1.3", "10.20.1.4", spoofed, false},
				{"routed to the uplink", "10.20.1.5", "10.20.1.3", spoofed, false}, // 10.20.1.4 it has used as its own
				{"the host's", "10.20.1.3", host0IP, false, false},
				{"gateway, its own", gateway, "10.20.1.2", true, false},
				{"gateway, routed to another pod", gateway, "10.20.1.4", true, true},
				{"gateway, not routed", gateway, "10.99.0.1", true, true},
				{"gateway, the host's", gateway, host0IP, true, true},
			} {
				before := unrouted()
				ask := func() {
					if got := pod.answersARP(c.target, c.sender); got != c.want {
						t.Errorf("engine %s, --rp-filter %d: %s: answered %t", engine, filter, c.name, got)
					}
				}
				if ask(); !c.unrouted {
					if n := unrouted(); n != before {
						t.Errorf("engine %s, --rp-filter %d: %s: counted as not routed here", engine, filter, c.name)
					}
					continue
				}
				// Not looked at while events are unread, such as those of who asked before.
				labtest.Await(t, c.name+": counted as not routed here", func() bool {
					if unrouted() == before {
						ask()
					}
					return unrouted() > before
				})
			}
		}
	}
}

// TestProxyRace asks for a target in the instant in which its route appears,
// while other routes come and go. None has to be asked for twice.
func TestProxyRace(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ip")
	w := start(t, lab.Spec{}, "--proxy", "10.20.9.0/24")
	pod := listen(t, w.Lab, "ns0", "eth0", unix.ETH_P_ARP)
	var routes *netlink.Handle
	if err := w.Do("host0", func() (err error) { routes, err = netlink.NewHandle(unix.NETLINK_ROUTE); return err }); err != nil {
		t.Fatal(err)
	}
	defer routes.Close()
	route := func(dst netip.Prefix) *netlink.Route {
		return &netlink.Route{Gw: net.ParseIP(host1IP), Dst: &net.IPNet{IP: dst.Addr().AsSlice(), Mask: net.CIDRMask(dst.Bits(), 32)}}
	}
	const targets, others = 200, 50
	for i := range targets {
		for j := range others {
			other := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 30, byte(i), byte(j)}), 32)
			if err := routes.RouteAdd(route(other)); err != nil {
				t.Fatal(err)
			}
		}
		target := netip.AddrFrom4([4]byte{10, 20, 9, byte(i)})
		if err := routes.RouteAdd(route(netip.PrefixFrom(target, 32))); err != nil {
			t.Fatal(err)
		}
		ask := pod.whoHas(target.String(), "10.20.1.2")
		pod.send(ask.frame())
		if pod.next(time.Second, func(f wire.Ethernet) bool {
			a := wire.ARP(f.Payload())
			return a.Op() == wire.ARPReply && a.SenderIP() == target
		}) == nil {
			t.Errorf("%v is not answered", target)
		}
	}
	s := statusOf(t, w.d[0])
	p := s.port("veth0")
	t.Log(p.ARPVerdicts)
	if n := p.ARPVerdicts["arp-not-proxied"]; n != 0 {
		t.Errorf("%d of %d requests were refused; %v", n, targets, p.ARPVerdicts)
	}
}
