package forward_test

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"proxyarpd/forward"
	"proxyarpd/forward/route"
	"proxyarpd/internal/wire"
)

// TestErrors6: each error goes to the packet's source, from an address of this host, and
// quotes as much of the packet as fits into 1280 bytes.
func TestErrors6(t *testing.T) {
	for name, c := range map[string]struct {
		packet     []byte
		typ, code  uint8
		rest       uint32
		quoted     int
		unanswered bool
	}{
		"time exceeded":                 {packet: forward.Packet6(pod1, far, 2000, forward.Hops(1)), typ: 3, quoted: 1232},
		"short":                         {packet: forward.Packet6(pod1, far, 20, forward.Hops(0)), typ: 3, quoted: 68},
		"packet too big":                {packet: forward.Packet6(pod1, "2001:db8:2::9", 1400), typ: 2, rest: 1280, quoted: 1232},
		"no route":                      {packet: forward.Packet6(pod1, "2002::1", 20), typ: 1, quoted: 68},
		"prohibit":                      {packet: forward.Packet6(pod1, "2001:db8:72::1", 20), typ: 1, code: 1, quoted: 68},
		"unknown option":                {packet: forward.WithOptions(forward.Packet6(pod1, far, 20), 0x9e, 0), typ: 4, code: 2, rest: 42, quoted: 76},
		"from this host's address":      {packet: forward.Packet6(podSide, far, 20, forward.Hops(1)), unanswered: true},
		"blackhole":                     {packet: forward.Packet6(pod1, "2001:db8:70::1", 20), unanswered: true},
		"about an error":                {packet: icmp6(wire.ICMPv6TimeExceeded, 1), unanswered: true},
		"about an echo request":         {packet: icmp6(wire.ICMPv6EchoRequest, 1), typ: 3, quoted: 68},
		"about an error behind options": {packet: forward.WithOptions(icmp6(wire.ICMPv6PacketTooBig, 1), 5, 2, 0, 0), unanswered: true},
		"about a fragment without a type": {packet: forward.Packet6(pod1, far, 0, forward.Hops(1), func(_ forward.Vnet, ip wire.IPv6) {
			ip[6], ip[40], ip[42], ip[43] = wire.ProtoFragment, wire.ProtoICMPv6, 0, 1
		}), typ: 3, quoted: 48},
		"about a later fragment": {packet: forward.Packet6(pod1, far, 8, forward.Hops(1), func(_ forward.Vnet, ip wire.IPv6) {
			ip[6], ip[40], ip[42], ip[43], ip[48] = wire.ProtoFragment, wire.ProtoICMPv6, 1, 0, 1
		}), typ: 3, quoted: 56},
	} {
		l, p, _, _ := newLoop6(t)
		quoted := bytes.Clone(c.packet[forward.VnetLen+wire.EthernetLen:])
		p.Inject(forward.IfPod1, c.packet)
		once(t, l)
		sent := p.Sent()
		if c.unanswered {
			if len(sent) != 0 {
				t.Errorf("%s: answered by % x", name, []byte(ip6(sent[0])))
			}
			continue
		}
		if len(sent) != 1 || sent[0].Ifindex != forward.IfPod1 || sent[0].Type != wire.EtherTypeIPv6 || counts(l, route.Originate) != 1 {
			t.Errorf("%s: sent %v, %v", name, sent, l.Counters().Read().ByVerdict)
			continue
		}
		eth := wire.Ethernet(sent[0].Buf[forward.VnetLen:])
		h := ip6(sent[0])
		msg := sound6(t, h)
		if eth.Dst() != forward.MACPod1 || eth.Src() != forward.MACHost || eth.Type() != wire.EtherTypeIPv6 {
			t.Errorf("%s: % x", name, []byte(eth[:14]))
		}
		if h.SrcAddr() != forward.Own6 || h.DstAddr() != addr(pod1) || h.HopLimit() != 64 || h.TrafficClass() != 0 || h.FlowLabel() == 0 {
			t.Errorf("%s: header % x", name, []byte(h[:40]))
		}
		if msg[0] != c.typ || msg[1] != c.code || binary.BigEndian.Uint32(msg[4:]) != c.rest {
			t.Errorf("%s: % x", name, msg[:8])
		}
		if len(msg) != 8+c.quoted || !bytes.Equal(msg[8:], quoted[:len(msg)-8]) {
			t.Errorf("%s: %d bytes quoted, want %d", name, len(msg)-8, c.quoted)
		}
	}
}

