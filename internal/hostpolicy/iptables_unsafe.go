package hostpolicy

import (
	"encoding/binary"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Options of the level SOL_IP, and SOL_IPV6 (include/uapi/linux/netfilter_ipv4/ip_tables.h, netfilter_ipv6/ip6_tables.h).
const (
	iptSOGetInfo    = 64
	iptSOGetEntries = 65
)

// iptEntriesHead is the head of struct ipt_get_entries: name and size, aligned as the counters of the first entry
// demand.
const iptEntriesHead = unsafe.Offsetof(struct {
	name  [32]byte
	size  uint32
	entry struct{ counter uint64 }
}{}.entry)

// info asks for a table's outline, entries for its rules. Both are questions whose subject stands in the
// buffer of the answer, which x/sys/unix's getsockopt functions do not do.
func (x *xtables) info(fd int, table string) ([]byte, error) {
	b := make([]byte, iptInfoLen)
	copy(b[:31], table)
	return b, getsockopt(fd, x.level, iptSOGetInfo, b)
}

func (x *xtables) entries(fd int, table string, size uint32) ([]byte, error) {
	b := make([]byte, int(iptEntriesHead)+int(size))
	copy(b[:31], table)
	binary.NativeEndian.PutUint32(b[32:], size)
	if err := getsockopt(fd, x.level, iptSOGetEntries, b); err != nil {
		return nil, err
	}
	return b[iptEntriesHead:], nil
}

func getsockopt(fd, level, option int, b []byte) error {
	length := uint32(len(b))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option),
		uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(unsafe.Pointer(&length)), 0)
	if errno != 0 {
		return os.NewSyscallError("getsockopt", errno)
	}
	return nil
}
