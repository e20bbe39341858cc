// Package nice gives threads of this process their nice value.
package nice

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Unknown is what Of gives where the value can't be read; no thread has it.
const Unknown = 20

// Of is the nice value of a thread; 0 is the calling one.
func Of(thread int) int {
	v, err := unix.Getpriority(unix.PRIO_PROCESS, thread)
	if err != nil {
		return Unknown
	}
	return 20 - v // the system call gives 40 to 1 (setpriority(2), NOTES)
}

// Set changes the nice value of a thread alone, 0 being the calling one, which
// must be locked to its goroutine: in Linux it is an attribute of threads. A lower
// one than it has wants CAP_SYS_NICE, or an RLIMIT_NICE that allows it.
func Set(thread, n int) error {
	if Of(thread) == n {
		return nil
	}
	if err := unix.Setpriority(unix.PRIO_PROCESS, thread, n); err != nil {
		return fmt.Errorf("nice value %d of a thread: %w", n, err)
	}
	return nil
}
