package conntrack

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

const (
	// eventsBuffer holds some thousand events, bytes.
	eventsBuffer = 4 << 20
	// dumpTries bounds how often a dump is repeated that a change has interrupted. What it lacks then, the next
	// one has.
	dumpTries = 3
)

// errLost says that events were lost.
var errLost = errors.New("conntrack: events were lost")

// events is a socket by which the kernel tells of flows that begin to be translated, and end.
type events struct {
	fd, wake int
	buf      []byte

	mu     sync.Mutex // guards wake against close
	closed bool
}

// listen makes the socket, in the network namespace of the calling thread.
func listen() (*events, error) {
	e := &events{fd: -1, wake: -1, buf: make([]byte, 64<<10)}
	var err error
	if e.wake, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("eventfd", err)
	}
	if err := e.subscribe(); err != nil {
		return nil, errors.Join(err, e.close())
	}
	return e, nil
}

func (e *events) subscribe() (err error) {
	if e.fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_NETFILTER); err != nil {
		return os.NewSyscallError("socket", err)
	}
	if err := unix.SetsockoptInt(e.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, eventsBuffer); err != nil {
		_ = unix.SetsockoptInt(e.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, eventsBuffer)
	}
	if err := attachFilter(e.fd); err != nil {
		return err
	}
	if err := unix.Bind(e.fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return os.NewSyscallError("bind", err)
	}
	for _, group := range []int{unix.NFNLGRP_CONNTRACK_NEW, unix.NFNLGRP_CONNTRACK_DESTROY} {
		if err := unix.SetsockoptInt(e.fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, group); err != nil {
			return os.NewSyscallError("NETLINK_ADD_MEMBERSHIP", err)
		}
	}
	return nil
}

// attachFilter keeps out of the socket what parse would not take for its status: of a host's flows, most.
func attachFilter(fd int) error {
	const headers = unix.SizeofNlMsghdr + sizeofNfgenmsg
	filter, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadConstant{Dst: bpf.RegA, Val: headers},
		bpf.LoadConstant{Dst: bpf.RegX, Val: nl.CTA_STATUS},
		bpf.LoadExtension{Num: bpf.ExtNetlinkAttr}, // where that attribute is, or 0
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0, SkipTrue: 3},
		bpf.TAX{},
		bpf.LoadIndirect{Off: unix.SizeofNlAttr, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: statusSrcNAT | statusDstNAT, SkipTrue: 1},
		bpf.RetConstant{Val: 0},
		bpf.RetConstant{Val: 0xffffffff},
	})
	if err != nil {
		return fmt.Errorf("conntrack: %w", err)
	}
	program := make([]unix.SockFilter, len(filter))
	for i, f := range filter {
		program[i] = unix.SockFilter{Code: f.Op, Jt: f.Jt, Jf: f.Jf, K: f.K}
	}
	return os.NewSyscallError("SO_ATTACH_FILTER", unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}))
}

// wait waits until there are events, the time is over or interrupt was called.
func (e *events) wait(timeout time.Duration) error {
	fds := []unix.PollFd{{Fd: int32(e.wake), Events: unix.POLLIN}, {Fd: int32(e.fd), Events: unix.POLLIN}}
	ts := unix.NsecToTimespec(int64(max(timeout, 0)))
	if _, err := unix.Ppoll(fds, &ts, nil); err != nil && !errors.Is(err, unix.EINTR) {
		return os.NewSyscallError("ppoll", err)
	}
	return nil
}

// read calls take for each event that is there. The error is errLost where the kernel had more than the socket holds.
func (e *events) read(take func(f flow, ends bool)) error {
	for {
		n, _, err := unix.Recvfrom(e.fd, e.buf, 0)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ENOBUFS):
			return errLost
		case err != nil:
			return os.NewSyscallError("recvfrom", err)
		}
		for b := e.buf[:n]; len(b) >= unix.SizeofNlMsghdr; {
			length, typ := int(binary.NativeEndian.Uint32(b)), binary.NativeEndian.Uint16(b[4:])
			if length < unix.SizeofNlMsghdr || length > len(b) {
				break
			}
			if typ>>8 == unix.NFNL_SUBSYS_CTNETLINK {
				if f, ok := parse(b[unix.SizeofNlMsghdr:length]); ok {
					take(f, typ&0xff == nl.IPCTNL_MSG_CT_DELETE)
				}
			}
			b = b[min((length+3)&^3, len(b)):]
		}
	}
}

// interrupt ends a wait. For any goroutine.
func (e *events) interrupt() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.closed {
		one := [8]byte{1}
		_, _ = unix.Write(e.wake, one[:])
	}
}

func (e *events) close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	err := unix.Close(e.wake)
	if e.fd >= 0 {
		err = errors.Join(err, unix.Close(e.fd))
	}
	return err
}

// dump calls take for each flow that there is, some of them maybe twice.
func dump(ctx context.Context, take func(flow)) error {
	// The status that is asked for, under the mask of both; older kernels take no notice.
	for _, status := range []uint32{statusDstNAT, statusSrcNAT, statusSrcNAT | statusDstNAT} {
		var failed error = nl.ErrDumpInterrupted
		for try := 0; try < dumpTries && (errors.Is(failed, nl.ErrDumpInterrupted) || errors.Is(failed, unix.EINTR)); try++ {
			if err := ctx.Err(); err != nil {
				return err
			}
			req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_CTNETLINK<<8|nl.IPCTNL_MSG_CT_GET, unix.NLM_F_DUMP)
			req.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_UNSPEC, Version: nl.NFNETLINK_V0})
			req.AddData(nl.NewRtAttr(nl.CTA_STATUS, binary.BigEndian.AppendUint32(nil, status)))
			req.AddData(nl.NewRtAttr(ctaStatusMask, binary.BigEndian.AppendUint32(nil, statusSrcNAT|statusDstNAT)))
			failed = req.ExecuteIter(unix.NETLINK_NETFILTER, 0, func(m []byte) bool {
				if f, ok := parse(m); ok {
					take(f)
				}
				return true
			})
		}
		if failed != nil && !errors.Is(failed, nl.ErrDumpInterrupted) {
			return fmt.Errorf("conntrack: list flows: %w", failed)
		}
	}
	return nil
}

// eventsOff reports whether net.netfilter.nf_conntrack_events is 0.
func eventsOff() bool {
	b, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_events")
	return err == nil && strings.TrimSpace(string(b)) == "0"
}
