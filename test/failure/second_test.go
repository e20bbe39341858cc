package failure

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/lab/labtest"
)

// TestSecondInstance: one daemon a network namespace, whatever its sockets.
func TestSecondInstance(t *testing.T) {
	t.Parallel()
	l := hosts(t, 2, 1)
	first := labtest.Daemon(t, l, "host0", "--workload", "veth*")
	for range 2 {
		said := exited(t, l, "host0", "--workload", "veth*") // with a control socket of its own
		if pid := fmt.Sprintf(" %d ", first.Cmd.Process.Pid); !strings.Contains(said, pid) {
			t.Errorf("%q does not name process%s", said, pid)
		}
	}
	alive(t, first)
	other := labtest.Daemon(t, l, "host1", "--workload", "veth*")
	run(t, l, "ns0", "ping -n -c1 -W2 10.20.1.3")
	first.Kill() // and the next one may come at once
	again := labtest.Daemon(t, l, "host0", "--workload", "veth*")
	run(t, l, "ns0", "ping -n -c1 -W2 10.20.1.3")
	for _, p := range []*labtest.Process{again, other} {
		p.Stop(t)
		if left := records(t, l, p.Node); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}

// TestSquatter: whoever may make sockets may bind the name in the way, and must
// not keep the daemon from starting.
func TestSquatter(t *testing.T) {
	t.Parallel()
	for _, listens := range []bool{true, false} {
		l := hosts(t, 1, 2)
		fd := -1
		if err := l.Do("host0", func() (err error) {
			const nobody = 65534 // of this thread alone, which ends with the function
			if _, _, errno := syscall.RawSyscall(unix.SYS_SETRESUID, nobody, nobody, nobody); errno != 0 {
				return errno
			}
			if fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
				return err
			}
			if err = unix.Bind(fd, &unix.SockaddrUnix{Name: "@proxyarpd"}); err == nil && listens {
				err = unix.Listen(fd, 1)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		p := serve(t, l)[0]
		if log := p.Stderr(); !strings.Contains(log, "level=WARN") || !strings.Contains(log, "@proxyarpd") {
			t.Errorf("no word of the squatter:\n%s", log)
		}
		run(t, l, "ns0", "ping -n -c1 -W2 "+ip(pods(l, 0)[1]))
		said := exited(t, l, "host0", "--workload", "veth*") // the lock file remains
		if !strings.Contains(said, fmt.Sprintf(" %d ", p.Cmd.Process.Pid)) {
			t.Errorf("%q", said)
		}
		unix.Close(fd)
	}
}
