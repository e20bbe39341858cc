package arpd

import (
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// batchSize is how many frames one pair of system calls handles.
const batchSize = 64

// receiveBuffer holds about 1300 frames: the kernel accounts 768 bytes for one.
const receiveBuffer = 1 << 20

// frame is a received frame. data is borrowed until the next receive.
type frame struct {
	data      []byte
	ifindex   int
	otherhost bool   // PACKET_OTHERHOST: not to the device's MAC, by the kernel's judgement
	vlan      bool   // TP_STATUS_VLAN_VALID
	id        uint64 // the tap's, of one that is held
}

// socket is one packet socket for all interfaces, with the buffer of a batch. All
// but conn is for one goroutine.
type socket struct {
	conn *packet.Conn
	raw  syscall.RawConn
	rx   *rxBatch

	// queued sends on conn, direct on a second socket that passes by the
	// queueing disciplines, for interfaces that have none yet.
	queued, direct *sender

	// Argument and results of the callback, which is made once: a closure
	// would be made anew, and escape, on each call.
	doReceive func(fd uintptr) bool
	n         int
	errno     unix.Errno
}

func openSocket(attach func(fd int) error) (_ *socket, err error) {
	prog, err := bpf.Assemble(filter())
	if err != nil {
		return nil, err
	}
	s := &socket{rx: newRxBatch()}
	s.doReceive = s.receiveOn
	defer func() {
		if err != nil {
			_ = s.close()
		}
	}()
	// Index 0 is every interface, also those to come (packet(7), sll_ifindex).
	s.conn, err = packet.Listen(&net.Interface{}, packet.Raw, unix.ETH_P_ARP, &packet.Config{Filter: prog})
	if err != nil {
		return nil, err
	}
	if s.raw, err = s.conn.SyscallConn(); err != nil {
		return nil, err
	}
	if err = control(s.raw, func(fd int) error { return setReceiveOptions(fd, attach) }); err != nil {
		return nil, err
	}
	s.queued = newSender(s.conn, s.raw)
	s.direct, err = openDirect()
	return s, err
}

// close wakes receive.
func (s *socket) close() error {
	var errs []error
	if s.conn != nil {
		errs = append(errs, s.conn.Close())
	}
	if s.direct != nil {
		errs = append(errs, s.direct.conn.Close())
	}
	return errors.Join(errs...)
}

func (s *socket) setMark(mark uint32) error {
	for _, raw := range []syscall.RawConn{s.queued.raw, s.direct.raw} {
		err := control(raw, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(mark)) })
		if err != nil {
			return fmt.Errorf("setsockopt SO_MARK: %w", err)
		}
	}
	return nil
}

func control(raw syscall.RawConn, f func(fd int) error) (err error) {
	if ctlErr := raw.Control(func(fd uintptr) { err = f(int(fd)) }); ctlErr != nil {
		return ctlErr
	}
	return err
}

func setReceiveOptions(fd int, attach func(fd int) error) error {
	// FORCE passes net.core.rmem_max and takes CAP_NET_ADMIN; without it the
	// kernel gives what it allows.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
	}
	// Linux 4.20; the filter does the same.
	_ = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1)
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1); err != nil {
		return fmt.Errorf("setsockopt PACKET_AUXDATA: %w", err)
	}
	if attach != nil {
		if err := attach(fd); err != nil {
			return fmt.Errorf("attach filter: %w", err)
		}
	}
	return nil
}

// receive waits for frames and says how many came.
func (s *socket) receive() (int, error) {
	s.rx.reset()
	if err := s.raw.Read(s.doReceive); err != nil {
		return 0, err
	}
	if s.errno != 0 {
		return 0, fmt.Errorf("recvmmsg: %w", s.errno)
	}
	return s.n, nil
}

func (s *socket) receiveOn(fd uintptr) bool {
	for {
		s.n, s.errno = s.rx.recvmmsg(fd)
		switch s.errno {
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return false // wait
		}
		return true
	}
}

func (s *socket) frame(i int) frame { return s.rx.frame(i) }

// via gives the sender for an interface.
func (s *socket) via(p *Policy) *sender {
	if p.Settled {
		return s.queued
	}
	return s.direct
}
