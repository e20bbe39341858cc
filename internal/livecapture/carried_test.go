package livecapture

import (
	"log/slog"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/arpd"
	"proxyarpd/capture"
	"proxyarpd/forward"
	"proxyarpd/forward/claim"
	"proxyarpd/forward/route"
	"proxyarpd/forward/route/routetest"
	"proxyarpd/internal/wire"
)

// program is a Carried whose packets a test gives.
type program struct {
	packets chan claim.ShownPacket
	stop    chan struct{}
	filled  atomic.Uint64 // packets that were given, one byte each
	passed  atomic.Uint64
	last    uint64

	mu     sync.Mutex
	snap   int
	wants  func(int32) bool
	closed bool
}

func newProgram() *program {
	return &program{packets: make(chan claim.ShownPacket), stop: make(chan struct{})}
}

func (p *program) Want(snap int, wants func(int32) bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.snap, p.wants = snap, wants
	return nil
}

func (p *program) Next(to *claim.ShownPacket) error {
	p.passed.Add(p.last)
	p.last = 0
	select {
	case *to = <-p.packets:
		p.last = 1
		return nil
	case <-p.stop:
		return os.ErrClosed
	}
}

func (p *program) Passed() uint64 { return p.passed.Load() }
func (p *program) Filled() uint64 { return p.filled.Load() }
func (p *program) Lost() uint64   { return 7 }
func (p *program) Stop() error    { close(p.stop); return nil }
func (p *program) Close() error   { p.closed = true; return nil }

// carrier are Sources of programs that carry by a table.
type carrier struct {
	nothing
	table   *route.Table
	program *program
}

func (c carrier) Table() *route.Table           { return c.table }
func (c carrier) ShowCarried() (Carried, error) { return c.program, nil }

