// Package handover carries messages with descriptors between two processes, over a
// connected unix socket: what a daemon hands to its successor.
//
// A message is a header of two numbers of four bytes, most significant byte first: the
// length of the body in bytes, and how many descriptors there are; the body, JSON; and
// for each 200 descriptors one byte that bears them (SCM_RIGHTS, unix(7)), which has a
// limit of 253 at a time.
package handover

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"

	"golang.org/x/sys/unix"
)

const (
	headerLen = 8
	together  = 200
	// MaxDescriptors is how many a message may have.
	MaxDescriptors = 1 << 14
)

// ErrShort says that not all descriptors could be taken: the limit of this process is
// too low.
var ErrShort = errors.New("the limit of descriptors is too low, raise it (ulimit -n, LimitNOFILE)")

// Send writes a message. The descriptors stay the caller's.
func Send(c *net.UnixConn, body any, fds []int) error {
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	if len(fds) > MaxDescriptors {
		return fmt.Errorf("%d descriptors, which is too many", len(fds))
	}
	head := binary.BigEndian.AppendUint32(make([]byte, 0, headerLen+len(b)), uint32(len(b)))
	head = binary.BigEndian.AppendUint32(head, uint32(len(fds)))
	if _, err := c.Write(append(head, b...)); err != nil {
		return err
	}
	for len(fds) > 0 {
		n := min(len(fds), together)
		if _, _, err := c.WriteMsgUnix([]byte{0}, unix.UnixRights(fds[:n]...), nil); err != nil {
			return err
		}
		fds = fds[n:]
	}
	return nil
}

// Receive reads a message into body, a pointer, of at most so many bytes. The
// descriptors are the caller's; there are none where it fails.
func Receive(c *net.UnixConn, body any, most int) (fds []int, err error) {
	defer func() {
		if err != nil {
			CloseAll(fds)
			fds = nil
		}
	}()
	var head [headerLen]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return nil, err
	}
	length, n := binary.BigEndian.Uint32(head[:]), binary.BigEndian.Uint32(head[4:])
	if uint64(length) > uint64(most) || n > MaxDescriptors {
		return nil, fmt.Errorf("a message of %d bytes and %d descriptors is too long", length, n)
	}
	b := make([]byte, length)
	if _, err := io.ReadFull(c, b); err != nil {
		return nil, unexpected(err)
	}
	for uint32(len(fds)) < n {
		some, err := receiveRights(c)
		fds = append(fds, some...)
		if err != nil {
			return fds, unexpected(err)
		}
	}
	if uint32(len(fds)) != n {
		return fds, fmt.Errorf("%d descriptors came, of %d", len(fds), n)
	}
	if err := json.Unmarshal(b, body); err != nil {
		return fds, fmt.Errorf("message: %w", err)
	}
	return fds, nil
}

func receiveRights(c *net.UnixConn) (fds []int, err error) {
	var one [1]byte
	oob := make([]byte, unix.CmsgSpace(4*together))
	n, oobn, flags, _, err := c.ReadMsgUnix(one[:], oob)
	if err != nil {
		return nil, err
	}
	control, err := unix.ParseSocketControlMessage(oob[:oobn])
	for i := range control {
		some, rightsErr := unix.ParseUnixRights(&control[i])
		fds, err = append(fds, some...), errors.Join(err, rightsErr)
	}
	switch {
	case err != nil:
		return fds, err
	case n == 0:
		return fds, io.EOF
	case flags&unix.MSG_CTRUNC != 0:
		return fds, ErrShort
	case len(fds) == 0:
		return nil, errors.New("descriptors are missing")
	}
	return fds, nil
}

// unexpected is the error of a message that ends early.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// ReadLine reads a line of at most so many bytes, and nothing behind it.
func ReadLine(c io.Reader, most int) ([]byte, error) {
	var line []byte
	for len(line) < most {
		var b [1]byte
		if _, err := io.ReadFull(c, b[:]); err != nil {
			if len(line) > 0 {
				return nil, unexpected(err)
			}
			return nil, err
		}
		if line = append(line, b[0]); b[0] == '\n' {
			return line, nil
		}
	}
	return nil, fmt.Errorf("it is longer than %d bytes", most)
}

// CloseAll closes descriptors; -1 is none.
func CloseAll(fds []int) {
	for _, fd := range fds {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}
