package forward_test

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"proxyarpd/forward"
	"proxyarpd/forward/route"
	"proxyarpd/internal/wire"
)

// looked is what a Tap was shown, with bytes of its own.
type looked struct {
	forward.Look
	frame []byte
}

type recorder struct {
	ids  uint64
	seen []looked
}

func (r *recorder) ID() uint64 { r.ids++; return r.ids }

func (r *recorder) Wants(*forward.Look) bool { return true }

func (r *recorder) Look(l *forward.Look) {
	r.seen = append(r.seen, looked{*l, bytes.Clone(l.Buf)})
}

// TestTapForward: a packet is shown as it came and as it left, under one id.
func TestTapForward(t *testing.T) {
	l, p, _, _ := newLoop(t)
	tap := &recorder{}
	l.SetTap(tap)
	frame := forward.Packet("10.65.0.1", "10.65.1.9", 18)
	original := bytes.Clone(frame)
	p.Inject(forward.IfPod1, frame)
	once(t, l)
	sent := p.Sent()
	if len(tap.seen) != 2 || len(sent) != 1 {
		t.Fatalf("shown %d, sent %d", len(tap.seen), len(sent))
	}
	in, out := tap.seen[0], tap.seen[1]
	if in.Out || in.Ifindex != forward.IfPod1 || in.Verdict != route.Forward || !bytes.Equal(in.frame, original) {
		t.Errorf("as it came: %+v", in)
	}
	if in.From.Name != "cali1" || in.To.Name != "ens192" || in.Next != netip.MustParseAddr("192.168.1.16") || in.Route.PrefixOf(netip.MustParseAddr("10.65.1.9")).String() != "10.65.1.0/24" {
		t.Errorf("decided: %+v", in)
	}
	if !out.Out || out.Ifindex != forward.IfUplink || out.ID != in.ID || !bytes.Equal(out.frame, sent[0].Buf) {
		t.Errorf("as it left: %+v", out)
	}
	l.SetTap(nil)
	p.Inject(forward.IfPod1, forward.Packet("10.65.0.1", "10.65.1.9", 18))
	if once(t, l); len(tap.seen) != 2 {
		t.Error("shown although nobody looks")
	}
}

// TestTapFailedSend: why a frame could not be sent is told where it came in,
// padding and all.
func TestTapFailedSend(t *testing.T) {
	l, p, _, _ := newLoop(t)
	tap := &recorder{}
	l.SetTap(tap)
	p.Fail = func(int32) route.Verdict { return route.DropQdisc }
	padded := append(forward.Packet("10.65.0.1", "10.65.1.9", 1), make([]byte, 17)...)
	original := bytes.Clone(padded)
	p.Inject(forward.IfPod1, padded)
	once(t, l)
	if len(tap.seen) != 1 || tap.seen[0].Verdict != route.DropQdisc || !bytes.Equal(tap.seen[0].frame, original) {
		t.Fatalf("shown: %+v", tap.seen)
	}
}

// TestTapError: a dropped packet and the ICMP error about it bear one id.
func TestTapError(t *testing.T) {
	l, p, _, _ := newLoop(t)
	tap := &recorder{}
	l.SetTap(tap)
	p.Inject(forward.IfPod1, forward.Packet("10.65.0.1", "10.71.0.1", 18))
	once(t, l)
	if len(tap.seen) != 2 {
		t.Fatalf("shown: %+v", tap.seen)
	}
	in, out := tap.seen[0], tap.seen[1]
	if in.Verdict != route.DropRouteUnreachable || in.ICMPType != 3 || in.ICMPCode != 1 || in.Out {
		t.Errorf("as it came: %+v", in)
	}
	if out.Verdict != route.Originate || !out.Out || out.ID != in.ID || out.Ifindex != forward.IfPod1 {
		t.Errorf("the error: %+v", out)
	}
}

// TestTapQueue: a packet that waits, and how that ends.
func TestTapQueue(t *testing.T) { synctest.Test(t, testTapQueue) }

