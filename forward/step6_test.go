package forward

import (
	"bytes"
	"testing"

	"proxyarpd/forward/route"
	"proxyarpd/internal/wire"
)

func TestStep6Verdicts(t *testing.T) {
	const pod1, pod2, far, small = "2001:db8::1", "2001:db8::2", "2001:db8:1::9", "2001:db8:2::9"
	plain := func() []byte { return packet6(pod1, pod2, 18) }
	other := func(f *Frame) {
		f.PktType = packetOtherHost
		f.ethernet().SetDst(wire.MAC{2, 9, 9, 9, 9, 9})
	}
	gso := func(dst string, payload, size int, edit func(Vnet)) []byte {
		ip, v := gso6(wire.ProtoTCP, wire.ProtoTCP, nil, payload, size)
		copy(ip[24:], wire.IPv6(packet6(pod1, dst, 0)[VnetLen+wire.EthernetLen:])[24:40])
		if edit != nil {
			edit(v)
		}
		return framed6(v, ip)
	}
	tests := []struct {
		name    string
		from    int32
		buf     []byte
		edit    func(*Frame)
		verdict route.Verdict
		icmp    route.ICMPError
		out     int32
	}{
		{name: "pod to pod", buf: plain(), verdict: route.Forward, out: ifPod2},
		{name: "pod to uplink", buf: packet6(pod1, far, 18), verdict: route.Forward, out: ifUplink},
		{name: "without link layer", buf: packet6(pod1, "2001:db8:4::1", 18), verdict: route.Forward, out: ifTun},
		{name: "uplink to uplink", from: ifUplink, buf: packet6(far, small, 18), verdict: route.DropTransit, out: ifSmall},
		{name: "unknown interface", from: 99, buf: plain(), verdict: route.DropIfUnknown},
		{name: "tagged", buf: plain(), edit: func(f *Frame) { f.Tagged = true }, verdict: route.IgnoreTagged},
		{name: "multicast at layer 2", buf: plain(), edit: func(f *Frame) { f.PktType = 2 }, verdict: route.IgnoreType},
		{name: "other host's", buf: plain(), edit: other, verdict: route.DropOtherHost},
		{name: "other type but our MAC", buf: plain(), edit: func(f *Frame) { f.PktType = packetOtherHost }, verdict: route.Forward, out: ifPod2},
		{name: "too short for a header", buf: plain()[:VnetLen+wire.EthernetLen+39], verdict: route.DropIPInHdr},
		{name: "version 4", buf: packet6(pod1, pod2, 18, func(_ Vnet, ip wire.IPv6) { ip[0] = 0x45 }), verdict: route.DropUnhandledProto},
		{name: "payload beyond the frame", buf: packet6(pod1, pod2, 18, func(_ Vnet, ip wire.IPv6) { ip.SetPayloadLen(27) }), verdict: route.DropPktTooSmall},
		{name: "no payload", buf: packet6(pod1, pod2, 18, func(_ Vnet, ip wire.IPv6) { ip.SetPayloadLen(0) }), verdict: route.Forward, out: ifPod2},
		{name: "source multicast", buf: packet6("ff02::1", pod2, 18), verdict: route.DropIPInHdr},
		{name: "source loopback", buf: packet6("::1", pod2, 18), verdict: route.DropIPInHdr},
		{name: "destination loopback", buf: packet6(pod1, "::1", 18), verdict: route.DropIPInHdr},
		{name: "destination multicast", buf: packet6(pod1, "ff02::1", 18), verdict: route.IgnoreType},
		{name: "destination link-local", buf: packet6(pod1, "fe80::1", 18), verdict: route.Local},
		{name: "destination of this host", buf: packet6(pod1, own6.String(), 18), verdict: route.Local},
		{name: "source unspecified", buf: packet6("::", pod2, 18), verdict: route.DropIPInAddrErrors},
		{name: "source link-local", buf: packet6("fe80::1", pod2, 18), verdict: route.DropIPInAddrErrors, icmp: icmpError(1, 2, 0)},
		{name: "no route", buf: packet6(pod1, "2001:db8:abcd::1", 18), verdict: route.DropIPInNoRoutes, icmp: icmpError(1, 0, 0)},
		{name: "blackhole", buf: packet6(pod1, "2001:db8:70::1", 18), verdict: route.DropRouteBlackhole},
		{name: "unreachable", buf: packet6(pod1, "2001:db8:71::1", 18), verdict: route.DropRouteUnreachable, icmp: icmpError(1, 0, 0)},
		{name: "prohibit", buf: packet6(pod1, "2001:db8:72::1", 18), verdict: route.DropRouteProhibit, icmp: icmpError(1, 1, 0)},
		{name: "hop limit 1", buf: packet6(pod1, pod2, 18, hops(1)), verdict: route.DropTTLExpired, icmp: icmpError(3, 0, 0), out: ifPod2},
		{name: "hop limit 0", buf: packet6(pod1, pod2, 18, hops(0)), verdict: route.DropTTLExpired, icmp: icmpError(3, 0, 0), out: ifPod2},
		{name: "no neighbour", buf: packet6(pod1, "2001:db8:3::1", 18), verdict: route.Queue, out: ifUplink},
		{name: "too big", buf: packet6(pod1, small, 1300), verdict: route.DropPktTooBig, icmp: icmpError(2, 0, 1280), out: ifSmall},
		{name: "router alert", buf: withOptions(plain(), 5, 2, 0, 0), verdict: route.Forward, out: ifPod2},
		{name: "unknown option, to be skipped", buf: withOptions(plain(), 0x1e, 2, 0, 0), verdict: route.Forward, out: ifPod2},
		{name: "unknown option, to be dropped", buf: withOptions(plain(), 0x5e, 2, 0, 0), verdict: route.DropUnhandledProto},
		{name: "unknown option, to be told of", buf: withOptions(plain(), 0x9e, 2, 0, 0), verdict: route.DropUnhandledProto, icmp: icmpError(4, 2, 42)},
		{name: "unknown option and no route", buf: withOptions(packet6(pod1, "2001:db8:abcd::1", 18), 0xde, 2, 0, 0), verdict: route.DropUnhandledProto, icmp: icmpError(4, 2, 42)},
		{name: "unknown option to this host", buf: withOptions(packet6(pod1, own6.String(), 18), 0xde, 2, 0, 0), verdict: route.Local},
		{name: "bad option, from loopback", buf: withOptions(packet6("::1", pod2, 18), 0xde, 2, 0, 0), verdict: route.DropIPInHdr},
		{name: "GSO within the MTU", buf: gso(pod2, 9000, 1428, nil), verdict: route.Forward, out: ifPod2},
		{name: "GSO beyond the MTU", buf: gso(small, 9000, 1428, nil), verdict: route.DropPktTooBig, icmp: icmpError(2, 0, 1280), out: ifSmall},
		{name: "GSO of one short segment", buf: gso(small, 1000, 1428, nil), verdict: route.Forward, out: ifSmall},
		{name: "GSO type against protocol", buf: gso(pod2, 9000, 1428, func(v Vnet) { v[1] = gsoUDPL4 }), verdict: route.DropGSO, out: ifPod2},
		{name: "GSO type of IPv4", buf: gso(pod2, 9000, 1428, func(v Vnet) { v[1] = gsoTCPv4 }), verdict: route.DropGSO, out: ifPod2},
		{name: "BIG TCP", buf: gso(pod2, 200_000, 1428, nil), verdict: route.Forward, out: ifPod2},
	}
	table := builder6(route.Policy{}).Publish()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := Frame{Buf: tt.buf, Ifindex: tt.from, Ethernet: true}
			if tt.from == 0 {
				f.Ifindex = ifPod1
			}
			if tt.edit != nil {
				tt.edit(&f)
			}
			var r result
			step(table, &f, &r)
			if r.Verdict != tt.verdict || r.ICMP != tt.icmp {
				t.Errorf("verdict %v, ICMP %v; want %v, %v", r.Verdict, r.ICMP, tt.verdict, tt.icmp)
			}
			if tt.out != 0 && (r.Out == nil || r.Out.Ifindex != tt.out) {
				t.Errorf("out %+v, want interface %d", r.Out, tt.out)
			}
		})
	}
}

