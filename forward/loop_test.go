package forward_test

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"proxyarpd/forward"
	"proxyarpd/forward/memconn"
	"proxyarpd/forward/route"
	"proxyarpd/internal/wire"
)

type asked struct {
	ifindex int32
	addr    netip.Addr
}

func newLoop(t testing.TB) (*forward.Loop, *memconn.Conn, *route.Builder, *[]asked) {
	t.Helper()
	p := memconn.New()
	var q []asked
	l := forward.NewLoop(p, forward.Options{Resolve: func(i int32, a netip.Addr) { q = append(q, asked{i, a}) }})
	b := forward.TestBuilder(route.Policy{})
	l.Publish(b.Publish())
	return l, p, b, &q
}

func once(t *testing.T, l *forward.Loop) {
	t.Helper()
	if err := l.Once(); err != nil {
		t.Fatal(err)
	}
}

func counts(l *forward.Loop, v route.Verdict) uint64 { return l.Counters().Read().ByVerdict[v] }

func ip(s memconn.Sent) wire.IPv4 {
	return wire.IPv4(wire.Ethernet(s.Buf[forward.VnetLen:]).Payload())
}

func TestLoopForwards(t *testing.T) {
	l, p, _, _ := newLoop(t)
	for range 200 { // more than a batch
		p.Inject(forward.IfPod1, forward.Packet("10.65.0.1", "10.65.0.2", 18))
	}
	for range 4 {
		once(t, l)
	}
	sent := p.Sent()
	if len(sent) != 200 || sent[0].Ifindex != forward.IfPod2 || counts(l, route.Forward) != 200 {
		t.Fatalf("%d sent, %d counted", len(sent), counts(l, route.Forward))
	}
}

func TestLoopCountsFailedSend(t *testing.T) {
	l, p, _, _ := newLoop(t)
	p.Fail = func(int32) route.Verdict { return route.DropIfDown }
	p.Inject(forward.IfPod1, forward.Packet("10.65.0.1", "10.65.0.2", 18))
	once(t, l)
	if counts(l, route.DropIfDown) != 1 || counts(l, route.Forward) != 0 {
		t.Errorf("counters %v", l.Counters().Read().ByVerdict)
	}
}

// TestQueueReleased: packets to a next hop without MAC wait in order, the
// kernel is asked once, and all leave when the answer is there.
func TestQueueReleased(t *testing.T) {
	l, p, b, q := newLoop(t)
	for i := range 3 {
		p.Inject(forward.IfPod1, forward.Packet("10.65.0.1", "10.67.0.2", 18+i))
	}
	once(t, l)
	want := asked{forward.IfUplink, netip.MustParseAddr("192.168.1.77")}
	if len(p.Sent()) != 0 || len(*q) != 1 || (*q)[0] != want {
		t.Fatalf("asked %v", *q)
	}
	mac := wire.MAC{2, 7, 7, 7, 7, 7}
	b.SetNeighbour(forward.IfUplink, want.addr, &route.Neighbour{MAC: mac, Valid: true})
	l.Publish(b.Publish())
	once(t, l)
	sent := p.Sent()
	if len(sent) != 3 || counts(l, route.Forward) != 3 || counts(l, route.Queue) != 3 {
		t.Fatalf("%d sent, counters %v", len(sent), l.Counters().Read().ByVerdict)
	}
	for i, s := range sent {
		if eth := wire.Ethernet(s.Buf[forward.VnetLen:]); eth.Dst() != mac || len(ip(s)) != 46+i || ip(s).TTL() != 63 {
			t.Errorf("packet %d: to %s, %d bytes, TTL %d", i, eth.Dst(), len(ip(s)), ip(s).TTL())
		}
	}
}