func testTapQueue(t *testing.T) {
	l, p, b, _ := newLoop(t)
	tap := &recorder{}
	l.SetTap(tap)
	original := forward.Packet("10.65.0.1", "10.67.0.1", 18)
	p.Inject(forward.IfPod1, bytes.Clone(original))
	once(t, l)
	if len(tap.seen) != 1 || tap.seen[0].Verdict != route.Queue || !bytes.Equal(tap.seen[0].frame, original) {
		t.Fatalf("shown: %+v", tap.seen)
	}
	b.SetNeighbour(forward.IfUplink, netip.MustParseAddr("192.168.1.77"), &route.Neighbour{Failed: true})
	l.Publish(b.Publish())
	l.Age(200 * time.Millisecond)
	once(t, l)
	if len(tap.seen) != 3 {
		t.Fatalf("shown: %+v", tap.seen)
	}
	end, icmp := tap.seen[1], tap.seen[2]
	if tap.seen[0].Again || !end.Again || end.Verdict != route.DropNeighFailed || end.ID != tap.seen[0].ID || end.Out || end.ICMPCode != 1 || !bytes.Equal(end.frame, original) {
		t.Errorf("the end: %+v\n%x\n%x", end.Look, end.frame, original)
	}
	if icmp.Verdict != route.Originate || icmp.ID != end.ID || icmp.Again {
		t.Errorf("the error: %+v", icmp.Look)
	}
	p.Inject(forward.IfPod1, forward.Packet("10.65.0.1", "10.67.0.1", 18))
	once(t, l)
	b.SetNeighbour(forward.IfUplink, netip.MustParseAddr("192.168.1.77"), &route.Neighbour{Valid: true, MAC: wire.MAC{2, 0, 0, 0, 9, 9}})
	l.Publish(b.Publish())
	once(t, l)
	if len(tap.seen) != 6 {
		t.Fatalf("shown: %+v", tap.seen)
	}
	queued, end, last := tap.seen[3], tap.seen[4], tap.seen[5]
	if queued.Again || end.Out || !end.Again || end.Verdict != route.Forward || end.ID != queued.ID || !bytes.Equal(end.frame, original) {
		t.Errorf("resolved, as it came: %+v\n%x\n%x", end.Look, end.frame, original)
	}
	if last.Verdict != route.Forward || !last.Out || last.Again || last.ID != queued.ID || last.Next != netip.MustParseAddr("192.168.1.77") {
		t.Errorf("resolved: %+v", last.Look)
	}
}

// TestTapWaitsAsItCame: how a wait ended is told of the packet as it came,
// padding, options and link layer and all, or of what is known if nobody looked
// then.
func TestTapWaitsAsItCame(t *testing.T) { synctest.Test(t, testTapWaitsAsItCame) }

func testTapWaitsAsItCame(t *testing.T) {
	const tun = 40
	padded := append(forward.Packet("10.65.0.1", "10.67.0.1", 1), make([]byte, 17)...)
	raw := slices.Concat(padded[:forward.VnetLen], padded[forward.VnetLen+wire.EthernetLen:])
	stamped := forward.Packet("10.65.0.1", "10.67.0.1", 40, func(_ forward.Vnet, ip wire.IPv4) {
		ip[0] = 0x47                                   // two words of options where UDP was
		copy(ip[20:], []byte{68, 8, 5, 0, 0, 0, 0, 0}) // a timestamp, room for one
	})
	for name, c := range map[string]struct {
		frame  []byte
		from   int32
		looked bool // as it came
	}{
		"padded": {padded, forward.IfPod1, true}, "options": {stamped, forward.IfPod1, true}, "no link layer": {raw, tun, true},
		"nobody looked": {padded[:len(padded)-17], forward.IfPod1, false}, "no link layer, nobody looked": {raw[:len(raw)-17], tun, false},
	} {
		for _, n := range []*route.Neighbour{{Failed: true}, {Valid: true, MAC: wire.MAC{2, 0, 0, 0, 9, 9}}} {
			l, p, b, _ := newLoop(t)
			b.SetLink(route.Link{Ifindex: tun, Name: "tun0", Flags: route.LinkUp | route.LinkWorkload, MTU: 1500, Slot: 9})
			l.Publish(b.Publish())
			tap := &recorder{}
			if c.looked {
				l.SetTap(tap)
			}
			inject := p.Inject
			if c.from == tun {
				inject = p.InjectBare
			}
			inject(c.from, bytes.Clone(c.frame))
			once(t, l)
			l.SetTap(tap)
			b.SetNeighbour(forward.IfUplink, netip.MustParseAddr("192.168.1.77"), n)
			l.Publish(b.Publish())
			l.Age(200 * time.Millisecond)
			once(t, l)
			ends := 0
			for _, k := range tap.seen {
				if k.Out || k.Verdict == route.Queue {
					continue
				}
				if ends++; k.Again != c.looked || k.Ifindex != c.from || k.Ethernet != (c.from != tun) || !bytes.Equal(k.frame[forward.VnetLen:], c.frame[forward.VnetLen:]) {
					t.Errorf("%s, failed %v: %+v\n%x\n%x", name, n.Failed, k.Look, k.frame, c.frame)
				}
			}
			if want := c.looked || n.Failed; ends > 1 || want != (ends == 1) {
				t.Errorf("%s, failed %v: %d ends: %+v", name, n.Failed, ends, tap.seen)
			}
		}
	}
}

