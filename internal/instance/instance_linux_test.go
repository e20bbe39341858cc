package instance

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/nstest"
)

// childEnv makes the test binary be another process: "acquire DIR" or "squat".
const childEnv = "INSTANCE_TEST_CHILD"

func TestMain(m *testing.M) {
	if what := os.Getenv(childEnv); what != "" {
		child(what)
		return
	}
	os.Exit(m.Run())
}

// child says what came of it in one line and keeps what it has until its standard input ends.
func child(what string) {
	runtime.LockOSThread()
	verb, dir, _ := strings.Cut(what, " ")
	var err error
	switch verb {
	case "acquire":
		var ns Netns
		if ns, err = CurrentNetns(); err == nil {
			_, err = Acquire(dir, ns, slog.New(slog.DiscardHandler))
		}
	case "squat": // an ordinary listener
		_, err = listen()
	case "sit": // bound, never listening
		var fd int
		if fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0); err == nil {
			err = unix.Bind(fd, &unix.SockaddrUnix{Name: socketName})
		}
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("held")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// namespace moves the calling test into a new network namespace. The test's goroutine stays locked to its thread,
// so the thread ends with the test, and the namespace with the thread and the children.
func namespace(t testing.TB) Netns {
	t.Helper()
	nstest.Enter(t)
	return current(t)
}

func current(t testing.TB) Netns {
	t.Helper()
	ns, err := CurrentNetns()
	if err != nil {
		t.Fatal(err)
	}
	return ns
}

// start runs a child in the test's namespace, or in its own, and returns it with its first line.
func start(t *testing.T, what string, attr *syscall.SysProcAttr) (*exec.Cmd, string) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childEnv+"="+what)
	cmd.SysProcAttr = attr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return cmd, strings.TrimSpace(line)
}

func kill(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
}

func running(t *testing.T, err error, pid int) {
	t.Helper()
	var r *RunningError
	if !errors.Is(err, ErrRunning) || !errors.As(err, &r) || r.PID != pid || !strings.Contains(err.Error(), strconv.Itoa(pid)) {
		t.Errorf("got %v, want ErrRunning by process %d", err, pid)
	}
}

func TestOneANamespace(t *testing.T) {
	c := namespace(t)
	dir := t.TempDir() + "/state"
	log := slog.New(slog.DiscardHandler)

	l, err := Acquire(dir, c, log)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Acquire(dir, c, log)
	running(t, err, os.Getpid())
	if !strings.Contains(fmt.Sprint(err), "lock") {
		t.Errorf("the error does not name the lock: %v", err)
	}
	_, err = Acquire(dir+"2", c, log) // another /run: the socket tells
	running(t, err, os.Getpid())
	if _, line := start(t, "acquire "+dir, nil); !strings.Contains(line, ErrRunning.Error()) {
		t.Errorf("another process got: %s", line)
	}
	if _, line := start(t, "acquire "+dir+"3", nil); !strings.Contains(line, strconv.Itoa(os.Getpid())) {
		t.Errorf("another process with another directory got: %s", line)
	}
	// The other namespace of the same host has its own.
	other := &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNET}
	if _, line := start(t, "acquire "+dir, other); line != "held" {
		t.Errorf("a process in another namespace got: %s", line)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, c.File("lock"))); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the lock file is left behind: %v", err)
	}
	l, err = Acquire(dir, c, log)
	if err != nil {
		t.Fatalf("after Close: %v", err)
	}
	l.Close()
}

func TestKillFrees(t *testing.T) {
	c := namespace(t)
	dir := t.TempDir() + "/state"
	log := slog.New(slog.DiscardHandler)
	cmd, line := start(t, "acquire "+dir, nil)
	if line != "held" {
		t.Fatal(line)
	}
	_, err := Acquire(dir, c, log)
	running(t, err, cmd.Process.Pid)
	_, err = Acquire(dir+"2", c, log)
	running(t, err, cmd.Process.Pid)
	kill(t, cmd)
	for _, d := range []string{dir, dir + "2"} {
		l, err := Acquire(d, c, log)
		if err != nil {
			t.Fatalf("after kill -9: %v", err)
		}
		l.Close()
	}
}

// Somebody without privileges holds the name: warned of, and not obeyed.
func TestSquatter(t *testing.T) {
	for _, verb := range []string{"squat", "sit"} {
		t.Run(verb, func(t *testing.T) {
			c := namespace(t)
			nobody := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
			if os.Geteuid() != 0 {
				nstest.Skip(t, "not root: CAP_SETUID is missing")
			}
			if _, line := start(t, verb, nobody); line != "held" {
				t.Fatal(line)
			}
			var said bytes.Buffer
			dir := t.TempDir() + "/state"
			l, err := Acquire(dir, c, slog.New(slog.NewTextHandler(&said, nil)))
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			if !strings.Contains(said.String(), "level=WARN") {
				t.Errorf("no warning: %q", said.String())
			}
			_, err = Acquire(dir, c, slog.New(slog.DiscardHandler))
			running(t, err, os.Getpid())
		})
	}
}

