package nstest

import (
	"fmt"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// Netns is a network namespace on a thread of its own, beside the test's. The
// thread is never unlocked: it dies with its goroutine, and the namespace with
// it.
type Netns struct {
	t     testing.TB
	calls chan func()
	end   func()
}

// NewNetns makes a namespace that lasts until End, or as long as the test.
func NewNetns(t testing.TB) *Netns {
	t.Helper()
	ns := &Netns{t: t, calls: make(chan func())}
	ns.end = sync.OnceFunc(func() { close(ns.calls) })
	made := make(chan error)
	go ns.serve(made)
	err := <-made
	t.Cleanup(ns.end)
	if err != nil {
		unpermitted(t, err)
	}
	return ns
}

func (ns *Netns) serve(made chan error) {
	runtime.LockOSThread()
	// The process's first thread never ends, and would keep the namespace:
	// while it is held here, another goroutine gets another thread.
	if unix.Gettid() == unix.Getpid() {
		other := make(chan error)
		go ns.serve(other)
		made <- <-other
		runtime.UnlockOSThread()
		return
	}
	made <- unix.Unshare(unix.CLONE_NEWNET)
	for f := range ns.calls {
		f()
	}
}

// End lets go of the namespace.
func (ns *Netns) End() { ns.end() }

// Do runs f in the namespace. The test ends where that fails.
func (ns *Netns) Do(f func() error) {
	ns.t.Helper()
	done := make(chan error)
	ns.calls <- func() { done <- f() }
	if err := <-done; err != nil {
		ns.t.Fatal(err)
	}
}

// OpenTUN makes a TUN or TAP device, as the flags (IFF_TUN, IFF_TAP, ...) say, in the namespace of the calling thread. It
// lasts as long as the descriptor, which does not block.
func OpenTUN(name string, flags uint16) (fd int, err error) {
	fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("/dev/net/tun: %w", err)
	}
	ifr, err := unix.NewIfreq(name)
	if err == nil {
		ifr.SetUint16(flags)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("TUNSETIFF: %w", err)
	}
	return fd, nil
}