// TestWaiting: it is told when the first packet waits, before the batch is given
// back, and when the last one has gone.
func TestWaiting(t *testing.T) {
	p := memconn.New()
	var told []bool
	sent := 0
	l := forward.NewLoop(p, forward.Options{Waiting: func(are bool) {
		told = append(told, are)
		sent = len(p.Sent())
	}})
	b := forward.TestBuilder(route.Policy{})
	l.Publish(b.Publish())
	for range 3 {
		p.Inject(forward.IfPod1, forward.Packet("10.65.0.1", "10.67.0.2", 18))
	}
	once(t, l)
	if !slices.Equal(told, []bool{true}) {
		t.Fatalf("told %v", told)
	}
	b.SetNeighbour(forward.IfUplink, netip.MustParseAddr("192.168.1.77"), &route.Neighbour{MAC: wire.MAC{2, 7, 7, 7, 7, 7}, Valid: true})
	l.Publish(b.Publish())
	once(t, l)
	if !slices.Equal(told, []bool{true, false}) || sent != 3 {
		t.Errorf("told %v, the last time with %d sent", told, sent)
	}
}

// TestQueueFails: each packet that waited for a failed next hop is reported to
// its source; a FAILED that was there before does not count.
func TestQueueFails(t *testing.T) {
	l, p, b, q := newLoop(t)
	hop := netip.MustParseAddr("192.168.1.77")
	b.SetNeighbour(forward.IfUplink, hop, &route.Neighbour{Failed: true})
	l.Publish(b.Publish())
	p.Inject(forward.IfPod1, forward.Packet("10.65.0.1", "10.67.0.2", 18))
	once(t, l)
	once(t, l)
	if len(*q) != 1 || counts(l, route.DropNeighFailed) != 0 {
		t.Fatalf("asked %v, counters %v", *q, l.Counters().Read().ByVerdict)
	}
	b.SetNeighbour(forward.IfUplink, hop, &route.Neighbour{Failed: true})
	l.Publish(b.Publish())
	once(t, l)
	sent := p.Sent()
	if counts(l, route.DropNeighFailed) != 1 || len(sent) != 1 || sent[0].Ifindex != forward.IfPod1 {
		t.Fatalf("sent %v, counters %v", sent, l.Counters().Read().ByVerdict)
	}
	if m := ip(sent[0]).Payload(); m[0] != 3 || m[1] != 1 {
		t.Errorf("ICMP %d/%d, want 3/1", m[0], m[1])
	}
}

// TestQueueTimesOut: the kernel may never tell; nothing waits for ever.
func TestQueueTimesOut(t *testing.T) { synctest.Test(t, testQueueTimesOut) }

func testQueueTimesOut(t *testing.T) {
	l, p, _, q := newLoop(t)
	p.Inject(forward.IfPod1, forward.Packet("10.65.0.1", "10.67.0.2", 18))
	once(t, l)
	l.Age(1500 * time.Millisecond)
	once(t, l)
	if len(*q) != 2 {
		t.Errorf("asked %d times in 1.5 s, want 2", len(*q))
	}
	l.Age(time.Minute)
	once(t, l)
	if counts(l, route.DropNeighFailed) != 1 {
		t.Errorf("counters %v", l.Counters().Read().ByVerdict)
	}
}

func TestQueueBounded(t *testing.T) { synctest.Test(t, testQueueBounded) }

func testQueueBounded(t *testing.T) {
	l, p, _, _ := newLoop(t)
	for range 2000 {
		p.Inject(forward.IfPod1, forward.Packet("10.65.0.1", "10.67.0.2", 1400))
	}
	for range 40 {
		once(t, l)
	}
	queued, full := counts(l, route.Queue), counts(l, route.DropNeighQueueFull)
	if queued != 2000 || full < 1800 {
		t.Errorf("queued %d, of which %d gave way", queued, full)
	}
}

func TestQueueLinkGone(t *testing.T) {
	l, p, b, _ := newLoop(t)
	p.Inject(forward.IfPod1, forward.Packet("10.65.0.1", "10.67.0.2", 18))
	once(t, l)
	b.ForgetLink(forward.IfUplink)
	l.Publish(b.Publish())
	once(t, l)
	if counts(l, route.DropIfUnknown) != 1 {
		t.Errorf("counters %v", l.Counters().Read().ByVerdict)
	}
}

// TestStaleTouched: the kernel hears that a stale neighbour is in use, now and
// then; a fixed one is never touched.
func TestStaleTouched(t *testing.T) { synctest.Test(t, testStaleTouched) }

