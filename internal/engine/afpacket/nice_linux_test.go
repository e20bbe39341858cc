package afpacket

import (
	"errors"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/nice"
)

// locked runs f on a thread of its own, which ends with it.
func locked(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		f()
	}()
	<-done
}

// The nice value is one thread's: neither the others' nor that of threads which
// the runtime makes meanwhile.
func TestNice(t *testing.T) {
	before := nice.Of(0)
	locked(func() {
		if err := nice.Set(0, before+3); err != nil {
			t.Fatal(err)
		}
		if got := nice.Of(0); got != before+3 {
			t.Errorf("nice %d, want %d", got, before+3)
		}
		for range 20 {
			locked(func() {
				if got := nice.Of(0); got != before {
					t.Errorf("another thread has nice %d, want %d", got, before)
				}
			})
		}
	})
}

// Who may not lower it is told so, and keeps what it has; what it has already
// needs no privilege.
func TestNiceRefused(t *testing.T) {
	locked(func() {
		before := nice.Of(0)
		none := [2]unix.CapUserData{}
		if err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &none[0]); err != nil {
			t.Fatal(err)
		}
		if err := unix.Setrlimit(unix.RLIMIT_NICE, &unix.Rlimit{}); err != nil && !errors.Is(err, unix.EPERM) {
			t.Fatal(err)
		}
		if err := nice.Set(0, before-1); !errors.Is(err, unix.EACCES) {
			t.Errorf("nice %d: %v, want EACCES", before-1, err)
		}
		if err := nice.Set(0, before); err != nil || nice.Of(0) != before {
			t.Errorf("as it was: %v, nice %d", err, nice.Of(0))
		}
	})
}
