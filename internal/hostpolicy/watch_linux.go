package hostpolicy

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Multicast groups (include/uapi/linux/netfilter/nfnetlink.h, xfrm.h).
const (
	groupNFTables = 7 // NFNLGRP_NFTABLES
	groupXFRM     = 4 // XFRMNLGRP_POLICY
)

// A Watcher is told by the kernel that rules, qdiscs, filters or policies have changed. It reads no more of that
// than that it came: of a burst the kernel drops what its small queues do not hold (netlink_broadcast in
// net/netlink/af_netlink.c), and what there is now is [InspectOnly]'s to find out. So a burst costs next to nothing.
type Watcher struct {
	told []telling
	wake int

	mu     sync.Mutex // guards wake against Close
	closed bool
}

type telling struct {
	fd     int
	source Sources
}

// watchBuffer is the size of a queue in bytes, which the kernel doubles: a few messages.
const watchBuffer = 4096

// Watch begins to watch the network namespace of the calling thread. The error names what of it is impossible; a
// Watcher for the rest is returned beside it.
func Watch() (*Watcher, error) {
	w := &Watcher{wake: -1}
	var err error
	if w.wake, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("eventfd", err)
	}
	var errs []error
	for i, g := range []struct {
		source          Sources
		protocol, group int
	}{
		{NFTables, unix.NETLINK_NETFILTER, groupNFTables},
		{TC, unix.NETLINK_ROUTE, unix.RTNLGRP_TC},
		{XFRM, unix.NETLINK_XFRM, groupXFRM},
	} {
		fd, err := subscribe(g.protocol, g.group)
		if err != nil {
			errs = append(errs, fmt.Errorf("hostpolicy: the kernel does not tell of changes %d: %w", i, err))
			continue
		}
		w.told = append(w.told, telling{fd, g.source})
	}
	return w, errors.Join(errs...)
}

func subscribe(protocol, group int) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, watchBuffer)
	if err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, group)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, os.NewSyscallError("NETLINK_ADD_MEMBERSHIP", err)
	}
	return fd, nil
}

// Told are the sources of whose changes the kernel tells.
func (w *Watcher) Told() (s Sources) {
	for _, t := range w.told {
		s |= t.source
	}
	return s
}

// Wait waits until one of the sources has changed, and says which, or until the time is over or Wake was called.
func (w *Watcher) Wait(timeout time.Duration) (changed Sources, err error) {
	fds := []unix.PollFd{{Fd: int32(w.wake), Events: unix.POLLIN}}
	for _, t := range w.told {
		fds = append(fds, unix.PollFd{Fd: int32(t.fd), Events: unix.POLLIN})
	}
	ts := unix.NsecToTimespec(int64(max(timeout, 0)))
	if _, err := unix.Ppoll(fds, &ts, nil); err != nil && !errors.Is(err, unix.EINTR) {
		return 0, os.NewSyscallError("ppoll", err)
	}
	if fds[0].Revents != 0 {
		var b [8]byte
		_, _ = unix.Read(w.wake, b[:])
	}
	for i, t := range w.told {
		if fds[i+1].Revents != 0 {
			changed |= t.source
		}
	}
	return changed, nil
}

// Read takes what was told so far as known: what comes from now on is news. It is to be called before one looks.
func (w *Watcher) Read(which Sources) {
	var b [1]byte
	for _, t := range w.told {
		for which&t.source != 0 {
			// ENOBUFS says that some was lost, and is said once.
			if _, _, err := unix.Recvfrom(t.fd, b[:], unix.MSG_TRUNC); err != nil && !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.EINTR) {
				break
			}
		}
	}
}

// Wake ends a Wait. For any goroutine.
func (w *Watcher) Wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		one := [8]byte{1}
		_, _ = unix.Write(w.wake, one[:])
	}
}

// Close ends it. No Wait may be under way.
func (w *Watcher) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	err := unix.Close(w.wake)
	for _, t := range w.told {
		err = errors.Join(err, unix.Close(t.fd))
	}
	return err
}