// TestTapMiss: a packet that waits for its way, and then for its next hop, waits
// once, however often it is looked at.
func TestTapMiss(t *testing.T) {
	l, p, b, _ := newLoop(t)
	tap := &recorder{}
	l.SetTap(tap)
	original := forward.Packet("10.65.0.1", "172.16.0.1", 18)
	p.Inject(forward.IfPod1, bytes.Clone(original))
	once(t, l)
	for range 3 { // news, but not of its way
		l.Publish(b.Publish())
		once(t, l)
	}
	b.SetRoutes(route.TableMain, netip.MustParsePrefix("172.16.0.0/12"), []route.Route{{Table: route.TableMain, Type: route.TypeUnicast,
		Nexthops: []route.Nexthop{{Ifindex: forward.IfUplink, Weight: 1, Gateway: netip.MustParseAddr("192.168.1.77")}}}})
	l.Publish(b.Publish())
	once(t, l)
	b.SetNeighbour(forward.IfUplink, netip.MustParseAddr("192.168.1.77"), &route.Neighbour{Valid: true, MAC: wire.MAC{2, 0, 0, 0, 9, 9}})
	l.Publish(b.Publish())
	once(t, l)
	if len(tap.seen) != 3 {
		t.Fatalf("shown: %+v", tap.seen)
	}
	queued, end, left := tap.seen[0], tap.seen[1], tap.seen[2]
	if queued.Verdict != route.Queue || queued.Again || end.Verdict != route.Forward || !end.Again || end.Out || !left.Out ||
		end.ID != queued.ID || left.ID != queued.ID || !bytes.Equal(end.frame, original) || end.Route == nil {
		t.Errorf("%+v\n%+v\n%+v", queued.Look, end.Look, left.Look)
	}
}

// TestTapCoalesced: datagrams that leave as one frame are shown each.
func TestTapCoalesced(t *testing.T) {
	l, p, _, _ := newLoop(t)
	tap := &recorder{}
	l.SetTap(tap)
	const n = 20
	for i := range n {
		p.Inject(forward.IfPod1, forward.Packet("10.65.0.1", "10.65.1.9", 18, func(_ forward.Vnet, ip wire.IPv4) {
			ip[4], ip[5] = 0, byte(i)
		}))
	}
	once(t, l)
	if sent := p.Sent(); len(sent) != 1 {
		t.Fatalf("%d sent", len(sent))
	}
	if len(tap.seen) != 2*n {
		t.Fatalf("shown: %d", len(tap.seen))
	}
	for i := range n {
		in, out := tap.seen[2*i], tap.seen[2*i+1]
		ipIn, ipOut := wire.IPv4(in.frame[forward.VnetLen+14:]), wire.IPv4(out.frame[forward.VnetLen+14:])
		if in.Out || !out.Out || in.ID != out.ID || len(in.frame) != len(out.frame) || ipIn.ID() != uint16(i) ||
			ipOut.ID() != uint16(i) || ipIn.TTL() != 64 || ipOut.TTL() != 63 || !ipOut.ChecksumOK() || ipOut.TotalLen() != len(ipOut) {
			t.Fatalf("%d: %+v %+v\n%x\n%x", i, in.Look, out.Look, in.frame, out.frame)
		}
	}
}

