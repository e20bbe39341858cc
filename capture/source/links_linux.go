package source

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// linkWatch tells when interfaces of the network namespace change
// (rtnetlink(7), RTMGRP_LINK).
type linkWatch struct {
	f       *os.File
	running sync.WaitGroup
}

// watchLinks begins to listen: what changes from now on is told of.
func watchLinks() (*linkWatch, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err == nil {
		if err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: unix.RTMGRP_LINK}); err != nil {
			_ = unix.Close(fd)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("rtnetlink: %w", err)
	}
	return &linkWatch{f: os.NewFile(uintptr(fd), "rtnetlink")}, nil
}

// start has changed called after changes, in a goroutine of its own. What they
// are is not looked at, so that none is missed where the socket's queue
// overflows.
func (w *linkWatch) start(changed func()) {
	w.running.Go(func() {
		var b [1 << 15]byte
		for {
			if _, err := w.f.Read(b[:]); err != nil && !errors.Is(err, unix.ENOBUFS) {
				return
			}
			changed()
		}
	})
}

// close ends that, and waits for it.
func (w *linkWatch) close() error {
	err := w.f.Close()
	w.running.Wait()
	return err
}
