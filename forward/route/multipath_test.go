package route

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"testing"

	"proxyarpd/internal/wire"
)

// TestSipHash has the vectors of the reference implementation.
func TestSipHash(t *testing.T) {
	msg := []byte{0, 1, 2, 3, 4, 5, 6, 7}
	for n, want := range map[int]uint64{0: 0x726fdb47dd0e0e31, 4: 0xcf2794e0277187b7, 8: 0x93f5f5799a932462} {
		if got := sipHash(msg[:n], 0x0706050403020100, 0x0f0e0d0c0b0a0908); got != want {
			t.Errorf("of %d bytes: %#x", n, got)
		}
	}
}

func hashed(t *testing.T, policy uint8, fields uint32, ip wire.IPv4) uint32 {
	t.Helper()
	table := &Table{host: HostConf{HashPolicy: policy, HashFields: fields, HashSeed: 7}}
	h := table.flowHash(ip, nil)
	if h>>31 != 0 {
		t.Errorf("hash %#x of more than 31 bits", h)
	}
	return h
}

func udpPacket(src, dst string, sport, dport uint16) wire.IPv4 {
	ip := make(wire.IPv4, wire.IPv4MinLen+26)
	wire.PutIPv4(ip, 0, len(ip), 0x1234, 0, 64, wire.ProtoUDP, netip.MustParseAddr(src).As4(), netip.MustParseAddr(dst).As4())
	binary.BigEndian.PutUint16(ip.Payload(), sport)
	binary.BigEndian.PutUint16(ip.Payload()[2:], dport)
	return ip
}

// wrap puts a packet behind a new IPv4 header.
func wrap(proto byte, inner []byte) wire.IPv4 {
	b := make([]byte, wire.IPv4MinLen, wire.IPv4MinLen+len(inner))
	wire.PutIPv4(b, 0, len(b)+len(inner), 0, 0, 64, proto, [4]byte{192, 0, 2, 1}, [4]byte{192, 0, 2, 2})
	return append(b, inner...)
}

// TestFlowHash says which packets are one flow. That the hash is the kernel's,
// the worlds "hash..." of test/differential show.
func TestFlowHash(t *testing.T) {
	a, b := udpPacket("10.0.0.1", "10.0.0.2", 1, 2), udpPacket("10.0.0.1", "10.0.0.2", 3, 2)
	back := udpPacket("10.0.0.2", "10.0.0.1", 2, 1)
	other := udpPacket("10.0.0.1", "10.0.0.3", 1, 2)
	quote := wrap(wire.ProtoICMP, append([]byte{wire.ICMPTimeExceeded, 0, 0, 0, 0, 0, 0, 0}, a...))
	inA, inB := wrap(4, a), wrap(4, b)
	inOther := wrap(47, append([]byte{0, 0, 8, 0}, other...))
	pptp := func(inner wire.IPv4) wire.IPv4 {
		return wrap(47, append([]byte{0x20, 0x81, 0x88, 0x0b, 0, 9, 0, 9, 0, 0, 0, 1, 0xff, 3, 0, 0x21}, inner...))
	}
	tagged := append(make([]byte, 12), 0x81, 0, 0, 7, 8, 0)
	const allFields = 1<<12 - 1
	for _, c := range []struct {
		name   string
		policy uint8
		fields uint32
		x, y   wire.IPv4
		same   bool
	}{
		{"ports don't count", 0, 0, a, b, true},
		{"addresses do", 0, 0, a, other, false},
		{"the way back", 0, 0, a, back, true},
		{"an ICMP error", 0, 0, a, quote, true},
		{"ports count", 1, 0, a, b, false},
		{"the way back", 1, 0, a, back, true},
		{"inner packets don't", 1, 0, inA, inB, true},
		{"inner addresses count", 2, 0, inA, inOther, false},
		{"inner ports don't", 2, 0, inA, inB, true},
		{"in PPTP's GRE too", 2, 0, pptp(a), pptp(other), false},
		{"behind a VLAN's tag too", 2, 0, wrap(47, append(append([]byte{0, 0, 0x65, 0x58}, tagged...), a...)), a, true},
		{"a GRE header that ends in its key", 3, 1 << 11, wrap(47, []byte{0x20, 0, 8, 0}), wrap(47, []byte{0x20, 0, 8, 0, 1, 2}), true},
		{"and is none", 3, allFields, wrap(47, []byte{0x20, 0, 8, 0}), wrap(47, []byte{0x22, 0, 8, 0}), true},
		{"as the inner packet alone", 2, 0, inA, a, true},
		{"an unknown policy is the first", 9, 0, a, b, true},
		{"nothing counts", 3, 0, a, other, true},
		{"inner source alone", 3, 1 << 6, inA, inOther, true},
		{"inner destination", 3, 1 << 7, inA, inOther, false},
		{"all", 3, allFields, inA, inB, false},
		{"all without what is inside", 3, allFields, a, b, false},
	} {
		if got := hashed(t, c.policy, c.fields, c.x) == hashed(t, c.policy, c.fields, c.y); got != c.same {
			t.Errorf("policy %d, %s: same way %v", c.policy, c.name, got)
		}
	}
}

