package macs

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/shortage"
)

// sysfs finds interfaces in the sysfs of a network namespace. That at /sys need not be the namespace's: what enters
// one without mounting it anew has the old one. Then one is made that is mounted nowhere, which takes CAP_SYS_ADMIN.
type sysfs struct {
	mount  int // the root of that one, if made
	made   bool
	failed bool // it can't be made
}

func (s *sysfs) close() error {
	if !s.made {
		return nil
	}
	s.made = false
	return unix.Close(s.mount)
}

// inode is that of the interface's directory, 0 if it is not found. The error passes.
func (s *sysfs) inode(name string, ifindex int, mac MAC) (uint64, error) {
	if !s.made {
		ino, err := inodeBelow(unix.AT_FDCWD, "/sys/class/net/"+name, ifindex, mac)
		if ino != 0 || err != nil || s.failed {
			return ino, err
		}
		if err := s.make(); shortage.Passing(err) {
			return 0, fmt.Errorf("sysfs: %w", err)
		} else if err != nil {
			s.failed = true
			return 0, nil
		}
	}
	return inodeBelow(s.mount, "class/net/"+name, ifindex, mac)
}

// make mounts a sysfs of the thread's network namespace, for a descriptor alone.
func (s *sysfs) make() error {
	fs, err := unix.Fsopen("sysfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(fs)
	if err := unix.FsconfigCreate(fs); err != nil {
		return err
	}
	s.mount, err = unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	s.made = err == nil
	return err
}

// inodeBelow makes sure that the directory is of the interface that is meant, and not of one of that name in another
// namespace, or that has the name since a moment ago.
func inodeBelow(at int, path string, ifindex int, mac MAC) (uint64, error) {
	dir, err := unix.Openat(at, path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, passing(err)
	}
	defer unix.Close(dir)
	for _, c := range []struct{ file, want string }{{"ifindex", strconv.Itoa(ifindex)}, {"address", text(mac)}} {
		got, err := readAt(dir, c.file)
		if err != nil || got != c.want {
			return 0, passing(err)
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(dir, &st); err != nil {
		return 0, passing(err)
	}
	return st.Ino, nil
}

func readAt(dir int, file string) (string, error) {
	fd, err := unix.Openat(dir, file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	var b [64]byte
	n, err := unix.Read(fd, b[:])
	return strings.TrimSpace(string(b[:max(n, 0)])), err
}

// passing keeps an error only if it does pass: all others mean that nothing is known.
func passing(err error) error {
	if shortage.Passing(err) {
		return fmt.Errorf("sysfs: %w", err)
	}
	return nil
}
