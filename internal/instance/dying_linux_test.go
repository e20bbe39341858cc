package instance

import (
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestAwaitsDying: who has been killed, and still holds the lock for a moment, is waited for.
func TestAwaitsDying(t *testing.T) {
	ns, dir := namespace(t), t.TempDir()
	killed := exec.Command("/proc/self/exe")
	killed.Env = append(os.Environ(), childEnv+"=squat") // its standard input ends at once
	if err := killed.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = killed.Wait() })
	for deadline := time.Now().Add(10 * time.Second); !isDying(killed.Process.Pid); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a process that has ended is not seen to have")
		}
	}
	if isDying(os.Getpid()) || isDying(0) {
		t.Error("who lives is dying")
	}
	held, err := os.Create(filepath.Join(dir, ns.File("lock"))) // as if some of its threads had not ended
	if err == nil {
		_, err = held.WriteString(strconv.Itoa(killed.Process.Pid))
	}
	if err == nil {
		err = unix.Flock(int(held.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(50*time.Millisecond, func() { held.Close() })
	l, err := Acquire(dir, ns, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}
