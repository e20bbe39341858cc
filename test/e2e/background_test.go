package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
)

// TestBackground: `run --background` ends with status 0 when the daemon serves, or has taken over, and else with that of
// what went wrong. The daemon is an orphan, in a session of its own.
func TestBackground(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ip")
	l := labtest.New(t, lab.Spec{Form: lab.FormCalico})
	dir := t.TempDir()
	control, file := filepath.Join(dir, "c"), filepath.Join(dir, "log")
	log := func() string {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	start := func(args ...string) (code int) {
		t.Helper()
		out, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		cmd := l.Command(context.WithoutCancel(t.Context()), "host0", labtest.Binary(t), append([]string{"run", "--background", "--control", control}, args...)...)
		cmd.Stdout, cmd.Stderr = out, out
		err = cmd.Run()
		exit := (*exec.ExitError)(nil)
		if errors.As(err, &exit) {
			return exit.ExitCode()
		}
		if err != nil {
			t.Fatal(err)
		}
		return 0
	}
	if code := start("--engine", "warp"); code != 2 || !strings.Contains(log(), "warp") {
		t.Errorf("a wrong flag: %d\n%s", code, log())
	}
	if code := start("--state-dir", filepath.Join(dir, "log")); code != 1 || !strings.Contains(log(), "has ended before it had started") {
		t.Errorf("a start that fails: %d\n%s", code, log())
	}
	pid, ended := 0, map[int]func(timeout int) bool{}
	for _, args := range [][]string{nil, {"--takeover"}, {"--takeover", "--metrics", "192.0.2.1:9477"}} {
		refused := len(args) > 1
		if code := start(args...); (code == 1) != refused || code > 1 {
			t.Fatalf("%v: %d\n%s", args, code, log())
		}
		var s status
		if err := json.Unmarshal([]byte(run(t, l, "host0", labtest.Binary(t)+" status -o json --control "+control)), &s); err != nil {
			t.Fatal(err)
		}
		if !s.Ready || (s.PID == pid) != refused {
			t.Errorf("%v: ready %v, process %d, and before %d", args, s.Ready, s.PID, pid)
		}
		if pid == 0 || s.PID != pid {
			ended[s.PID] = end(t, s.PID)
		}
		pid = s.PID
		if session, err := unix.Getsid(pid); err != nil || session != pid {
			t.Errorf("%v: process %d is of session %d, %v", args, pid, session, err)
		}
	}
	if err := unix.Kill(pid, unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for pid, ended := range ended { // not only what it logs: a daemon killed midway leaves its lock
		labtest.Await(t, fmt.Sprintf("daemon %d ends", pid), func() bool { return ended(0) })
	}
	if !strings.Contains(log(), "stopping") {
		t.Errorf("a daemon that was stopped does not say so:\n%s", log())
	}
}

// end returns how to see whether a process that is nobody's child has ended, within a time in milliseconds. It is killed
// with the test, and dead before the lab goes.
func end(t *testing.T, pid int) (ended func(timeout int) bool) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	ended = func(timeout int) bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, timeout)
		return n == 1 && err == nil
	}
	t.Cleanup(func() {
		defer unix.Close(fd)
		_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) // ESRCH if all is well
		if !ended(10_000) {
			t.Errorf("daemon %d is still there 10 s after SIGKILL", pid)
		}
	})
	return ended
}
