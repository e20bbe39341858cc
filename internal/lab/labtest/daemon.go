package labtest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"proxyarpd/internal/lab"
)

// Process is a running `proxyarpd run`.
type Process struct {
	Control string // its control socket
	Node    string
	Cmd     *lab.Cmd

	lab    *lab.Lab
	stderr Buffer
	done   chan struct{} // closed when it has ended
	err    error         // how, once done
	ended  bool          // on the test's wish: Stop or Kill
}

// Daemon starts `proxyarpd run args...` in the node with a control socket of its
// own, waits until it is ready and stops it with the test. Where PROXYARPD_BIN
// is not set the program is built first, once a test process. PROXYARPD_ENGINE
// names the engine of daemons whose test does not, and PROXYARPD_WORKERS how many
// workers they have.
func Daemon(t testing.TB, l *lab.Lab, node string, args ...string) *Process {
	t.Helper()
	p := Start(t, l, node, args...)
	p.AwaitReady(t)
	return p
}

// DaemonOf is Daemon with another program.
func DaemonOf(t testing.TB, binary string, l *lab.Lab, node string, args ...string) *Process {
	t.Helper()
	p := start(t, binary, l, node, newControl(t), args)
	p.AwaitReady(t)
	return p
}

// Start is Daemon without the waiting, for a daemon that is to refuse, say.
func Start(t testing.TB, l *lab.Lab, node string, args ...string) *Process {
	t.Helper()
	return start(t, Binary(t), l, node, newControl(t), args)
}

// newControl is the path of a control socket.
func newControl(t testing.TB) string {
	t.Helper()
	// Not t.TempDir: the test's name may be too long for a socket's path (108).
	dir, err := os.MkdirTemp("", "parp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "control.sock")
}

// Successor starts `proxyarpd run --takeover args...` beside the daemon, with its control
// socket.
func (p *Process) Successor(t testing.TB, args ...string) *Process {
	t.Helper()
	return p.SuccessorAt(t, p.Control, args...)
}

// SuccessorAt is Successor with another control socket, by which it reaches the daemon.
func (p *Process) SuccessorAt(t testing.TB, control string, args ...string) *Process {
	t.Helper()
	return start(t, Binary(t), p.lab, p.Node, control, append([]string{"--takeover"}, args...))
}

// SuccessorOf is Successor with another program.
func (p *Process) SuccessorOf(t testing.TB, binary string, args ...string) *Process {
	t.Helper()
	return start(t, binary, p.lab, p.Node, p.Control, append([]string{"--takeover"}, args...))
}

func start(t testing.TB, binary string, l *lab.Lab, node, control string, args []string) *Process {
	t.Helper()
	p := &Process{Node: node, Control: control, lab: l, done: make(chan struct{})}
	if engine := os.Getenv("PROXYARPD_ENGINE"); engine != "" && !slices.Contains(args, "--engine") && !slices.Contains(args, "--config") && !slices.Contains(args, "none") {
		args = append([]string{"--engine", engine}, args...)
	}
	if workers := os.Getenv("PROXYARPD_WORKERS"); workers != "" && !slices.Contains(args, "--workers") {
		args = append([]string{"--workers", workers}, args...)
	}
	args = append([]string{"run", "--control", p.Control}, args...)
	p.Cmd = l.Command(context.WithoutCancel(t.Context()), node, binary, args...)
	p.Cmd.Stdout, p.Cmd.Stderr = &p.stderr, &p.stderr
	if err := p.Cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.Cmd.Wait()
		close(p.done)
	}()
	running.Store(p, nil)
	t.Cleanup(func() {
		running.Delete(p)
		if !p.ended {
			p.Stop(t)
		}
		if t.Failed() {
			t.Logf("%s# proxyarpd %s\n%s", node, strings.Join(args, " "), p.Stderr())
		}
	})
	return p
}

// OneWorker reports whether daemons of which a test does not say it have one
// worker, so that packets of different flows have an order.
func OneWorker() bool {
	n := os.Getenv("PROXYARPD_WORKERS")
	return n == "" || n == "1"
}

// AwaitReady waits until `status --wait` says that the daemon is ready.
func (p *Process) AwaitReady(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	go func() { // no use to wait for a daemon that has ended
		select {
		case <-p.done:
			cancel()
		case <-ctx.Done():
		}
	}()
	out, err := p.lab.Command(ctx, p.Node, Binary(t), "status", "--wait", "25s", "--control", p.Control).CombinedOutput()
	if err != nil {
		t.Fatalf("daemon in %s is not ready: status: %v\n%s%s", p.Node, err, out, p.Stderr())
	}
}

