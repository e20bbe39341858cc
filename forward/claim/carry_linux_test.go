package claim

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"proxyarpd/internal/pktring"
	"proxyarpd/internal/wire"
)

// route makes a hop the way to an address.
func (c *Carrier) route(a netip.Addr, next uint32, hop uint32) uint32 {
	b := a.As4()
	r := c.Root(uint16(b[0])<<8 | uint16(b[1]))
	if r.Chunk == 0 {
		r.Chunk, next = next, next+1
	}
	at := &c.Chunk(r.Chunk).Word[b[2]]
	if *at == 0 {
		*at, next = ToChunk|next, next+1
	}
	c.Chunk(*at &^ ToChunk).Word[b[3]] = hop
	return next
}

// carrying is a set whose programs carry from one interface to another.
type carrying struct {
	*Set
	e, f  *end
	six   bool
	frame []byte // is carried from e to f
}

func newCarrying(t testing.TB, six ...bool) *carrying {
	t.Helper()
	namespace(t)
	x := &carrying{e: veth(t, "a"), f: veth(t, "c"), six: six != nil}
	var err error
	if x.Set, err = Load(Config{ARP: ARPPolice{PerSecond: 1, Burst: 1}, Carry: true, IPv6: x.six, Replaceable: true}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Set.Close() })
	c := x.Carrier()
	from, to := netip.MustParseAddr("10.65.0.1"), netip.MustParseAddr("10.65.0.2")
	if x.six {
		from, to = netip.MustParseAddr("fd00:65::1"), netip.MustParseAddr("fd00:65::2")
	}
	next := uint32(1)
	for i, of := range []struct {
		e    *end
		addr netip.Addr
	}{{x.e, from}, {x.f, to}} {
		slot, err := x.SetPort(Port{Ifindex: of.e.index, Forward: true, IPv6: x.six, Workload: true, Anywhere: true, Quota: 1000, L2Len: 14})
		if err != nil {
			t.Fatal(err)
		}
		*c.Way(slot) = Way{MAC: MACWord(of.e.mac, OutOK|OutOK6|OutWorkload|OutPeer), Ifindex: uint32(of.e.index), MTU: 1500, MTU6: 1400, In: InOK | InStrict | InStrict6}
		id := uint32(2 + i)
		*c.Hop(id) = Hop{MAC: MACWord(wire.MAC{2, 0, 0, 0, 0, byte(i)}, HopValid), Ifindex: uint32(of.e.index), Way: slot}
		if !x.six {
			next = c.route(of.addr, next, id)
		} else if err := c.SetRoute6(netip.PrefixFrom(of.addr, 128), id); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Switch(x.six, true); err != nil {
		t.Fatal(err)
	}
	if x.six {
		x.frame = packet6(x.e.mac, from.String(), to.String(), wire.ProtoUDP)[pktring.VnetLen:]
		return x
	}
	x.frame = packet(x.e.mac, to.String())[pktring.VnetLen:]
	ip := wire.IPv4(x.frame[14:])
	copy(ip[12:16], from.AsSlice())
	ip.UpdateHeaderChecksum()
	return x
}

// carry has the programs carry the frame once.
func (x *carrying) carry(t *testing.T) {
	t.Helper()
	if d, err := x.Carrier().Try(x.e.index, x.frame); err != nil || !d.Carried {
		t.Fatalf("%+v, %v", d, err)
	}
	var each []bpfDecided
	if err := x.objs.ParpDecision.Lookup(uint32(0), &each); err != nil {
		t.Fatal(err)
	}
	for _, d := range each { // the next program may run on another CPU
		if d.Decision == decisionCarried {
			for i := range each {
				each[i] = d
			}
			break
		}
	}
	if err := x.objs.ParpDecision.Put(uint32(0), each); err != nil {
		t.Fatal(err)
	}
	ctx := make([]byte, 192)
	native.PutUint32(ctx[40:], uint32(x.e.index))
	if ret, err := x.claim.Run(&ebpf.RunOptions{Data: x.frame, Context: ctx}); err != nil || ret != tcActRedirect {
		t.Fatalf("%v, it returns %d", err, ret)
	}
}

const tcActRedirect = 7 // TC_ACT_REDIRECT, linux/pkt_cls.h

// What is carried is shown while somebody looks at one of the interfaces, as it
// came; and what there is no room for is counted, and carried all the same.
func TestShown(t *testing.T) {
	x := newCarrying(t)
	x.carry(t) // nobody looks
	shown, err := x.Show()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := shown.Close(); err != nil {
			t.Error(err)
		}
		x.carry(t)
	}()
	only := x.f.index
	if err := shown.Want(200, func(ifindex int32) bool { return ifindex == only }); err != nil {
		t.Fatal(err)
	}
	before := time.Now()
	x.carry(t)
	var p ShownPacket
	if err := shown.Next(&p); err != nil {
		t.Fatal(err)
	}
	if p.Verdict != ShownForward || p.In != x.e.index || p.Out != x.f.index || p.Dst != (wire.MAC{2, 0, 0, 0, 0, 1}) || p.Src != x.f.mac ||
		p.Len != len(x.frame) || p.LeftLen != len(x.frame) || !bytes.Equal(p.Data, x.frame[:min(200, len(x.frame))]) {
		t.Errorf("%+v", p)
	}
	if at := time.Unix(0, p.At); at.Before(before.Add(-time.Millisecond)) || at.After(time.Now()) {
		t.Errorf("at %v, between %v and %v", at, before, time.Now())
	}
	only = 0
	if err := shown.Want(200, func(ifindex int32) bool { return ifindex == only }); err != nil {
		t.Fatal(err)
	}
	x.carry(t)
	only = x.e.index
	if err := shown.Want(200, func(ifindex int32) bool { return ifindex == only }); err != nil {
		t.Fatal(err)
	}
	const n, most = 20000, shownRing / 256
	for range n {
		x.carry(t)
	}
	if lost := shown.Lost(); lost < n-most || lost > n-most/2 {
		t.Errorf("%d of %d are not shown", lost, n)
	}
	if carried := x.Carried(x.e.index).Packets; carried != n+3 {
		t.Errorf("%d carried", carried)
	}
	for seen := shown.Lost(); seen < n; seen++ {
		if err := shown.Next(&p); err != nil {
			t.Fatal(err)
		}
	}
	ended := make(chan error)
	go func() { ended <- shown.Next(&p) }()
	if err := shown.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, os.ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
}

