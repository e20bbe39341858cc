package instance

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// DefaultDir is where the lock and the record of changed MACs lie: gone after a reboot, as the namespaces are.
const DefaultDir = "/run/proxyarpd"

// OpenDir opens the state directory and makes it, with mode 0700, if it is not there. One that somebody else could
// have filled, because it is a symbolic link, belongs to another user or may be written by others, is refused:
// what is read from it decides what the daemon changes with its privileges.
func OpenDir(path string) (*os.File, error) {
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("instance: cannot make the state directory: %w: --state-dir names another one", err)
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR) {
		return nil, fmt.Errorf("instance: state directory %s is no directory, or a symbolic link: remove it", path)
	}
	if err != nil {
		return nil, fmt.Errorf("instance: state directory: %w", &os.PathError{Op: "open", Path: path, Err: err})
	}
	d := os.NewFile(uintptr(fd), path)
	if err := checkOwner(fd, path); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// OpenFile opens a regular file of a directory that OpenDir gave, through no symbolic link, and checks its owner
// and mode as OpenDir does.
func OpenFile(dir *os.File, name string, flags int, mode uint32) (*os.File, error) {
	path := dir.Name() + "/" + name
	// O_NONBLOCK: a FIFO in the file's place must not stop the daemon. A regular file ignores it.
	fd, err := unix.Openat(int(dir.Fd()), name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, mode)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		f.Close()
		return nil, fmt.Errorf("instance: %s is no regular file: remove it", path)
	}
	if err := checkOwner(fd, path); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func checkOwner(fd int, path string) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return &os.PathError{Op: "fstat", Path: path, Err: err}
	}
	if st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("instance: %s belongs to user %d: it must be root's (chown root, or remove it)", path, st.Uid)
	}
	if st.Mode&0o022 != 0 {
		return fmt.Errorf("instance: %s may be written by others (mode %o): chmod go-w, or remove it", path, st.Mode&0o7777)
	}
	return nil
}