// Status runs `proxyarpd status args...` against the daemon.
func (p *Process) Status(t testing.TB, args ...string) string {
	t.Helper()
	return Run(t, p.lab, p.Node, Binary(t), append([]string{"status", "--control", p.Control}, args...)...)
}

// Stop ends the daemon as an operator would; the test fails unless it ends
// cleanly, with status 0, in time.
func (p *Process) Stop(t testing.TB) {
	t.Helper()
	p.ended = true
	p.Cmd.Process.Signal(syscall.SIGTERM) // fails only if it has ended: seen below
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
		p.Cmd.Process.Kill()
		<-p.done
		t.Errorf("daemon in %s: still there 10 s after SIGTERM\n%s", p.Node, p.Stderr())
		return
	}
	if p.err != nil {
		t.Errorf("daemon in %s: %v\n%s", p.Node, p.err, p.Stderr())
	}
}

// Kill ends the daemon as kill -9 does, and returns when it is dead.
func (p *Process) Kill() {
	p.ended = true
	p.Cmd.Process.Kill()
	<-p.done
}

// Wait waits for the daemon to end by itself and returns how it did.
func (p *Process) Wait(t testing.TB) error {
	t.Helper()
	p.ended = true
	select {
	case <-p.done:
		return p.err
	case <-time.After(deadline):
		p.Kill()
		t.Fatalf("daemon in %s does not end by itself\n%s", p.Node, p.Stderr())
		return nil
	}
}

// WaitedForCPU is for how long the daemon's threads have been ready to run without a CPU, added up (the second number of
// /proc/PID/task/*/schedstat). Bounds of time take it into account.
func (p *Process) WaitedForCPU(t testing.TB) (sum time.Duration) {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", p.Cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range threads {
		b, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has ended
		}
		var ran, waited time.Duration
		if _, err := fmt.Sscan(string(b), &ran, &waited); err != nil {
			t.Fatalf("%s: %v: %q", file, err, b)
		}
		sum += waited
	}
	return sum
}

// running are the daemons whose tests have not ended.
var running sync.Map // *Process -> nil

// WaitedForCPU is Process.WaitedForCPU of all daemons of a lab.
func WaitedForCPU(t testing.TB, l *lab.Lab) (sum time.Duration) {
	t.Helper()
	running.Range(func(key, _ any) bool {
		if p := key.(*Process); p.lab == l {
			sum += p.WaitedForCPU(t)
		}
		return true
	})
	return sum
}

// Stderr returns what the daemon has logged so far.
func (p *Process) Stderr() string { return p.stderr.String() }

// Buffer is written by a process while the test reads it.
type Buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// String is what has been written so far.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// Binary returns the path of the program under test: PROXYARPD_BIN, or one built
// from the tree.
func Binary(t testing.TB) string {
	t.Helper()
	if bin := os.Getenv("PROXYARPD_BIN"); bin != "" {
		return bin
	}
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// build keeps nothing but an open file, which the processes of this test reach
// under /proc: no cleanup runs at the end of a test process.
var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "proxyarpd-build")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	bin := filepath.Join(dir, "proxyarpd")
	cmd := exec.Command("go", "build", "-o", bin, "proxyarpd/cmd/proxyarpd")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build proxyarpd/cmd/proxyarpd: %w\n%s", err, out)
	}
	program, err = os.Open(bin)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), program.Fd()), nil
})

// program is never closed: a collected file would be.
var program *os.File

// ThreadsOfNice are the threads of the process that have a nice value: those that
// forward, and the one that answers ARP, have that of --nice.
func (p *Process) ThreadsOfNice(t testing.TB, nice int) (all []int) {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.Cmd.Process.Pid))
	if err != nil || len(tasks) == 0 {
		t.Fatalf("process %d: %d threads, %v", p.Cmd.Process.Pid, len(tasks), err)
	}
	for _, task := range tasks {
		b, err := os.ReadFile(task)
		if err != nil {
			continue // it has ended
		}
		const field = 19 - 3 // of proc_pid_stat(5), behind the name
		_, rest, _ := strings.Cut(string(b), ") ")
		if f := strings.Fields(rest); len(f) <= field || f[field] != strconv.Itoa(nice) {
			continue
		}
		thread, err := strconv.Atoi(filepath.Base(filepath.Dir(task)))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, thread)
	}
	return all
}
