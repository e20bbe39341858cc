package claim

import (
	"net/netip"
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

// BenchmarkCarry measures the ring's filter alone, for a frame that it carries.
func BenchmarkCarry(b *testing.B) {
	namespace(b)
	e, f := veth(b, "a"), veth(b, "c")
	s, err := Load(Config{ARP: ARPPolice{PerSecond: 1, Burst: 1}, Carry: true})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	c := s.Carrier()
	from, to := netip.MustParseAddr("10.65.0.1"), netip.MustParseAddr("10.65.0.2")
	next := uint32(1)
	for i, x := range []struct {
		e    *end
		addr netip.Addr
	}{{e, from}, {f, to}} {
		slot, err := s.SetPort(Port{Ifindex: x.e.index, Forward: true, Workload: true, Anywhere: true, Quota: 1000, L2Len: 14})
		if err != nil {
			b.Fatal(err)
		}
		*c.Way(slot) = Way{MAC: MACWord(x.e.mac, OutOK|OutWorkload|OutPeer), Ifindex: uint32(x.e.index), MTU: 1500, In: InOK | InStrict}
		id := uint32(2 + i)
		*c.Hop(id) = Hop{MAC: MACWord(wire.MAC{2, 0, 0, 0, 0, byte(i)}, HopValid), Ifindex: uint32(x.e.index), Way: slot}
		next = c.route(x.addr, next, id)
	}
	for i := range 40 { // others
		if _, err := s.SetPort(Port{Ifindex: int32(1000 + i), Forward: true, Workload: true, Quota: 1000, L2Len: 14}); err != nil {
			b.Fatal(err)
		}
	}
	if err := c.Switch(true); err != nil {
		b.Fatal(err)
	}
	frame := packet(e.mac, to.String())[pktring.VnetLen:]
	ip := wire.IPv4(frame[14:])
	copy(ip[12:16], from.AsSlice())
	ip.UpdateHeaderChecksum()
	// A test run of a socket filter takes the Ethernet header away first.
	frame = append(append([]byte(nil), frame[:14]...), frame...)
	ctx := make([]byte, 192)
	native.PutUint32(ctx[40:], uint32(e.index))
	if d, err := c.Try(e.index, frame[14:]); err != nil || !d.Carried || d.Ifindex != uint32(f.index) || d.Src != f.mac || !d.Peer || d.Trim {
		b.Fatalf("%+v, %v", d, err)
	}
	const runs = 1 << 20
	began := time.Now()
	ret, err := s.ring.Run(&ebpf.RunOptions{Data: frame, Context: ctx, Repeat: runs})
	took := time.Since(began)
	if err != nil || ret != 0 {
		b.Fatalf("%v, it returns %d", err, ret)
	}
	for b.Loop() {
	}
	b.ReportMetric(float64(took)/runs, "ns/frame")
}