// TestRouteMTU6: a route's MTU that is locked counts in ip6_forward; one that is not counts
// as the packet leaves, which is quoted with the hop limit that it has by then.
func TestRouteMTU6(t *testing.T) {
	for _, c := range []struct {
		mtu    int
		locked bool
		told   uint32
		hops   byte
	}{{1400, true, 1400, 64}, {1400, false, 1400, 63}, {9000, true, 0, 0}, {9000, false, 0, 0}, {1000, true, 1280, 64}, {1000, false, 1000, 63}} {
		l, p, b, _ := newLoop6(t)
		b.SetRoutes(route.TableMain, netip.MustParsePrefix("2001:db8:1::/64"), []route.Route{{Table: route.TableMain, Type: route.TypeUnicast, MTU: c.mtu, MTULock: c.locked,
			Dev: forward.IfUplink, Nexthops: []route.Nexthop{{Ifindex: forward.IfUplink, Gateway: addr("fe80::16"), Weight: 1}}}})
		l.Publish(b.Publish())
		p.Inject(forward.IfPod1, forward.Packet6(pod1, far, 1400))
		p.Inject(forward.IfPod1, forward.Packet6(pod1, far, 900))
		once(t, l)
		var told uint32
		var hops byte
		for _, s := range p.Sent() {
			if h := ip6(s); h.NextHeader() == wire.ProtoICMPv6 {
				msg := sound6(t, h)
				told, hops = binary.BigEndian.Uint32(msg[4:]), msg[8+7]
			}
		}
		if told != c.told || hops != c.hops || counts(l, route.Forward) == 0 {
			t.Errorf("%+v: told of an MTU of %d, hop limit %d; %v", c, told, hops, l.Counters().Read().ByVerdict)
		}
	}
}

// TestErrorsNoAllocations6: a flood of packets that are too big, whose senders are all told,
// takes no memory.
func TestErrorsNoAllocations6(t *testing.T) {
	l, p, _, _ := newLoop6(t)
	p.Discard = true
	fresh := make([][]byte, 64)
	for i := range fresh {
		fresh[i] = forward.Packet6(pod1, "2001:db8:2::9", 1400)
	}
	f := forward.NewTestBatch(fresh, forward.IfPod1)
	if n := testing.AllocsPerRun(100, func() {
		f.Reset()
		l.Process(f)
	}); n != 0 || counts(l, route.Originate) == 0 {
		t.Errorf("%v allocations a batch, %d told", n, counts(l, route.Originate))
	}
}

// icmp6 makes an ICMPv6 message of 28 bytes.
func icmp6(typ uint8, hopLimit uint8) []byte {
	return forward.Packet6(pod1, far, 20, func(_ forward.Vnet, ip wire.IPv6) {
		ip[6], ip[7], ip[40] = wire.ProtoICMPv6, hopLimit, typ
	})
}

// TestLimits6: time exceeded is limited by peer, six at once, whatever prefix leads to it;
// packet too big has no limit.
func TestLimits6(t *testing.T) { synctest.Test(t, testLimits6) }

func testLimits6(t *testing.T) {
	l, p, b, _ := newLoop6(t)
	burst := func(n int, from int32, packet func() []byte) int {
		for range n {
			p.Inject(from, packet())
		}
		once(t, l)
		return len(p.Sent())
	}
	if n := burst(20, forward.IfPod1, func() []byte { return forward.Packet6(pod1, far, 20, forward.Hops(1)) }); n != 6 {
		t.Errorf("%d errors at once, want 6", n)
	}
	time.Sleep(2 * time.Second)
	if n := burst(20, forward.IfPod1, func() []byte { return forward.Packet6(pod1, far, 20, forward.Hops(1)) }); n != 2 {
		t.Errorf("%d errors after two seconds, want 2", n)
	}
	if n := burst(40, forward.IfPod1, func() []byte { return forward.Packet6(pod1, "2001:db8:2::9", 1400) }); n != 40 {
		t.Errorf("%d of 40 are told that their packet is too big", n)
	}
	b.SetRoutes(route.TableMain, netip.MustParsePrefix("2001:db8:5::/64"), []route.Route{{Table: route.TableMain, Type: route.TypeUnicast, Dev: forward.IfPod1,
		Nexthops: []route.Nexthop{{Ifindex: forward.IfPod1, Weight: 1}}}})
	b.SetNeighbour(forward.IfPod1, addr("2001:db8:5::1"), &route.Neighbour{MAC: forward.MACPod1, Valid: true})
	l.Publish(b.Publish())
	wide := func() []byte { return forward.Packet6("2001:db8:5::1", far, 20, forward.Hops(1)) }
	burst(20, forward.IfPod1, wide)
	time.Sleep(time.Second)
	if n := burst(20, forward.IfPod1, wide); n != 1 {
		t.Errorf("%d errors in a second to a /64, want 1", n)
	}
	host := *l.Table().Host()
	host.V6.ICMPRateMask = [8]uint32{}
	b.SetHost(host)
	l.Publish(b.Publish())
	if n := burst(20, forward.IfPod1, wide); n != 20 {
		t.Errorf("%d of 20 errors that no mask limits", n)
	}
}
