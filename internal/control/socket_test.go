package control

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

func bound(t *testing.T, path string) (*ownSocket, net.Listener) {
	t.Helper()
	s, l, err := bindSocket(path, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return s, l
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// shortDir is a directory of the test's: its own is too long for a socket.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "parp")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	dir, err = filepath.EvalSymlinks(dir)
	must(t, err)
	return dir
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// What is removed is the socket that was made, wherever it is now, and nothing
// else that has its name, or its path.
func TestOwnSocket(t *testing.T) {
	for name, c := range map[string]struct {
		meanwhile func(t *testing.T, dir string)
		stays     string // below dir
	}{
		"nothing": {func(*testing.T, string) {}, ""},
		"the directory is renamed, and another one has its name": {func(t *testing.T, dir string) {
			must(t, os.Rename(dir+"/a/b", dir+"/a/c"), os.Mkdir(dir+"/a/b", 0o700), os.WriteFile(dir+"/a/b/s", nil, 0o600))
		}, "a/b/s"},
		"a symbolic link in the place of the directory": {func(t *testing.T, dir string) {
			must(t, os.Mkdir(dir+"/victim", 0o700), os.WriteFile(dir+"/victim/s", nil, 0o600),
				os.Rename(dir+"/a/b", dir+"/a/c"), os.Symlink(dir+"/victim", dir+"/a/b"))
		}, "victim/s"},
		"a symbolic link in the place of the one above": {func(t *testing.T, dir string) {
			must(t, os.MkdirAll(dir+"/victim/b", 0o700), os.WriteFile(dir+"/victim/b/s", nil, 0o600),
				os.Rename(dir+"/a", dir+"/c"), os.Symlink("victim", dir+"/a"))
		}, "victim/b/s"},
		"a file has its name": {func(t *testing.T, dir string) {
			must(t, os.Remove(dir+"/a/b/s"), os.WriteFile(dir+"/a/b/s", nil, 0o600))
		}, "a/b/s"},
		"another's socket has its name": {func(t *testing.T, dir string) {
			must(t, os.Remove(dir+"/a/b/s"))
			bound(t, dir+"/a/b/s")
		}, "a/b/s"},
		"it is gone":            {func(t *testing.T, dir string) { must(t, os.Remove(dir+"/a/b/s")) }, ""},
		"its directory is gone": {func(t *testing.T, dir string) { must(t, os.RemoveAll(dir+"/a/b")) }, ""},
		"a link to it has its name": {func(t *testing.T, dir string) {
			must(t, os.Rename(dir+"/a/b/s", dir+"/a/b/t"), os.Symlink("t", dir+"/a/b/s"))
		}, "a/b/s"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := shortDir(t)
			must(t, os.MkdirAll(dir+"/a/b", 0o700))
			s, l := bound(t, dir+"/a/b/s")
			if st, err := os.Lstat(dir + "/a/b/s"); err != nil || st.Mode() != os.ModeSocket|0o600 {
				t.Fatal(st, err)
			}
			c.meanwhile(t, dir)
			must(t, l.Close())
			s.remove()
			for _, path := range []string{"a/b/s", "a/c/s", "c/b/s", "victim/s", "victim/b/s"} {
				if real, err := filepath.EvalSymlinks(dir + "/" + filepath.Dir(path)); err == nil && real != dir+"/"+filepath.Dir(path) {
					continue // named by where it leads to
				}
				if exists(dir+"/"+path) != (path == c.stays) {
					t.Errorf("%s is there: %v", path, exists(dir+"/"+path))
				}
			}
			if left, _ := filepath.Glob(dir + "/*/*/.*"); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// A socket is bound by the name of a directory that is too long for its address,
// replaced if nobody listens, and left to who does.
func TestBindSocket(t *testing.T) {
	dir := shortDir(t)
	long := strings.Repeat("x", MaxPath-len(dir)-1)
	_, l := bound(t, dir+"/"+long)
	if _, _, err := bindSocket(dir+"/"+long, false); err == nil || !strings.Contains(err.Error(), "another daemon") {
		t.Errorf("in use: %v", err)
	}
	must(t, l.Close())
	bound(t, dir+"/"+long+"/")
	if _, err := net.Dial("unix", dir+"/"+long); err != nil {
		t.Error(err)
	}
	for _, path := range []string{dir, dir + "/", dir + "/.", dir + "/..", "/", "."} {
		if _, _, err := bindSocket(path, false); err == nil || !strings.Contains(err.Error(), "no socket") {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, _, err := bindSocket(dir+"/none/s", false); !errors.Is(err, unix.ENOENT) || !strings.Contains(err.Error(), "none") {
		t.Errorf("no directory: %v", err)
	}
}

// lockedLog is written by one goroutine and read by another.
type lockedLog struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// hostile is a listener whose Accept fails as often as there are errors.
type hostile struct {
	net.Listener
	errs chan error
	once sync.Once
}

func (h *hostile) Accept() (net.Conn, error) {
	if err, ok := <-h.errs; ok {
		return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", err)}
	}
	return nil, net.ErrClosed
}

func (h *hostile) Close() error {
	h.once.Do(func() { close(h.errs) })
	return nil
}

// No error of accept ends the daemon, nor keeps it busy.
func TestAcceptErrors(t *testing.T) {
	all := []error{unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.ENOBUFS, unix.ECONNABORTED, unix.EINTR, unix.EPERM, unix.EPROTO, io.ErrUnexpectedEOF}
	synctest.Test(t, func(t *testing.T) {
		var log lockedLog
		h := &hostile{errs: make(chan error, len(all))}
		for _, err := range all {
			h.errs <- err
		}
		own := &ownSocket{dir: os.NewFile(^uintptr(0), "none")}
		c := newServer(Config{Log: slog.New(slog.NewTextHandler(&log, nil))}, h, own)
		began := time.Now()
		go func() {
			time.Sleep(time.Minute)
			h.Close()
		}()
		if err := c.Serve(t.Context()); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took != time.Minute {
			t.Errorf("ended after %v", took)
		}
		if len(h.errs) > 0 {
			t.Errorf("%d errors were not met", len(h.errs))
		}
		if n := strings.Count(log.String(), "\n"); n == 0 || n > 2 {
			t.Errorf("%d lines:\n%s", n, log.String())
		}
	})
}

// However often something happens, it is logged in a line a burst.
func TestBurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log lockedLog
		lines := func() int { synctest.Wait(); return strings.Count(log.String(), "\n") }
		b := newBurst(slog.New(slog.NewTextHandler(&log, nil)), "clients refused")
		for range 3000 {
			b.add("uid 7")
		}
		if lines() != 0 {
			t.Errorf("at once: %s", log.String())
		}
		time.Sleep(burstQuiet)
		if lines() != 1 || !strings.Contains(log.String(), "count=3000") || !strings.Contains(log.String(), "uid 7") {
			t.Errorf("afterwards: %s", log.String())
		}
		for range 10 * 60 { // without an end
			b.add("")
			time.Sleep(burstQuiet / 10)
		}
		if n := lines(); n < 4 || n > 8 {
			t.Errorf("%d lines in a minute:\n%s", n, log.String())
		}
		b.add("")
		b.end()
		b.end()
		if got := b.count(); got != 3601 || !strings.Contains(log.String(), "count=") {
			t.Errorf("%d", got)
		}
		had := lines()
		time.Sleep(time.Hour)
		if lines() != had {
			t.Errorf("said again: %s", log.String())
		}
	})
}

// Only where what an idle client holds may be what is short, it makes room for who
// waits.
func TestAcceptShort(t *testing.T) {
	for err, want := range map[error]uint64{unix.EMFILE: 1, unix.ENFILE: 1, unix.EPERM: 0, unix.ECONNABORTED: 0} {
		h := &hostile{errs: make(chan error, 1)}
		s := newServer(Config{Log: slog.New(slog.DiscardHandler)}, h, &ownSocket{dir: os.NewFile(^uintptr(0), "none")})
		ours, _ := pair(t)
		s.setIdle(ours)
		s.idle[0].since = time.Now().Add(-time.Minute)
		h.errs <- err
		must(t, h.Close(), s.Serve(t.Context()))
		if got := s.Counters(); got.Evicted != want {
			t.Errorf("%v: %d were hung up on", err, got.Evicted)
		}
	}
}
