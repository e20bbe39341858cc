package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
)

// `run --background` is three processes, of one command line: the command, which waits;
// one that starts the daemon and ends, so that the daemon is the child of who adopts
// orphans; and the daemon, which tells the command when it has started. systemd waits for
// the end of a main process only if that is its own child. Which of the three a process
// is stands in its environment.
const (
	backgroundStep   = "PROXYARPD_BACKGROUND"
	backgroundOrphan = "orphan" // starts the daemon and ends
	backgroundDaemon = "daemon"
	// backgroundPipe is the descriptor to which the last two have backgroundBegun
	// written; its end without that is the daemon's.
	backgroundPipe  = 3
	backgroundBegun = "begun"
)

// errNotBegun is what the command says where the daemon, whose log is the same, has said why.
var errNotBegun = errors.New("the daemon in the background has ended before it had started: its log says why")

// background starts this program again with the same arguments, and returns when the
// daemon that it is then has started.
func background(ctx context.Context) error {
	begun, pipe, err := os.Pipe()
	if err != nil {
		return err
	}
	defer begun.Close()
	cmd, err := startAs(backgroundOrphan, pipe)
	err = errors.Join(err, pipe.Close())
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		return fmt.Errorf("--background: %w", err)
	}
	defer context.AfterFunc(ctx, func() { _ = begun.Close() })()
	said, err := io.ReadAll(begun)
	switch {
	case ctx.Err() != nil:
		return errors.New("--background: interrupted, the daemon goes on")
	case err != nil:
		return fmt.Errorf("--background: %w", err)
	case string(said) != backgroundBegun:
		return errNotBegun
	}
	return nil
}

// startAs starts the program that this process runs, in a session of its own, with the
// pipe as its descriptor backgroundPipe.
func startAs(step string, pipe *os.File) (*exec.Cmd, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(path); err != nil { // it is gone, or has another name by now
		path = "/proc/self/exe"
	}
	cmd := &exec.Cmd{Path: path, Args: os.Args, Env: append(os.Environ(), backgroundStep+"="+step),
		Stdout: os.Stdout, Stderr: os.Stderr, ExtraFiles: []*os.File{pipe}, SysProcAttr: &syscall.SysProcAttr{Setsid: true}}
	return cmd, cmd.Start()
}

// inherited is the pipe that a process of `run --background` has from the one before.
func inherited() *os.File {
	syscall.CloseOnExec(backgroundPipe)
	return os.NewFile(backgroundPipe, "background")
}

// orphan starts the daemon, whose parent ends with this process.
func orphan() error {
	pipe := inherited()
	defer pipe.Close()
	_, err := startAs(backgroundDaemon, pipe)
	return err
}

// tellBegun gives what tells the command that the daemon has started.
func tellBegun() func() {
	pipe := inherited()
	_ = os.Unsetenv(backgroundStep)
	return func() {
		_, _ = pipe.WriteString(backgroundBegun) // nobody may wait any more
		_ = pipe.Close()
	}
}
