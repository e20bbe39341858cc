// Package failure holds the tests of what must not go wrong when something
// does: ends, kills, floods, vanishing interfaces, missing capabilities,
// hostile frames and clients. They drive the whole program in the labs of
// internal/lab.
package failure

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"proxyarpd/internal/daemon"
	"proxyarpd/internal/instance"
	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
)

// Names of what stands in each second line of these tests.
var (
	await = labtest.Await
	ip    = labtest.IP
	mac   = labtest.MAC
	pods  = labtest.Pods
	run   = labtest.Line
)

// patience is how long something that must happen is waited for.
const patience = labtest.Patience

// answerMAC is what the daemon answers, and gives the workload interfaces.
const answerMAC = "ee:ee:ee:ee:ee:ee"

// hosts gives a lab whose pods have addresses of their own, and whose workload
// interfaces have MACs that the daemon changes.
func hosts(t *testing.T, n, pods int) *lab.Lab {
	t.Helper()
	return labtest.New(t, lab.Spec{Form: lab.FormSlash32, Hosts: n, PodsPerHost: pods})
}

// serve starts a daemon in each host of a lab of hosts.
func serve(t *testing.T, l *lab.Lab, args ...string) (all []*labtest.Process) {
	t.Helper()
	for host := range l.Spec().Hosts {
		all = append(all, labtest.Daemon(t, l, fmt.Sprintf("host%d", host), append([]string{"--workload", "veth*"}, args...)...))
	}
	return all
}

func status(t testing.TB, p *labtest.Process) *daemon.Status {
	t.Helper()
	s := new(daemon.Status)
	p.StatusJSON(t, s)
	return s
}

// alive fails the test if the daemon does not answer, or is not ready in time.
func alive(t testing.TB, p *labtest.Process) *daemon.Status {
	t.Helper()
	p.AwaitReady(t)
	return status(t, p)
}

// exited runs `proxyarpd run` to its end, which must be exit status 1 with one
// line that says why, and gives that line.
func exited(t *testing.T, l *lab.Lab, node string, args ...string) string {
	t.Helper()
	p := labtest.Start(t, l, node, args...)
	err := p.Wait(t)
	if code := p.Cmd.ProcessState.ExitCode(); code != 1 {
		t.Errorf("run %v: %v, want exit status 1\n%s", args, err, p.Stderr())
	}
	var said []string
	for line := range strings.Lines(p.Stderr()) {
		if !strings.HasPrefix(line, "time=") { // the log
			said = append(said, line)
		}
	}
	if len(said) != 1 || !strings.HasPrefix(said[0], "proxyarpd: ") || !strings.HasSuffix(said[0], "\n") {
		t.Errorf("run %v: want one line of error, got %q", args, said)
	}
	return strings.Join(said, "")
}

// proc reads a file of a process, "status" say.
func proc(t testing.TB, p *labtest.Process, file string) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", p.Cmd.Process.Pid, file))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// rss is the resident memory of a daemon, in MB.
func rss(t testing.TB, p *labtest.Process) float64 {
	t.Helper()
	return memoryOf(t, p, "VmRSS:")
}

// peakRSS is the most that it has been.
func peakRSS(t testing.TB, p *labtest.Process) float64 {
	t.Helper()
	return memoryOf(t, p, "VmHWM:")
}

func memoryOf(t testing.TB, p *labtest.Process, what string) float64 {
	t.Helper()
	for line := range strings.Lines(proc(t, p, "status")) {
		if f := strings.Fields(line); f[0] == what {
			kb, err := strconv.Atoi(f[1])
			if err != nil {
				t.Fatal(err)
			}
			return float64(kb) / 1024
		}
	}
	t.Fatal("no ", what)
	return 0
}

// files counts the open files of a daemon.
func files(t testing.TB, p *labtest.Process) int {
	t.Helper()
	all, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.Cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// records lists what the daemon's state directory has of a node.
func records(t testing.TB, l *lab.Lab, node string) []string {
	t.Helper()
	var ns instance.Netns
	if err := l.Do(node, func() (err error) { ns, err = instance.CurrentNetns(); return err }); err != nil {
		t.Fatal(err)
	}
	return recordsOf(t, ns)
}

func recordsOf(t testing.TB, ns instance.Netns) []string {
	t.Helper()
	found, err := filepath.Glob(daemon.DefaultStateDir + "/" + ns.File("*"))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// traces is everything about a node's interfaces that a daemon must leave as
// it found it: names and MACs, queueing disciplines, tc programs, permanent
// neighbours, and its own records.
func traces(t testing.TB, l *lab.Lab, node string) []string {
	t.Helper()
	var all []string
	add := func(line string) {
		for text := range strings.Lines(run(t, l, node, line)) {
			all = append(all, strings.TrimSpace(text))
		}
	}
	add("ip -br link")
	add("tc qdisc show")
	add("ip neigh show nud permanent")
	for _, p := range pods(l, 0) {
		add("tc filter show dev " + p.Iface + " ingress")
	}
	all = append(all, programs(t, l, node)...)
	all = append(all, records(t, l, node)...)
	slices.Sort(all)
	return all
}

// status --wait for a daemon that may not be there yet.
func tryStatus(ctx context.Context, t testing.TB, l *lab.Lab, p *labtest.Process, args ...string) (string, error) {
	t.Helper()
	out, err := l.Command(ctx, p.Node, labtest.Binary(t), append([]string{"status", "--control", p.Control}, args...)...).CombinedOutput()
	return string(out), err
}

// wrapped makes the program under test be started by another one, which
// takes capabilities away from it, say.
func wrapped(t *testing.T, by ...string) {
	t.Helper()
	labtest.Need(t, by[0])
	path, err := exec.LookPath(by[0])
	if err != nil {
		t.Fatal(err)
	}
	if program == "" {
		program = labtest.Binary(t)
	}
	script := filepath.Join(t.TempDir(), "run")
	text := fmt.Sprintf("#!/bin/sh\nexec %s %s -- %s \"$@\"\n", path, strings.Join(by[1:], " "), program)
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PROXYARPD_BIN", script)
}

// program is the one under test, before it was first wrapped.
var program string
