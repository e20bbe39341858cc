package pktring

import (
	"errors"
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// MaxBatch is how many frames one Sender holds.
const MaxBatch = 64

// maxPieces is how many pieces they may have together.
const maxPieces = 512

type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
	_   [4]byte
}

// Sender collects frames for any interfaces and sends them by sendmmsg, each
// with a virtio_net_hdr before it. It belongs to one goroutine. It copies
// nothing: buffers are borrowed from Add until Flush has returned.
type Sender struct {
	fd   int
	n    int
	msgs [MaxBatch]mmsghdr
	iov  [maxPieces]unix.Iovec
	niov int
	sll  [MaxBatch]unix.RawSockaddrLinklayer
	errs [MaxBatch]syscall.Errno

	priority uint8 // of the socket
}

// OpenSender makes a socket for transmission alone. bypass hands frames to the
// device without its queueing discipline and egress programs
// (PACKET_QDISC_BYPASS): only for devices that have none, and never for a GSO
// frame, which the kernel would lose there in silence if the device could not
// segment it.
func OpenSender(bypass bool) (*Sender, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("packet socket: %w", err)
	}
	s := &Sender{fd: fd}
	err = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1)
	if err == nil && bypass {
		err = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("packet socket: transmit options: %w", err), s.Close())
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, defaultQueue) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, defaultQueue)
	}
	for i := range s.msgs {
		s.sll[i] = unix.RawSockaddrLinklayer{Family: unix.AF_PACKET, Halen: 6}
		s.msgs[i].hdr.Name = (*byte)(unsafe.Pointer(&s.sll[i]))
		s.msgs[i].hdr.Namelen = unix.SizeofSockaddrLinklayer
	}
	return s, nil
}

// Len is the number of frames added since the last Flush.
func (s *Sender) Len() int { return s.n }

// Add appends a frame: b is its virtio_net_hdr and the frame from its
// link-layer header, protocol its EtherType in host byte order. At most
// MaxBatch frames fit between two calls of Flush; ok is false for one that
// does not.
func (s *Sender) Add(b []byte, ifindex int32, protocol uint16) (ok bool) {
	return s.AddPieces(b, nil, ifindex, protocol)
}

// AddPieces is Add for a frame in pieces: tail follows b. There is room for
// maxPieces pieces.
func (s *Sender) AddPieces(b []byte, tail [][]byte, ifindex int32, protocol uint16) (ok bool) {
	i := s.n
	if i == MaxBatch || s.niov+1+len(tail) > len(s.iov) {
		return false
	}
	s.msgs[i].hdr.Iov = &s.iov[s.niov]
	s.msgs[i].hdr.SetIovlen(1 + len(tail))
	s.piece(b)
	for _, t := range tail {
		s.piece(t)
	}
	s.sll[i].Ifindex = ifindex
	s.sll[i].Protocol = htons(protocol)
	s.n++
	return true
}

func (s *Sender) piece(b []byte) {
	s.iov[s.niov].Base = &b[0]
	s.iov[s.niov].SetLen(len(b))
	s.niov++
}

// Flush sends what was added, in order. Element i of the result is frame i's
// error, 0 if it was sent; the slice is valid until the next Flush. A frame
// that fails does not hold up those behind it.
func (s *Sender) Flush() []syscall.Errno {
	n := s.n
	for i := 0; i < n; {
		sent, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(s.fd),
			uintptr(unsafe.Pointer(&s.msgs[i])), uintptr(n-i), unix.MSG_DONTWAIT, 0, 0)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 || sent == 0 {
			s.errs[i] = errno
			i++
			continue
		}
		for end := i + int(sent); i < end; i++ {
			s.errs[i] = 0
		}
	}
	clear(s.iov[:s.niov])
	s.n, s.niov = 0, 0
	return s.errs[:n]
}

// SetMark marks the frames that are sent from now on (SO_MARK). For any
// goroutine.
func (s *Sender) SetMark(mark uint32) error {
	if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_MARK, int(mark)); err != nil {
		return fmt.Errorf("packet socket: SO_MARK: %w", err)
	}
	return nil
}

// SetPriority gives the frames that are added from now on that priority
// (SO_PRIORITY), 0 to 6. Nothing may have been added since the last Flush.
func (s *Sender) SetPriority(priority uint8) {
	if priority != s.priority && unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_PRIORITY, int(priority)) == nil {
		s.priority = priority
	}
}

// Close releases the socket.
func (s *Sender) Close() error {
	if s.fd < 0 {
		return nil
	}
	fd := s.fd
	s.fd = -1
	return unix.Close(fd)
}
