package claim

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/pktring"
	"proxyarpd/internal/wire"
)

// classes are the destinations of a test, as SetClass has them.
type classes map[string]Class

// become makes the set's destinations these and no others.
func (c classes) become(t testing.TB, s *Set) {
	t.Helper()
	for p := range s.classes {
		if _, stays := c[p.String()]; !stays {
			if err := s.SetClass(p, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	for p, class := range c {
		if err := s.SetClass(netip.MustParsePrefix(p), class); err != nil {
			t.Fatal(err)
		}
	}
}

// Classes as bpf/claim.c has them.
const (
	toLocal Class = 1 << iota
	toPunt
	toWorkload
	toElsewhere
	toUnserved
)

// Every frame goes to the ring or to the kernel, never to both or to none.
func TestEachFrameOnce(t *testing.T) {
	namespace(t)
	e, s := veth(t, "a"), load(t)
	r, k := openRing(t, s, 256), openKernel(t, e, unix.ETH_P_IP)
	slot := forward(t, s, e, 1000)
	try := func(dst string, owner Owner) {
		t.Helper()
		want := s.Counters(e.index)
		e.put(t, repeat(3, packet(e.mac, dst))...)
		inRing, inKernel := drain(r, s, slot), len(k.got(t))
		if owner == 0 && (inRing != 3 || inKernel != 0) || owner != 0 && (inRing != 0 || inKernel != 3) {
			t.Errorf("3 frames to %s: %d in the ring, %d in the kernel, want owner %d", dst, inRing, inKernel, owner)
		}
		if owner == 0 {
			want.Admitted += 3
		} else {
			want.Left[owner] += 3
		}
		if have := s.Counters(e.index); have != want {
			t.Errorf("%s: %+v, want %+v", dst, have, want)
		}
	}
	const ours Owner = 0
	classes{
		"203.0.113.1/32":   toLocal,
		"203.0.113.255/32": toLocal, // a broadcast address
		"10.0.0.0/8":       toPunt,
		"10.1.0.0/16":      toLocal, // `ip route add local 10.1.0.0/16 dev lo`
		"10.1.2.3/32":      toPunt,
	}.become(t, s)
	for _, dst := range []string{"203.0.113.2", "1.0.0.1", "126.255.255.255", "128.0.0.1", "223.255.255.255", "240.0.0.1", "9.255.255.255", "11.0.0.0"} {
		try(dst, ours)
	}
	for _, dst := range []string{"203.0.113.1", "203.0.113.255", "10.1.2.4", "0.0.0.0", "127.0.0.1", "224.0.0.1", "239.1.2.3", "255.255.255.255"} {
		try(dst, Local)
	}
	for _, dst := range []string{"10.0.0.0", "10.255.255.255", "10.1.2.3"} {
		try(dst, Punted)
	}

	// Addresses come and go.
	classes{"203.0.113.2/32": toLocal}.become(t, s)
	try("203.0.113.2", Local)
	for _, dst := range []string{"203.0.113.1", "10.0.0.1", "10.1.2.3"} {
		try(dst, ours)
	}
	classes{"0.0.0.0/0": toPunt}.become(t, s)
	try("203.0.113.2", Punted)
	classes{}.become(t, s)
	try("203.0.113.2", ours)

	if got := s.Totals(); got != s.Counters(e.index) {
		t.Errorf("totals %+v of one interface with %+v", got, s.Counters(e.index))
	}
	// Without the ring, the kernel has its frames back at once.
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	e.put(t, repeat(5, packet(e.mac, "203.0.113.9"))...)
	if n := len(k.got(t)); n != 5 {
		t.Errorf("no ring, and the kernel gets %d of 5 frames", n)
	}
}

// Single addresses beyond the room of the map for them are kept elsewhere, and
// the nearest prefix is what counts in any case.
func TestManyAddresses(t *testing.T) {
	namespace(t)
	e, s := veth(t, "a"), load(t)
	r, k := openRing(t, s, 256), openKernel(t, e, unix.ETH_P_IP)
	slot := forward(t, s, e, 1000)
	address := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}) }
	n := int(maxHosts[ipv4]) + 1000
	for i := range n {
		if err := s.SetClass(netip.PrefixFrom(address(i), 32), toLocal); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.SetClass(netip.MustParsePrefix("10.0.0.0/8"), toUnserved); err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{0, 1, n - 1001, n - 1000, n - 999, n - 1} {
		e.put(t, packet(e.mac, address(i).String()))
		if drain(r, s, slot) != 0 || len(k.got(t)) != 1 {
			t.Errorf("%v, the address %d of %d, is not the kernel's", address(i), i, n)
		}
	}
	if s.Counters(e.index).Left[Local] != 6 {
		t.Errorf("counted %+v", s.Counters(e.index))
	}
	for i := range n {
		if err := s.SetClass(netip.PrefixFrom(address(i), 32), 0); err != nil {
			t.Fatal(err)
		}
	}
	e.put(t, packet(e.mac, address(n-1).String()))
	if drain(r, s, slot) != 1 || len(s.classes) != 1 {
		t.Errorf("%d destinations are left", len(s.classes))
	}
}

// The decision stands for one frame: it must not spill over to an interface
// that is not claimed, nor from one.
func TestDecisionStaysWithItsFrame(t *testing.T) {
	namespace(t)
	a, b, c, s := veth(t, "a"), veth(t, "b"), veth(t, "c"), load(t)
	r := openRing(t, s, 256)
	ka, kb, kc := openKernel(t, a, unix.ETH_P_IP), openKernel(t, b, unix.ETH_P_IP), openKernel(t, c, unix.ETH_P_IP)
	forward(t, s, a, 100)
	if _, err := s.SetPort(Port{Ifindex: b.index, Forward: true, Quota: 100, L2Len: 14}); err != nil { // not claimed
		t.Fatal(err)
	}
	if err := s.Claim(c.index); err != nil { // claimed, and not ours
		t.Fatal(err)
	}
	const rounds = 20
	for range rounds {
		b.put(t, packet(b.mac, "203.0.113.9"))
		c.put(t, packet(c.mac, "203.0.113.9"))
		a.put(t, packet(a.mac, "203.0.113.9"))
		c.put(t, packet(c.mac, "203.0.113.9"))
	}
	if n := drain(r, nil, 0); n != 2*rounds {
		t.Errorf("%d in the ring, want %d", n, 2*rounds)
	}
	for _, k := range []struct {
		name string
		got  int
		want int
	}{{"claimed", len(ka.got(t)), 0}, {"not claimed", len(kb.got(t)), rounds}, {"not ours", len(kc.got(t)), 2 * rounds}} {
		if k.got != k.want {
			t.Errorf("%s: the kernel gets %d frames, want %d", k.name, k.got, k.want)
		}
	}
	if err := s.Release(a.index); err != nil {
		t.Fatal(err)
	}
	a.put(t, packet(a.mac, "203.0.113.9"))
	if inRing, inKernel := drain(r, nil, 0), len(ka.got(t)); inRing != 1 || inKernel != 1 {
		t.Errorf("released: %d in the ring, %d in the kernel, want both to have it", inRing, inKernel)
	}
}

// Frames to a MAC that stands for the interface are the host's.
func TestAliasBecomesHost(t *testing.T) {
	namespace(t)
	e, s := veth(t, "a"), load(t)
	r, k, arp := openRing(t, s, 64), openKernel(t, e, unix.ETH_P_IP), openKernel(t, e, unix.ETH_P_ARP)
	answered, former, stranger := wire.MAC{0xee, 0xee, 0xee, 0xee, 0xee, 0xee}, wire.MAC{2, 1, 1, 1, 1, 1}, wire.MAC{2, 9, 9, 9, 9, 9}
	classes{"203.0.113.1/32": toLocal}.become(t, s)
	for _, c := range []struct {
		name    string
		forward bool
		aliases [2]wire.MAC
		dst     wire.MAC
		to      string
		inRing  int
		kernel  uint8 // type that the kernel sees; 255: nothing
	}{
		{"no alias", true, [2]wire.MAC{}, answered, "203.0.113.1", 0, unix.PACKET_OTHERHOST},
		{"no alias, not local", true, [2]wire.MAC{}, answered, "203.0.113.9", 0, unix.PACKET_OTHERHOST},
		{"first alias", true, [2]wire.MAC{answered, former}, answered, "203.0.113.1", 0, unix.PACKET_HOST},
		{"second alias", true, [2]wire.MAC{answered, former}, former, "203.0.113.1", 0, unix.PACKET_HOST},
		{"only a second", true, [2]wire.MAC{{}, former}, former, "203.0.113.1", 0, unix.PACKET_HOST},
		{"zero is no alias", true, [2]wire.MAC{{}, former}, wire.MAC{}, "203.0.113.1", 0, unix.PACKET_OTHERHOST},
		{"a stranger", true, [2]wire.MAC{answered, former}, stranger, "203.0.113.1", 0, unix.PACKET_OTHERHOST},
		{"not local", true, [2]wire.MAC{answered, former}, answered, "203.0.113.9", 1, 255},
		{"a stranger, not local", true, [2]wire.MAC{answered, former}, stranger, "203.0.113.9", 0, unix.PACKET_OTHERHOST},
		{"not forwarded for", false, [2]wire.MAC{answered}, answered, "203.0.113.9", 0, unix.PACKET_HOST},
		{"its own", true, [2]wire.MAC{answered, former}, e.mac, "203.0.113.1", 0, unix.PACKET_HOST},
	} {
		slot, err := s.SetPort(Port{Ifindex: e.index, Forward: c.forward, Workload: true, Quota: 10, L2Len: 14, Aliases: c.aliases})
		if err == nil {
			err = s.Claim(e.index)
		}
		if err != nil {
			t.Fatal(err)
		}
		e.put(t, packet(c.dst, c.to))
		inRing, types := drain(r, s, slot), k.got(t)
		if inRing != c.inRing || len(types) != 1-c.inRing || len(types) == 1 && types[0] != c.kernel {
			t.Errorf("%s: %d in the ring, the kernel has %v; want %d, %d", c.name, inRing, types, c.inRing, c.kernel)
		}
		// All protocols, not only what might be forwarded.
		f := packet(c.dst, c.to)
		f[pktring.VnetLen+13] = 0x06 // ARP
		e.put(t, f)
		want := c.kernel
		if want == 255 {
			want = unix.PACKET_HOST
		}
		if types := arp.got(t); len(types) != 1 || types[0] != want {
			t.Errorf("%s, ARP: types %v, want %d", c.name, types, want)
		}
	}
}
