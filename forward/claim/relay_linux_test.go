package claim

import (
	"encoding/binary"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/nstest"
	"proxyarpd/internal/pktring"
	"proxyarpd/internal/relay"
	"proxyarpd/internal/wire"
)

// openRelay attaches a relay to the set.
func openRelay(t *testing.T, s *Set) *relay.Device {
	t.Helper()
	d, err := relay.Open()
	if err != nil {
		nstest.Skip(t, "needs /dev/net/tun: %v", err)
	}
	t.Cleanup(func() { d.Close() })
	if err := s.AttachRelay(d.Ifindex()); err != nil {
		t.Fatal(err)
	}
	return d
}

// read takes all that the relay has, waiting for the first.
func readRelay(t *testing.T, d *relay.Device) (all []relay.Packet) {
	t.Helper()
	fds := []unix.PollFd{{Fd: int32(d.FD()), Events: unix.POLLIN}}
	if n, err := unix.Poll(fds, int((10 * time.Second).Milliseconds())); n != 1 || err != nil {
		t.Fatalf("nothing comes by the relay: %v", err)
	}
	for {
		p, ok := d.Read(make([]byte, relay.MaxFrame))
		if !ok {
			return all
		}
		all = append(all, p)
	}
}

// What no virtio_net_hdr can say comes by the relay, in packets, and not by the
// ring; the kernel does not have it too.
func TestRelay(t *testing.T) {
	for _, exact := range []bool{true, false} {
		t.Run(map[bool]string{true: "parp_ring", false: "parp_ring_basic"}[exact], func(t *testing.T) {
			namespace(t)
			s, err := loadSet(Config{ARP: ARPPolice{PerSecond: 1, Burst: 1}}, exact, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			d := openRelay(t, s)
			e, write := tap(t)
			r, k := openRing(t, s, 64), openKernel(t, e, unix.ETH_P_IP)
			forward(t, s, e, 60)
			kinds := []struct {
				gso, protocol byte
				packets       int
			}{{gsoUDP, unix.IPPROTO_UDP, 5}} // 4008 bytes behind the IP header, in fragments of 1000
			if !exact { // which does not tell them from a tunnel's
				kinds = append(kinds, struct {
					gso, protocol byte
					packets       int
				}{gsoUDPL4, unix.IPPROTO_UDP, 5})
			}
			for _, c := range kinds {
				write(super(e.mac, "203.0.113.9", c.gso, c.protocol))
				got := readRelay(t, d)
				if len(got) != c.packets || drain(r, nil, 0) != 0 || len(k.got(t)) != 0 {
					t.Fatalf("gso %d: %d packets by the relay, want %d", c.gso, len(got), c.packets)
				}
				for _, p := range got {
					eth := wire.Ethernet(p.Buf[pktring.VnetLen:])
					ip := wire.IPv4(eth.Payload())
					if p.Ifindex != e.index || !p.Ethernet || eth.Dst() != e.mac || !ip.HeaderValid() || !ip.ChecksumOK() || int(ip.TotalLen()) != len(ip) {
						t.Errorf("gso %d: %+v", c.gso, p)
					}
					if binary.NativeEndian.Uint64(p.Buf) != 0 {
						t.Error("something is left to be done for it")
					}
				}
			}
			if c := s.Counters(e.index); c.BadGSO != uint64(len(kinds)) || c.Relayed != c.BadGSO {
				t.Errorf("counted %+v", c)
			}
			write(super(e.mac, "203.0.113.9", gsoTCPv4, unix.IPPROTO_TCP))
			if drain(r, nil, 0) != 1 {
				t.Error("TCP does not come by the ring")
			}
		})
	}
}

// Where the kernel forwards and there is no relay, such a frame is its own.
func TestNoRelay(t *testing.T) {
	namespace(t)
	s := load(t)
	e, write := tap(t)
	r, k := openRing(t, s, 64), openKernel(t, e, unix.ETH_P_IP)
	forward(t, s, e, 60)
	if _, err := s.SetPort(Port{Ifindex: e.index, Forward: true, Workload: true, Anywhere: true, KernelForwards: true, Quota: 60, L2Len: 14}); err != nil {
		t.Fatal(err)
	}
	write(super(e.mac, "203.0.113.9", gsoUDP, unix.IPPROTO_UDP))
	if drain(r, nil, 0) != 0 || len(k.got(t)) != 1 || s.Counters(e.index).Left[GSO] != 1 {
		t.Errorf("counted %+v", s.Counters(e.index))
	}
}

// A frame that is given back is the kernel's, with the type that its MAC means,
// and is not taken again.
func TestReturn(t *testing.T) {
	namespace(t)
	s := load(t)
	d := openRelay(t, s)
	e := veth(t, "a")
	r, k := openRing(t, s, 64), openKernel(t, e, unix.ETH_P_IP)
	forward(t, s, e, 60)
	answered := wire.MAC{0xee, 0xee, 0xee, 0xee, 0xee, 0xee}
	if _, err := s.SetPort(Port{Ifindex: e.index, Forward: true, Workload: true, Quota: 60, L2Len: 14, Aliases: [2]wire.MAC{answered}}); err != nil {
		t.Fatal(err)
	}
	for _, dst := range []wire.MAC{e.mac, answered} {
		if err := d.Return(packet(dst, "203.0.113.9"), e.index, true); err != nil {
			t.Fatal(err)
		}
		if types := k.await(t, 1); types[0] != unix.PACKET_HOST || drain(r, nil, 0) != 0 {
			t.Errorf("to %v: types %v", dst, types)
		}
	}
	if c := s.Counters(e.index); c != (Counters{}) {
		t.Errorf("counted %+v", c)
	}
	e.put(t, packet(e.mac, "203.0.113.9")) // the next one is ours
	if drain(r, nil, 0) != 1 || len(k.got(t)) != 0 {
		t.Error("not taken")
	}
}
