package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// netnsDir is where iproute2 looks for named namespaces, too.
const netnsDir = "/run/netns"

// netnsPath is where a namespace is mounted: iproute2's place for a name, or the path itself.
func netnsPath(netns string) string {
	if filepath.IsAbs(netns) {
		return netns
	}
	return filepath.Join(netnsDir, netns)
}

var errGoexit = errors.New("lab: the function ended its goroutine")

// onThread runs fn on an OS thread of its own that ends with it, so that a
// namespace entered there is never met by another goroutine.
func onThread(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and no unlock: the runtime then ends the thread
		if unix.Gettid() == os.Getpid() {
			// The main thread cannot end: the runtime would park it in the
			// namespace, and /proc/PID/ns/net would name that one for good.
			// While this goroutine holds it, the next one gets another.
			done <- onThread(fn)
			runtime.UnlockOSThread()
			return
		}
		err := errGoexit // what remains if fn calls t.FailNow
		defer func() { done <- err }()
		err = fn()
	}()
	return <-done
}

// setns moves the calling thread, which must be a throw-away one.
func setns(netns string) error {
	f, err := os.Open(netnsPath(netns))
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	defer f.Close()
	if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("lab: enter namespace %s: %w", netns, err)
	}
	return nil
}

func inNetns(netns string, fn func() error) error {
	return onThread(func() error {
		if err := setns(netns); err != nil {
			return err
		}
		return fn()
	})
}

// makeNetns makes a namespace with the lab's sysctls and its lo up, and then
// gives it its name: a name that can be seen is that of a finished namespace.
func makeNetns(netns string) error {
	path := netnsPath(netns)
	return onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("lab: make a network namespace: %w", err)
		}
		if err := labSysctls(); err != nil {
			return err
		}
		if err := loopbackUp(); err != nil {
			return err
		}
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444)
		if err != nil {
			return fmt.Errorf("lab: %w", err)
		}
		f.Close()
		if err := unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, ""); err != nil {
			os.Remove(path)
			return fmt.Errorf("lab: mount namespace on %s: %w", path, err)
		}
		return nil
	})
}

// removeNetns takes the name away; the namespace ends with its last process.
func removeNetns(netns string) error {
	path := netnsPath(netns)
	for unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) == nil {
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("lab: %w", err)
	}
	return nil
}

// prepareNetnsDir makes /run/netns a shared mount as `ip netns add` does, under
// the same lock: were it left to a later iproute2, that would mount the
// directory over itself with our namespaces in it, and they could not be removed.
func prepareNetnsDir() error {
	if err := os.MkdirAll(netnsDir, 0o755); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	dir, err := os.Open(netnsDir)
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	defer dir.Close() // and with it the lock
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lab: lock %s: %w", netnsDir, err)
	}
	share := func() error { return unix.Mount("", netnsDir, "none", unix.MS_SHARED|unix.MS_REC, "") }
	if err = share(); err == nil {
		return nil
	}
	if errors.Is(err, unix.EINVAL) { // not a mount point yet
		if err = unix.Mount(netnsDir, netnsDir, "none", unix.MS_BIND|unix.MS_REC, ""); err == nil {
			err = share()
		}
	}
	if err != nil {
		return fmt.Errorf("lab: make %s a shared mount: %w", netnsDir, err)
	}
	return nil
}

// namespaces lists what /run/netns has of the lab, by node name.
func namespaces(lab string) (map[string]string, error) {
	entries, err := os.ReadDir(netnsDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("lab: %w", err)
	}
	found := map[string]string{}
	for _, e := range entries {
		node, ok := strings.CutPrefix(e.Name(), lab+"-")
		if ok && nodeRE.MatchString(node) {
			found[node] = e.Name()
		}
	}
	return found, nil
}

// isNetns tells a mounted namespace from a name left by a killed process.
func isNetns(netns string) bool {
	var st unix.Statfs_t
	return unix.Statfs(netnsPath(netns), &st) == nil && st.Type == unix.NSFS_MAGIC
}

// netnsCookie is the number by which the daemon's own records name a namespace.
func netnsCookie(netns string) (cookie uint64, err error) {
	err = inNetns(netns, func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		cookie, err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
		return err
	})
	return cookie, err
}
