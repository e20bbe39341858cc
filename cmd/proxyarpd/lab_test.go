package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
	"proxyarpd/internal/nstest"
)

// command runs the program, as a process of its own, and returns its outputs and exit status.
func command(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errw bytes.Buffer
	cmd := exec.CommandContext(t.Context(), labtest.Binary(t), args...)
	cmd.Stdin = strings.NewReader("from stdin\n")
	cmd.Stdout, cmd.Stderr = &out, &errw
	if err := cmd.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		t.Fatal(err)
	}
	return out.String(), errw.String(), cmd.ProcessState.ExitCode()
}

// cliLab is a lab's name for one test, which is removed with it.
func cliLab(t *testing.T) string {
	t.Helper()
	if missing := lab.MissingCaps(); len(missing) > 0 {
		nstest.Skip(t, "the lab needs %s", strings.Join(missing, " and "))
	}
	name := fmt.Sprintf("labcli-%d", os.Getpid())
	t.Cleanup(func() {
		if _, err := lab.Remove(name); err != nil {
			t.Error(err)
		}
		if left, _ := filepath.Glob("/run/netns/" + name + "-*"); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	})
	return name
}

func TestUpExecDown(t *testing.T) {
	labtest.Need(t, "sh", "cat", "ip")
	name := cliLab(t)
	for i, want := range []string{" is up\n", " is up already\n"} {
		out, errw, code := command(t, "lab", "up", "--name", name)
		if code != 0 || !strings.Contains(out, want) || !strings.Contains(out, "10.20.1.3/24") {
			t.Fatalf("lab up, time %d: exit %d\n%s%s", i+1, code, out, errw)
		}
	}
	for _, c := range []struct {
		args           string
		stdout, stderr string
		code           int
	}{
		{args: "exec --name LAB ns0 -- sh -c 'exit 7'", code: 7},
		{args: "exec --name LAB ns0 cat", stdout: "from stdin\n"},
		{args: "exec --name LAB host1 ip -4 -br addr show dev ens192", stdout: "ens192@if2       UP             192.168.1.16/24 \n"},
		{args: "exec --name LAB host1 sh -c 'echo no >&2; kill -TERM $$'", stderr: "no\n", code: -1},
		{args: "exec --name LAB ns7 true", code: 1, stderr: "proxyarpd: lab LAB: no node \"ns7\": there are [host0 host1 ns0 ns1]\n"},
		{args: "exec --name LAB ns0 no-such-program", code: 1, stderr: "proxyarpd: exec: \"no-such-program\": executable file not found in $PATH\n"},
		{args: "exec --name LAB-not ns0 true", code: 1, stderr: "proxyarpd: lab LAB-not: there is none; make it with proxyarpd lab up\n"},
		{args: "exec --name LAB ns0", code: 2, stderr: "proxyarpd: lab exec: give a node and a command: proxyarpd lab exec host0 ip route\n"},
		{args: "__complete exec --name LAB ns", stdout: "ns0\nns1\n:4\n", stderr: "Completion ended with directive: ShellCompDirectiveNoFileComp\n"},
		{args: "__complete exec --name LAB-not ns", stdout: ":4\n", stderr: "Completion ended with directive: ShellCompDirectiveNoFileComp\n"},
		{args: "__complete down --name LAB", stdout: "LAB\n:4\n", stderr: "Completion ended with directive: ShellCompDirectiveNoFileComp\n"},
		{args: "up --name LAB --form calico", code: 1, stderr: "proxyarpd: lab LAB is up already, in form article with 1 pods a host: remove it first with proxyarpd lab down --name LAB\n"},
		{args: "down --name LAB", stdout: "lab LAB is removed\n"},
		{args: "down --name LAB", stdout: "lab LAB: there is none\n"},
	} {
		args := []string{"lab"}
		if rest, ok := strings.CutPrefix(c.args, "__complete "); ok {
			args, c.args = []string{"__complete", "lab"}, rest
		}
		quoted := strings.Split(strings.ReplaceAll(c.args, "LAB", name), "'")
		args = append(args, strings.Fields(quoted[0])...)
		if len(quoted) > 1 {
			args = append(args, quoted[1])
		}
		out, errw, code := command(t, args...)
		wantOut, wantErr := strings.ReplaceAll(c.stdout, "LAB", name), strings.ReplaceAll(c.stderr, "LAB", name)
		if code != c.code || out != wantOut || errw != wantErr {
			t.Errorf("%s\nexit %d, stdout %q, stderr %q\nwant %d, %q, %q", c.args, code, out, errw, c.code, wantOut, wantErr)
		}
	}
}

func TestUsageOfProcess(t *testing.T) {
	for _, c := range []struct {
		args string
		code int
	}{
		{"", 2}, {"nonsense", 2}, {"lab", 2}, {"lab nonsense", 2}, {"lab up --nonsense", 2}, {"lab up --form x", 2},
		{"lab up x", 2}, {"lab down --name ../x", 2}, {"lab up --pods 1001 --form calico", 2},
		{"--help", 0}, {"lab -h", 0}, {"lab up --help", 0}, {"version", 0}, {"--version", 0},
	} {
		out, errw, code := command(t, strings.Fields(c.args)...)
		if code != c.code {
			t.Errorf("proxyarpd %s: exit %d, want %d", c.args, code, c.code)
		}
		if code == 0 && (out == "" || errw != "") || code != 0 && (out != "" || !isOneLine(errw)) {
			t.Errorf("proxyarpd %s: stdout %q, stderr %q", c.args, out, errw)
		}
	}
}

func isOneLine(s string) bool {
	return strings.HasPrefix(s, "proxyarpd: ") && strings.Count(s, "\n") == 1 && strings.HasSuffix(s, "\n")
}

// TestInterruptedUp ends `lab up` as soon as its first namespace can be seen,
// with a thousand to follow.
func TestInterruptedUp(t *testing.T) {
	name := cliLab(t)
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		var errw bytes.Buffer
		cmd := exec.Command(labtest.Binary(t), "lab", "up", "--name", name, "--form", "calico", "--pods", "1000")
		cmd.Stderr = &errw
		made := watch(t, "/run/netns", name+"-pod0-0")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		made()
		cmd.Process.Signal(sig)
		cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != 1 || !isOneLine(errw.String()) || !strings.Contains(errw.String(), "interrupted") {
			t.Errorf("%v: exit %d: %s", sig, code, errw.String())
		}
		for _, pattern := range []string{"/run/netns/" + name + "-*", "/run/proxyarpd/lab-" + name + "*"} {
			if left, _ := filepath.Glob(pattern); len(left) > 0 {
				t.Errorf("%v: left behind: %v", sig, left)
			}
		}
	}
}

// watch returns a function that waits until the file is made in the directory.
func watch(t *testing.T, dir, file string) func() {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	fd, err := syscall.InotifyInit1(syscall.IN_CLOEXEC | syscall.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	events := os.NewFile(uintptr(fd), "inotify")
	if _, err := syscall.InotifyAddWatch(fd, dir, syscall.IN_CREATE); err != nil {
		t.Fatal(err)
	}
	return func() {
		defer events.Close()
		events.SetReadDeadline(time.Now().Add(30 * time.Second))
		buf := make([]byte, 64<<10)
		for {
			n, err := events.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(buf[:n], []byte(file+"\x00")) {
				return
			}
		}
	}
}
