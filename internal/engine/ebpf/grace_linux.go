package ebpf

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// monotonic is what the programs know as bpf_ktime_get_ns.
func monotonic() uint64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // it fails for other clocks
	return uint64(t.Nano())
}

// grace waits until no program is running that was when it was called: for an
// RCU grace period (membarrier(2)).
func grace() error {
	const global = 1 // MEMBARRIER_CMD_GLOBAL
	if _, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, global, 0, 0); errno != 0 {
		return fmt.Errorf("membarrier: %w", errno)
	}
	return nil
}
