package control

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// ownSocket is the socket that we have bound, by the descriptor of the directory
// in which it lies. Whoever owns a directory above may rename it, or put a
// symbolic link in its place: what we remove remains what we have made.
type ownSocket struct {
	dir  *os.File
	name string
	dev  uint64
	ino  uint64
}

// MaxPath is the longest that a socket's address holds (unix(7)).
const MaxPath = 107

// bindSocket binds under another name and renames, so that whoever sees the
// socket can connect. One that nobody listens on any more is replaced; with replace,
// any.
func bindSocket(path string, replace bool) (_ *ownSocket, _ net.Listener, err error) {
	path = filepath.Clean(path)
	s := &ownSocket{name: filepath.Base(path)}
	if s.dir, err = openDir(filepath.Dir(path)); err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			_ = s.dir.Close()
		}
	}()
	if err := s.mayReplace(path, replace); err != nil {
		return nil, nil, err
	}
	temp := ".proxyarpd-" + rand.Text()[:8]
	old := unix.Umask(0o177)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: s.at(temp), Net: "unix"})
	unix.Umask(old)
	if err != nil {
		return nil, nil, fmt.Errorf("bind: %w", cause(err))
	}
	l.SetUnlinkOnClose(false)
	st, err := s.stat(temp)
	if err == nil {
		s.dev, s.ino = uint64(st.Dev), st.Ino
		err = os.NewSyscallError("rename", unix.Renameat(s.fd(), temp, s.fd(), s.name))
	}
	if err != nil {
		return nil, nil, errors.Join(err, l.Close(), unix.Unlinkat(s.fd(), temp, 0))
	}
	return s, l, nil
}

// openDir opens a directory to have it, not to read it.
func openDir(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

func (s *ownSocket) fd() int { return int(s.dir.Fd()) }

// at is a path of a name in the directory, wherever that is now, and short
// enough for a socket's address.
func (s *ownSocket) at(name string) string { return fmt.Sprintf("/proc/self/fd/%d/%s", s.fd(), name) }

func (s *ownSocket) stat(name string) (st unix.Stat_t, err error) {
	err = unix.Fstatat(s.fd(), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return st, os.NewSyscallError("stat", err)
}

// mayReplace is an error if what has the name is no socket, or in use.
func (s *ownSocket) mayReplace(path string, used bool) error {
	switch st, err := s.stat(s.name); {
	case errors.Is(err, unix.ENOENT):
		return nil
	case err != nil:
		return err
	case st.Mode&unix.S_IFMT != unix.S_IFSOCK:
		return errors.New("is there and no socket")
	case used:
		return nil
	}
	if at := s.at(s.name); len(at) <= MaxPath {
		path = at
	}
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		_ = c.Close()
		return errors.New("another daemon listens there")
	}
	return nil
}

// remove removes the socket, unless something else has its name.
func (s *ownSocket) remove() {
	defer s.dir.Close()
	if s.there() {
		_ = unix.Unlinkat(s.fd(), s.name, 0)
	}
}

// there reports whether it has its name still.
func (s *ownSocket) there() bool {
	st, err := s.stat(s.name)
	return err == nil && uint64(st.Dev) == s.dev && st.Ino == s.ino
}

// cause is what the kernel says, without the path by which we have asked it.
func cause(err error) error {
	if errno := unix.Errno(0); errors.As(err, &errno) {
		return errno
	}
	return err
}
