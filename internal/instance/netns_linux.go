package instance

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// A Netns tells a network namespace from every other one.
type Netns struct {
	// Cookie is SO_NETNS_COOKIE (Linux 5.14), which is never used again while the machine is up. On an older kernel it
	// is the inode number.
	Cookie uint64
	Inode  uint64 // as in net:[4026531840]; another namespace may get it later
}

// File is the name of a file about the namespace in the state directory.
func (n Netns) File(ext string) string { return fmt.Sprintf("netns-%d.%d.%s", n.Cookie, n.Inode, ext) }

// CurrentNetns is the network namespace of the calling thread.
func CurrentNetns() (Netns, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return Netns{}, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
		return Netns{}, fmt.Errorf("instance: cannot tell the network namespace: %w", err)
	}
	n := Netns{Cookie: st.Ino, Inode: st.Ino}
	if cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE); err == nil {
		n.Cookie = cookie
	}
	return n, nil
}
