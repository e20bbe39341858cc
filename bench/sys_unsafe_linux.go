package bench

import (
	"errors"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls of the measuring loops. They are raw: the Go scheduler, which would
// otherwise look after a thread in a system call, takes no part in what is
// measured. A socket used so must have SO_RCVTIMEO: with it the scheduler's signal,
// which a thread gets after 10 ms in one place, ends the call (signal(7)), and the
// thread can stop for the garbage collector. As each call begins its time-out
// anew, the caller looks at the clock. GOMAXPROCS must exceed the number of such
// threads.

type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
	_   [4]byte
}

// messages are the frames of a bound packet socket, laid out once for sendmmsg.
type messages struct {
	hdrs   []mmsghdr
	iovs   []unix.Iovec
	frames [][]byte
}

func newMessages(frames [][]byte) *messages {
	m := &messages{hdrs: make([]mmsghdr, len(frames)), iovs: make([]unix.Iovec, len(frames)), frames: frames}
	for i, f := range frames {
		m.iovs[i].Base = &f[0]
		m.iovs[i].SetLen(len(f))
		m.hdrs[i].hdr.Iov = &m.iovs[i]
		m.hdrs[i].hdr.SetIovlen(1)
	}
	return m
}

// send hands frames from to to-1 to the kernel and returns how many it took.
func (m *messages) send(fd, from, to int) (int, syscall.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(fd),
		uintptr(unsafe.Pointer(&m.hdrs[from])), uintptr(to-from), 0, 0, 0)
	runtime.KeepAlive(m)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

func rawRead(fd int, b []byte) (int, syscall.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), 0, 0, 0)
	return int(n), errno
}

func rawWrite(fd int, b []byte) syscall.Errno {
	_, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), 0, 0, 0)
	return errno
}

// peer is whom a datagram came from.
type peer struct {
	addr unix.RawSockaddrAny
	len  uint32
}

func (p *peer) read(fd int, b []byte) (int, syscall.Errno) {
	p.len = unix.SizeofSockaddrAny
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), 0,
		uintptr(unsafe.Pointer(&p.addr)), uintptr(unsafe.Pointer(&p.len)))
	return int(n), errno
}

func (p *peer) write(fd int, b []byte) syscall.Errno {
	_, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), 0,
		uintptr(unsafe.Pointer(&p.addr)), uintptr(p.len))
	return errno
}

// sleepUntil sleeps to a time on CLOCK_MONOTONIC in the thread itself.
func sleepUntil(ns int64) {
	ts := unix.NsecToTimespec(ns)
	for {
		_, _, errno := unix.Syscall6(unix.SYS_CLOCK_NANOSLEEP, unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME,
			uintptr(unsafe.Pointer(&ts)), 0, 0, 0)
		if !errors.Is(errno, unix.EINTR) {
			return
		}
	}
}

// monotonic is CLOCK_MONOTONIC in nanoseconds.
func monotonic() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return ts.Nano()
}

// exactTimers lets the calling thread sleep without the 50 µs by which the kernel may be late otherwise.
func exactTimers() {
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
}

// threadTime is the CPU time of the calling thread.
func threadTime() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts)
	return time.Duration(ts.Nano())
}
