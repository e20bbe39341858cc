package netstate

import (
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// arpIoctl sets (SIOCSARP) or deletes (SIOCDARP) a permanent entry as arp(8)
// does: the events of it bear no port.
func arpIoctl(request uintptr, dev string, ip netip.Addr, mac [6]byte) error {
	const atfCom, atfPerm = 2, 4
	var req [68]byte // struct arpreq
	native.PutUint16(req[0:], unix.AF_INET)
	copy(req[4:], ip.AsSlice())
	native.PutUint16(req[16:], unix.ARPHRD_ETHER)
	copy(req[18:], mac[:])
	native.PutUint32(req[32:], atfCom|atfPerm)
	copy(req[52:67], dev)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(&req[0]))); errno != 0 {
		return errno
	}
	return nil
}
