package afpacket

import (
	"encoding/binary"
	"os"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"proxyarpd/forward"
)

// patience bounds every wait; none lasts so long when the code is right.
const patience = 10 * time.Second

// namespace moves the calling test into a network namespace of its own, on one
// CPU. The goroutine stays locked, so that the thread ends with the test and
// the namespace with the thread.
func namespace(t testing.TB) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		if os.Getenv("LAB_REQUIRED") == "1" {
			t.Fatalf("LAB_REQUIRED=1, but unshare(CLONE_NEWNET): %v", err)
		}
		t.Skipf("needs CAP_SYS_ADMIN and CAP_NET_ADMIN: unshare(CLONE_NEWNET): %v", err)
	}
	_ = os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0)
	var one unix.CPUSet
	one.Set(0)
	_ = unix.SchedSetaffinity(0, &one)
}

// wire makes a pair of veths, both in the test's namespace and up: what is sent
// on the one is received on the other.
func wire(t testing.TB, name string) (from, to int32) {
	t.Helper()
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: name + "p"}); err != nil {
		t.Fatal(err)
	}
	var index [2]int32
	for i, n := range []string{name, name + "p"} {
		l, err := netlink.LinkByName(n)
		if err == nil {
			err = netlink.LinkSetUp(l)
		}
		if err != nil {
			t.Fatal(err)
		}
		index[i] = int32(l.Attrs().Index)
	}
	for deadline := time.Now().Add(patience); ; { // asking has the kernel give it its queue
		if l, err := netlink.LinkByIndex(int(index[0])); err != nil || time.Now().After(deadline) {
			t.Fatalf("%s does not come up: %v", name, err)
		} else if l.Attrs().OperState == netlink.OperUp {
			return index[0], index[1]
		}
	}
}

// frame is a virtio_net_hdr and a broadcast IPv4 frame that bears a number; if
// it is larger than the MTU it is TCP that stands for segments.
func frame(number uint32, size int) []byte {
	b := make([]byte, forward.VnetLen+14+size)
	eth := b[forward.VnetLen:]
	for i := range 6 {
		eth[i], eth[6+i] = 0xff, 2
	}
	binary.BigEndian.PutUint16(eth[12:], unix.ETH_P_IP)
	ip := eth[14:]
	copy(ip, []byte{0x45, 0, 0, 0, 0, 0, 0, 0, 64, unix.IPPROTO_TCP, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2})
	binary.BigEndian.PutUint16(ip[2:], uint16(size))
	ip[32] = 5 << 4
	binary.BigEndian.PutUint32(ip[40:], number)
	if size > 1500 {
		b[0], b[1] = 1, 1
		for i, v := range []uint16{54, 1448, 34, 16} {
			binary.NativeEndian.PutUint16(b[2+2*i:], v)
		}
	}
	return b
}

func number(b []byte) uint32 { return binary.BigEndian.Uint32(b[forward.VnetLen+14+40:]) }

func open(t testing.TB, cfg Config) *Port {
	t.Helper()
	p, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// recv waits for the next batch that is not empty.
func recv(t testing.TB, p *Port, b *forward.Batch) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		if err := p.Recv(b, time.Second); err != nil {
			t.Fatal(err)
		}
		if b.N > 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing comes")
		}
	}
}

// window remembers what it was told.
type window struct {
	consumed []uint32
	resyncs  int
	reset    int
	pressed  bool
	lap      int
}

func (w *window) Consume(slot uint32) { w.consumed = append(w.consumed, slot) }

func (w *window) Resync(empty func() bool) {
	if empty() {
		w.resyncs++
	}
}

func (w *window) Reset()              { w.reset++ }
func (w *window) Press(on bool) error { w.pressed = on; return nil }
func (w *window) SetLap(slots int)    { w.lap = slots }

// tap is a device whose frames come from the test, with any virtio_net_hdr.
func tap(t testing.TB) (ifindex int32, write func([]byte)) {
	t.Helper()
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Skipf("needs /dev/net/tun: %v", err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	var ifr struct {
		name  [16]byte
		flags uint16
		_     [22]byte
	}
	copy(ifr.name[:], "tap")
	ifr.flags = unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TUNSETIFF, uintptr(unsafe.Pointer(&ifr))); errno != 0 {
		t.Fatalf("TUNSETIFF: %v", errno)
	}
	l, err := netlink.LinkByName("tap")
	if err == nil {
		err = netlink.LinkSetUp(l)
	}
	if err != nil {
		t.Fatal(err)
	}
	return int32(l.Attrs().Index), func(f []byte) {
		t.Helper()
		if _, err := unix.Write(fd, f); err != nil {
			t.Fatalf("write to tap: %v", err)
		}
	}
}