func testStaleTouched(t *testing.T) {
	l, p, b, q := newLoop(t)
	b.SetNeighbour(forward.IfPod2, netip.MustParseAddr("10.65.0.2"), &route.Neighbour{MAC: wire.MAC{2}, Valid: true, Stale: true})
	l.Publish(b.Publish())
	for range 3 {
		p.Inject(forward.IfPod1, forward.Packet("10.65.0.1", "10.65.0.2", 18))
		once(t, l)
	}
	if len(*q) != 1 || counts(l, route.Forward) != 3 {
		t.Fatalf("asked %v, counters %v", *q, l.Counters().Read().ByVerdict)
	}
	l.Age(3 * time.Second)
	p.Inject(forward.IfPod1, forward.Packet("10.65.0.1", "10.65.0.2", 18))
	once(t, l)
	if len(*q) != 2 {
		t.Errorf("asked %d times after 3 s, want 2", len(*q))
	}
}

func TestTimeExceeded(t *testing.T) {
	l, p, _, _ := newLoop(t)
	in := forward.Packet("10.65.0.1", "10.65.1.9", 600, forward.TTL(1))
	quoted := append([]byte(nil), in[forward.VnetLen+14:]...)
	p.Inject(forward.IfPod1, in)
	once(t, l)
	sent := p.Sent()
	if len(sent) != 1 || sent[0].Ifindex != forward.IfPod1 || counts(l, route.Originate) != 1 {
		t.Fatalf("sent %v", sent)
	}
	h := ip(sent[0])
	m := h.Payload()
	if h.SrcAddr() != netip.MustParseAddr("192.168.1.32") || h.DstAddr() != netip.MustParseAddr("10.65.0.1") || !h.ChecksumOK() {
		t.Errorf("header %x", []byte(h[:20]))
	}
	if m[0] != 11 || m[1] != 0 || wire.Checksum(m) != 0 || len(h) != 576 {
		t.Errorf("ICMP %d/%d, checksum %04x, %d bytes", m[0], m[1], wire.Checksum(m), len(h))
	}
	if string(m[8:]) != string(quoted[:548]) {
		t.Error("the quote is not the packet as it came")
	}
}

func TestICMPLimited(t *testing.T) { synctest.Test(t, testICMPLimited) }

func testICMPLimited(t *testing.T) {
	l, p, _, _ := newLoop(t)
	for range 50 {
		p.Inject(forward.IfPod1, forward.Packet("10.65.0.1", "172.16.0.1", 18))
	}
	once(t, l)
	if n := len(p.Sent()); n != 0 {
		t.Fatalf("%d errors before the tables had time to catch up", n)
	}
	l.Age(150 * time.Millisecond)
	once(t, l)
	// Each takes a second's worth twice of the five that the sender has saved
	// at most: as an error about a packet without a way, and as an ICMP message.
	if n := len(p.Sent()); n != 2 {
		t.Errorf("%d errors for 50 packets in one instant, want 2", n)
	}
}

// TestMissHeld: a packet may be faster than the news of the route it needs.
func TestMissHeld(t *testing.T) { synctest.Test(t, testMissHeld) }

func testMissHeld(t *testing.T) {
	l, p, b, _ := newLoop(t)
	p.Inject(forward.IfPod1, forward.Packet("10.65.0.1", "172.16.0.1", 18))
	once(t, l)
	prefix := netip.MustParsePrefix("172.16.0.1/32")
	b.SetRoutes(route.TableMain, prefix, []route.Route{{Type: route.TypeUnicast,
		Nexthops: []route.Nexthop{{Ifindex: forward.IfUplink, Gateway: netip.MustParseAddr("192.168.1.16"), Weight: 1}}}})
	l.Publish(b.Publish())
	once(t, l)
	if sent := p.Sent(); len(sent) != 1 || sent[0].Ifindex != forward.IfUplink || counts(l, route.Forward) != 1 {
		t.Errorf("sent %v, counters %v", sent, l.Counters().Read().ByVerdict)
	}
}

// TestMissBounded: tables that change all the time don't hold a packet for ever.
func TestMissBounded(t *testing.T) { synctest.Test(t, testMissBounded) }

