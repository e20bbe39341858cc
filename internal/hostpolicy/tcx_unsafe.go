package hostpolicy

import (
	"errors"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Values of include/uapi/linux/bpf.h.
const (
	bpfTCXIngress = 46 // BPF_TCX_INGRESS
	bpfTCXEgress  = 47 // BPF_TCX_EGRESS
)

// bpfQuery is the part of union bpf_attr that BPF_PROG_QUERY uses.
type bpfQuery struct {
	ifindex, attachType      uint32
	queryFlags, attachFlags  uint32
	progIDs                  unsafe.Pointer
	progCount, _             uint32
	progAttachFlags, linkIDs uint64
	linkAttachFlags          uint64
	revision                 uint64
}

// queryTCX returns the IDs of the programs at a tcx hook. cilium/ebpf's link.QueryPrograms will not do: it takes
// a missing permission for a missing feature (its probe maps every error but EBADF to ErrNotSupported), and "not
// supported" is "nothing there" here.
func queryTCX(ifindex int, attachType uint32) ([]uint32, error) {
	ids := make([]uint32, 16) // bpf_mprog allows 64
	for range dumpTries {
		q := bpfQuery{ifindex: uint32(ifindex), attachType: attachType,
			progIDs: unsafe.Pointer(unsafe.SliceData(ids)), progCount: uint32(len(ids))}
		_, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_QUERY, uintptr(unsafe.Pointer(&q)), unsafe.Sizeof(q))
		runtime.KeepAlive(ids)
		switch errno {
		case 0:
			return ids[:min(int(q.progCount), len(ids))], nil
		case unix.ENOSPC: // there are progCount
			ids = make([]uint32, max(int(q.progCount), 2*len(ids)))
		case unix.EINTR, unix.EAGAIN:
		default:
			return nil, os.NewSyscallError("bpf(BPF_PROG_QUERY)", errno)
		}
	}
	return nil, &changing{errors.New("bpf(BPF_PROG_QUERY)")}
}
