package claim

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"strings"
	"testing"

	"proxyarpd/internal/pktring"
	"proxyarpd/internal/wire"
)

// try6 has the ring's filter decide about a frame, twice: the second time by what it
// remembers.
func (x *carrying) try6(t *testing.T, frame []byte) (d Decision) {
	t.Helper()
	for i := range 2 {
		again, err := x.Carrier().Try(x.e.index, frame)
		if err != nil {
			t.Fatal(err)
		}
		if i > 0 && again != d {
			t.Errorf("%+v, and the second time %+v", d, again)
		}
		d = again
		x.Window(0).Reset() // nothing is on its way through userspace
	}
	return d
}

// What is plain of IPv6 is carried, whatever flow label and traffic class say.
func TestCarry6(t *testing.T) {
	x := newCarrying(t, true)
	const from, to = "fd00:65::1", "fd00:65::2"
	packet := func(next uint8, payload ...byte) []byte {
		return packet6(x.e.mac, from, to, next, payload...)[pktring.VnetLen:]
	}
	changed := func(frame []byte, at int, v ...byte) []byte {
		b := append([]byte(nil), frame...)
		copy(b[wire.EthernetLen+at:], v)
		return b
	}
	udp := packet(wire.ProtoUDP)
	sized := func(n int) []byte { return packet(wire.ProtoUDP, make([]byte, n-wire.IPv6Len)...) }
	icmp := func(typ byte) []byte { return packet(wire.ProtoICMPv6, typ, 0, 0, 0, 0, 0, 0, 0) }
	header := func(next byte) []byte { return packet(next, wire.ProtoUDP, 0, 0, 0, 0, 0, 0, 0) }
	const hops = 7
	for _, c := range []struct {
		name    string
		frame   []byte
		carried bool
		trim    bool
	}{
		{"UDP", udp, true, false},
		{"traffic class and flow label", changed(udp, 0, 0x6f, 0xff, 0xff, 0xff), true, false},
		{"hop limit 2", changed(udp, hops, 2), true, false},
		{"hop limit 1", changed(udp, hops, 1), false, false},
		{"hop limit 0", changed(udp, hops, 0), false, false},
		{"version 4", changed(udp, 0, 0x45), false, false},
		{"hop-by-hop options", header(0), false, false},
		{"routing header", header(43), true, false},
		{"fragment", header(44), true, false},
		{"destination options", header(60), true, false},
		{"no next header", packet(59), true, false},
		{"bare header", changed(udp[:wire.EthernetLen+wire.IPv6Len], 4, 0, 0), true, false},
		{"less than its length", changed(udp, 4, 0, 17), false, false},
		{"padding", changed(udp, 4, 0, 8), true, true},
		{"as long as may be", sized(1400), true, false},
		{"too long", sized(1401), false, false},
		{"echo request", icmp(128), true, false},
		{"echo request, hop limit 255", changed(icmp(128), hops, 255), true, false},
		{"solicitation that came by a router", icmp(135), true, false},
		{"router solicitation", changed(icmp(133), hops, 255), false, false},
		{"router advertisement", changed(icmp(134), hops, 255), false, false},
		{"solicitation", changed(icmp(135), hops, 255), false, false},
		{"advertisement", changed(icmp(136), hops, 255), false, false},
		{"redirect", changed(icmp(137), hops, 255), false, false},
		{"may hide a redirect", changed(header(60), hops, 255), false, false},
		{"source without a way", changed(udp, 8, netip.MustParseAddr("fd00:66::1").AsSlice()...), false, false},
		{"source of elsewhere", changed(udp, 8, netip.MustParseAddr(to).AsSlice()...), false, false},
		{"destination without a way", changed(udp, 24, netip.MustParseAddr("fd00:65::3").AsSlice()...), false, false},
		{"back where it came from", changed(udp, 24, netip.MustParseAddr(from).AsSlice()...), false, false},
	} {
		d := x.try6(t, c.frame)
		want := Decision{}
		if c.carried {
			want = Decision{Carried: true, Ifindex: uint32(x.f.index), Dst: wire.MAC{2, 0, 0, 0, 0, 1}, Src: x.f.mac, Peer: true, Trim: c.trim,
				Total: wire.IPv6Len + binary.BigEndian.Uint16(c.frame[wire.EthernetLen+4:])}
		}
		if d != want {
			t.Errorf("%s: %+v, want %+v", c.name, d, want)
		}
	}
	p := Port{Ifindex: x.e.index, Forward: true, Workload: true, Anywhere: true, Quota: 1000, L2Len: 14}
	if _, err := x.SetPort(p); err != nil {
		t.Fatal(err)
	}
	if d := x.try6(t, udp); d.Carried {
		t.Error("carried where IPv6 is not served")
	}
	p.IPv6 = true
	if _, err := x.SetPort(p); err != nil {
		t.Fatal(err)
	}
	if err := x.Carrier().Switch(true, false); err != nil {
		t.Fatal(err)
	}
	if d := x.try6(t, udp); d.Carried {
		t.Error("carried, and it is off")
	}
}