func TestChoose(t *testing.T) {
	b := NewBuilder(Policy{})
	b.SetLink(Link{Ifindex: ifUplink, Flags: LinkUp | LinkEthernet | LinkUplink})
	gw1, gw2 := netip.MustParseAddr("192.168.1.16"), netip.MustParseAddr("192.168.1.77")
	b.SetNeighbour(ifUplink, gw1, &Neighbour{Valid: true})
	b.SetNeighbour(ifUplink, gw2, &Neighbour{Failed: true})
	p := netip.MustParsePrefix("10.90.0.0/16")
	route := func(object bool) *Route {
		b.SetRoutes(TableMain, p, []Route{{Type: TypeUnicast, Object: object, Nexthops: []Nexthop{
			{Ifindex: ifUplink, Gateway: gw1, Weight: 1}, {Ifindex: ifUplink, Gateway: gw2, Weight: 2}, {Ifindex: ifPod1, Weight: 1}}}})
		return b.Publish().Lookup(p.Addr(), addrPod1, ifPod1, 0)
	}
	const quarter = 1 << 29
	for _, c := range []struct {
		object, careful bool
		want            [4]int // nexthop in each quarter of the hash space
	}{
		{false, false, [4]int{0, 1, 1, 2}},
		{false, true, [4]int{0, 2, 2, 2}},
		{true, false, [4]int{0, 2, 2, 2}},
	} {
		conf := DefaultHostConf
		conf.UseNeigh = c.careful
		b.SetHost(conf)
		r := route(c.object)
		table := b.Publish()
		for i, want := range c.want {
			for _, hash := range []uint32{uint32(i) * quarter, uint32(i+1)*quarter - 1} {
				if got := table.choose(r, hash); got != &r.Nexthops[want] {
					t.Errorf("%+v: %#x goes to %+v", c, hash, got)
				}
			}
		}
	}
}

func TestEncapIsDropped(t *testing.T) {
	b := NewBuilder(Policy{})
	b.SetLink(Link{Ifindex: ifPod1, Flags: LinkUp | LinkWorkload})
	b.SetLink(Link{Ifindex: ifUplink, Flags: LinkUp | LinkUplink})
	b.SetRoutes(TableMain, netip.MustParsePrefix("10.90.0.0/16"), []Route{{Type: TypeUnicast, Nexthops: []Nexthop{{Ifindex: ifUplink, Encap: true}}}})
	table := b.Publish()
	ip := udpPacket("10.65.0.1", "10.90.0.1", 1, 2)
	var d Decision
	if table.Decide(ip, len(ip), table.Link(ifPod1), &d); d.Verdict != DropRouteEncap {
		t.Errorf("%v", d.Verdict)
	}
}

func FuzzDissect(f *testing.F) {
	a := udpPacket("10.0.0.1", "10.0.0.2", 1, 2)
	v6, _ := hex.DecodeString("600abcde00101140" + "20010db8000000000000000000000001" + "20010db8000000000000000000000002" + "1102000000000000" + "03e807d0")
	for _, b := range [][]byte{a, wrap(4, a), wrap(41, v6), wrap(47, append([]byte{0x30, 0, 0x65, 0x58, 0, 0, 0, 1, 0, 0, 0, 2}, a...)), wrap(51, a)} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		ip := wire.IPv4(b)
		if !ip.Valid() || !ip.HeaderValid() {
			return
		}
		outer, inner := dissect(ip, headerIPv4, false), dissect(ip, headerIPv4, true)
		if outer.v6 || inner.encap != outer.encap || [4]byte(outer.src[:4]) != ip.Src() {
			t.Errorf("%+v, %+v", outer, inner)
		}
		for policy := range uint8(4) {
			hashed(t, policy, 1<<12-1, ip)
		}
	})
}

// BenchmarkFlowHash is what a packet to several nexthops costs more.
func BenchmarkFlowHash(b *testing.B) {
	ip := udpPacket("10.0.0.1", "10.0.0.2", 1, 2)
	for policy, name := range []string{"l3", "l4", "inner", "custom"} {
		table := &Table{host: HostConf{HashPolicy: uint8(policy), HashFields: 7, HashSeed: 7}}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				table.flowHash(ip, nil)
			}
		})
	}
}
