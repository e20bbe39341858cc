package netstate

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// datagramSize is enough for any message of the kernel: dumps come in at most
// 32 KiB (netlink_dump in net/netlink/af_netlink.c).
const datagramSize = 64 << 10

// groups are what an event socket subscribes to.
var groups = []int{unix.RTNLGRP_LINK, unix.RTNLGRP_NEIGH, unix.RTNLGRP_IPV4_IFADDR,
	unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_TC, unix.RTNLGRP_IPV4_NETCONF,
	unix.RTNLGRP_NEXTHOP}

// groups6 are those of IPv6.
var groups6 = []int{unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV6_RULE,
	unix.RTNLGRP_IPV6_NETCONF, unix.RTNLGRP_IPV6_IFINFO}

// An eventSocket receives notifications. It waits in the runtime's poller, so
// that a deadline or Close ends the wait.
type eventSocket struct {
	file   *os.File
	raw    syscall.RawConn
	buf    []byte
	closed atomic.Bool
	busy   atomic.Bool // what was read may not have been applied yet
}

func openEvents(receiveBuffer int, ipv6 bool) (*eventSocket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink event socket: %w", err)
	}
	if err := subscribe(fd, receiveBuffer, ipv6); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("netlink event socket: %w", err)
	}
	s := &eventSocket{file: os.NewFile(uintptr(fd), "netlink"), buf: make([]byte, datagramSize)}
	if s.raw, err = s.file.SyscallConn(); err != nil {
		s.file.Close()
		return nil, fmt.Errorf("netlink event socket: %w", err)
	}
	return s, nil
}

// subscribe sets the buffer first: a burst may follow at once.
func subscribe(fd, receiveBuffer int, ipv6 bool) error {
	err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer)
	if err != nil { // without CAP_NET_ADMIN, up to net.core.rmem_max
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
	}
	if err != nil {
		return fmt.Errorf("receive buffer: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	all := groups
	if ipv6 {
		all = slices.Concat(groups, groups6)
	}
	for _, g := range all {
		err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, g)
		if err != nil && g != unix.RTNLGRP_NEXTHOP { // Linux 5.3
			return fmt.Errorf("group %d: %w", g, err)
		}
	}
	return nil
}

// drain passes up to limit datagrams to each, as many as there are, and
// reports whether it left none. If wait is set it waits for the first. The
// bytes are good until each returns. It returns unix.ENOBUFS if the socket has
// lost messages at this point, os.ErrDeadlineExceeded after interrupt, and
// os.ErrClosed after Close.
func (s *eventSocket) drain(limit int, wait bool, each func([]byte)) (empty bool, err error) {
	var failed error
	read := 0
	err = s.raw.Read(func(fd uintptr) bool {
		s.busy.Store(true)
		for ; read < limit; read++ {
			var b []byte
			if b, failed = s.receive(int(fd)); failed != nil {
				break
			}
			each(b)
		}
		if empty = failed == unix.EAGAIN; empty {
			failed = nil
			s.busy.Store(read > 0)
			return read > 0 || !wait
		}
		return true
	})
	if s.closed.Load() {
		return empty, os.ErrClosed
	}
	return empty, errors.Join(err, failed)
}

// behind reports whether messages wait to be read or applied. What was read
// before this call is applied once it says no, since busy is set before the
// first read and cleared by one that found nothing.
func (s *eventSocket) behind() bool {
	waiting := false
	err := s.raw.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		waiting = n > 0 && err == nil
	})
	return waiting && err == nil || s.busy.Load()
}

// discard reads until the queue is empty: only then does the kernel queue
// again after an overrun (netlink_rcv_wake clears NETLINK_S_CONGESTED).
func (s *eventSocket) discard() error {
	var failed error
	err := s.raw.Control(func(fd uintptr) {
		for failed == nil || failed == unix.ENOBUFS {
			_, failed = s.receive(int(fd))
		}
	})
	if s.closed.Load() {
		return os.ErrClosed
	}
	if failed == unix.EAGAIN {
		failed = nil
	}
	return errors.Join(err, failed)
}

// receive reads one datagram. It is empty if not from the kernel, and cut
// short, so that it does not parse, if longer than the buffer.
func (s *eventSocket) receive(fd int) ([]byte, error) {
	for {
		n, _, _, from, err := unix.Recvmsg(fd, s.buf, nil, unix.MSG_DONTWAIT)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		if sa, ok := from.(*unix.SockaddrNetlink); !ok || sa.Pid != 0 {
			n = 0
		}
		return s.buf[:n], nil
	}
}

// interrupt ends a wait in drain, now or the next.
func (s *eventSocket) interrupt() { _ = s.file.SetReadDeadline(time.Unix(1, 0)) }

// until bounds waits in drain, as interrupt ends them; zero does not.
func (s *eventSocket) until(at time.Time) { _ = s.file.SetReadDeadline(at) }

// resume undoes interrupt.
func (s *eventSocket) resume() { _ = s.file.SetReadDeadline(time.Time{}) }

func (s *eventSocket) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	return s.file.Close()
}
