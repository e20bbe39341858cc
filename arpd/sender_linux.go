package arpd

import (
	"net"
	"syscall"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"
)

// origin says what a reply answers. The frame is borrowed until the reply is sent.
type origin struct {
	frame frame
	entry *entry
}

// sender collects the replies of a batch. It is for one goroutine.
type sender struct {
	conn   *packet.Conn
	raw    syscall.RawConn
	direct bool
	tx     *txBatch
	origin [batchSize]origin
	staged int

	doSend  func(fd uintptr) bool
	from, n int
	errno   unix.Errno
}

func newSender(conn *packet.Conn, raw syscall.RawConn) *sender {
	s := &sender{conn: conn, raw: raw, tx: newTxBatch()}
	s.doSend = s.sendOn
	return s
}

// openSender makes a socket that only sends; direct passes by queueing disciplines.
func openSender(direct bool) (*sender, error) {
	// Protocol 0 receives nothing (packet(7)).
	conn, err := packet.Listen(&net.Interface{}, packet.Raw, 0, nil)
	if err != nil {
		return nil, err
	}
	raw, err := conn.SyscallConn()
	if err == nil && direct {
		err = control(raw, func(fd int) error {
			return unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1)
		})
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	s := newSender(conn, raw)
	s.direct = direct
	return s, nil
}

// next is the room for the next reply, stage keeps what was written there.
func (s *sender) next() []byte { return s.tx.data[s.staged][:] }

func (s *sender) stage(size int, o origin) {
	s.tx.stage(s.staged, size, o.frame.ifindex)
	s.origin[s.staged] = o
	s.staged++
}

func (s *sender) reply(i int) []byte { return s.tx.data[i][:s.tx.iovs[i].Len] }

// reset forgets what was staged, and keeps no frame and no policy alive while idle.
func (s *sender) reset() {
	clear(s.origin[:s.staged])
	s.staged = 0
}

// send hands the staged replies from the given one on to their interfaces and
// says how many it took. It never waits: an interface whose queue is full must not
// stall the others. If it took none, the verdict says why it did not take the
// first.
func (s *sender) send(from int) (int, Verdict) {
	s.from = from
	if err := s.raw.Write(s.doSend); err != nil {
		return 0, DropSend // closed
	}
	if s.errno != 0 {
		return 0, s.verdict(s.errno)
	}
	return s.n, Answered
}

func (s *sender) sendOn(fd uintptr) bool {
	for {
		if s.n, s.errno = s.tx.sendmmsg(fd, s.from, s.staged); s.errno != unix.EINTR {
			return true
		}
	}
}

// verdict reads an error of packet_snd (net/packet/af_packet.c).
func (s *sender) verdict(errno unix.Errno) Verdict {
	switch errno {
	case unix.ENETDOWN, unix.ENXIO, unix.ENODEV:
		return DropIfDown
	case unix.ENOBUFS: // net_xmit_errno
		if s.direct {
			return DropIfDown // no carrier: __dev_direct_xmit
		}
		return DropQdisc
	}
	return DropSend
}
