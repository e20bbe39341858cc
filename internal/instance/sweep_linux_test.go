package instance

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/nstest"
)

// apart calls do in a network namespace of its own, and gives that. Its thread ends with it.
func apart(t *testing.T, do func(ns Netns) error) (ns Netns) {
	t.Helper()
	netns := nstest.NewNetns(t)
	defer netns.End()
	netns.Do(func() (err error) {
		if ns, err = CurrentNetns(); err == nil {
			err = do(ns)
		}
		return err
	})
	return ns
}

// inside runs this test in a PID namespace of its own, where it sees all processes; it reports whether it is that run.
func inside(t *testing.T) bool {
	const marker = "PROXYARPD_TEST_INSIDE"
	if os.Getenv(marker) != "" {
		return true
	}
	cmd := exec.Command("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
		os.Args[0], "-test.v", "-test.timeout", "1m", "-test.run", "^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), marker+"=1")
	if os.Geteuid() != 0 {
		nstest.Skip(t, "not root")
	}
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Error(err)
	}
	return false
}

// TestSweep: files go with their namespace, and not as long as anybody has that in any way.
func TestSweep(t *testing.T) {
	if !inside(t) {
		return
	}
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(names ...string) {
		t.Helper()
		for _, name := range names {
			if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	var kept []string
	keep := func(ns Netns) {
		names := []string{ns.File("lock"), ns.File("json")}
		write(names...)
		kept = append(kept, names...)
	}
	keep(current(t))

	var opened *os.File
	keep(apart(t, func(Netns) (err error) { opened, err = os.Open("/proc/thread-self/ns/net"); return err }))
	defer opened.Close()

	mount := filepath.Join(t.TempDir(), "ns")
	if err := os.WriteFile(mount, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	keep(apart(t, func(Netns) error { return unix.Mount("/proc/thread-self/ns/net", mount, "", unix.MS_BIND, "") }))
	defer func() {
		if err := unix.Unmount(mount, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}()

	var held *exec.Cmd
	keep(apart(t, func(Netns) error {
		held = exec.Command("cat")
		if _, err := held.StdinPipe(); err != nil {
			return err
		}
		return held.Start()
	}))
	defer func() { _ = held.Process.Kill(); _ = held.Wait() }()

	// An inode number that has gone is free for the next, so that these may come to live again: they are made last.
	gone := func(exts ...string) (ns Netns) {
		thread := ""
		ns = apart(t, func(Netns) error { thread = fmt.Sprintf("/proc/self/task/%d", unix.Gettid()); return nil })
		for end := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) { // the namespace lives until the thread has ended
			if _, err := os.Stat(thread); err != nil {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("%s does not end", thread)
			}
		}
		for _, ext := range exts {
			write(ns.File(ext))
		}
		return ns
	}
	gone("lock", "json")
	gone("json")
	gone("lock", "json.new")
	locked := gone("lock", "json")
	kept = append(kept, locked.File("lock"), locked.File("json"))
	f, err := os.Open(filepath.Join(dir, locked.File("lock")))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"lab-x.json", "netns-7.json", "netns-.7.lock", "netns-7.x.lock", "netns-7.8"} {
		write(name)
		kept = append(kept, name)
	}

	removed, err := sweep(dir)
	if err != nil || removed != 5 {
		t.Errorf("%d files removed (%v), want 5", removed, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, e := range entries {
		left = append(left, e.Name())
	}
	slices.Sort(kept)
	if !slices.Equal(left, kept) {
		t.Errorf("left are %v, want %v", left, kept)
	}
}

// TestSweepBlind: who does not see all processes removes nothing.
func TestSweepBlind(t *testing.T) {
	dir := t.TempDir()
	gone := apart(t, func(Netns) error { return nil })
	path := filepath.Join(dir, gone.File("lock"))
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	removed, err := Sweep(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); (removed == 0) != (err == nil) || (removed == 1) != seesAllProcesses() {
		t.Errorf("%d removed, sees all: %v; %v", removed, seesAllProcesses(), err)
	}
}

func TestParseFile(t *testing.T) {
	for _, ns := range []Netns{{1, 2}, {1<<64 - 1, 4026531840}} {
		for _, ext := range []string{"lock", "json", "json.new"} {
			if got, ok := parseFile(ns.File(ext)); !ok || got != ns {
				t.Errorf("%s: %v, %v", ns.File(ext), got, ok)
			}
		}
	}
	for _, name := range []string{"", "netns-", "netns-1.json", "netns-1.2", "netns-1.-2.json", "netns-1.2x.lock", "xnetns-1.2.lock", fmt.Sprintf("netns-%s.1.lock", "18446744073709551616")} {
		if ns, ok := parseFile(name); ok {
			t.Errorf("%q is %v", name, ns)
		}
	}
}
