package forward_test

import (
	"bytes"
	"net/netip"
	"testing"

	"proxyarpd/forward"
	"proxyarpd/forward/memconn"
	"proxyarpd/forward/route"
	"proxyarpd/internal/wire"
)

const (
	pod1, pod2 = "2001:db8::1", "2001:db8::2"
	far        = "2001:db8:1::9" // by the router
	silent     = "2001:db8:3::9" // by one that does not answer
	tunnelled  = "2001:db8:4::9"
	podSide    = "fe80::ecee:eeff:feee:eeee" // this host's on pod 1's interface
)

func newLoop6(t testing.TB) (*forward.Loop, *memconn.Conn, *route.Builder, *[]asked) {
	t.Helper()
	p := memconn.New()
	var q []asked
	l := forward.NewLoop(p, forward.Options{Resolve: func(i int32, a netip.Addr) { q = append(q, asked{i, a}) }, Behind: func() bool { return false }})
	b := forward.Builder6(route.Policy{})
	l.Publish(b.Publish())
	return l, p, b, &q
}

func ip6(s memconn.Sent) wire.IPv6 {
	return wire.IPv6(wire.Ethernet(s.Buf[forward.VnetLen:]).Payload())
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// sound6 is an ICMPv6 message in a sound packet.
func sound6(t *testing.T, p wire.IPv6) []byte {
	t.Helper()
	msg := p.Payload()
	if p.Version() != 6 || p.PayloadLen() != len(msg) || p.NextHeader() != wire.ProtoICMPv6 || len(p) > wire.IPv6MinMTU ||
		wire.Fold(wire.Sum(msg, wire.PseudoSum6(p.Src(), p.Dst(), wire.ProtoICMPv6, len(msg)))) != 0 {
		t.Fatalf("% x", []byte(p))
	}
	return msg
}

// TestQueue6: packets wait for their next hop, and leave in order; if it fails, the sender of
// each is told that the address can't be reached.
func TestQueue6(t *testing.T) {
	want := asked{forward.IfUplink, addr("fe80::77")}
	for _, answers := range []bool{true, false} {
		l, p, b, q := newLoop6(t)
		for i := range 3 {
			p.Inject(forward.IfPod1, forward.Packet6(pod1, silent, 18+i))
		}
		once(t, l)
		if len(p.Sent()) != 0 || len(*q) != 1 || (*q)[0] != want {
			t.Fatalf("asked %v", *q)
		}
		mac := wire.MAC{2, 7, 7, 7, 7, 7}
		b.SetNeighbour(forward.IfUplink, want.addr, &route.Neighbour{MAC: mac, Valid: answers, Failed: !answers})
		l.Publish(b.Publish())
		once(t, l)
		sent := p.Sent()
		if len(sent) != 3 || counts(l, route.Queue) != 3 {
			t.Fatalf("%d sent, counters %v", len(sent), l.Counters().Read().ByVerdict)
		}
		for i, s := range sent {
			h := ip6(s)
			if answers {
				if eth := wire.Ethernet(s.Buf[forward.VnetLen:]); eth.Dst() != mac || len(h) != 66+i || h.HopLimit() != 63 || s.Type != wire.EtherTypeIPv6 {
					t.Errorf("packet %d: to %s, %d bytes, hop limit %d", i, eth.Dst(), len(h), h.HopLimit())
				}
				continue
			}
			msg := sound6(t, h)
			if msg[0] != 1 || msg[1] != 3 || h.DstAddr() != addr(pod1) || len(msg) != 8+66+i || msg[8+7] != 63 {
				t.Errorf("error %d: % x", i, []byte(h))
			}
		}
		if want := route.DropNeighFailed; !answers && counts(l, want) != 3 {
			t.Errorf("%d %v", counts(l, want), want)
		}
	}
}

// TestRelink6: a packet gets the link layer of its way out, with the EtherType of IPv6.
func TestRelink6(t *testing.T) {
	bare := func(b []byte) []byte {
		h := append([]byte(nil), b[:forward.VnetLen]...)
		if forward.Vnet(h).NeedsCsum() {
			forward.Vnet(h).MoveHeaders(-14)
		}
		return append(h, b[forward.VnetLen+14:]...)
	}
	for _, gso := range []bool{false, true} {
		build := func(src, dst string) []byte {
			if !gso {
				return forward.Packet6(src, dst, 30)
			}
			p, v := forward.GSO6(wire.ProtoTCP, wire.ProtoTCP, nil, 4000, 1400)
			s, d := addr(src).As16(), addr(dst).As16()
			copy(p[8:], s[:])
			copy(p[24:], d[:])
			return forward.Framed6(v, p)
		}
		l, p, _, _ := newLoop6(t)
		p.Inject(forward.IfPod1, build(pod1, tunnelled))
		p.InjectBare(forward.IfTun, bare(build(tunnelled, pod1)))
		p.InjectBare(forward.IfTun, bare(forward.Packet6(tunnelled, pod1, 30, forward.Hops(1))))
		once(t, l)
		sent := p.Sent()
		if len(sent) != 3 {
			t.Fatalf("%d sent, %v", len(sent), l.Counters().Read().ByVerdict)
		}
		out := build(pod1, tunnelled)
		wire.IPv6(out[forward.VnetLen+14:]).DecrementHopLimit()
		if s := sent[0]; s.Ifindex != forward.IfTun || s.Type != wire.EtherTypeIPv6 || !bytes.Equal(s.Buf, bare(out)) {
			t.Errorf("GSO %v, to a TUN device: %v", gso, s)
		}
		in := build(tunnelled, pod1)
		wire.IPv6(in[forward.VnetLen+14:]).DecrementHopLimit()
		eth := wire.Ethernet(in[forward.VnetLen:])
		eth.SetSrc(forward.MACHost)
		eth.SetDst(forward.MACPod1)
		if s := sent[1]; s.Ifindex != forward.IfPod1 || s.Type != wire.EtherTypeIPv6 || !bytes.Equal(s.Buf, in) {
			t.Errorf("GSO %v, from a TUN device: %v", gso, s)
		}
		if s := sent[2]; s.Ifindex != forward.IfTun || s.Type != wire.EtherTypeIPv6 || wire.IPv6(s.Buf[forward.VnetLen:]).DstAddr() != addr(tunnelled) {
			t.Errorf("time exceeded to a TUN device: %v", s)
		}
	}
}

// TestNoOffload6: a device that takes no super-packets gets their segments.
func TestNoOffload6(t *testing.T) {
	l, p, b, _ := newLoop6(t)
	b.SetLink(route.Link{Ifindex: forward.IfUplink, Name: "ens192", Flags: route.LinkUp | route.LinkEthernet | route.LinkUplink | route.LinkNoOffload,
		MAC: forward.MACUplink, MTU: 1500, MTU6: 1500, Slot: 3})
	l.Publish(b.Publish())
	ip, v := forward.GSO6(wire.ProtoUDP, wire.ProtoUDP, nil, 5000, 1200)
	p.Inject(forward.IfPod1, forward.Framed6(v, ip))
	one, v := forward.GSO6(wire.ProtoTCP, wire.ProtoTCP, nil, 100, 1200)
	v[1] = 0 // a checksum to be filled in, and no segments
	p.Inject(forward.IfPod1, forward.Framed6(v, one))
	once(t, l)
	sent := p.Sent()
	if len(sent) != 6 || counts(l, route.Forward) != 2 {
		t.Fatalf("%d sent, %v", len(sent), l.Counters().Read().ByVerdict)
	}
	for i, s := range sent {
		h := ip6(s)
		off, proto, _, _ := h.Upper()
		if eth := wire.Ethernet(s.Buf[forward.VnetLen:]); eth.Type() != wire.EtherTypeIPv6 || eth.Dst() != forward.MACRouter || s.Buf[0] != 0 || s.Buf[1] != 0 || h.HopLimit() != 59 {
			t.Errorf("piece %d: % x", i, s.Buf[:64])
		}
		if wire.Fold(wire.Sum(h[off:], wire.PseudoSum6(h.Src(), h.Dst(), proto, len(h)-off))) != 0 {
			t.Errorf("piece %d: checksum", i)
		}
	}
}

// TestRelinkBig: a super-packet of any size gets another link layer; of IPv6 it leaves in
// several.
func TestRelinkBig(t *testing.T) {
	l, p, b, _ := newLoop6(t)
	b.SetRoutes(route.TableMain, netip.MustParsePrefix("10.80.0.0/16"), []route.Route{{Type: route.TypeUnicast, Nexthops: []route.Nexthop{{Ifindex: forward.IfTun, Weight: 1}}}})
	l.Publish(b.Publish())
	ip, v := forward.GSO6(wire.ProtoTCP, wire.ProtoTCP, nil, 400_000, 1400)
	to := addr(tunnelled).As16()
	copy(ip[24:], to[:])
	for range 3 {
		p.Inject(forward.IfPod1, forward.Framed6(v, ip))
		big := forward.TCPGSO("10.65.0.1", "10.80.0.9", 400_000, 1400, 0)
		h := wire.IPv4(big[forward.VnetLen+wire.EthernetLen:])
		h.SetTotalLen(0)
		h.UpdateHeaderChecksum()
		p.Inject(forward.IfPod1, big)
		p.Inject(forward.IfPod1, forward.Packet6(pod1, tunnelled, 30))
	}
	once(t, l)
	const part = 46*1400 + 72
	wants := []int{part, part, part, part, part, part, 400_000 - 6*46*1400 + 72, 400_040, 78}
	sent := p.Sent()
	for i, s := range sent {
		if want := wants[i%len(wants)]; s.Ifindex != forward.IfTun || len(s.Buf)-forward.VnetLen != want {
			t.Errorf("packet %d: %d bytes, want %d", i, len(s.Buf)-forward.VnetLen, want)
		}
	}
	if len(sent) != 3*len(wants) || counts(l, route.Forward) != 9 {
		t.Errorf("%d sent, %v", len(sent), l.Counters().Read().ByVerdict)
	}
}

func TestNoAllocations6(t *testing.T) {
	l, p, _, _ := newLoop6(t)
	p.Discard = true
	fresh := make([][]byte, 64)
	for i := range fresh {
		if fresh[i] = forward.Packet6(pod1, far, 18); i%4 == 0 {
			fresh[i] = forward.WithOptions(fresh[i], 5, 2, 0, 0)
		}
	}
	f := forward.NewTestBatch(fresh, forward.IfPod1)
	if n := testing.AllocsPerRun(100, func() {
		f.Reset()
		l.Process(f)
	}); n != 0 {
		t.Errorf("%v allocations a batch", n)
	}
	if counts(l, route.Forward) == 0 {
		t.Error("nothing was forwarded")
	}
}

func BenchmarkProcess6(b *testing.B) {
	l, p, _, _ := newLoop6(b)
	p.Discard = true
	fresh := make([][]byte, 64)
	for i := range fresh {
		fresh[i] = forward.Packet6(pod1, far, 18)
	}
	f := forward.NewTestBatch(fresh, forward.IfPod1)
	b.ReportAllocs()
	for b.Loop() {
		f.Reset()
		l.Process(f)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/64, "ns/packet")
}

// TestNotServed6: what was taken of a link that IPv6 is not served for, or not any more,
// goes back to the kernel.
func TestNotServed6(t *testing.T) {
	for _, off := range []bool{false, true} {
		l, p, b, _ := newLoop6(t)
		if off {
			b.SetPolicy(route.Policy{})
		} else {
			b.SetLink(route.Link{Ifindex: forward.IfPod1, Name: "cali1", Flags: route.LinkUp | route.LinkEthernet | route.LinkWorkload, MAC: forward.MACHost, MTU: 1500, Slot: 1})
		}
		l.Publish(b.Publish())
		p.Inject(forward.IfPod1, forward.Packet6(pod1, far, 18))
		p.Inject(forward.IfPod1, forward.Packet("10.65.0.1", "10.65.0.2", 18))
		once(t, l)
		if len(p.Returned()) != 1 || len(p.Sent()) != 1 || counts(l, route.IgnoreProto) != 1 || counts(l, route.Forward) != 1 {
			t.Errorf("off %t: %v", off, l.Counters().Read().ByVerdict)
		}
	}
}
