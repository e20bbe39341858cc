package claim

import (
	"encoding/binary"
	"testing"

	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"proxyarpd/internal/nstest"
	"proxyarpd/internal/pktring"
	"proxyarpd/internal/wire"
)

// returns is a program that returns one value.
func returns(v int32) asm.Instructions {
	return asm.Instructions{asm.Mov.Imm(asm.R0, v), asm.Return()}
}

// tap is a device whose frames come from the test, with any virtio_net_hdr.
func tap(t testing.TB) (e *end, write func(...[]byte)) {
	t.Helper()
	index, one := nstest.Tap(t)
	return &end{index: index, mac: macOf(t, index)}, func(frames ...[]byte) {
		t.Helper()
		for _, f := range frames {
			one(f)
		}
	}
}

// Types of a virtio_net_hdr (include/uapi/linux/virtio_net.h).
const (
	gsoTCPv4 = 1
	gsoUDP   = 3 // UFO: the kernel takes it from a device, but can't say it to a ring
	gsoUDPL4 = 5
)

// super is a packet of 4000 bytes that stands for four; its GSO type is told by
// the header, its protocol by the IP header, and they need not agree.
func super(mac wire.MAC, dst string, gso, protocol byte) []byte {
	b := append(packet(mac, dst), make([]byte, 4000)...)
	checksum := uint16(6)
	if gso == gsoTCPv4 {
		checksum = 16
		b[pktring.VnetLen+34+12] = 5 << 4
	}
	b[0], b[1] = 1, gso
	for i, v := range []uint16{54, 1000, 34, checksum} {
		binary.NativeEndian.PutUint16(b[2+2*i:], v)
	}
	ip := b[pktring.VnetLen+14:]
	ip[9] = protocol
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	binary.BigEndian.PutUint16(ip[24:], uint16(len(ip)-20)) // UDP length
	return b
}

const sctp = 132

// One packet whose GSO type a virtio_net_hdr can't express stops a ring for
// good. None must reach it, and the kernel must not forward it either.
func TestOddGSO(t *testing.T) {
	for _, exact := range []bool{true, false} {
		name := map[bool]string{true: "parp_ring", false: "parp_ring_basic"}[exact]
		t.Run(name, func(t *testing.T) {
			namespace(t)
			s, err := loadSet(Config{ARP: ARPPolice{PerSecond: 1, Burst: 1}}, exact, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if s.SeesGSOType() != exact {
				nstest.Skip(t, "needs bpf_rdonly_cast (Linux 6.2)")
			}
			e, write := tap(t)
			r, k := openRing(t, s, 64), openKernel(t, e, unix.ETH_P_IP)
			slot := forward(t, s, e, 60)
			for _, c := range []struct {
				name          string
				gso, protocol byte
				basic, exact  bool // let in
			}{
				{"TCP", gsoTCPv4, unix.IPPROTO_TCP, true, true},
				{"UDP_L4", gsoUDPL4, unix.IPPROTO_UDP, true, true},
				{"TCP segments called UDP", gsoTCPv4, unix.IPPROTO_UDP, true, false},
				{"TCP segments called SCTP", gsoTCPv4, sctp, false, false},
				{"UDP segments called GRE", gsoUDPL4, unix.IPPROTO_GRE, false, false},
				{"UDP segments in IPIP", gsoUDPL4, unix.IPPROTO_IPIP, false, false},
				{"UFO called SCTP", gsoUDP, sctp, false, false},
				{"UFO", gsoUDP, unix.IPPROTO_UDP, true, false},
			} {
				if !exact && c.gso == gsoUDP && c.protocol == unix.IPPROTO_UDP {
					continue // it goes by, and stops the ring: afpacket's to mend
				}
				before := s.Counters(e.index).BadGSO
				write(super(e.mac, "203.0.113.9", c.gso, c.protocol))
				want := c.exact
				if !exact {
					want = c.basic
				}
				got, refused := drain(r, s, slot), s.Counters(e.index).BadGSO-before
				if want && (got != 1 || refused != 0) || !want && (got != 0 || refused != 1) {
					t.Errorf("%s: %d in the ring, %d refused, want let in %v", c.name, got, refused, want)
				}
				if n := len(k.got(t)); n != 0 {
					t.Errorf("%s: the kernel got it", c.name)
				}
				// The ring is none the worse for it: two laps.
				for range 2 * 64 {
					write(packet(e.mac, "203.0.113.9"))
					if drain(r, s, slot) != 1 {
						t.Fatalf("the ring has stopped after %s", c.name)
					}
				}
			}
			// What is left to the kernel is, whatever its GSO type.
			write(super(e.mac, "127.0.0.1", gsoUDP, unix.IPPROTO_UDP))
			if n := len(k.got(t)); n != 1 {
				t.Errorf("a UFO packet for the host: the kernel got %d", n)
			}
		})
	}
}

// What the filter is there to prevent: that it still happens, and how, says
// whether forward/afpacket looks for the right thing.
func TestKernelStopsRing(t *testing.T) {
	namespace(t)
	e, write := tap(t)
	r, err := pktring.Open(pktring.Config{Slots: 64, Filter: pktring.AttachIPv4})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	write(packet(e.mac, "203.0.113.9"), super(e.mac, "203.0.113.9", gsoUDP, unix.IPPROTO_UDP))
	if n := drain(r, nil, 0); n != 1 {
		t.Fatalf("%d frames in the ring, want the first alone", n)
	}
	for range 3 {
		write(packet(e.mac, "203.0.113.9"))
	}
	n, drops := drain(r, nil, 0), r.Drops()
	switch {
	case n == 3:
		t.Log("this kernel's rings go on")
	case n == 0 && drops == 4 && !r.Ahead(): // since 5.6: the slot is not passed over
	default:
		t.Errorf("3 frames after one of UFO: %d in the ring, %d drops, a gap: %v", n, drops, r.Ahead())
	}
}
