// Package labtest gives tests the labs of internal/lab: made for the test,
// removed with it, skipped by the name of what is missing.
package labtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/nstest"
)

// deadline is what a single command in a node gets.
const deadline = 30 * time.Second

// New makes a lab that lives as long as the test. Without the capabilities it
// takes, the test is skipped, or fails where LAB_REQUIRED=1.
func New(t testing.TB, spec lab.Spec) *lab.Lab {
	t.Helper()
	if missing := lab.MissingCaps(); len(missing) > 0 {
		nstest.Skip(t, "the lab needs %s", strings.Join(missing, " and "))
	}
	housekeeping(t)
	spec.Transient = true
	l, err := lab.New(t.Context(), spec)
	if errors.Is(err, syscall.EPERM) {
		nstest.Skip(t, "the lab is not permitted here: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	live.Store(l, nil)
	t.Cleanup(func() {
		live.Delete(l)
		if err := l.Close(); err != nil {
			t.Errorf("remove lab: %v", err)
		}
	})
	return l
}

// Need looks for programs and skips the test, or fails it where LAB_REQUIRED=1,
// when one is missing.
func Need(t testing.TB, programs ...string) {
	t.Helper()
	nstest.Need(t, programs...)
}

// Run runs a command in a node and returns its standard output; the test fails
// if the command does.
func Run(t testing.TB, l *lab.Lab, node, name string, args ...string) string {
	t.Helper()
	out, err := Output(t, l, node, name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Output runs a command in a node and returns its standard output. The error
// names the command and holds what it printed.
func Output(t testing.TB, l *lab.Lab, node, name string, args ...string) (string, error) {
	t.Helper()
	// In a cleanup, t.Context is over.
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(t.Context()), deadline, fmt.Errorf("not done after %v", deadline))
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := l.Command(ctx, node, name, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		err = fmt.Errorf("%s# %s %s: %w\n%s%s", node, name, strings.Join(args, " "), err, stdout.String(), stderr.String())
	}
	return stdout.String(), err
}

var (
	live      sync.Map // *lab.Lab -> nil
	houseOnce sync.Once
)

// housekeeping removes, once a process, the labs of killed test processes, and
// sees to it that an interrupt of this one leaves none: go test's cleanups do
// not run then.
func housekeeping(t testing.TB) {
	houseOnce.Do(func() {
		if err := lab.Sweep(); err != nil {
			t.Logf("left over of a killed test: %v", err)
		}
		interrupts := make(chan os.Signal, 1)
		signal.Notify(interrupts, os.Interrupt, syscall.SIGTERM)
		go func() {
			sig := <-interrupts
			live.Range(func(l, _ any) bool {
				l.(*lab.Lab).Close()
				return true
			})
			signal.Reset(sig)
			syscall.Kill(os.Getpid(), sig.(syscall.Signal))
		}()
	})
}
