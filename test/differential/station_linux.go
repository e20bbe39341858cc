package differential

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/nstest"
	"proxyarpd/internal/wire"
)

const vnetLen = 10

// station is the far end of a port: it sends and receives whole frames, with
// the virtio_net_hdr before them, and has no IP stack of its own.
type station struct {
	fd   int
	bare bool // of a TUN device: its frames have no Ethernet header
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }

func openStation(ifindex int) (*station, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("packet socket: %w", err)
	}
	for _, o := range [][3]int{
		{unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1},
		{unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1},
		{unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64 << 20},
		{unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 16 << 20},
	} {
		if err == nil {
			err = unix.SetsockoptInt(fd, o[0], o[1], o[2])
		}
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: ifindex})
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("packet socket: %w", err)
	}
	return &station{fd: fd}, nil
}

// openTUN makes a TUN device in the network namespace of the calling thread.
func openTUN(name string) (*station, error) {
	fd, err := nstest.OpenTUN(name, unix.IFF_TUN|unix.IFF_NO_PI|unix.IFF_VNET_HDR)
	if err != nil {
		return nil, err
	}
	return &station{fd, true}, nil
}

func (s *station) close() { unix.Close(s.fd) }

const ethernetLen = 14

// moveHeaders says in a virtio_net_hdr that the headers stand n bytes further on.
func moveHeaders(vnet []byte, n int) {
	for _, at := range []int{2, 6} {
		if v := int(binary.NativeEndian.Uint16(vnet[at:])); v != 0 {
			binary.NativeEndian.PutUint16(vnet[at:], uint16(max(v+n, 0)))
		}
	}
}

// unframed takes the Ethernet header out of a frame. What is no IP there is
// cut down to nothing, which the device refuses.
func unframed(frame []byte) []byte {
	if len(frame) < vnetLen+ethernetLen {
		return frame[:vnetLen]
	}
	if typ := wire.Ethernet(frame[vnetLen:]).Type(); typ != wire.EtherTypeIPv4 && typ != wire.EtherTypeIPv6 {
		return frame[:vnetLen]
	}
	b := append(append([]byte(nil), frame[:vnetLen]...), frame[vnetLen+ethernetLen:]...)
	moveHeaders(b, -ethernetLen)
	return b
}

// framed gives a packet an Ethernet header in place, buf[vnetLen+ethernetLen:]
// being the packet.
func framed(buf []byte) []byte {
	clear(buf[vnetLen : vnetLen+ethernetLen])
	typ := wire.EtherTypeIPv4
	if len(buf) > vnetLen+ethernetLen && buf[vnetLen+ethernetLen]>>4 == 6 {
		typ = wire.EtherTypeIPv6
	}
	wire.Ethernet(buf[vnetLen:]).SetType(typ)
	moveHeaders(buf, ethernetLen)
	return buf
}

// send gives the kernel's errno: a frame that it refuses is none for both hosts.
func (s *station) send(frame []byte) error {
	if s.bare {
		frame = unframed(frame)
	}
	for tries := 0; ; tries++ {
		_, err := unix.Write(s.fd, frame)
		again := errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.EINTR)
		if !again || tries == 10000 { // it is also what is said of a super-packet that can't be cut
			return err
		}
	}
}

// receive takes what is there.
func (s *station) receive(buf []byte, got func(frame []byte)) error {
	for {
		n, err := unix.Read(s.fd, buf)
		if s.bare && n > vnetLen {
			copy(buf[vnetLen+ethernetLen:], buf[vnetLen:n])
			n += ethernetLen
			framed(buf[:n])
		}
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ENETDOWN): // told once; it goes on when the device is up
		case err != nil:
			return fmt.Errorf("receive: %w", err)
		case n >= vnetLen+14:
			got(buf[:n])
		}
	}
}

func (s *station) drops() uint32 {
	st, err := unix.GetsockoptTpacketStats(s.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return 0
	}
	return st.Drops
}

// await waits until one of the stations has something, or the time is over.
func await(all []*station, timeout time.Duration) {
	fds := make([]unix.PollFd, len(all))
	for i, s := range all {
		fds[i] = unix.PollFd{Fd: int32(s.fd), Events: unix.POLLIN}
	}
	unix.Poll(fds, max(int(timeout.Milliseconds()), 0))
}

// pinned counts the threads that pin has given a CPU.
var pinned atomic.Int32

// pin keeps the calling thread on one CPU: what it sends is received in order. Threads of different worlds get different
// ones.
func pin() error {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return err
	}
	skip := int(pinned.Add(1)-1) % max(set.Count(), 1)
	for cpu := range 1024 {
		if !set.IsSet(cpu) {
			continue
		}
		if skip--; skip < 0 {
			set.Zero()
			set.Set(cpu)
			return unix.SchedSetaffinity(0, &set)
		}
	}
	return nil
}
