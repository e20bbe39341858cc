package claim

import (
	"errors"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// drop takes capabilities from the calling thread, which ends with the test.
func drop(t *testing.T, caps ...int) {
	t.Helper()
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	err := unix.Capget(&hdr, &data[0])
	for _, c := range caps {
		data[c/32].Effective &^= 1 << (c % 32)
	}
	if err == nil {
		err = unix.Capset(&hdr, &data[0])
	}
	if err != nil {
		t.Fatal(err)
	}
}

// What each capability is for; CAP_SYS_ADMIN stands for both.
func TestCapabilities(t *testing.T) {
	for _, c := range []struct {
		name  string
		caps  []int
		loads bool
		exact bool
	}{
		{"all", nil, true, true},
		{"CAP_PERFMON", []int{unix.CAP_SYS_ADMIN, unix.CAP_PERFMON}, true, false},
		{"CAP_BPF", []int{unix.CAP_SYS_ADMIN, unix.CAP_BPF}, false, false},
		{"CAP_NET_ADMIN", []int{unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN}, false, false},
	} {
		for _, workers := range []int{1, 3} {
			t.Run(fmt.Sprintf("%s/%d", c.name, workers), func(t *testing.T) {
				namespace(t)
				e := veth(t, "a")
				drop(t, c.caps...)
				s, err := Load(Config{ARP: ARPPolice{PerSecond: 1, Burst: 1}, Rooms: workers, Carry: workers == 1})
				if (err == nil) != c.loads || err != nil && !errors.Is(err, ErrNotSupported) {
					t.Fatalf("load: %v", err)
				}
				if err != nil {
					return
				}
				defer s.Close()
				if s.SeesGSOType() && !c.exact {
					t.Error("sees GSO types")
				}
				slot := forward(t, s, e, 10)
				if workers > 1 {
					rings := openRings(t, s, workers, 64)
					if e.put(t, packet(e.mac, "203.0.113.9")); inRing(t, s, rings, slot) < 0 {
						t.Error("it is not in one ring")
					}
					return
				}
				r := openRing(t, s, 64)
				e.put(t, packet(e.mac, "203.0.113.9"))
				if n := drain(r, s, slot); n != 1 {
					t.Errorf("%d frames in the ring", n)
				}
			})
		}
	}
}
