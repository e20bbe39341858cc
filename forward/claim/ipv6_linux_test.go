package claim

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

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