// What destinations say takes effect at once, the longest prefix's; single addresses for
// which the hash has no room are like others.
func TestRoutes6(t *testing.T) {
	x := newCarrying(t, true)
	c := x.Carrier()
	frame := func(dst string) []byte {
		return packet6(x.e.mac, "fd00:65::1", dst, wire.ProtoUDP)[pktring.VnetLen:]
	}
	set := func(prefix string, word uint32) {
		t.Helper()
		if err := c.SetRoute6(netip.MustParsePrefix(prefix), word); err != nil {
			t.Fatal(prefix, err)
		}
		if err := c.Changed(); err != nil {
			t.Fatal(err)
		}
	}
	try := func(dst string, want bool) {
		t.Helper()
		if d := x.try6(t, frame(dst)); d.Carried != want {
			t.Fatalf("to %s: %+v, want %v", dst, d, want)
		}
	}
	const hop = 3 // of newCarrying
	try("2001:db8::9", false)
	set("::/0", hop)
	try("2001:db8::9", true)
	set("2001:db8::/33", ToRing)
	try("2001:db8::9", false)
	try("2001:db8:8000::9", true)
	set("2001:db8::8/127", ToRing)
	set("2001:db8::9/128", hop)
	try("2001:db8::9", true)
	try("2001:db8::8", false)
	set("2001:db8::/33", AsAbove)
	set("2001:db8::8/127", AsAbove)
	try("2001:db8::8", true)
	for i := range 16384 { // MAX_DIRECT6
		set(fmt.Sprintf("2001:db8:1::%x/128", i), ToRing)
	}
	if !c.spilled6 {
		t.Error("there is room for all")
	}
	try("2001:db8:1::3fff", false)
	set("2001:db8:1::/128", AsAbove) // there is room again
	set("2001:db8:1::3fff/128", hop) // beside the one that is in the trie
	try("2001:db8:1::3fff", true)
	set("2001:db8:1::3fff/128", AsAbove)
	set("2001:db8:1::/64", ToRing)
	try("2001:db8:1::3fff", false)
	set("2001:db8:1::/64", AsAbove)
	try("2001:db8:1::3fff", true)

	// A subnet, whose neighbours are next hops themselves.
	*c.Hop(4) = Hop{MAC: MACWord(wire.MAC{}, HopSubnet), Ifindex: uint32(x.f.index), Way: c.Hop(hop).Way}
	set("2001:db8:2::/64", 4)
	try("2001:db8:2::1", false)
	if err := c.SetNeighbour(x.f.index, netip.MustParseAddr("2001:db8:2::1"), hop); err != nil {
		t.Fatal(err)
	}
	try("2001:db8:2::1", true)
	try("2001:db8:2::2", false)
	if err := c.SetNeighbour(x.f.index, netip.MustParseAddr("2001:db8:2::1"), 0); err != nil || c.Changed() != nil {
		t.Fatal(err)
	}
	try("2001:db8:2::1", false)
}

// BenchmarkRoutes6 tells the programs of a full table's destinations.
func BenchmarkRoutes6(b *testing.B) {
	x := newCarrying(b, true)
	const size = 200000
	rng := rand.New(rand.NewPCG(1, 2))
	n := 0
	for b.Loop() {
		for range size {
			a := [16]byte{0: 0x20}
			binary.BigEndian.PutUint64(a[1:], rng.Uint64())
			p, _ := netip.AddrFrom16(a).Prefix([]int{32, 48, 48, 48, 44, 40, 36, 29}[n%8])
			n++
			if err := x.Carrier().SetRoute6(p, 3); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/prefix")
	text, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", x.objs.ParpRoutes6.FD()))
	if err != nil {
		b.Fatal(err)
	}
	var memory float64
	for line := range strings.Lines(string(text)) {
		fmt.Sscanf(line, "memlock: %g", &memory)
	}
	b.ReportMetric(memory/float64(n), "B/prefix")
}