// Where the kernel forwards, too, nothing is carried by what nobody keeps.
func TestUnkept(t *testing.T) {
	for _, six := range [][]bool{nil, {true}} {
		t.Run(fmt.Sprint("IPv6 ", six != nil), func(t *testing.T) {
			t.Parallel()
			testUnkept(t, newCarrying(t, six...))
		})
	}
}

func testUnkept(t *testing.T, x *carrying) {
	p := Port{Ifindex: x.e.index, Forward: true, IPv6: x.six, Workload: true, Anywhere: true, Quota: 1000, L2Len: 14, KernelForwards: !x.six, KernelForwards6: x.six}
	try := func(want bool) {
		t.Helper()
		if d, err := x.Carrier().Try(x.e.index, x.frame); err != nil || d.Carried != want {
			t.Fatalf("%+v, %v, want %v", d, err, want)
		}
	}
	time.Sleep(650 * time.Millisecond) // nobody was asked: the question is still to come
	try(true)
	time.Sleep(650 * time.Millisecond)
	try(true)
	if _, err := x.SetPort(p); err != nil {
		t.Fatal(err)
	}
	try(true) // it is asked now
	if id, err := x.Carrier().Used(); err != nil || id != 0 {
		t.Fatalf("next hop %d, %v", id, err)
	}
	time.Sleep(650 * time.Millisecond)
	try(false)
	left := x.Counters(x.e.index).Left[Stalled]
	try(false)
	if now := x.Counters(x.e.index).Left[Stalled]; left != 1 || now != 2 {
		t.Errorf("%d left, and then %d", left, now)
	}
	if s := x.Stalls(); s.Count != 1 || !s.Now {
		t.Errorf("%+v", s)
	}
	if err := x.Carrier().Answer(); err != nil {
		t.Fatal(err)
	}
	try(true)
	if s := x.Stalls(); s.Count != 1 || s.Now || s.Ended.Sub(s.Began) < 50*time.Millisecond {
		t.Errorf("%+v", s)
	}
	p.KernelForwards, p.KernelForwards6 = false, false
	if _, err := x.SetPort(p); err != nil {
		t.Fatal(err)
	}
	try(true)
}

// BenchmarkCarry measures the ring's filter alone, for a frame that it carries by what it
// remembers, and by what it looks up.
func BenchmarkCarry(b *testing.B) {
	b.Run("IPv4", func(b *testing.B) { benchmarkCarry(b, newCarrying(b)) })
	b.Run("IPv6", func(b *testing.B) { benchmarkCarry(b, newCarrying(b, true)) })
}

func benchmarkCarry(b *testing.B, x *carrying) {
	for i := range 40 { // others
		if _, err := x.SetPort(Port{Ifindex: int32(1000 + i), Forward: true, Workload: true, Quota: 1000, L2Len: 14}); err != nil {
			b.Fatal(err)
		}
	}
	// A test run of a socket filter takes the Ethernet header away first.
	frame := append(append([]byte(nil), x.frame[:14]...), x.frame...)
	ctx := make([]byte, 192)
	native.PutUint32(ctx[40:], uint32(x.e.index))
	if d, err := x.Carrier().Try(x.e.index, x.frame); err != nil || !d.Carried || d.Ifindex != uint32(x.f.index) || d.Src != x.f.mac || !d.Peer || d.Trim {
		b.Fatalf("%+v, %v", d, err)
	}
	const runs = 1 << 20
	took := map[string]time.Duration{}
	for _, what := range []string{"ns/remembered", "ns/looked-up"} {
		began := time.Now()
		ret, err := x.ring.Run(&ebpf.RunOptions{Data: frame, Context: ctx, Repeat: runs})
		took[what] = time.Since(began)
		if err != nil || ret != 0 {
			b.Fatalf("%v, it returns %d", err, ret)
		}
		for slot := range uint32(MaxPorts) { // nothing is remembered of what is new
			x.Carrier().Way(slot).Fresh = 1 << 63
		}
		if err := x.Carrier().Changed(); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
	}
	for what, took := range took {
		b.ReportMetric(float64(took)/runs, what)
	}
}

// Where loads are reordered the generation is counted up once more, a moment after
// a change.
func TestChangedAgain(t *testing.T) {
	defer func(was bool) { loadsReordered = was }(loadsReordered)
	loadsReordered = true
	x := newCarrying(t)
	generation := func() (n uint32) {
		if err := x.vars.CarryGeneration.Get(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	time.Sleep(2 * settled)
	before := generation()
	for range 3 {
		if err := x.Carrier().Changed(); err != nil {
			t.Fatal(err)
		}
	}
	for end := time.Now().Add(10 * time.Second); generation() != before+4; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("generation %d, it was %d", generation(), before)
		}
	}
}
