package netstate

import (
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// errInterrupted means that what was dumped changed meanwhile
// (NLM_F_DUMP_INTR), so that the dump may lack something. It passes.
var errInterrupted error = interrupted{}

type interrupted struct{}

func (interrupted) Error() string { return "dump interrupted" }

func (interrupted) Is(target error) bool { return target == unix.EAGAIN }

// replyTimeout bounds the wait for the kernel, which answers from within the
// sending call; only a kernel that is in trouble lets it pass.
const replyTimeout = 30 // seconds

// requestReceiveBuffer holds some five thousand events.
const requestReceiveBuffer = 4 << 20

// A conn is a socket for requests and dumps. It belongs to the namespace in
// which it was opened, whatever thread uses it. It is safe for concurrent use.
type conn struct {
	mu  sync.Mutex
	fd  int // -1 when closed
	seq uint32
	buf []byte
}

func dial() (*conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink request socket: %w", err)
	}
	// Older kernels lack these; the answers are then filtered here, and
	// errors have no text.
	for _, opt := range []int{unix.NETLINK_GET_STRICT_CHK, unix.NETLINK_EXT_ACK, unix.NETLINK_CAP_ACK} {
		_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, opt, 1)
	}
	// For the events of a guarded change, which may have to wait for the RTNL
	// lock; without CAP_NET_ADMIN nothing is changed.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, requestReceiveBuffer)
	err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: replyTimeout})
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("netlink request socket: %w", err)
	}
	return &conn{fd: fd, buf: make([]byte, datagramSize)}, nil
}

func (c *conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fd < 0 {
		return nil
	}
	err := unix.Close(c.fd)
	c.fd = -1
	return err
}

// request sends a message from newMessage and passes what comes back to each,
// up to the acknowledgement or the end of the dump. After an error of each,
// the rest is read and discarded.
func (c *conn) request(msg []byte, each func(typ uint16, body []byte) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.exchange(msg, each, nil)
}

// exchange is request for who holds mu. What comes meanwhile that is no answer
// to the message is passed to other, if that is not nil.
func (c *conn) exchange(msg []byte, each func(typ uint16, body []byte) error, other func(h header, body []byte)) error {
	if c.fd < 0 {
		return os.ErrClosed
	}
	c.seq++
	flags := native.Uint16(msg[6:])
	if flags&unix.NLM_F_DUMP != unix.NLM_F_DUMP {
		flags |= unix.NLM_F_ACK
	}
	native.PutUint32(msg, uint32(len(msg)))
	native.PutUint16(msg[6:], flags)
	native.PutUint32(msg[8:], c.seq)
	if err := unix.Sendto(c.fd, msg, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	r := reply{seq: c.seq, each: each, other: other}
	for !r.done {
		n, err := c.receive()
		if err != nil {
			return err
		}
		if err := r.datagram(c.buf[:n]); err != nil {
			return err
		}
	}
	return r.err
}

// receive reads one datagram of the kernel into c.buf.
func (c *conn) receive() (int, error) {
	for {
		n, _, flags, from, err := unix.Recvmsg(c.fd, c.buf, nil, 0)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return 0, os.ErrDeadlineExceeded
		case err != nil:
			return 0, err
		case flags&unix.MSG_TRUNC != 0:
			return 0, fmt.Errorf("%w: longer than %d bytes", errMalformed, len(c.buf))
		}
		if sa, ok := from.(*unix.SockaddrNetlink); ok && sa.Pid == 0 {
			return n, nil
		}
	}
}

// A reply is the state of reading the answer to one request.
type reply struct {
	seq   uint32
	each  func(typ uint16, body []byte) error
	other func(h header, body []byte)
	done  bool
	err   error // the kernel's verdict, or the first error of each
}

// datagram takes one; the error is for an answer that cannot be read on.
func (r *reply) datagram(b []byte) error {
	for len(b) > 0 && !r.done {
		h, body, rest, ok := nextMessage(b)
		if !ok {
			return short("netlink message", b)
		}
		b = rest
		if h.seq != r.seq { // an event, or the rest of an answer that was given up
			if r.other != nil {
				r.other(h, body)
			}
			continue
		}
		if h.flags&unix.NLM_F_DUMP_INTR != 0 && r.err == nil {
			r.err = errInterrupted
		}
		switch h.typ {
		case unix.NLMSG_NOOP:
		case unix.NLMSG_ERROR, unix.NLMSG_DONE:
			r.done = true
			if err := ackError(h, body); err != nil {
				r.err = err
			}
		default:
			if r.err == nil && r.each != nil {
				r.err = r.each(h.typ, body)
			}
		}
	}
	return nil
}