// A crowd that connects does not fill the holder's queue.
func TestCrowd(t *testing.T) {
	c := namespace(t)
	dir := t.TempDir() + "/state"
	l, err := Acquire(dir, c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for range 1000 {
		_, err := Acquire(dir+"2", c, slog.New(slog.DiscardHandler))
		running(t, err, os.Getpid())
	}
}

func TestDirectoryIsChecked(t *testing.T) {
	tmp := t.TempDir()
	if err := os.Mkdir(tmp+"/open", 0o700); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		os.Chmod(tmp+"/open", 0o777),
		os.Symlink("/run", tmp+"/link"),
		os.WriteFile(tmp+"/file", nil, 0o600),
		os.Mkdir(tmp+"/good", 0o700),
		os.Symlink("/etc/passwd", tmp+"/good/link"),
		unix.Mkfifo(tmp+"/good/fifo", 0o600),
		os.WriteFile(tmp+"/good/open", nil, 0o600),
		os.Chmod(tmp+"/good/open", 0o666),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"open", "link", "file", "none/none"} {
		d, err := OpenDir(tmp + "/" + name)
		if err == nil {
			d.Close()
			t.Errorf("directory %s is taken", name)
		} else if !strings.Contains(err.Error(), name) {
			t.Errorf("the error does not name %s: %v", name, err)
		}
	}
	d, err := OpenDir(tmp + "/good")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, name := range []string{"link", "fifo", "open"} {
		if f, err := OpenFile(d, name, unix.O_RDONLY, 0); err == nil {
			f.Close()
			t.Errorf("file %s is taken", name)
		}
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(tmp+"/good", 65534, 65534); err != nil {
			t.Fatal(err)
		}
		if d, err := OpenDir(tmp + "/good"); err == nil {
			d.Close()
			t.Error("a directory of nobody's is taken")
		}
	}
}

func TestNetnsDiffer(t *testing.T) {
	runtime.LockOSThread()
	a, again := current(t), current(t)
	if a.Cookie == 0 || a.Inode == 0 || a != again {
		t.Errorf("one namespace is %v and %v", a, again)
	}
	if b := namespace(t); b.Cookie == a.Cookie || b.Inode == a.Inode {
		t.Errorf("two namespaces are %v and %v", a, b)
	}
}

// TestLockedFileIsTheOne: who locks a file that its holder has just removed has
// locked nothing, and tries again.
func TestLockedFileIsTheOne(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	var holders, held atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			d, err := OpenDir(dir)
			if err != nil {
				t.Error(err)
				return
			}
			defer d.Close()
			for range 2000 {
				l := &Lock{dir: d, name: "lock"}
				if err := l.lockFile(); errors.Is(err, ErrRunning) {
					continue
				} else if err != nil {
					t.Error(err)
					return
				}
				held.Add(1)
				if holders.Add(1) != 1 {
					t.Error("two hold the lock")
				}
				runtime.Gosched()
				holders.Add(-1)
				if !l.stillThere(l.file) {
					t.Error("a file is locked that is gone")
				}
				_ = unix.Unlinkat(int(d.Fd()), l.name, 0)
				l.file.Close()
			}
		})
	}
	wg.Wait()
	t.Log(held.Load(), "times held")
}

// TestWritableByOthers: a group, or all, may not write; who reads does no harm.
func TestWritableByOthers(t *testing.T) {
	dir := t.TempDir() + "/state"
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for mode, want := range map[os.FileMode]bool{0o700: true, 0o755: true, 0o702: false, 0o720: false, 0o500: true} {
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		d, err := OpenDir(dir)
		if (err == nil) != want {
			t.Errorf("%o: %v", mode, err)
		}
		if err == nil {
			d.Close()
		}
	}
}

func TestReadPID(t *testing.T) {
	for text, want := range map[string]int{"17\n": 17, " 17 ": 17, "": 0, "0": 0, "-3\n": 0, "x": 0, "17 18": 0,
		strings.Repeat("1", 33): 0} {
		f, err := os.Create(t.TempDir() + "/lock")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		if got := readPID(f); got != want {
			t.Errorf("%q: %d", text, got)
		}
		f.Close()
	}
	if unknown := (&RunningError{By: "x"}).Error(); strings.Contains(unknown, "process") || !strings.Contains(unknown, "(it holds x)") {
		t.Error(unknown)
	}
}
