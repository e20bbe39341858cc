package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/lab"
)

// process is a command that runs in a node until it is stopped.
type process struct {
	what  string // for messages
	node  string
	cmd   *lab.Cmd
	log   tail
	done  chan struct{} // closed when it has ended
	err   error         // how, once done
	began time.Time
}

// startProcess starts a command with further variables in its environment.
func startProcess(ctx context.Context, b *bed, node, what string, env []string, name string, args ...string) (*process, error) {
	p := &process{what: what, node: node, done: make(chan struct{}), began: time.Now()}
	// Not under ctx: it ends on SIGTERM, as it would elsewhere.
	p.cmd = b.Command(context.WithoutCancel(ctx), node, name, args...)
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	p.cmd.Env = append(os.Environ(), env...)
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("bench: %s on %s: %w", what, node, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// alive says why the process is no more, if so.
func (p *process) alive() error {
	select {
	case <-p.done:
		return fmt.Errorf("bench: %s on %s has ended: %s: %s", p.what, p.node, p.cmd.ProcessState, p.log.lastLine())
	default:
		return nil
	}
}

// end sends SIGTERM to the process, or with group to its group, and SIGKILL to the group if it is there after grace. It
// returns when the process is dead, with an error if that took a SIGKILL.
func (p *process) end(group bool, grace time.Duration) error {
	pid := p.cmd.Process.Pid
	if group {
		_ = unix.Kill(-pid, unix.SIGTERM)
	} else {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
	}
	var err error
	select {
	case <-p.done:
	case <-time.After(grace):
		err = fmt.Errorf("bench: %s on %s did not end on SIGTERM in %v", p.what, p.node, grace)
	}
	if group || err != nil {
		_ = unix.Kill(-pid, unix.SIGKILL) // what the leader has left behind, too
	}
	<-p.done
	return err
}

// cpuTime is what the processes of the group have taken so far: the sums of /proc/PID/task/*/schedstat.
func (p *process) cpuTime() (sum time.Duration) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		pid, _ := strconv.Atoi(filepath.Base(dir))
		if group, err := unix.Getpgid(pid); err != nil || group != p.cmd.Process.Pid {
			continue
		}
		tasks, _ := filepath.Glob(dir + "/task/*/schedstat")
		for _, task := range tasks {
			b, err := os.ReadFile(task)
			if err != nil {
				continue // the thread has ended
			}
			first, _, _ := strings.Cut(string(b), " ")
			ns, _ := strconv.ParseInt(first, 10, 64)
			sum += time.Duration(ns)
		}
	}
	return sum
}

// tail keeps the end of what is written to it.
type tail struct {
	mu sync.Mutex
	b  []byte
}

const tailLen = 4096

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if len(t.b) > tailLen {
		t.b = append(t.b[:0], t.b[len(t.b)-tailLen:]...)
	}
	return len(p), nil
}

func (t *tail) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.b)
}

func (t *tail) lastLine() string {
	b := strings.TrimSpace(t.text())
	return b[strings.LastIndexByte(b, '\n')+1:]
}