// TestStep6Rewrites: padding is cut off, the hop limit and the MACs change, and nothing else.
func TestStep6Rewrites(t *testing.T) {
	table := builder6(route.Policy{}).Publish()
	for name, sent := range map[string][]byte{
		"UDP":          packet6("2001:db8::1", "2001:db8:1::9", 2),
		"options":      withOptions(packet6("2001:db8::1", "2001:db8:1::9", 2), 5, 2, 0, 0),
		"fragment":     packet6("2001:db8::1", "2001:db8:1::9", 2, func(_ Vnet, ip wire.IPv6) { ip[6], ip[41], ip[42] = wire.ProtoFragment, 0, 8 }),
		"unknown next": packet6("2001:db8::1", "2001:db8:1::9", 2, func(_ Vnet, ip wire.IPv6) { ip[6] = 200 }),
	} {
		want := bytes.Clone(sent)
		copy(want[VnetLen:], macRouter[:])
		copy(want[VnetLen+6:], macUplink[:])
		want[VnetLen+wire.EthernetLen+7]--
		f := Frame{Buf: append(bytes.Clone(sent), make([]byte, 6)...), Ifindex: ifPod1, Ethernet: true}
		var r result
		if step(table, &f, &r); r.Verdict != route.Forward || !bytes.Equal(f.Buf, want) || f.Slot != 1 {
			t.Errorf("%s: %v\n% x, want\n% x", name, r.Verdict, f.Buf, want)
		}
	}
}

// TestStep6Padding: a payload length of 0 before hop-by-hop options says nothing of the
// length, so what is there is forwarded, as by ip6_rcv_core.
func TestStep6Padding(t *testing.T) {
	table := builder6(route.Policy{}).Publish()
	b := withOptions(packet6("2001:db8::1", "2001:db8::2", 2), 5, 2, 0, 0)
	wire.IPv6(b[VnetLen+wire.EthernetLen:]).SetPayloadLen(0)
	f := Frame{Buf: append(b, 1, 2, 3), Ifindex: ifPod1, Ethernet: true}
	var r result
	if step(table, &f, &r); r.Verdict != route.Forward || len(f.Buf) != len(b)+3 {
		t.Errorf("%v, %d bytes of %d", r.Verdict, len(f.Buf), len(b)+3)
	}
}
