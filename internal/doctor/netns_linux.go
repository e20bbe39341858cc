package doctor

import (
	"os"
	"path/filepath"
	"runtime"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// mostProcesses bounds how many processes are asked for their namespace.
const mostProcesses = 1 << 16

// namespacesByID finds the network namespaces that have a number here
// (IFLA_LINK_NETNSID), among those named in /run/netns and those of processes.
func namespacesByID() map[int]string {
	byID := map[int]string{}
	seen := map[uint64]bool{}
	look := func(path string) {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return // ended meanwhile, or not ours to see
		}
		defer unix.Close(fd)
		var st unix.Stat_t
		if unix.Fstat(fd, &st) != nil || seen[st.Ino] {
			return
		}
		seen[st.Ino] = true
		if id, err := netlink.GetNetNsIdByFd(fd); err == nil && id >= 0 {
			byID[id] = path
		}
	}
	for _, pattern := range []string{"/run/netns/*", "/var/run/docker/netns/*"} {
		named, _ := filepath.Glob(pattern) // the pattern is sound
		for _, p := range named {
			look(p)
		}
	}
	entries, _ := os.ReadDir("/proc")
	for i, e := range entries {
		if i == mostProcesses {
			break
		}
		if c := e.Name()[0]; c >= '0' && c <= '9' {
			look("/proc/" + e.Name() + "/ns/net")
		}
	}
	return byID
}

// inNetns calls fn on a thread of its own that is in the network namespace at a
// path, and ends after it.
func inNetns(path string, fn func() error) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		err := unix.Setns(fd, unix.CLONE_NEWNET)
		if err == nil {
			err = fn()
		}
		done <- err
	}()
	return <-done
}
