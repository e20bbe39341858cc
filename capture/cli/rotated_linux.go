package cli

import (
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// lowest is the lowest priority (setpriority(2)).
const lowest = 19

// rotated runs the command of -z with the name of a file that is full, beside
// the capture and without waiting for it, as tcpdump does.
func (r *run) rotated(name string) {
	if r.postRotate == "" {
		return
	}
	c := exec.Command(r.postRotate, name)
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	if err := c.Start(); err != nil {
		fmt.Fprintf(r.Err, "proxyarpd: -z: %v\n", err)
		return
	}
	_ = unix.Setpriority(unix.PRIO_PROCESS, c.Process.Pid, lowest)
	go func() { _ = c.Wait() }()
}
