// Package instance sees to it that one daemon runs in a network namespace, and keeps the directory of its state.
//
// Two daemons in one namespace would both answer and both forward: every packet twice. Two locks stand against it,
// because each alone has a gap. A file lock in the state directory fails when two daemons see different /run
// directories (containers on the host's network do). An abstract unix socket belongs to the network namespace
// itself (unix(7)), but anybody may bind one, so an unprivileged user could keep the daemon out with it. Both end
// with the process, kill -9 or not.
package instance

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrRunning is what an [Acquire] error is (errors.Is) when another daemon serves the namespace.
var ErrRunning = errors.New("another proxyarpd serves this network namespace")

// A RunningError says who holds the lock.
type RunningError struct {
	PID int    // 0 if not known: in another PID namespace, say
	By  string // the lock that it holds
}

func (e *RunningError) Error() string {
	who := ""
	if e.PID > 0 {
		who = fmt.Sprintf(" as process %d", e.PID)
	}
	return fmt.Sprintf("%v%s (it holds %s): stop that one first", ErrRunning, who, e.By)
}

// Is makes errors.Is(err, ErrRunning) true.
func (e *RunningError) Is(target error) bool { return target == ErrRunning }

// A Lock is the right to serve one network namespace. It ends with Close or with the process.
type Lock struct {
	dir    *os.File
	file   *os.File
	name   string
	socket net.Listener // nil if somebody without privileges sits on the name
}

// Acquire takes the lock of the calling thread's network namespace, which [CurrentNetns] gives. The file is
// ns.File("lock") in dir and holds the process ID. If the daemon that has it was killed, Acquire waits for its end.
func Acquire(dir string, ns Netns, log *slog.Logger) (*Lock, error) {
	return awaitDying(log, func() (*Lock, error) { return acquire(dir, ns, log) })
}

func acquire(dir string, ns Netns, log *slog.Logger) (*Lock, error) {
	d, err := OpenDir(dir)
	if err != nil {
		return nil, err
	}
	l := &Lock{dir: d, name: ns.File("lock")}
	if err := l.lockFile(); err != nil {
		d.Close()
		return nil, err
	}
	if l.socket, err = bindSocket(log); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// Descriptors are those of the lock, for a process that takes over: of its file, and of
// its socket, -1 if there is none. They stay the Lock's.
func (l *Lock) Descriptors() (file, socket int) {
	return int(l.file.Fd()), socketFD(l.socket)
}

// Adopt makes a Lock of another process's, by its descriptors, which are the Lock's from
// then on. That one must Abandon its own. See [Lock.Name].
func Adopt(dir string, ns Netns, file, socket int) (*Lock, error) {
	d, err := OpenDir(dir)
	l := &Lock{dir: d, name: ns.File("lock"), file: os.NewFile(uintptr(file), ns.File("lock"))}
	if err == nil && socket >= 0 {
		l.socket, err = newSocket(socket)
	}
	if err == nil && !l.stillThere(l.file) {
		err = fmt.Errorf("instance: the lock of the running daemon is not %s/%s: name its --state-dir", dir, l.name)
	}
	if err != nil {
		return nil, errors.Join(err, l.Abandon())
	}
	return l, nil
}

// Name writes this process into the lock, in the place of the one that had it before.
func (l *Lock) Name() error {
	err := l.file.Truncate(0)
	if err == nil {
		_, err = l.file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if fd := socketFD(l.socket); err == nil && fd >= 0 {
		// Who connects is told who has called listen last (unix_listen, net/unix/af_unix.c).
		err = unix.Listen(fd, backlog)
	}
	if err != nil {
		return fmt.Errorf("instance: lock file: %w", err)
	}
	return nil
}

// Abandon lets go of a lock that another process has as well: what there is stays.
func (l *Lock) Abandon() error {
	var errs []error
	if l.socket != nil {
		errs = append(errs, l.socket.Close())
	}
	errs = append(errs, l.file.Close())
	if l.dir != nil {
		errs = append(errs, l.dir.Close())
	}
	return errors.Join(errs...)
}

// Close gives the lock back and removes the file.
func (l *Lock) Close() error {
	var errs []error
	if l.socket != nil {
		errs = append(errs, l.socket.Close())
	}
	// While it is still locked: whoever opened it meanwhile finds out in lockFile that it is gone. Another file that
	// has its name by now is not ours.
	if l.stillThere(l.file) {
		errs = append(errs, unix.Unlinkat(int(l.dir.Fd()), l.name, 0))
	}
	errs = append(errs, l.file.Close(), l.dir.Close())
	return errors.Join(errs...)
}

// lockTries bounds how often a lock is tried again that vanished while it was looked at.
const lockTries = 100

func (l *Lock) lockFile() error {
	for range lockTries {
		f, err := OpenFile(l.dir, l.name, unix.O_RDWR|unix.O_CREAT, 0o600)
		if err != nil {
			return fmt.Errorf("instance: lock file: %w", err)
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			pid := readPID(f)
			f.Close()
			return &RunningError{PID: pid, By: f.Name()}
		}
		if err != nil {
			f.Close()
			return fmt.Errorf("instance: lock file: %w", &os.PathError{Op: "flock", Path: f.Name(), Err: err})
		}
		if !l.stillThere(f) {
			f.Close() // its holder ended between our open and our lock
			continue
		}
		l.file = f
		if err := l.Name(); err != nil {
			f.Close()
			return err
		}
		return nil
	}
	return fmt.Errorf("instance: lock file %s/%s keeps vanishing", l.dir.Name(), l.name)
}

func (l *Lock) stillThere(f *os.File) bool {
	var a, b unix.Stat_t
	return unix.Fstat(int(f.Fd()), &a) == nil &&
		unix.Fstatat(int(l.dir.Fd()), l.name, &b, unix.AT_SYMLINK_NOFOLLOW) == nil &&
		a.Ino == b.Ino && a.Dev == b.Dev
}

func readPID(f *os.File) int {
	b, err := io.ReadAll(io.LimitReader(f, 32))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid < 1 {
		return 0
	}
	return pid
}
