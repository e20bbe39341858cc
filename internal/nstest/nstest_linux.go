// Package nstest gives a test a network namespace of its own, and devices in
// it whose frames it sends and receives itself. Whole labs are internal/lab's.
package nstest

import (
	"errors"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// patience bounds every wait; none lasts so long when the code is right.
const patience = 10 * time.Second

// Enter moves the calling test into a new network namespace. The goroutine
// stays locked, so that the thread ends with the test and the namespace with
// the thread.
func Enter(t testing.TB) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		unpermitted(t, err)
	}
}

// unpermitted skips a test that has got no namespace.
func unpermitted(t testing.TB, err error) {
	t.Helper()
	Skip(t, "needs CAP_SYS_ADMIN and CAP_NET_ADMIN: unshare(CLONE_NEWNET): %v", err)
}

// NoDescriptors calls fn while the process gets no new descriptor but for so
// many.
func NoDescriptors(t testing.TB, but int, fn func()) {
	t.Helper()
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	free := make([]int, but+1) // the lowest ones
	for i := range free {
		fd, err := unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		free[i] = fd
	}
	for _, fd := range free {
		_ = unix.Close(fd)
	}
	limit := unix.Rlimit{Cur: uint64(free[but]), Max: was.Max}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
			t.Fatal(err)
		}
	}()
	fn()
}

// NoIPv6 keeps devices made from now on from speaking by themselves: what comes
// over a wire is then what the test sends.
func NoIPv6() {
	_ = os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0)
}

// OneCPU keeps the test's thread on one CPU: what is sent is then received in
// the same order, by all who listen.
func OneCPU(t testing.TB) {
	t.Helper()
	var cpus, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &cpus); err != nil {
		t.Fatal(err)
	}
	for cpu := 0; ; cpu++ {
		if cpus.IsSet(cpu) {
			one.Set(cpu)
			break
		}
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		t.Fatal(err)
	}
}

// Veth makes a pair of veths, both in the test's namespace and up: what is sent
// on the one is received on the other.
func Veth(t testing.TB, a, b string) (from, to int32) {
	t.Helper()
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: a}, PeerName: b}); err != nil {
		t.Fatal(err)
	}
	from, to = up(t, a), up(t, b)
	for _, index := range []int32{from, to} {
		// Asking for a link has the kernel give it its queue (linkwatch_sync_dev).
		for deadline := time.Now().Add(patience); ; {
			l, err := netlink.LinkByIndex(int(index))
			if err != nil || time.Now().After(deadline) {
				t.Fatalf("%s and %s do not come up: %v", a, b, err)
			}
			if l.Attrs().OperState == netlink.OperUp {
				break
			}
		}
	}
	return from, to
}

// Tap makes a device called tap whose frames come from the test, each with any
// virtio_net_hdr before it.
func Tap(t testing.TB) (ifindex int32, write func([]byte)) {
	t.Helper()
	return device(t, "tap", unix.IFF_TAP|unix.IFF_NO_PI|unix.IFF_VNET_HDR)
}

// Tun makes a device without link-layer header whose packets come from the test.
func Tun(t testing.TB, name string) (ifindex int32, write func([]byte)) {
	t.Helper()
	return device(t, name, unix.IFF_TUN|unix.IFF_NO_PI)
}

func device(t testing.TB, name string, flags uint16) (ifindex int32, write func([]byte)) {
	t.Helper()
	fd, err := OpenTUN(name, flags)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EPERM) {
		Skip(t, "needs TUN devices: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return up(t, name), func(f []byte) {
		t.Helper()
		if _, err := unix.Write(fd, f); err != nil {
			t.Fatalf("write to %s: %v", name, err)
		}
	}
}

func up(t testing.TB, name string) int32 {
	t.Helper()
	l, err := netlink.LinkByName(name)
	if err == nil {
		err = netlink.LinkSetUp(l)
	}
	if err != nil {
		t.Fatal(err)
	}
	return int32(l.Attrs().Index)
}
