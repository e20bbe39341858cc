package labtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/wire"
)

// Patience is how long something that must happen is waited for. It is no bound on how long it may take: a machine that
// others keep busy needs it.
const Patience = 30 * time.Second

// Await polls what changes without telling, counters above all. The test ends where it does not come.
func Await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	if !Within(Patience, ok) {
		t.Fatalf("not within %v: %s", Patience, what)
	}
}

// Within polls for so long, and reports whether it came.
func Within(long time.Duration, ok func() bool) bool {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(long); ; <-tick.C {
		if ok() {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}

// Soon is a context for a command that ends by itself, and is killed if it does not.
func Soon(t testing.TB) context.Context {
	const long = 4 * Patience // it may have much to read
	ctx, cancel := context.WithTimeoutCause(t.Context(), long, fmt.Errorf("not done after %v", long))
	t.Cleanup(cancel)
	return ctx
}

// Pods are the pods of a host, in the order of their making.
func Pods(l *lab.Lab, host int) (all []lab.Pod) {
	for _, p := range l.Pods() {
		if p.Host == host {
			all = append(all, p)
		}
	}
	return all
}

// IP is a pod's address.
func IP(p lab.Pod) string { return p.Addr.Addr().String() }

// OverIPv6 is the pod as those see it who speak IPv6 with it.
func OverIPv6(t testing.TB, p lab.Pod) lab.Pod {
	t.Helper()
	if !p.Addr6.IsValid() {
		t.Fatalf("%s has no IPv6 address", p.Name)
	}
	p.Addr = p.Addr6
	return p
}

// MAC parses one.
func MAC(t testing.TB, s string) wire.MAC {
	t.Helper()
	m, err := wire.ParseMAC(s)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Line is Run for a command that is given as one line without quotes.
func Line(t testing.TB, l *lab.Lab, node, line string) string {
	t.Helper()
	args := strings.Fields(line)
	return Run(t, l, node, args[0], args[1:]...)
}

// Try is Line for a command that may fail. It gives what was printed, both outputs, and the exit code.
func Try(t testing.TB, l *lab.Lab, node, line string) (string, int) {
	t.Helper()
	args := strings.Fields(line)
	out, errw, code := Exec(t, l, node, args[0], args[1:]...)
	return out + errw, code
}

// Exec runs a program in a node: its outputs and its exit code.
func Exec(t testing.TB, l *lab.Lab, node, name string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), deadline)
	defer cancel()
	var out, errw bytes.Buffer
	cmd := l.Command(ctx, node, name, args...)
	cmd.Stdout, cmd.Stderr = &out, &errw
	if err := cmd.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		t.Fatalf("%s# %s %s: %v", node, name, strings.Join(args, " "), err)
	}
	return out.String(), errw.String(), cmd.ProcessState.ExitCode()
}

// Warm has a node's kernel know a neighbour, so that what is sent there next does not wait for it.
func Warm(t testing.TB, l *lab.Lab, node, address string) {
	t.Helper()
	Run(t, l, node, "ping", "-n", "-c1", "-W5", address)
}

// StatusJSON decodes `status -o json` of the daemon into v.
func (p *Process) StatusJSON(t testing.TB, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(p.Status(t, "-o", "json")), v); err != nil {
		t.Fatal(err)
	}
}
