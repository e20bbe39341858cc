package claim

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/nstest"
	"proxyarpd/internal/pktring"
	"proxyarpd/internal/wire"
)

// load6 loads the programs for both families.
func load6(t testing.TB, cfg Config) *Set {
	t.Helper()
	cfg.ARP, cfg.IPv6 = ARPPolice{PerSecond: 10000, Burst: 2000}, true
	s, err := Load(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// forward6 makes an interface one whose IPv6 frames are ours, claimed.
func forward6(t testing.TB, s *Set, e *end, edit ...func(*Port)) (slot uint32) {
	t.Helper()
	p := Port{Ifindex: e.index, IPv6: true, Workload: true, Quota: 1000, L2Len: 14}
	for _, f := range edit {
		f(&p)
	}
	slot, err := s.SetPort(p)
	if err == nil {
		err = s.Claim(e.index)
	}
	if err != nil {
		t.Fatal(err)
	}
	return slot
}

// packet6 is a virtio_net_hdr and a frame with an IPv6 packet, whose headers are next
// and what is behind it.
func packet6(mac wire.MAC, src, dst string, next uint8, payload ...byte) []byte {
	if len(payload) == 0 {
		payload = make([]byte, 16)
	}
	b := make([]byte, pktring.VnetLen+14+wire.IPv6Len)
	eth := wire.Ethernet(b[pktring.VnetLen:])
	eth.SetDst(mac)
	eth.SetSrc(wire.MAC{2, 0, 0, 0, 0, 99})
	binary.BigEndian.PutUint16(eth[12:], unix.ETH_P_IPV6)
	wire.PutIPv6(eth.Payload(), 0, 0, len(payload), next, 64, netip.MustParseAddr(src).As16(), netip.MustParseAddr(dst).As16())
	return append(b, payload...)
}

const source6 = "2001:db8:9::1"

// TestLoadsIPv6: the verifier takes all programs for IPv6, whatever the process may do.
func TestLoadsIPv6(t *testing.T) {
	for _, perfmon := range []bool{true, false} {
		for _, cfg := range []Config{{}, {Rooms: 3}, {Translates: true}, {Translates: true, Rooms: 3}, {Carry: true}, {Carry: true, Translates: true, Rooms: 3}} {
			t.Run(fmt.Sprintf("perfmon %v, carry %v, translates %v, rooms %d", perfmon, cfg.Carry, cfg.Translates, cfg.Rooms), func(t *testing.T) {
				namespace(t)
				e := veth(t, "a")
				if !perfmon {
					drop(t, unix.CAP_SYS_ADMIN, unix.CAP_PERFMON)
				}
				s := load6(t, cfg)
				if s.SeesGSOType() && !perfmon {
					t.Error("sees GSO types")
				}
				slot := forward6(t, s, e)
				frame := packet6(e.mac, source6, "2001:db8::9", wire.ProtoUDP)
				if cfg.Rooms > 1 {
					rings := openRings(t, s, cfg.Rooms, 64)
					if e.put(t, frame); inRing(t, s, rings, slot) < 0 {
						t.Error("it is not in one ring")
					}
					return
				}
				r := openRing(t, s, 64)
				e.put(t, frame)
				if n := drain(r, s, slot); n != 1 {
					t.Errorf("%d frames in the ring", n)
				}
			})
		}
	}
}

// TestEachFrameOnce6: every IPv6 frame goes to the ring or to the kernel, by its
// destination's class.
func TestEachFrameOnce6(t *testing.T) {
	namespace(t)
	e, s := veth(t, "a"), load6(t, Config{})
	r, k := openRing(t, s, 256), openKernel(t, e, unix.ETH_P_IPV6)
	slot := forward6(t, s, e)
	try := func(what string, frame []byte, owner Owner) {
		t.Helper()
		want := s.Counters(e.index)
		e.put(t, repeat(3, frame)...)
		inRing, inKernel := drain(r, s, slot), len(k.got(t))
		if owner == 0 && (inRing != 3 || inKernel != 0) || owner != 0 && (inRing != 0 || inKernel != 3) {
			t.Errorf("%s: of 3 frames %d in the ring, %d in the kernel, want owner %d", what, inRing, inKernel, owner)
		}
		switch owner {
		case ours:
			want.Admitted += 3
		case nobody:
		default:
			want.Left[owner] += 3
		}
		if have := s.Counters(e.index); have != want {
			t.Errorf("%s: %+v, want %+v", what, have, want)
		}
	}
	to := func(dst string) []byte { return packet6(e.mac, source6, dst, wire.ProtoUDP) }
	classes{
		"2001:db8::1/128":     toLocal,
		"2001:db8:a::/48":     toPunt,
		"2001:db8:a:1::/64":   toLocal,
		"2001:db8:a:1::9/128": toPunt,
		"10.0.0.0/8":          toPunt,
	}.become(t, s)
	for _, dst := range []string{"2001:db8::2", "2001:db8:b::1", "::2", "fec0::1", "fd00::1", "::ffff:10.0.0.1", "2001:db9::"} {
		try(dst, to(dst), ours)
	}
	for _, dst := range []string{"2001:db8::1", "2001:db8:a:1::8", "::", "::1", "fe80::1", "febf::1", "ff00::", "ff02::1", "ffff::1"} {
		try(dst, to(dst), Local)
	}
	for _, dst := range []string{"2001:db8:a::", "2001:db8:a:ffff::1", "2001:db8:a:1::9"} {
		try(dst, to(dst), Punted)
	}
	elsewhere := to("2001:db8::2")
	changed := func(at int, v ...byte) []byte {
		b := append([]byte(nil), elsewhere...)
		copy(b[pktring.VnetLen+at:], v)
		return b
	}
	try("a bare header", elsewhere[:pktring.VnetLen+14+40], ours)
	try("less than a header", elsewhere[:pktring.VnetLen+14+39], nobody)
	try("another version", changed(14, 0x45), ours)
	try("to all", changed(0, 255, 255, 255, 255, 255, 255), nobody)
	try("to a group's MAC", changed(0, 0x33, 0x33, 0, 0, 0, 1), nobody)
	try("to another host", changed(0, 2, 7, 7, 7, 7, 7), nobody)

	// Each family has its own switch.
	other := openKernel(t, e, unix.ETH_P_IP)
	for _, c := range []struct {
		v4, v6       bool
		inV4, inRing int
	}{{false, true, 0, 1}, {true, false, 1, 0}, {true, true, 1, 1}, {false, false, 0, 0}} {
		slot := forward6(t, s, e, func(p *Port) { p.Forward, p.IPv6 = c.v4, c.v6 })
		e.put(t, packet(e.mac, "203.0.113.9"))
		if n, k := drain(r, s, slot), len(other.got(t)); n != c.inV4 || k != 1-n {
			t.Errorf("%+v: IPv4: %d in the ring, %d in the kernel", c, n, k)
		}
		e.put(t, elsewhere)
		if n, k := drain(r, s, slot), len(k.got(t)); n != c.inRing || k != 1-n {
			t.Errorf("%+v: IPv6: %d in the ring, %d in the kernel", c, n, k)
		}
	}
}

// What is counted for nobody, and what is ours.
const (
	ours   Owner = 0
	nobody Owner = 1
)

// TestKernelForwards6: where the kernel forwards IPv6, what does not lead to where
// packets may be sent is its own, whatever it does with IPv4.
func TestKernelForwards6(t *testing.T) {
	namespace(t)
	e, s := veth(t, "a"), load6(t, Config{})
	r, k := openRing(t, s, 64), openKernel(t, e, unix.ETH_P_IPV6)
	classes{"2001:db8::/32": toUnserved, "2001:db8:1::/48": toWorkload, "2001:db8:2::/48": toWorkload | toElsewhere}.become(t, s)
	for _, c := range []struct {
		v4, v6, anywhere bool
		dst              string
		left             Owner
	}{
		{false, true, true, "2001:db8::1", Transit}, {true, false, true, "2001:db8::1", ours}, {false, true, true, "2001:db8:1::1", ours},
		{false, true, false, "2001:db8:1::1", ours}, {false, true, true, "2001:db8:2::1", ours}, {false, true, false, "2001:db8:2::1", Transit},
		{false, true, true, "2001:db9::1", ours}, {false, true, false, "2001:db9::1", Transit},
	} {
		slot := forward6(t, s, e, func(p *Port) { p.KernelForwards, p.KernelForwards6, p.Anywhere = c.v4, c.v6, c.anywhere })
		was := s.Counters(e.index).Left[Transit]
		e.put(t, packet6(e.mac, source6, c.dst, wire.ProtoTCP))
		inRing, inKernel, left := drain(r, s, slot), len(k.got(t)), s.Counters(e.index).Left[Transit]-was
		if inRing+inKernel != 1 || (inRing == 1) != (c.left == ours) || (left == 1) != (c.left == Transit) {
			t.Errorf("%+v: %d in the ring, %d in the kernel, %d counted", c, inRing, inKernel, left)
		}
	}
}

const gsoTCPv6 = 4 // VIRTIO_NET_HDR_GSO_TCPV6

// super6 is super for IPv6.
func super6(mac wire.MAC, gso, protocol byte, before ...[]byte) []byte {
	l4 := make([]byte, 4000)
	checksum := uint16(6)
	if gso == gsoTCPv6 {
		checksum = 16
		l4[12] = 5 << 4
	}
	binary.BigEndian.PutUint16(l4[4:], uint16(len(l4))) // UDP length
	length, next := 14+wire.IPv6Len, protocol
	for _, h := range before {
		next, h[0] = h[0], next
		l4 = append(h, l4...)
		length += len(h)
	}
	b := packet6(mac, source6, "2001:db8::9", next, l4...)
	b[0], b[1] = 1, gso
	for i, v := range []uint16{uint16(length) + 20, 1000, uint16(length), checksum} {
		binary.NativeEndian.PutUint16(b[2+2*i:], v)
	}
	return b
}

// TestOddGSO6: what a ring can have of IPv6's super-packets it gets, the rest comes by
// the relay, in packets of IPv6.
func TestOddGSO6(t *testing.T) {
	namespace(t)
	s := load6(t, Config{})
	if !s.SeesGSOType() {
		nstest.Skip(t, "needs bpf_rdonly_cast (Linux 6.2)")
	}
	d := openRelay(t, s)
	e, write := tap(t)
	r, k := openRing(t, s, 64), openKernel(t, e, unix.ETH_P_IPV6)
	slot := forward6(t, s, e)
	for _, c := range []struct {
		name          string
		gso, protocol byte
		before        [][]byte
		ring          bool
	}{
		{"TCP", gsoTCPv6, wire.ProtoTCP, nil, true},
		{"UDP_L4", gsoUDPL4, wire.ProtoUDP, nil, true},
		{"UFO", gsoUDP, wire.ProtoUDP, nil, false},
		{"TCP behind options", gsoTCPv6, wire.ProtoTCP, [][]byte{extension(wire.ProtoDestOpts, 0, 1, 4)}, true},
	} {
		write(super6(e.mac, c.gso, c.protocol, c.before...))
		if n := drain(r, s, slot); (n == 1) != c.ring || len(k.got(t)) != 0 {
			t.Errorf("%s: %d in the ring", c.name, n)
		}
		if c.ring {
			continue
		}
		for _, p := range readRelay(t, d) {
			eth := wire.Ethernet(p.Buf[pktring.VnetLen:])
			if ip := wire.IPv6(eth.Payload()); p.Ifindex != e.index || eth.Type() != wire.EtherTypeIPv6 || ip.Version() != 6 || ip.PayloadLen() != len(ip)-wire.IPv6Len {
				t.Errorf("%s: %+v", c.name, p)
			}
		}
	}
	// What is given back is the kernel's.
	if err := d.Return(packet6(e.mac, source6, "2001:db8::9", wire.ProtoUDP), e.index, true); err != nil {
		t.Fatal(err)
	}
	if types := k.await(t, 1); types[0] != unix.PACKET_HOST || drain(r, nil, 0) != 0 {
		t.Errorf("given back: types %v", types)
	}
}

// TestFlowHasOneWorker6: as TestFlowHasOneWorker.
func TestFlowHasOneWorker6(t *testing.T) {
	namespace(t)
	const workers = 4
	s := load6(t, Config{Rooms: workers})
	rings := openRings(t, s, workers, 256)
	if err := s.SetWorkers(workers); err != nil {
		t.Fatal(err)
	}
	e := veth(t, "a")
	slot := forward6(t, s, e)
	const here, there = source6, "2001:db8::9"
	l4 := func(from, to byte) []byte { return []byte{0x20, from, 0x20, to, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0} }
	of := func(f []byte) int {
		e.put(t, f)
		return inRing(t, s, rings, slot)
	}
	used := map[int]bool{}
	for flow := range byte(64) {
		worker := of(packet6(e.mac, here, there, wire.ProtoUDP, l4(flow, 9)...))
		if used[worker] = true; worker < 0 || of(packet6(e.mac, there, here, wire.ProtoUDP, l4(9, flow)...)) != worker {
			t.Fatalf("flow %d: worker %d, and back another", flow, worker)
		}
	}
	if len(used) != workers {
		t.Errorf("workers %v have flows", used)
	}
	used = map[int]bool{}
	for host := range 64 {
		used[of(packet6(e.mac, here, fmt.Sprintf("2001:db8:%x::9", host), wire.ProtoICMPv6))] = true
	}
	if len(used) != workers {
		t.Errorf("workers %v have pairs of addresses", used)
	}
	// From the first fragment on all that the two addresses send has one worker.
	worker := of(packet6(e.mac, here, there, wire.ProtoFragment, append([]byte{wire.ProtoUDP, 0, 0, 1, 0, 0, 0, 7}, l4(1, 2)...)...))
	for flow := range byte(16) {
		for name, f := range map[string][]byte{
			"whole": packet6(e.mac, here, there, wire.ProtoUDP, l4(flow, 9)...), "back": packet6(e.mac, there, here, wire.ProtoTCP, l4(flow, 9)...),
			"last":           packet6(e.mac, here, there, wire.ProtoFragment, append([]byte{wire.ProtoUDP, 0, 0, 8, 0, 0, 0, flow}, l4(flow, 9)...)...),
			"behind options": packet6(e.mac, here, there, wire.ProtoDestOpts, append([]byte{wire.ProtoUDP, 0, 1, 4, 0, 0, 0, 0}, l4(flow, 9)...)...),
		} {
			if got := of(f); got != worker {
				t.Errorf("flow %d, %s: worker %d, want that of the fragments, %d", flow, name, got, worker)
			}
		}
	}
}