// TestTapFragments: each piece is shown as it leaves.
func TestTapFragments(t *testing.T) {
	l, p, _, _ := newLoop(t)
	tap := &recorder{}
	l.SetTap(tap)
	p.Inject(forward.IfPod1, forward.Packet("10.65.0.1", "10.66.0.9", 1400, func(_ forward.Vnet, ip wire.IPv4) { ip[6], ip[7] = 0, 0 }))
	once(t, l)
	sent := p.Sent()
	if len(sent) != 3 || len(tap.seen) != 4 {
		t.Fatalf("%d sent, %d shown", len(sent), len(tap.seen))
	}
	for i, s := range sent {
		if k := tap.seen[i+1]; !k.Out || k.ID != tap.seen[0].ID || !bytes.Equal(k.frame, s.Buf) {
			t.Errorf("piece %d: %+v", i, k.Look)
		}
	}
}

type blind struct {
	ids   uint64
	wants bool
	looks int
}

func (b *blind) ID() uint64               { b.ids++; return b.ids }
func (b *blind) Wants(*forward.Look) bool { return b.wants }
func (b *blind) Look(*forward.Look)       { b.looks++ }

// choosy wants frames on one interface alone.
type choosy struct {
	recorder
	ifindex int32
}

func (c *choosy) Wants(k *forward.Look) bool { return k.Ifindex == c.ifindex }

// TestTapWants: a packet is shown where it is wanted, and there with all that is
// known of it.
func TestTapWants(t *testing.T) {
	for _, c := range []struct {
		ifindex int32
		out     bool
	}{{forward.IfPod1, false}, {forward.IfUplink, true}} {
		l, p, _, _ := newLoop(t)
		tap := &choosy{ifindex: c.ifindex}
		l.SetTap(tap)
		p.Inject(forward.IfPod1, forward.Packet("10.65.0.1", "10.65.1.9", 18))
		once(t, l)
		if len(tap.seen) != 1 {
			t.Fatalf("shown %d times on interface %d", len(tap.seen), c.ifindex)
		}
		k := tap.seen[0]
		ttl := byte(64)
		if c.out {
			ttl = 63
		}
		if k.Out != c.out || k.ID == 0 || k.Verdict != route.Forward || k.From == nil || k.To == nil || k.Table == nil ||
			wire.IPv4(k.frame[forward.VnetLen+14:]).TTL() != ttl {
			t.Errorf("%+v", k.Look)
		}
	}
	// A drop where nobody wants the packet tells of the ICMP error alone.
	l, p, _, _ := newLoop(t)
	tap := &choosy{ifindex: forward.IfUplink}
	l.SetTap(tap)
	p.Inject(forward.IfPod1, forward.Packet("10.65.0.1", "10.99.0.1", 18))
	once(t, l)
	if len(tap.seen) != 0 {
		t.Errorf("%+v", tap.seen)
	}
}

// TestTapNoAllocations: nor does a look at them.
func TestTapNoAllocations(t *testing.T) {
	l, p, _, _ := newLoop(t)
	p.Discard = true
	for _, dst := range []string{"10.65.1.9", "10.70.0.1"} {
		tap := &blind{wants: dst == "10.65.1.9"}
		l.SetTap(tap)
		fresh := make([][]byte, 64)
		for i := range fresh {
			fresh[i] = forward.Packet("10.65.0.1", dst, 18)
		}
		f := forward.NewTestBatch(fresh, forward.IfPod1)
		if n := testing.AllocsPerRun(100, func() {
			f.Reset()
			l.Process(f)
		}); n != 0 {
			t.Errorf("%s: %v allocations a batch", dst, n)
		}
		if tap.wants != (tap.looks > 0) {
			t.Errorf("%s: %d looks", dst, tap.looks)
		}
	}
}

// BenchmarkTap is what looking costs the datapath, a packet: two looks at each.
func BenchmarkTap(b *testing.B) {
	for name, tap := range map[string]forward.Tap{"none": nil, "unwanted": &blind{}, "wanted": &blind{wants: true}} {
		b.Run(name, func(b *testing.B) {
			l, p, _, _ := newLoop(b)
			p.Discard = true
			l.SetTap(tap)
			fresh := make([][]byte, 64)
			for i := range fresh {
				fresh[i] = forward.Packet("10.65.0.1", "10.65.1.9", 18)
			}
			f := forward.NewTestBatch(fresh, forward.IfPod1)
			for b.Loop() {
				f.Reset()
				l.Process(f)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*64), "ns/packet")
		})
	}
}
