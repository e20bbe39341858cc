package arpd

import (
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
	otherhost bool // PACKET_OTHERHOST: not to the device's MAC, by the kernel's judgement
	vlan      bool // TP_STATUS_VLAN_VALID
}

// origin says which frame a staged reply answers.
type origin struct {
	frame int
	entry *entry
}

// socket is one packet socket for all interfaces, with the buffers of a batch.
// All but conn is for one goroutine.
type socket struct {
	conn   *packet.Conn
	raw    syscall.RawConn
	rx     *rxBatch
	tx     *txBatch
	origin [batchSize]origin

	// Arguments and results of the callbacks, which are made once: RawConn
	// would make a closure escape on each call.
	doReceive, doSend func(fd uintptr) bool
	from, to, n       int
	errno             unix.Errno
}

func openSocket(attach func(fd uintptr) error) (*socket, error) {
	prog, err := bpf.Assemble(filter())
	if err != nil {
		return nil, err
	}
	// Index 0 is every interface, also those to come (packet(7), sll_ifindex).
	conn, err := packet.Listen(&net.Interface{Index: 0}, packet.Raw, unix.ETH_P_ARP, &packet.Config{Filter: prog})
	if err != nil {
		return nil, err
	}
	s := &socket{conn: conn, rx: newRxBatch(), tx: newTxBatch()}
	s.doReceive, s.doSend = s.receiveOn, s.sendOn
	if s.raw, err = conn.SyscallConn(); err == nil {
		err = setOptions(s.raw, attach)
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return s, nil
}

func setOptions(raw syscall.RawConn, attach func(fd uintptr) error) (err error) {
	ctlErr := raw.Control(func(fd uintptr) { err = setOptionsOn(int(fd), attach) })
	if ctlErr != nil {
		return ctlErr
	}
	return err
}

func setOptionsOn(fd int, attach func(fd uintptr) error) error {
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
		if err := attach(uintptr(fd)); err != nil {
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

// send hands the replies from up to to to their interfaces. It never waits: one
// interface whose queue is full must not stall the others. If none could be sent,
// the verdict says why the first could not.
func (s *socket) send(from, to int) (int, Verdict) {
	s.from, s.to = from, to
	if err := s.raw.Write(s.doSend); err != nil {
		return 0, DropSend // closed
	}
	if s.errno != 0 {
		return 0, sendVerdict(s.errno)
	}
	return s.n, Answered
}

func (s *socket) sendOn(fd uintptr) bool {
	for {
		if s.n, s.errno = s.tx.sendmmsg(fd, s.from, s.to); s.errno != unix.EINTR {
			return true
		}
	}
}

// sendVerdict reads an error of packet_snd (net/packet/af_packet.c).
func sendVerdict(errno unix.Errno) Verdict {
	switch errno {
	case unix.ENETDOWN, unix.ENXIO, unix.ENODEV:
		return DropIfDown
	case unix.ENOBUFS:
		return DropQdisc // net_xmit_errno
	}
	return DropSend
}

func (s *socket) frame(i int) frame { return s.rx.frame(i) }

func (s *socket) reply(i int) []byte { return s.tx.data[i][:] }

func (s *socket) stage(i, size, ifindex int) { s.tx.stage(i, size, ifindex) }
