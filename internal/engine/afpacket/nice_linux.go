package afpacket

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// noNice is what nice gives where the value can't be read; no thread has it.
const noNice = 20

// nice is the nice value of the calling thread.
func nice() int {
	v, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err != nil {
		return noNice
	}
	return 20 - v // the system call gives 40 to 1 (setpriority(2), NOTES)
}

// setNice changes the nice value of the calling thread alone, which must be
// locked to its goroutine: in Linux it is an attribute of threads. A lower one
// than it has wants CAP_SYS_NICE, or an RLIMIT_NICE that allows it.
func setNice(n int) error {
	if nice() == n {
		return nil
	}
	if err := unix.Setpriority(unix.PRIO_PROCESS, 0, n); err != nil {
		return fmt.Errorf("nice value %d of the thread that forwards: %w", n, err)
	}
	return nil
}

// exactTimers has timers of the calling thread end when they are due, and not up
// to 50 µs later (PR_SET_TIMERSLACK, prctl(2)).
func exactTimers() { _ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0) }