func testMissBounded(t *testing.T) {
	l, p, b, _ := newLoop(t)
	for range 200 {
		p.Inject(forward.IfPod1, forward.Packet("10.65.0.1", "172.16.0.1", 18))
	}
	for i := range 40 {
		b.SetNeighbour(forward.IfUplink, netip.MustParseAddr("192.168.1.99"), &route.Neighbour{MAC: wire.MAC{2, byte(i)}, Valid: true})
		l.Publish(b.Publish())
		once(t, l)
		l.Age(5 * time.Millisecond)
	}
	if counts(l, route.DropIPInNoRoutes) != 200 || counts(l, route.Queue) != 64 {
		t.Errorf("counters %v", l.Counters().Read().ByVerdict)
	}
}

func TestFragments(t *testing.T) {
	l, p, _, _ := newLoop(t)
	in := forward.Packet("10.65.0.1", "10.66.0.2", 1400)
	data := append([]byte(nil), in[forward.VnetLen+14+20:]...)
	p.Inject(forward.IfPod1, in)
	once(t, l)
	var got []byte
	sent := p.Sent()
	for i, s := range sent {
		h := ip(s)
		if len(h) > 600 || !h.ChecksumOK() || h.ID() != 0x1234 || h.FragmentOffset() != len(got) {
			t.Errorf("piece %d: %d bytes, offset %d, want %d", i, len(h), h.FragmentOffset(), len(got))
		}
		if more := h.Frag()&wire.IPv4MF != 0; more != (i < len(sent)-1) {
			t.Errorf("piece %d: MF %v", i, more)
		}
		got = append(got, h.Payload()...)
	}
	if string(got) != string(data) || counts(l, route.Forward) != 1 {
		t.Errorf("%d bytes of %d arrived, counters %v", len(got), len(data), l.Counters().Read().ByVerdict)
	}
}

// TestGSOFragments: a super-packet whose segments are too long for the way out
// and may be fragmented is cut twice.
func TestGSOFragments(t *testing.T) {
	l, p, _, _ := newLoop(t)
	p.Inject(forward.IfPod1, forward.TCPGSO("10.65.0.1", "10.66.0.2", 4000, 1448, 0))
	once(t, l)
	ids := map[uint16]int{}
	bytes := 0
	for _, s := range p.Sent() {
		h := ip(s)
		ids[h.ID()]++
		bytes += len(h) - 20
		if len(h) > 600 || !h.ChecksumOK() {
			t.Errorf("piece of %d bytes", len(h))
		}
	}
	if len(ids) != 3 || bytes != 4000+3*20 {
		t.Errorf("segments %v, %d bytes", ids, bytes)
	}
}

