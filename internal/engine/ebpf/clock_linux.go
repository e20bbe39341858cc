package ebpf

import "golang.org/x/sys/unix"

// monotonic is what the programs know as bpf_ktime_get_ns.
func monotonic() uint64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // it fails for other clocks
	return uint64(t.Nano())
}
