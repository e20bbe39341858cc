package client

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"proxyarpd/internal/nstest"
)

// TestWaitForRename: a daemon binds its socket under another name, and renames it.
func TestWaitForRename(t *testing.T) {
	dir := shortDir(t)
	must(t, os.Mkdir(dir+"/here", 0o700))
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: dir + "/s", Net: "unix"})
	must(t, err)
	defer l.Close()
	l.SetUnlinkOnClose(false)
	connected := make(chan error, 1)
	go func() {
		c, err := Dial(t.Context(), dir+"/here/s", time.Now().Add(time.Minute))
		if err == nil {
			c.Close()
		}
		connected <- err
	}()
	time.Sleep(50 * time.Millisecond) // so that it waits by now, mostly
	must(t, os.Rename(dir+"/s", dir+"/here/s"))
	select {
	case err := <-connected:
		must(t, err)
	case <-time.After(30 * time.Second):
		t.Error("the socket is there, and it still waits")
	}
}

// ofAnother has the test's binary be a client of another user's.
const ofAnother = "CLIENT_TEST_SOCKET"

// TestNotAllowed: who may not connect is told so at once.
func TestNotAllowed(t *testing.T) {
	if path := os.Getenv(ofAnother); path != "" {
		_, err := Dial(t.Context(), path, time.Now().Add(time.Minute))
		if !errors.Is(err, syscall.EACCES) || !strings.Contains(err.Error(), "the control socket is root's") {
			t.Error(err)
		}
		return
	}
	if os.Geteuid() != 0 {
		nstest.Skip(t, "needs root, for a process of another user")
	}
	dir := shortDir(t)
	must(t, os.Chmod(dir, 0o755))
	bound(t, dir+"/s")
	must(t, os.Chmod(dir+"/s", 0o600))
	other := exec.Command("/proc/self/exe", "-test.run=^TestNotAllowed$", "-test.v", "-test.timeout=30s")
	other.Env, other.Dir = []string{ofAnother + "=" + dir + "/s"}, "/"
	other.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := other.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestNotAllowed") {
		t.Errorf("%v: %s", err, out)
	}
}
