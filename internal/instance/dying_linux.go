package instance

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// A daemon that was killed holds its locks until all that it had open is closed, and each
// tc link that is among it waits for an RCU grace period: with many interfaces that is
// seconds. Who starts one at once, as a script does, need not fail for that.
const (
	dyingPatience = 10 * time.Second
	dyingPause    = 5 * time.Millisecond
)

// awaitDying tries to acquire until it succeeds or fails for another reason than a holder that
// is about to end.
func awaitDying(log *slog.Logger, acquire func() (*Lock, error)) (*Lock, error) {
	said := false
	for end := time.Now().Add(dyingPatience); ; time.Sleep(dyingPause) {
		l, err := acquire()
		var running *RunningError
		if !errors.As(err, &running) || !isDying(running.PID) || time.Now().After(end) {
			return l, err
		}
		if !said {
			log.Info("waiting for the end of a daemon that was killed", "pid", running.PID)
			said = true
		}
	}
}

// isDying reports whether a process has ended and has not been cleared away, or is about to
// end, since it was killed. One that is not seen, as in another PID namespace, is not.
func isDying(pid int) bool {
	if pid <= 0 {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := bytes.Cut(stat[max(bytes.LastIndexByte(stat, ')'), 0):], []byte(" ")) // behind the name
	fields := bytes.Fields(rest)
	const state, flags = 0, 6 // of proc_pid_stat(5), fields 3 and 9
	if len(fields) <= flags {
		return false
	}
	if s := fields[state][0]; s == 'Z' || s == 'X' {
		return true
	}
	const exiting = 0x4 // PF_EXITING, include/linux/sched.h
	n, err := strconv.ParseUint(string(fields[flags]), 10, 64)
	return err == nil && n&exiting != 0 || isKilled(pid)
}

// isKilled reports whether SIGKILL waits for a process, which has not met it yet.
func isKilled(pid int) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return false
	}
	_, rest, found := bytes.Cut(status, []byte("\nSigPnd:\t"))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	pending, err := strconv.ParseUint(string(line), 16, 64)
	return found && err == nil && pending>>(unix.SIGKILL-1)&1 != 0
}
