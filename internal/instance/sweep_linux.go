package instance

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Sweep removes from the state directory what daemons have left that were killed and whose network namespace is gone
// with all its interfaces, so that nobody can put anything back any more. It returns how many files that were.
//
// A namespace lives while a process or a thread is in it, or while somebody has it open or mounted. Whoever does not
// see all processes can't tell, and removes nothing.
func Sweep(dir string) (removed int, err error) {
	if !seesAllProcesses() {
		return 0, nil
	}
	if removed, err = sweep(dir); err != nil {
		err = fmt.Errorf("instance: files of namespaces that are gone: %w", err)
	}
	return removed, err
}

// sweep is Sweep for who sees the processes of all namespaces that matter.
func sweep(dir string) (removed int, err error) {
	d, err := OpenDir(dir)
	if err != nil {
		return 0, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return 0, err
	}
	dead := map[Netns][]string{} // for all we know
	for _, name := range names {
		if ns, ok := parseFile(name); ok {
			dead[ns] = append(dead[ns], name)
		}
	}
	own, err := CurrentNetns()
	if err != nil {
		return 0, err
	}
	delete(dead, own)
	for ns := range dead {
		if inhabited(d, ns) {
			delete(dead, ns)
		}
	}
	if len(dead) == 0 {
		return 0, nil // as nearly always: to look at all processes takes long
	}
	living, err := livingNetns()
	if err != nil {
		return 0, err
	}
	for ns, files := range dead {
		if living[ns.Inode] {
			continue
		}
		n, err := sweepOne(d, ns, files)
		if removed += n; err != nil {
			return removed, err
		}
	}
	return removed, nil
}

// parseFile is the opposite of Netns.File.
func parseFile(name string) (ns Netns, ok bool) {
	rest, ok := strings.CutPrefix(name, "netns-")
	if !ok {
		return ns, false
	}
	cookie, rest, _ := strings.Cut(rest, ".")
	inode, _, ok := strings.Cut(rest, ".")
	if !ok {
		return ns, false
	}
	var errCookie, errInode error
	ns.Cookie, errCookie = strconv.ParseUint(cookie, 10, 64)
	ns.Inode, errInode = strconv.ParseUint(inode, 10, 64)
	return ns, errCookie == nil && errInode == nil
}

// inhabited reports whether the process that has last written its number into the lock of a namespace is in it. The lock
// itself is not asked: who does that keeps out a daemon that starts meanwhile.
func inhabited(d *os.File, ns Netns) bool {
	f, err := OpenFile(d, ns.File("lock"), unix.O_RDONLY, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	living := map[uint64]bool{}
	_, err = addLink(living, fmt.Sprintf("/proc/%d/ns/net", readPID(f)))
	return err == nil && living[ns.Inode]
}

// sweepOne removes the files of one namespace, unless somebody holds the lock.
func sweepOne(d *os.File, ns Netns, files []string) (removed int, err error) {
	f, err := OpenFile(d, ns.File("lock"), unix.O_RDWR, 0)
	switch {
	case err == nil:
		defer f.Close()
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
			return 0, nil
		}
	case !errors.Is(err, fs.ErrNotExist):
		return 0, err
	}
	for _, name := range files {
		if err := unix.Unlinkat(int(d.Fd()), name, 0); err == nil {
			removed++
		} else if !errors.Is(err, unix.ENOENT) {
			return removed, &os.PathError{Op: "unlink", Path: d.Name() + "/" + name, Err: err}
		}
	}
	return removed, nil
}

// seesAllProcesses reports whether /proc shows every process of the machine: it is that of the first PID namespace,
// whose inode is PROC_PID_INIT_INO (include/linux/proc_ns.h), and process 1 lets us look.
func seesAllProcesses() bool {
	const first = "pid:[4026531836]"
	own, err := os.Readlink("/proc/self/ns/pid")
	if err != nil || own != first {
		return false
	}
	init, err := os.Readlink("/proc/1/ns/pid")
	return err == nil && init == first
}

// livingNetns gives the inodes of all network namespaces.
func livingNetns() (map[uint64]bool, error) {
	living := map[uint64]bool{}
	looked := map[string]bool{} // mount namespaces
	processes, err := numbers("/proc")
	for _, pid := range processes {
		at := "/proc/" + pid
		var tasks, fds []string
		if tasks, err = numbers(at + "/task"); err != nil {
			return nil, err
		}
		for _, task := range tasks {
			if _, err := addLink(living, at+"/task/"+task+"/ns/net"); err != nil {
				return nil, err
			}
		}
		if fds, err = numbers(at + "/fd"); err != nil {
			return nil, err
		}
		for _, fd := range fds {
			if _, err := addLink(living, at+"/fd/"+fd); err != nil {
				return nil, err
			}
		}
		mounts, err := addLink(nil, at+"/ns/mnt")
		if err != nil {
			return nil, err
		}
		if mounts == "" || looked[mounts] {
			continue
		}
		if err := addMounts(living, at+"/mountinfo"); err != nil {
			return nil, err
		}
		looked[mounts] = true
	}
	return living, err
}

// numbers lists the entries of a directory that are numbers; none if it has gone.
func numbers(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, unlessGone(err)
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	numeric := names[:0]
	for _, name := range names {
		if name[0] >= '0' && name[0] <= '9' {
			numeric = append(numeric, name)
		}
	}
	return numeric, unlessGone(err)
}

// addLink adds the network namespace that a symbolic link of /proc names, and returns where that leads.
func addLink(living map[uint64]bool, path string) (string, error) {
	to, err := os.Readlink(path)
	if err != nil {
		return "", unlessGone(err)
	}
	if inode, ok := netnsInode(to); ok {
		living[inode] = true
	}
	return to, nil
}

// addMounts adds the namespaces that are mounted: the fourth field is what of the file system is (proc(5)).
func addMounts(living map[uint64]bool, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return unlessGone(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 4 {
			continue
		}
		if inode, ok := netnsInode(fields[3]); ok {
			living[inode] = true
		}
	}
	return unlessGone(lines.Err())
}

// netnsInode reads net:[4026531840]. A file can't have that name in /proc: a path begins with a slash.
func netnsInode(s string) (uint64, bool) {
	s, ok := strings.CutPrefix(s, "net:[")
	if !ok {
		return 0, false
	}
	inode, err := strconv.ParseUint(strings.TrimSuffix(s, "]"), 10, 64)
	return inode, err == nil
}

// unlessGone is nil if a process has ended while it was looked at. EINVAL is what the mounts of one give that has no
// namespace any more.
func unlessGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) {
		return nil
	}
	return err
}
