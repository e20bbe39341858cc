package forward_test

import (
	"bytes"
	"net/netip"
	"testing"
	"testing/synctest"

	"proxyarpd/forward"
	"proxyarpd/forward/route"
	"proxyarpd/internal/wire"
)

// TestRedirect6: who sends to a neighbour over this host is told of it, in the form of RFC
// 4861, once a second, and the packet is quoted as it came.
func TestRedirect6(t *testing.T) { synctest.Test(t, testRedirect6) }

func testRedirect6(t *testing.T) {
	for name, c := range map[string]struct {
		dst    string
		size   int
		target netip.Addr
		known  bool
		quoted int
		tooBig bool
	}{
		"to the router":     {dst: far, size: 21, target: addr("fe80::16"), known: true, quoted: 64},
		"to a neighbour":    {dst: "2001:db8:ff::9", size: 20, target: addr("2001:db8:ff::9"), quoted: 64},
		"a long packet":     {dst: far, size: 1400, target: addr("fe80::16"), known: true, quoted: 1184},
		"one that does not": {dst: far, size: 1500, target: addr("fe80::16"), known: true, quoted: 1184, tooBig: true},
	} {
		l, p, b, _ := newLoop6(t)
		sender := addr("2001:db8:ff::50")
		b.SetLink(route.Link{Ifindex: forward.IfUplink, Name: "ens192", Flags: route.LinkUp | route.LinkEthernet | route.LinkUplink | route.LinkKernelForwards6,
			MAC: forward.MACUplink, MTU: 1500, MTU6: 1500, Slot: 3})
		b.SetNeighbour(forward.IfUplink, sender, &route.Neighbour{MAC: wire.MAC{2, 5}, Valid: true})
		l.Publish(b.Publish())
		in := forward.Packet6(sender.String(), c.dst, c.size)
		came := bytes.Clone(in[forward.VnetLen+wire.EthernetLen:])
		for range 3 {
			p.Inject(forward.IfUplink, bytes.Clone(in))
		}
		once(t, l)
		var redirects, errors int
		for _, s := range p.Sent() {
			h := ip6(s)
			if h.NextHeader() != wire.ProtoICMPv6 {
				continue
			}
			msg := sound6(t, h)
			if msg[0] == wire.ICMPv6PacketTooBig {
				errors++
				continue
			}
			redirects++
			if h.HopLimit() != 255 || h.FlowInfo() != 0 || h.SrcAddr() != forward.Own6LL || h.DstAddr() != sender || wire.Ethernet(s.Buf[forward.VnetLen:]).Dst() != (wire.MAC{2, 5}) {
				t.Errorf("%s: % x", name, s.Buf)
			}
			opt := msg[40:]
			if msg[0] != 137 || msg[1] != 0 || netip.AddrFrom16([16]byte(msg[8:])) != c.target || netip.AddrFrom16([16]byte(msg[24:])) != addr(c.dst) {
				t.Errorf("%s: % x", name, msg[:40])
			}
			if c.known {
				if opt[0] != 2 || opt[1] != 1 || wire.MAC(opt[2:8]) != forward.MACRouter {
					t.Errorf("%s: option % x", name, opt[:8])
				}
				opt = opt[8:]
			}
			if opt[0] != 4 || int(opt[1])*8 != len(opt) || len(opt) != 8+c.quoted || !bytes.Equal(opt[2:8], make([]byte, 6)) || !bytes.Equal(opt[8:], came[:c.quoted]) {
				t.Errorf("%s: %d bytes quoted, want %d; % x", name, len(opt)-8, c.quoted, opt)
			}
		}
		if redirects != 3 {
			t.Errorf("%s: %d redirects, want 3 of 6 saved ones", name, redirects)
		}
		if (errors > 0) != c.tooBig {
			t.Errorf("%s: %d packets too big", name, errors)
		}
	}
}
