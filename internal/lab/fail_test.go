package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"proxyarpd/internal/nstest"
)

// childEnv makes this test program a process that is ended in the middle of New.
const childEnv = "LAB_TEST_CHILD"

func TestMain(m *testing.M) {
	if name := os.Getenv(childEnv); name != "" {
		child(name)
	}
	os.Exit(m.Run())
}

// child makes a lab, as `lab up` does, and stops in the middle of the pods.
func child(name string) {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	var pods atomic.Int32
	_, err := New(ctx, Spec{Name: name, Form: FormCalico, PodsPerHost: 3, fail: func(step string) error {
		if step == "pod" && pods.Add(1) == 5 {
			fmt.Println("half made")
			<-ctx.Done()
		}
		return nil
	}})
	fmt.Println("end:", err)
	os.Exit(3)
}

func needLab(t *testing.T) {
	t.Helper()
	if missing := MissingCaps(); len(missing) > 0 {
		nstest.Skip(t, "the lab needs %v", missing)
	}
}

// mustBeGone fails the test if anything is left of the lab, and removes it.
func mustBeGone(t *testing.T, name string) {
	t.Helper()
	nodes, err := namespaces(name)
	if err != nil || len(nodes) > 0 {
		t.Errorf("left behind: %v, %v", nodes, err)
	}
	for _, suffix := range []string{".json", ".json.new", ".lock"} {
		if _, err := os.Stat(statePath(name, suffix)); err == nil {
			t.Errorf("left behind: %s", statePath(name, suffix))
		}
	}
	if _, err := Remove(name); err != nil {
		t.Error(err)
	}
}

// testName is a lab's name of this test process; not one that Sweep removes.
func testName(t *testing.T) string {
	return fmt.Sprintf("labtest-%d-%s", os.Getpid(), strings.ToLower(t.Name()))
}

func TestFailureLeavesNothing(t *testing.T) {
	needLab(t)
	wish := errors.New("as wished")
	for _, step := range []string{"host", "uplink", "pod", "done"} {
		t.Run(step, func(t *testing.T) {
			name := fmt.Sprintf("labtest-%d-fail", os.Getpid())
			for nth := range int32(3) {
				var calls atomic.Int32
				_, err := New(t.Context(), Spec{Name: name, PodsPerHost: 2, fail: func(s string) error {
					if s == step && calls.Add(1) == nth+1 {
						return wish
					}
					return nil
				}})
				if calls.Load() <= nth { // the step has not so many
					if err != nil {
						t.Fatal(err)
					}
					Remove(name)
					break
				}
				if !errors.Is(err, wish) {
					t.Errorf("New: %v", err)
				}
				mustBeGone(t, name)
			}
		})
	}
}

func TestEndOfContextLeavesNothing(t *testing.T) {
	needLab(t)
	name := testName(t)
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	_, err := New(ctx, Spec{Name: name, fail: func(s string) error {
		if s == "pod" {
			cancel(why)
		}
		return nil
	}})
	if !errors.Is(err, why) {
		t.Errorf("New: %v", err)
	}
	mustBeGone(t, name)
}

// startChild returns once the child has half of a lab.
func startChild(t *testing.T, name string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childEnv+"="+name)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "half made\n" {
		t.Fatalf("child: %q, %v", line, err)
	}
	if nodes, _ := namespaces(name); len(nodes) < 4 {
		t.Fatalf("the child has only %v", nodes)
	}
	return cmd
}

func TestSignalLeavesNothing(t *testing.T) {
	needLab(t)
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		name := testName(t)
		cmd := startChild(t, name)
		cmd.Process.Signal(sig)
		cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != 3 {
			t.Errorf("%v: the child did not come to its end: %v", sig, cmd.ProcessState)
		}
		mustBeGone(t, name)
	}
}

func TestHalfMadeIsRemovedByTheNext(t *testing.T) {
	needLab(t)
	name := testName(t)
	cmd := startChild(t, name)
	if _, err := New(t.Context(), Spec{Name: name}); !errors.Is(err, ErrBusy) {
		t.Errorf("New while another process makes it: %v", err)
	}
	cmd.Process.Kill()
	cmd.Wait()
	if _, err := Open(name); err == nil {
		t.Error("a half-made lab can be opened")
	}
	l, err := New(t.Context(), Spec{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(l.Nodes()); n != 4 {
		t.Errorf("%d nodes after a calico lab was killed and the article's made", n)
	}
	nodes, err := namespaces(name)
	if err != nil || len(nodes) != 4 {
		t.Errorf("namespaces %v, %v", nodes, err)
	}
	if _, err := New(t.Context(), Spec{Name: name}); !errors.Is(err, ErrExists) {
		t.Errorf("New again: %v", err)
	}
	other, err := Open(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Close(); err != nil {
		t.Error(err)
	}
	mustBeGone(t, name)
	for range 2 {
		if err := l.Close(); err != nil {
			t.Errorf("Close of a lab that is gone: %v", err)
		}
	}
	cmd = startChild(t, name)
	cmd.Process.Kill()
	cmd.Wait()
	if found, err := Remove(name); !found || err != nil {
		t.Errorf("Remove of a half-made lab: %t, %v", found, err)
	}
	if found, err := Remove(name); found || err != nil {
		t.Errorf("Remove again: %t, %v", found, err)
	}
	mustBeGone(t, name)
}

func TestSweepRemovesOrphansOnly(t *testing.T) {
	needLab(t)
	mine, err := New(t.Context(), Spec{})
	if err != nil {
		t.Fatal(err)
	}
	defer mine.Close()
	name := fmt.Sprintf("%stest%d", randomPrefix, os.Getpid())
	cmd := startChild(t, name)
	cmd.Process.Kill()
	cmd.Wait()
	if err := Sweep(); err != nil {
		t.Error(err)
	}
	mustBeGone(t, name)
	if err := mine.Do("ns1", func() error { return nil }); err != nil {
		t.Errorf("the living lab after the sweep: %v", err)
	}
}

func TestRecordsOfDeadDaemonsAreRemoved(t *testing.T) {
	needLab(t)
	l, err := New(t.Context(), Spec{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	touch := func(node int, what string) *os.File {
		cookie, err := netnsCookie(l.Nodes()[node].Netns)
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.Create(fmt.Sprintf("%s/netns-%d%s", stateDir, cookie, what))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			f.Close()
			os.Remove(f.Name())
		})
		return f
	}
	const dead, living = 0, 1
	gone := []*os.File{touch(dead, ".7.lock"), touch(dead, ".7.json")}
	kept := []*os.File{touch(dead, "0.7.json"), touch(living, ".8.lock"), touch(living, ".8.json")}
	if err := syscall.Flock(int(kept[1].Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	for _, f := range gone {
		if _, err := os.Stat(f.Name()); err == nil {
			t.Errorf("%s of a dead daemon is left", f.Name())
		}
	}
	for _, f := range kept {
		if _, err := os.Stat(f.Name()); err != nil {
			t.Errorf("a record of another, or of a living daemon: %v", err)
		}
	}
}
