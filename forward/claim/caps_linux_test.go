package claim

import (
	"errors"
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
		t.Run(c.name, func(t *testing.T) {
			namespace(t)
			e := veth(t, "a")
			drop(t, c.caps...)
			s, err := Load(Config{ARP: ARPPolice{PerSecond: 1, Burst: 1}})
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
			r := openRing(t, s, 64)
			slot := forward(t, s, e, 10)
			e.put(t, packet(e.mac, "203.0.113.9"))
			if n := drain(r, s, slot); n != 1 {
				t.Errorf("%d frames in the ring", n)
			}
		})
	}
}
