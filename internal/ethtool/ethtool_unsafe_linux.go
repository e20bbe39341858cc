// Package ethtool asks the kernel what an interface does for others (SIOCETHTOOL).
package ethtool

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// value is struct ethtool_value (include/uapi/linux/ethtool.h), and request a
// struct ifreq that points to it.
type value struct{ cmd, data uint32 }

type request struct {
	name [unix.IFNAMSIZ]byte
	data unsafe.Pointer
	_    [16]byte
}

// Get asks for each of the commands (ETHTOOL_G*) that give one number, about an
// interface of the calling thread's network namespace. It takes RTNL. What the
// device can't say is 0.
func Get(name string, cmds ...uint32) ([]uint32, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("ethtool: %w", err)
	}
	defer unix.Close(fd)
	got := make([]uint32, len(cmds))
	for i, cmd := range cmds {
		v := value{cmd: cmd}
		req := request{data: unsafe.Pointer(&v)}
		copy(req.name[:unix.IFNAMSIZ-1], name)
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req))); errno == 0 {
			got[i] = v.data
		}
	}
	return got, nil
}
