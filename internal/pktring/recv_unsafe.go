package pktring

import (
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// recv is recvfrom(2) without the scheduler's share: with MSG_DONTWAIT it
// can't block. With MSG_TRUNC the result may exceed len(b).
func recv(fd int, b []byte, flags int) (int, syscall.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd),
		uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), uintptr(flags), 0, 0)
	return int(n), errno
}

// doze is nanosleep(2) without the scheduler's share.
func doze(d time.Duration) {
	ts := unix.NsecToTimespec(int64(d))
	_, _, _ = unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&ts)), 0, 0)
}

// yield lets another thread have the CPU, if one waits for it: the receiver of
// what was just sent, for instance.
func yield() { _, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }
