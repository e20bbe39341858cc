package bench

import (
	"fmt"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ethtoolValue is struct ethtool_value, and ifreqData a struct ifreq that points to it.
type ethtoolValue struct{ cmd, data uint32 }

type ifreqData struct {
	name [unix.IFNAMSIZ]byte
	data unsafe.Pointer
	_    [16]byte
}

// offloads names the offloads that are on, as ethtool -k calls them in short, in the calling thread's namespace. What
// the device cannot say is left out.
func offloads(iface string) (string, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("bench: ethtool: %w", err)
	}
	defer unix.Close(fd)
	var on []string
	for _, f := range []struct {
		name string
		cmd  uint32
	}{
		{"rx-checksum", unix.ETHTOOL_GRXCSUM}, {"tx-checksum", unix.ETHTOOL_GTXCSUM}, {"sg", unix.ETHTOOL_GSG},
		{"tso", unix.ETHTOOL_GTSO}, {"gso", unix.ETHTOOL_GGSO}, {"gro", unix.ETHTOOL_GGRO},
	} {
		v := ethtoolValue{cmd: f.cmd}
		req := ifreqData{data: unsafe.Pointer(&v)}
		copy(req.name[:unix.IFNAMSIZ-1], iface)
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req)))
		if errno == 0 && v.data != 0 {
			on = append(on, f.name)
		}
	}
	return strings.Join(on, " "), nil
}
