package claim

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"proxyarpd/internal/nstest"
	"proxyarpd/internal/pktring"
	"proxyarpd/internal/wire"
)

// patience bounds every wait; none lasts so long when the code is right.
const patience = 10 * time.Second

// namespace moves the calling test into a network namespace of its own, on one
// CPU.
func namespace(t testing.TB) {
	t.Helper()
	nstest.Enter(t)
	nstest.NoIPv6()
	nstest.OneCPU(t)
}

// end is one end of a veth pair: what the test sends on its other end is
// received here.
type end struct {
	index int32
	mac   wire.MAC
	other int32
	send  *pktring.Sender
}

// veth makes a pair, both ends in the test's namespace and up.
func veth(t testing.TB, name string) *end {
	t.Helper()
	e := &end{}
	e.index, e.other = nstest.Veth(t, name, name+"p")
	e.mac = macOf(t, e.index)
	var err error
	if e.send, err = pktring.OpenSender(false); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.send.Close() })
	return e
}

func macOf(t testing.TB, index int32) wire.MAC {
	t.Helper()
	l, err := netlink.LinkByIndex(int(index))
	if err != nil {
		t.Fatal(err)
	}
	return wire.MAC(l.Attrs().HardwareAddr)
}

// put sends frames to the interface.
func (e *end) put(t testing.TB, frames ...[]byte) {
	t.Helper()
	for i, f := range frames {
		e.send.Add(f, e.other, binary.BigEndian.Uint16(f[pktring.VnetLen+12:]))
		if e.send.Len() == pktring.MaxBatch || i == len(frames)-1 {
			for _, errno := range e.send.Flush() {
				if errno != 0 {
					t.Fatalf("send: %v", errno)
				}
			}
		}
	}
}

// packet is a virtio_net_hdr and a frame with an IPv4 packet.
func packet(mac wire.MAC, dst string) []byte {
	const n = 60
	b := make([]byte, pktring.VnetLen+n)
	eth := b[pktring.VnetLen:]
	copy(eth, mac[:])
	copy(eth[6:], []byte{2, 0, 0, 0, 0, 99})
	binary.BigEndian.PutUint16(eth[12:], unix.ETH_P_IP)
	to := netip.MustParseAddr(dst).As4()
	copy(eth[14:], []byte{0x45, 0, 0, n - 14, 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0, 192, 0, 2, 1})
	copy(eth[30:], to[:])
	return b
}

func repeat(n int, f []byte) [][]byte {
	frames := make([][]byte, n)
	for i := range frames {
		frames[i] = f
	}
	return frames
}

// kernel sees what the kernel gets from an interface: sockets of one EtherType
// come behind tc ingress.
type kernel struct{ fd int }

func htons(v uint16) uint16 { return v<<8 | v>>8 }

func openKernel(t testing.TB, e *end, protocol uint16) *kernel {
	t.Helper()
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err == nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20)
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(protocol), Ifindex: int(e.index)})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return &kernel{fd}
}

// got gives the types (PACKET_HOST, ...) of the frames since the last call.
func (k *kernel) got(t testing.TB) (types []uint8) {
	t.Helper()
	var buf [2048]byte
	for {
		_, from, err := unix.Recvfrom(k.fd, buf[:], 0)
		if err == unix.EAGAIN {
			return types
		}
		if err != nil {
			t.Fatal(err)
		}
		types = append(types, from.(*unix.SockaddrLinklayer).Pkttype)
	}
}

// await is got for frames that come in their own time, of which there are n.
func (k *kernel) await(t testing.TB, n int) (types []uint8) {
	t.Helper()
	for len(types) < n {
		fds := []unix.PollFd{{Fd: int32(k.fd), Events: unix.POLLIN}}
		if ready, err := unix.Poll(fds, 10_000); ready != 1 || err != nil {
			t.Fatalf("%d of %d frames: %v", len(types), n, err)
		}
		types = append(types, k.got(t)...)
	}
	return types
}

func load(t testing.TB) *Set {
	t.Helper()
	s, err := Load(Config{ARP: ARPPolice{PerSecond: 10000, Burst: 2000}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// openRing makes the ring whose filter is the set's.
func openRing(t testing.TB, s *Set, slots int) *pktring.Socket {
	t.Helper()
	r, err := pktring.Open(pktring.Config{Slots: slots, Filter: s.AttachRing})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// drain takes all that is in the ring and tells the window of it.
func drain(r *pktring.Socket, s *Set, slot uint32) (n int) {
	var f pktring.Slot
	for r.Next(&f) {
		n++
		r.Release(1)
		if s != nil {
			s.Window(0).Consume(slot)
		}
	}
	if s != nil {
		s.Window(0).Say()
	}
	return n
}

// forward makes an interface one whose frames are ours, claimed.
func forward(t testing.TB, s *Set, e *end, quota uint32) (slot uint32) {
	t.Helper()
	slot, err := s.SetPort(Port{Ifindex: e.index, Forward: true, Workload: true, Quota: quota, L2Len: 14})
	if err == nil {
		err = s.Claim(e.index)
	}
	if err != nil {
		t.Fatal(err)
	}
	return slot
}
