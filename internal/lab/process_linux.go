package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Cmd is an exec.Cmd whose process starts inside a node, as the leader of a
// process group that Close and the end of its context kill. The leader also dies
// with this process, even if that is killed.
type Cmd struct {
	*exec.Cmd
	lab  *Lab
	node string
	gone chan struct{} // closed when the process is dead
}

// Command prepares a process in the node. /sys shows the caller's namespace, as
// it is the same mount; /proc/sys/net and all sockets are the node's.
func (l *Lab) Command(ctx context.Context, node, name string, args ...string) *Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL}
	cmd.Cancel = func() error {
		err := unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
		if errors.Is(err, unix.ESRCH) {
			return os.ErrProcessDone
		}
		return err
	}
	cmd.WaitDelay = 2 * time.Second // for a grandchild that holds the output open
	return &Cmd{Cmd: cmd, lab: l, node: node, gone: make(chan struct{})}
}

// Start starts the process in its node.
func (c *Cmd) Start() error {
	l := c.lab
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return fmt.Errorf("lab %s: %w", l.spec.Name, os.ErrClosed)
	}
	netns, err := l.netns(c.node)
	if err != nil {
		return err
	}
	started := make(chan error, 1)
	go onThread(func() error {
		// The child gets the namespace of the thread that forks, and dies
		// with that thread (Pdeathsig), which therefore outlives it.
		err := setns(netns)
		if err == nil {
			err = c.Cmd.Start()
		}
		started <- err
		if err == nil {
			<-c.gone
		}
		return nil
	})
	if err := <-started; err != nil {
		return err
	}
	l.running[c] = struct{}{}
	l.groups[c.Process.Pid] = struct{}{}
	return nil
}

// Wait is exec.Cmd's.
func (c *Cmd) Wait() error {
	err := c.Cmd.Wait()
	c.lab.mu.Lock()
	defer c.lab.mu.Unlock()
	c.lab.forget(c)
	return err
}

// forget drops a process that is dead; l.mu is held.
func (l *Lab) forget(c *Cmd) {
	if _, ok := l.running[c]; ok {
		delete(l.running, c)
		close(c.gone)
	}
}

// Run is Start and Wait.
func (c *Cmd) Run() error {
	if err := c.Start(); err != nil {
		return err
	}
	return c.Wait()
}

// Output runs the process and returns its standard output.
func (c *Cmd) Output() ([]byte, error) {
	var out bytes.Buffer
	c.Stdout = &out
	err := c.Run()
	return out.Bytes(), err
}

// CombinedOutput runs the process and returns its standard output and error.
func (c *Cmd) CombinedOutput() ([]byte, error) {
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	return out.Bytes(), err
}

// Exec turns the calling process into the command, inside the node. It returns
// only if that fails, and then the process is fit for nothing but to end.
func (l *Lab) Exec(node string, argv, env []string) error {
	l.mu.Lock()
	netns, err := l.netns(node)
	l.mu.Unlock()
	if err != nil {
		return err
	}
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return err
	}
	runtime.LockOSThread() // execve keeps the namespace of the thread that calls it
	if err := setns(netns); err != nil {
		return err
	}
	return fmt.Errorf("%s: %w", path, unix.Exec(path, argv, env))
}

// killProcesses ends what was started by Command and still lives, whatever else
// runs in the namespaces. It returns when the started processes are dead.
func (l *Lab) killProcesses() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.running {
		c.Process.Kill() // by pidfd: never a stranger
		awaitDeath(c.Process.Pid)
		l.forget(c)
	}
	// What they left is told by group and namespace, a group's number alone
	// being free again once its last member has ended.
	nodes, err := l.netnsByNode()
	if err != nil {
		return err
	}
	procs, err := processesIn(nodes)
	for _, pids := range procs {
		for _, pid := range pids {
			group, err := unix.Getpgid(pid)
			if _, ours := l.groups[group]; err == nil && ours {
				unix.Kill(pid, unix.SIGKILL)
			}
		}
	}
	return err
}

// awaitDeath waits for a killed child without reaping it, which its Wait does.
func awaitDeath(pid int) {
	for unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
}

// Processes tells which processes are in the namespaces of the lab called name,
// by node, whoever started them.
func Processes(name string) (map[string][]int, error) {
	nodes, err := namespaces(name)
	if err != nil {
		return nil, err
	}
	return processesIn(nodes)
}

// processesIn looks for the processes that are in the namespaces, given by node.
func processesIn(nodes map[string]string) (map[string][]int, error) {
	byInode := map[uint64]string{}
	for node, netns := range nodes {
		var st unix.Stat_t
		if isNetns(netns) && unix.Stat(netnsPath(netns), &st) == nil {
			byInode[st.Ino] = node
		}
	}
	procs := map[string][]int{}
	if len(byInode) == 0 {
		return procs, nil
	}
	paths, err := filepath.Glob("/proc/[0-9]*/ns/net")
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	for _, path := range paths {
		var st unix.Stat_t
		if unix.Stat(path, &st) != nil {
			continue // it ended meanwhile
		}
		if node, ok := byInode[st.Ino]; ok {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
			procs[node] = append(procs[node], pid)
		}
	}
	return procs, nil
}
