package failure

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/lab/labtest"
)

// serviceManager is a NOTIFY_SOCKET, as systemd has one.
type serviceManager struct {
	t    *testing.T
	conn *net.UnixConn
	rest []string // lines of the last datagram that await has not looked at
	said []string // those that it has
}

func newServiceManager(t *testing.T, watchdog time.Duration) *serviceManager {
	t.Helper()
	dir, err := os.MkdirTemp("", "parp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", strconv.FormatInt(watchdog.Microseconds(), 10))
	return &serviceManager{t: t, conn: conn}
}

// next gives the lines of the next datagram, nil if none comes within that time.
func (m *serviceManager) next(within time.Duration) []string {
	m.t.Helper()
	b := make([]byte, 4096)
	m.conn.SetReadDeadline(time.Now().Add(within))
	n, err := m.conn.Read(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	if err != nil {
		m.t.Fatal(err)
	}
	return strings.Split(string(b[:n]), "\n")
}

// await waits for a line that begins so.
func (m *serviceManager) await(begins string) string {
	m.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); {
		for len(m.rest) > 0 {
			line := m.rest[0]
			m.rest, m.said = m.rest[1:], append(m.said, line)
			if strings.HasPrefix(line, begins) {
				return line
			}
		}
		m.rest = m.next(time.Until(end))
	}
	m.t.Fatalf("the service manager was not told %s, but %q", begins, m.said)
	return ""
}

// says waits for a line that begins so and has a part, among those that were told already, too.
func (m *serviceManager) says(begins, part string) {
	m.t.Helper()
	for _, line := range slices.Backward(m.said) {
		if strings.HasPrefix(line, begins) {
			if strings.Contains(line, part) {
				return
			}
			break
		}
	}
	if got := m.await(begins); !strings.Contains(got, part) {
		m.t.Errorf("%s", got)
	}
}

// drain takes what was sent until now.
func (m *serviceManager) drain() {
	for m.rest = nil; m.next(time.Millisecond) != nil; {
	}
}

// TestServiceManager: the service manager is told of start, life, reloads and end.
func TestServiceManager(t *testing.T) {
	labtest.Need(t, "ip")
	l := hosts(t, 1, 1)
	m := newServiceManager(t, 500*time.Millisecond)
	file := filepath.Join(t.TempDir(), "proxyarpd.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte("workload: [veth*]\n"+text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("")
	p := labtest.Start(t, l, "host0", "--config", file)
	m.await("READY=1")
	if !status(t, p).Ready {
		t.Error("told READY=1 and is not")
	}
	for range 3 {
		m.await("WATCHDOG=1")
	}
	write("engine: ebpf\n")
	run(t, l, "host0", labtest.Binary(t)+" reload --control "+p.Control)
	m.await("RELOADING=1")
	m.await("READY=1")
	m.says("STATUS=", "engine ebpf") // the new state may have been told before
	for range 3 {                    // of the other engine
		m.await("WATCHDOG=1")
	}
	write("engine: warp\n")
	if _, code := labtest.Try(t, l, "host0", labtest.Binary(t)+" reload --control "+p.Control); code != 1 {
		t.Errorf("a bad reload: exit status %d", code)
	}
	m.await("RELOADING=1")
	m.await("READY=1")
	m.says("STATUS=", "warp")
	if got := m.said; !slices.ContainsFunc(got, func(line string) bool { return strings.Contains(line, "refused") }) {
		t.Errorf("%s", got)
	}
	run(t, l, "host0", "ip link set veth0 down")
	p.Stop(t)
	m.await("STOPPING=1")
	reloads := 0
	for _, line := range m.said {
		if strings.HasPrefix(line, "MONOTONIC_USEC=") {
			reloads++
		}
	}
	if reloads != 2 {
		t.Errorf("%d times of reloads: %q", reloads, m.said)
	}
}

// TestWatchdogOfStuckThreads: no sign of life while a thread that forwards is stuck, or one that answers,
// though no packet comes and all else answers; and again when it goes on.
func TestWatchdogOfStuckThreads(t *testing.T) {
	l := hosts(t, 1, 1)
	m := newServiceManager(t, time.Second)
	p := labtest.Start(t, l, "host0", "--workload", "veth*")
	m.await("READY=1")
	m.await("WATCHDOG=1")
	runtime.LockOSThread() // ptrace(2) is the thread's
	defer runtime.UnlockOSThread()
	stuck, want := map[string]bool{}, 0
	for _, thread := range p.ThreadsOfNice(t, -20) {
		if thread == p.Cmd.Process.Pid {
			continue // who waits for the process would get the stops of its first thread
		}
		want++
		stuck[stick(t, p, m, thread)] = true
	}
	delete(stuck, "worker 0 of the datapath")
	delete(stuck, "the responder of neighbour discovery")
	if delete(stuck, "the ARP responder"); want == 0 || len(stuck) > 0 {
		t.Errorf("of %d threads, told as stuck: %v", want, stuck)
	}
}

// stick stops a thread for a while, and gives what the manager is told of it.
func stick(t *testing.T, p *labtest.Process, m *serviceManager, thread int) (stuck string) {
	t.Helper()
	if err := syscall.PtraceAttach(thread); err != nil {
		t.Fatal(err)
	}
	if _, err := syscall.Wait4(thread, nil, unix.WALL, nil); err != nil {
		t.Fatal(err)
	}
	_, stuck, _ = strings.Cut(m.await("STATUS=stuck"), "stuck: ")
	m.drain()
	if said := m.next(1500 * time.Millisecond); said != nil {
		t.Errorf("told %q while a thread is stuck", said)
	}
	if !strings.Contains(p.Stderr(), stuck) {
		t.Errorf("the log does not say what is stuck:\n%s", p.Stderr())
	}
	if err := syscall.PtraceDetach(thread); err != nil {
		t.Fatal(err)
	}
	m.await("WATCHDOG=1")
	m.await("STATUS=ready")
	return stuck
}

// TestAbort: what the service manager's watchdog does, and a panic, end by the signal, not with the exit status of a
// wrong command line, with which the unit does not restart.
func TestAbort(t *testing.T) {
	l := hosts(t, 1, 1)
	p := serve(t, l)[0]
	if err := p.Cmd.Process.Signal(syscall.SIGABRT); err != nil {
		t.Fatal(err)
	}
	p.Wait(t)
	if ws := p.Cmd.ProcessState.Sys().(syscall.WaitStatus); !ws.Signaled() || ws.Signal() != syscall.SIGABRT {
		t.Errorf("ended with %v", p.Cmd.ProcessState)
	}
	if !strings.Contains(p.Stderr(), "goroutine ") {
		t.Error("it does not say what it was doing")
	}
}