// TestNoAllocations: the way of forwarded packets takes no memory.
func TestNoAllocations(t *testing.T) {
	l, p, _, _ := newLoop(t)
	p.Discard = true
	fresh := make([][]byte, 64)
	for i := range fresh {
		fresh[i] = forward.Packet("10.65.0.1", "10.65.1.9", 18)
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

func BenchmarkProcess(b *testing.B) {
	p := memconn.New()
	p.Discard = true
	l := forward.NewLoop(p, forward.Options{})
	l.Publish(forward.TestBuilder(route.Policy{}).Publish())
	fresh := make([][]byte, 64)
	for i := range fresh {
		fresh[i] = forward.Packet("10.65.0.1", "10.65.1.9", 18)
	}
	f := forward.NewTestBatch(fresh, forward.IfPod1)
	b.ReportAllocs()
	for b.Loop() {
		f.Reset()
		l.Process(f)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/64, "ns/packet")
}

// TestRelink: links without a link-layer header, as TUN devices are, on either
// side, with what a sender left to its device.
func TestRelink(t *testing.T) {
	const ifTun = 30
	setup := func() (*forward.Loop, *memconn.Conn) {
		l, p, b, _ := newLoop(t)
		b.SetLink(route.Link{Ifindex: ifTun, Name: "tun0", Flags: route.LinkUp | route.LinkUplink, MTU: 1500, Slot: 9})
		prefix := netip.MustParsePrefix("10.80.0.0/16")
		b.SetRoutes(route.TableMain, prefix, []route.Route{{Type: route.TypeUnicast, Nexthops: []route.Nexthop{{Ifindex: ifTun, Weight: 1}}}})
		l.Publish(b.Publish())
		return l, p
	}
	bare := func(b []byte) []byte { // the frame as a TUN device gives it
		h := append([]byte(nil), b[:forward.VnetLen]...)
		if forward.Vnet(h).NeedsCsum() {
			forward.Vnet(h).MoveHeaders(-14)
		}
		return append(h, b[forward.VnetLen+14:]...)
	}
	for _, gso := range []bool{false, true} {
		make := func(src, dst string) []byte {
			if gso {
				return forward.TCPGSO(src, dst, 4000, 1448, wire.IPv4DF)
			}
			return forward.Packet(src, dst, 30)
		}
		l, p := setup()
		p.Inject(forward.IfPod1, make("10.65.0.1", "10.80.0.9"))
		once(t, l)
		want := make("10.65.0.1", "10.80.0.9")
		wire.IPv4(want[forward.VnetLen+14:]).DecrementTTL()
		if sent := p.Sent(); len(sent) != 1 || sent[0].Ifindex != ifTun || string(sent[0].Buf) != string(bare(want)) {
			t.Errorf("GSO %v, to a TUN device: %v", gso, sent)
		}
		l, p = setup()
		p.InjectBare(ifTun, bare(make("10.80.0.9", "10.65.0.1")))
		once(t, l)
		want = make("10.80.0.9", "10.65.0.1")
		wire.IPv4(want[forward.VnetLen+14:]).DecrementTTL()
		eth := wire.Ethernet(want[forward.VnetLen:])
		eth.SetSrc(forward.MACHost)
		eth.SetDst(forward.MACPod1)
		if sent := p.Sent(); len(sent) != 1 || sent[0].Ifindex != forward.IfPod1 || string(sent[0].Buf) != string(want) {
			t.Errorf("GSO %v, from a TUN device: %v", gso, sent)
		}
		l, p = setup()
		big := forward.Packet("10.80.0.9", "10.66.0.9", 900) // neither is a workload
		p.InjectBare(ifTun, bare(big))
		once(t, l)
		if counts(l, route.DropTransit) != 1 {
			t.Errorf("counters %v", l.Counters().Read().ByVerdict)
		}
		l, p = setup()
		p.InjectBare(ifTun, bare(forward.Packet("10.80.0.9", "10.65.0.1", 30, forward.TTL(1))))
		once(t, l)
		if sent := p.Sent(); len(sent) != 1 || sent[0].Ifindex != ifTun || wire.IPv4(sent[0].Buf[forward.VnetLen:]).DstAddr() != netip.MustParseAddr("10.80.0.9") {
			t.Errorf("time exceeded to a TUN device: %v", sent)
		}
	}
}

// TestPiecesOfRelinked: a super-packet that gets another link-layer header and is
// cut into more pieces than are sent at a time. What it is cut from must last.
func TestPiecesOfRelinked(t *testing.T) {
	const ifTun, size = 30, 60000
	l, p, b, _ := newLoop(t)
	b.SetLink(route.Link{Ifindex: ifTun, Name: "tun0", Flags: route.LinkUp | route.LinkUplink, MTU: 500, Slot: 9})
	b.SetRoutes(route.TableMain, netip.MustParsePrefix("10.80.0.0/16"), []route.Route{{Type: route.TypeUnicast, Nexthops: []route.Nexthop{{Ifindex: ifTun, Weight: 1}}}})
	l.Publish(b.Publish())
	buf := forward.TCPGSO("10.65.0.1", "10.80.0.9", size, 1448, 0)
	const headers = wire.IPv4MinLen + 20
	data := buf[forward.VnetLen+wire.EthernetLen+headers:]
	for i := range data {
		data[i] = byte(i * 7 >> 3)
	}
	data = append([]byte(nil), data...)
	p.Inject(forward.IfPod1, buf)
	once(t, l)
	var got []byte
	sent := p.Sent()
	for i, o := range sent {
		ip := wire.IPv4(o.Buf[forward.VnetLen:])
		if !ip.Valid() || !ip.ChecksumOK() || ip.DstAddr() != netip.MustParseAddr("10.80.0.9") {
			t.Fatalf("piece %d of %d: %x", i, len(sent), []byte(ip[:wire.IPv4MinLen]))
		}
		payload := ip.Payload()
		if ip.FragmentOffset() == 0 {
			payload = payload[20:]
		}
		got = append(got, payload...)
	}
	if len(sent) <= 2*forward.BatchUsual || !bytes.Equal(got, data) {
		t.Errorf("%d pieces, %d of %d bytes, equal: %t", len(sent), len(got), len(data), bytes.Equal(got, data))
	}
}

// TestBypass: past the queueing discipline go plain frames to links that allow it,
// and no super-packets, neither those that came so nor those that are made here.
func TestBypass(t *testing.T) {
	l, p, b, _ := newLoop(t)
	b.SetLink(route.Link{Ifindex: forward.IfPod2, Name: "cali2", Flags: route.LinkUp | route.LinkEthernet | route.LinkWorkload | route.LinkBypass,
		MAC: forward.MACHost, MTU: 1500, Slot: 2})
	l.Publish(b.Publish())
	inject := func(n int, dst string) {
		for i := range n {
			p.Inject(forward.IfPod1, forward.Packet("10.65.0.1", dst, 18, func(_ forward.Vnet, ip wire.IPv4) { ip.SetID(uint16(i)) }))
		}
	}
	for _, c := range []struct {
		name   string
		inject func()
		want   bool
	}{
		{"a plain frame", func() { inject(1, "10.65.0.2") }, true},
		{"a link with a discipline", func() { inject(1, "10.65.1.9") }, false},
		{"a super-packet", func() { p.Inject(forward.IfPod1, forward.TCPGSO("10.65.0.1", "10.65.0.2", 4000, 1448, wire.IPv4DF)) }, false},
		{"joined datagrams", func() { inject(forward.BatchUsual, "10.65.0.2") }, false},
	} {
		c.inject()
		once(t, l)
		if sent := p.Sent(); len(sent) != 1 || sent[0].Bypass != c.want {
			t.Errorf("%s: %d frames, past the discipline: %v", c.name, len(sent), len(sent) > 0 && sent[0].Bypass)
		}
	}
}

// TestCountsOfJoined: datagrams that left as one count each, and with the bytes
// that each has at the network layer, whether they could be sent or not.
func TestCountsOfJoined(t *testing.T) {
	const n, payload = forward.BatchUsual, 18
	l, p, _, _ := newLoop(t)
	for _, fails := range []bool{false, true} {
		for i := range n {
			p.Inject(forward.IfPod1, forward.Packet("10.65.0.1", "10.65.0.2", payload, func(_ forward.Vnet, ip wire.IPv4) { ip.SetID(uint16(i)) }))
		}
		if fails {
			p.Fail = func(int32) route.Verdict { return route.DropQdisc }
		}
		once(t, l)
		s := l.Counters().Read()
		if s.PacketsOut != n || s.BytesOut != n*(20+8+payload) || s.ByVerdict[route.Forward] != n || (s.ByVerdict[route.DropQdisc] == n) != fails {
			t.Errorf("fails %v: %+v", fails, s)
		}
	}
}

// TestScratchIsReused: more frames are made anew in one batch than there is room
// for at a time; each leaves whole.
func TestScratchIsReused(t *testing.T) {
	const ifTun, n, payload = 30, 8, 60000
	l, p, b, _ := newLoop(t)
	b.SetLink(route.Link{Ifindex: ifTun, Name: "tun0", Flags: route.LinkUp | route.LinkUplink, MTU: 1500, Slot: 9})
	b.SetRoutes(route.TableMain, netip.MustParsePrefix("10.80.0.0/16"), []route.Route{{Type: route.TypeUnicast, Nexthops: []route.Nexthop{{Ifindex: ifTun, Weight: 1}}}})
	l.Publish(b.Publish())
	for range n {
		p.Inject(forward.IfPod1, forward.TCPGSO("10.65.0.1", "10.80.0.9", payload, 1448, wire.IPv4DF))
	}
	once(t, l)
	sent := p.Sent()
	if len(sent) != n {
		t.Fatalf("%d of %d left", len(sent), n)
	}
	want := forward.TCPGSO("10.65.0.1", "10.80.0.9", payload, 1448, wire.IPv4DF)[forward.VnetLen+wire.EthernetLen:]
	wire.IPv4(want).DecrementTTL()
	for i, s := range sent {
		if !bytes.Equal(s.Buf[forward.VnetLen:], want) {
			t.Errorf("the packet %d is another", i)
		}
	}
}
