package claim

import (
	"fmt"
	"os"
	"unsafe"

	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Values of include/uapi/linux/bpf.h.
const (
	bpfTCXIngress = 46     // BPF_TCX_INGRESS
	bpfBefore     = 1 << 3 // BPF_F_BEFORE; without another program it means the head
)

// linkCreate is the part of union bpf_attr that BPF_LINK_CREATE of a TCX link
// uses.
type linkCreate struct{ progFD, ifindex, attachType, flags uint32 }

// attachTCX puts a program at the head of an interface's ingress. The library's
// own AttachTCX asks after an error whether there is TCX, and takes a want of
// descriptors or memory, which that question meets too, for a no that it never
// forgets. Here only EINVAL raises the question, which needs no descriptor.
func attachTCX(progFD, ifindex int) (link.Link, error) {
	fd, errno := createTCX(progFD, uint32(ifindex))
	switch {
	case errno == 0:
		return link.NewFromFD(fd)
	case errno == unix.EINVAL && !haveTCX(progFD):
		return nil, fmt.Errorf("%w: it needs Linux 6.6", ErrNotSupported)
	}
	return nil, os.NewSyscallError("bpf(BPF_LINK_CREATE)", errno)
}

// haveTCX reports whether the kernel has TCX: then it looks for the interface,
// which there is none of this index (tcx_link_attach in kernel/bpf/tcx.c).
func haveTCX(progFD int) bool {
	fd, errno := createTCX(progFD, ^uint32(0))
	if errno == 0 {
		_ = unix.Close(fd)
	}
	return errno != unix.EINVAL
}

func createTCX(progFD int, ifindex uint32) (fd int, errno unix.Errno) {
	a := linkCreate{progFD: uint32(progFD), ifindex: ifindex, attachType: bpfTCXIngress, flags: bpfBefore}
	r, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_LINK_CREATE, uintptr(unsafe.Pointer(&a)), unsafe.Sizeof(a))
	return int(r), errno
}
