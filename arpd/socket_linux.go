package arpd

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// batchSize is how many frames one pair of system calls handles.
const batchSize = 64

// receiveBuffer holds 5400 frames at least, what ten interfaces may ask at once: the
// kernel accounts 768 bytes for one. What is not used takes no memory.
const receiveBuffer = 4 << 20

// frame is a received frame. data is borrowed until the next receive.
type frame struct {
	data      []byte
	ifindex   int
	otherhost bool   // PACKET_OTHERHOST: not to the device's MAC, by the kernel's judgement
	vlan      bool   // TP_STATUS_VLAN_VALID
	taken     bool   // MarkTaken: another host's to the kernel alone
	id        uint64 // the tap's, of one that is held
	received  int64  // CLOCK_REALTIME, ns; 0: not asked for
}

// socket is one packet socket for all interfaces, with the buffer of a batch. All
// but wake, drops, setMark and close is for one goroutine.
//
// The goroutine waits in a system call of its own thread. Go's poller does not know
// the socket: it would be woken by each frame, and only then wake the goroutine. It
// sleeps as soon as it has answered, and does not look for a further frame: the kernel
// has woken who waits for the answer on this very CPU, where it can't run before.
type socket struct {
	mu     sync.Mutex // guards raw of drops against close
	raw    descriptor // receives
	wakeFD int        // eventfd
	full   bool       // the last batch was: more may wait
	rx     *rxBatch

	// queued sends by the queueing disciplines, direct passes by them, for
	// interfaces that have none yet.
	queued, direct *sender
}

// descriptor is a file that Go's poller does not know.
type descriptor int

var _ syscall.RawConn = descriptor(0)

func (d descriptor) Control(f func(fd uintptr)) error { f(uintptr(d)); return nil }

func (d descriptor) Read(f func(fd uintptr) bool) error { return d.Write(f) }

func (d descriptor) Write(f func(fd uintptr) bool) error {
	if !f(uintptr(d)) {
		return unix.EAGAIN
	}
	return nil
}

func openSocket(o *Options) (_ *socket, err error) {
	q := question{other: o.Protocol}
	prog, err := bpf.Assemble(q.filter())
	if err != nil {
		return nil, err
	}
	s := &socket{raw: -1, wakeFD: -1, rx: newRxBatch()}
	defer func() {
		if err != nil {
			_ = s.close()
		}
	}()
	if s.wakeFD, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	// Index 0 is every interface, also those to come (packet(7), sll_ifindex).
	if o.Handed != nil {
		s.raw = descriptor(o.Handed.FD)
	} else {
		conn, err := packet.Listen(&net.Interface{}, packet.Raw, int(q.etherType()), &packet.Config{Filter: prog})
		if err != nil {
			return nil, err
		}
		if s.raw, err = detach(conn); err != nil {
			return nil, err
		}
		if err = control(s.raw, func(fd int) error { return setReceiveOptions(fd, o) }); err != nil {
			return nil, err
		}
	}
	if s.queued, err = openSender(false); err != nil {
		return nil, err
	}
	s.direct, err = openSender(true)
	return s, err
}

// detach takes a socket away from Go's poller, and closes the Conn.
func detach(conn *packet.Conn) (descriptor, error) {
	fd := -1
	raw, err := conn.SyscallConn()
	if err == nil {
		err = control(raw, func(own int) (err error) {
			fd, err = unix.FcntlInt(uintptr(own), unix.F_DUPFD_CLOEXEC, 0)
			return os.NewSyscallError("fcntl(F_DUPFD_CLOEXEC)", err)
		})
	}
	return descriptor(fd), errors.Join(err, conn.Close())
}

// wake makes a receive under way, or the next one, return.
func (s *socket) wake() {
	one := [8]byte{1}
	_, _ = unix.Write(s.wakeFD, one[:])
}

// drops is how many frames the queue could not hold since the last call: the
// kernel resets its counter when it is read.
func (s *socket) drops() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.raw < 0 {
		return 0
	}
	st, err := unix.GetsockoptTpacketStats(int(s.raw), unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return 0
	}
	return uint64(st.Drops)
}

// close releases all. No receive may be under way.
func (s *socket) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, fd := range []int{int(s.raw), s.wakeFD} {
		if fd >= 0 {
			errs = append(errs, unix.Close(fd))
		}
	}
	s.raw, s.wakeFD = -1, -1
	for _, out := range []*sender{s.queued, s.direct} {
		if out != nil {
			errs = append(errs, out.conn.Close())
		}
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

func setReceiveOptions(fd int, o *Options) error {
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
	if o.Protocol != nil { // of ARP no frame is taken
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVMARK, 1) // Linux 5.19
	}
	if o.Timed {
		if err := setTimed(fd, true); err != nil {
			return err
		}
	}
	if o.Filter != nil {
		if err := o.Filter(fd); err != nil {
			return fmt.Errorf("attach filter: %w", err)
		}
	}
	return nil
}

// setTimed says whether the kernel tells when frames came. Those that wait have no
// time, or one that nobody asks for.
func (s *socket) setTimed(on bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.raw < 0 {
		return os.ErrClosed
	}
	return setTimed(int(s.raw), on)
}

func setTimed(fd int, on bool) error {
	v := 0
	if on {
		v = 1
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, v); err != nil {
		return fmt.Errorf("setsockopt SO_TIMESTAMPNS: %w", err)
	}
	return nil
}

// receive waits for frames, at most for the given time (negative: for ever), and
// says how many came: 0 when the time is over, or after wake.
func (s *socket) receive(wait time.Duration) (int, error) {
	s.rx.reset()
	for {
		if !s.full {
			if err := s.poll(wait); err != nil {
				return 0, err
			}
		}
		looked := s.full
		s.full = false
		switch n, errno := s.rx.recvmmsg(uintptr(s.raw)); errno {
		case 0:
			s.full = n == batchSize
			return n, nil
		case unix.EINTR:
		case unix.EAGAIN:
			if !looked { // the time is over, or wake was called
				return 0, nil
			}
		default:
			return 0, fmt.Errorf("recvmmsg: %w", errno)
		}
	}
}

// poll sleeps until a frame is there, wake was called or the time is over.
func (s *socket) poll(wait time.Duration) error {
	fds := [2]unix.PollFd{{Fd: int32(s.raw), Events: unix.POLLIN}, {Fd: int32(s.wakeFD), Events: unix.POLLIN}}
	var ts *unix.Timespec
	if wait >= 0 {
		t := unix.NsecToTimespec(int64(wait))
		ts = &t
	}
	if _, err := unix.Ppoll(fds[:], ts, nil); err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("poll: %w", err)
	}
	if fds[1].Revents != 0 {
		var b [8]byte
		_, _ = unix.Read(s.wakeFD, b[:])
	}
	return nil
}

func (s *socket) frame(i int) frame { return s.rx.frame(i) }

// via gives the sender for an interface.
func (s *socket) via(p *Policy) *sender {
	if p.Settled {
		return s.queued
	}
	return s.direct
}