// What programs carried is told as what the datapath forwarded: as it came and as
// it left, under one id, with the way that the tables name if it went there.
func TestCarried(t *testing.T) {
	p := newProgram()
	b, pod6 := routetest.Host(route.Policy{IPv6: true}), netip.MustParseAddr("fd00:65::2")
	for _, index := range []int32{routetest.IfPod1, routetest.IfPod2} {
		b.SetLink(route.Link{Ifindex: index, Flags: route.LinkUp | route.LinkEthernet | route.LinkWorkload, MTU: 1500, MTU6: 1500})
	}
	b.SetRoutes(route.TableMain, netip.PrefixFrom(pod6, 128), []route.Route{{Table: route.TableMain, Type: route.TypeUnicast,
		Nexthops: []route.Nexthop{{Ifindex: routetest.IfPod2, Weight: 1}}}})
	b.SetNeighbour(routetest.IfPod2, pod6, &route.Neighbour{MAC: routetest.MACPod2, Valid: true})
	h := New(Config{Log: slog.New(slog.DiscardHandler), Sources: carrier{table: b.Publish(), program: p}})
	h.SetLink(testLink(int(routetest.IfPod1), "cali1"), true)
	h.SetLink(testLink(int(routetest.IfPod2), "cali2"), true)
	s, err := newSession(capture.Request{Interfaces: []string{"cali*"}, Snap: 96}, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.add(s); err != nil {
		t.Fatal(err)
	}
	if p.snap != 96 || !p.wants(routetest.IfPod1) || p.wants(routetest.IfUplink) {
		t.Errorf("it wants %d bytes, %v, %v", p.snap, p.wants(routetest.IfPod1), p.wants(routetest.IfUplink))
	}
	frame := udp(50)[forward.VnetLen:]
	ip := wire.IPv4(wire.Ethernet(frame).Payload())
	copy(ip[12:], routetest.AddrPod1.AsSlice())
	copy(ip[16:], routetest.AddrPod2.AsSlice())
	ip.UpdateHeaderChecksum()
	came := slices.Clone(frame)
	of := func() (all []event) {
		for len(all) < 2 {
			e, data := awaitEvent(t, s, fromPrograms)
			all = append(all, e)
			want := came
			if e.out {
				want = slices.Clone(came)
				copy(want, []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2})
				if wire.Ethernet(want).Type() == wire.EtherTypeIPv6 {
					want[wire.EthernetLen+7]--
				} else {
					wire.IPv4(wire.Ethernet(want).Payload()).DecrementTTL()
				}
			}
			if !slices.Equal(data, want) {
				t.Errorf("% x, want % x", data, want)
			}
		}
		return all
	}
	forwarded := claim.ShownPacket{At: 1000, In: routetest.IfPod1, Out: routetest.IfPod2, PktType: unix.PACKET_HOST, Len: len(frame), LeftLen: len(frame),
		Dst: wire.MAC{2, 0, 0, 0, 0, 1}, Src: wire.MAC{2, 0, 0, 0, 0, 2}, Data: frame}
	p.packets <- forwarded
	all := of()
	if all[0].out || !all[1].out || all[0].id == 0 || all[0].id != all[1].id || all[0].at() != 1000 || all[1].at() != 1000 {
		t.Errorf("%+v", all)
	}
	if all[0].look.Route == nil || all[0].look.To == nil || all[0].look.To.Ifindex != routetest.IfPod2 || all[0].look.Neighbour == nil {
		t.Errorf("no way: %+v", all[0].look)
	}
	forwarded.Out = routetest.IfPod1 // the table says otherwise: it has changed
	p.packets <- forwarded
	if all = of(); all[0].look.Route != nil || all[0].look.To.Ifindex != routetest.IfPod1 {
		t.Errorf("a way that it did not go: %+v", all[0].look)
	}

	six := make([]byte, wire.EthernetLen+wire.IPv6Len+8)
	wire.Ethernet(six).SetType(wire.EtherTypeIPv6)
	wire.PutIPv6(six[wire.EthernetLen:], 0, 0, 8, wire.ProtoUDP, 64, netip.MustParseAddr("fd00:65::1").As16(), pod6.As16())
	came, forwarded.Data, forwarded.Out = six, six, routetest.IfPod2
	forwarded.Len, forwarded.LeftLen = len(six), len(six)
	p.packets <- forwarded
	if all = of(); all[0].look.Route == nil || all[0].look.Next != pod6 {
		t.Errorf("no way of IPv6: %+v", all[0].look)
	}

	request := make([]byte, wire.EthernetLen+wire.ARPLen)
	wire.Ethernet(request).SetSrc(wire.MAC{2, 0, 0, 0, 0, 1})
	wire.PutARP(request[wire.EthernetLen:], wire.ARPRequest, wire.MAC{2, 0, 0, 0, 0, 1}, routetest.AddrPod1, wire.MAC{}, routetest.AddrPod2)
	came = request
	p.packets <- claim.ShownPacket{At: 2000, Verdict: claim.ShownAnswer, In: routetest.IfPod1, Src: wire.MAC{2, 2, 2, 2, 2, 2}, Len: len(request), LeftLen: len(request), Data: request}
	e, _ := awaitEvent(t, s, fromPrograms)
	_, reply := awaitEvent(t, s, fromPrograms)
	arp := wire.ARP(reply[wire.EthernetLen:])
	if e.verdict != uint8(arpd.Answered) || arp.SenderIP() != routetest.AddrPod2 || arp.TargetIP() != routetest.AddrPod1 || arp.SenderMAC() != (wire.MAC{2, 2, 2, 2, 2, 2}) ||
		arp.Op() != wire.ARPReply || wire.Ethernet(reply).Dst() != (wire.MAC{2, 0, 0, 0, 0, 1}) {
		t.Errorf("%+v, % x", e, reply)
	}

	pod, gateway := netip.MustParseAddr("fe80::1").As16(), netip.MustParseAddr("fe80::2").As16()
	solicitation := make([]byte, wire.AdvertisementLen) // the same form
	wire.PutAdvertisement(solicitation, wire.MAC{2, 0, 0, 0, 0, 1}, pod, gateway, 0, wire.MAC{0x33, 0x33, 0xff, 0, 0, 2}, wire.SolicitedNode(gateway))
	p.packets <- claim.ShownPacket{At: 3000, Verdict: claim.ShownAnswer, In: routetest.IfPod1, Src: wire.MAC{2, 2, 2, 2, 2, 2}, Len: len(solicitation), LeftLen: len(solicitation), Data: solicitation}
	e, data := awaitEvent(t, s, fromPrograms)
	left, advertisement := awaitEvent(t, s, fromPrograms)
	want := make([]byte, wire.AdvertisementLen)
	wire.PutAdvertisement(want, wire.MAC{2, 2, 2, 2, 2, 2}, gateway, gateway, wire.NDRouter|wire.NDSolicited|wire.NDOverride, wire.MAC{2, 0, 0, 0, 0, 1}, pod)
	if e.verdict != uint8(arpd.Answered) || !left.out || left.id != e.id || !slices.Equal(data, solicitation) || !slices.Equal(advertisement, want) {
		t.Errorf("%+v, % x", e, advertisement)
	}

	if n, counted := s.missed(); !counted || n != 0 {
		t.Errorf("%d missed, counted: %v", n, counted)
	}
	s.carried.Load().from = 2
	if n, _ := s.missed(); n != 5 {
		t.Errorf("%d missed", n)
	}
	h.remove(s)
	if !p.closed || h.carried != nil {
		t.Error("it goes on")
	}
}

// A session that ends has waited for what programs had carried by then, and for
// nothing that nobody shows.
func TestCarriedSettles(t *testing.T) {
	p := newProgram()
	h := New(Config{Log: slog.New(slog.DiscardHandler)})
	h.settleCarried(patience) // nobody shows anything
	tap := &carriedTap{h: h, shown: p, done: make(chan struct{})}
	h.carried = tap
	go tap.run()
	const n = 20
	p.filled.Store(n)
	go func() {
		for range n {
			p.packets <- claim.ShownPacket{}
		}
		p.packets <- claim.ShownPacket{} // and one more, which nobody has to wait for
	}()
	h.settleCarried(patience)
	if got := p.Passed(); got < n {
		t.Errorf("%d of %d shown", got, n)
	}
	p.filled.Store(2 * n)
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	h.settleCarried(patience) // it has ended
	began := time.Now()
	tap.done = make(chan struct{})
	if h.settleCarried(10 * time.Millisecond); time.Since(began) > patience/2 {
		t.Error("it waits for ever")
	}
}

// awaitEvent takes the next event of a source.
func awaitEvent(t *testing.T, s *session, from source) (event, []byte) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); runtime.Gosched() {
		if e, data := s.rings[from].Peek(); e != nil {
			defer s.rings[from].Next()
			return *e, slices.Clone(data)
		}
	}
	t.Fatal("nothing is shown")
	return event{}, nil
}
