package bench

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/wire"
)

// Echo is a server that sends back what it gets: one thread, one blocking socket.
type Echo struct {
	fd   int
	port uint16
	stop atomic.Bool
	done sync.WaitGroup
}

// OpenEcho binds a UDP port in the calling thread's namespace and serves it.
func OpenEcho(addr netip.Addr) (*Echo, error) {
	fd, err := udpSocket(netip.AddrPortFrom(addr, 0))
	if err != nil {
		return nil, err
	}
	e := &Echo{fd: fd}
	return e, e.start(func() {
		var from peer
		buf := make([]byte, 2048)
		for !e.stop.Load() {
			n, errno := from.read(fd, buf)
			if errno == 0 && n > 0 {
				_ = from.write(fd, buf[:n])
			}
		}
	})
}

// OpenTCPEcho binds a TCP port in the calling thread's namespace and serves one connection after the other.
func OpenTCPEcho(addr netip.Addr) (*Echo, error) {
	fd, err := tcpSocket(addr)
	if err == nil {
		err = unix.Listen(fd, 1)
	}
	if err != nil {
		return nil, fmt.Errorf("bench: TCP socket at %s: %w", addr, err)
	}
	e := &Echo{fd: fd}
	return e, e.start(func() {
		for !e.stop.Load() {
			// Not raw: nothing is measured here, and Close wakes it.
			if c, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC); err == nil {
				e.connection(c)
			}
		}
	})
}

func (e *Echo) connection(fd int) {
	defer unix.Close(fd)
	if lowLatency(fd) != nil {
		return
	}
	buf := make([]byte, 2048)
	for !e.stop.Load() {
		n, errno := rawRead(fd, buf)
		switch {
		case errno == 0 && n == 0:
			return
		case errno == 0:
			errno = rawWrite(fd, buf[:n])
		}
		if errno != 0 && !transient(errno) {
			return
		}
	}
}

// start serves on a thread of its own.
func (e *Echo) start(serve func()) (err error) {
	if e.port, err = boundPort(e.fd); err != nil {
		return errors.Join(err, unix.Close(e.fd))
	}
	e.done.Go(func() {
		runtime.LockOSThread()
		serve()
	})
	return nil
}

// sockaddr is an address as system calls take it.
func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
}

// familyOf is the family of the sockets that take an address.
func familyOf(a unix.Sockaddr) int {
	if _, ok := a.(*unix.SockaddrInet6); ok {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

// tcpSocket makes a blocking TCP socket that is bound to a port of the kernel's choice.
func tcpSocket(addr netip.Addr) (int, error) {
	at := sockaddr(netip.AddrPortFrom(addr, 0))
	fd, err := unix.Socket(familyOf(at), unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("bench: TCP socket: %w", err)
	}
	if err := unix.Bind(fd, at); err != nil {
		return -1, errors.Join(fmt.Errorf("bench: TCP socket at %s: %w", addr, err), unix.Close(fd))
	}
	return fd, nil
}

// lowLatency lets a connection send at once, and its reads return now and then (see sys_unsafe_linux.go).
func lowLatency(fd int) error {
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return fmt.Errorf("bench: TCP_NODELAY: %w", err)
	}
	return unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1})
}

// Close ends the server.
func (e *Echo) Close() error {
	e.stop.Store(true)
	_ = unix.Shutdown(e.fd, unix.SHUT_RDWR) // may say ENOTCONN, and wakes the reader
	e.done.Wait()
	return unix.Close(e.fd)
}

// Exchange is a closed loop: the next question follows the answer to the last.
type Exchange struct {
	Count   int
	Pace    time.Duration // between the beginnings of two exchanges; 0: at once
	Timeout time.Duration // until an answer counts as lost; at least 1 ms
	CPU     int           // -1 leaves the thread to the kernel
}

// Exchanged is what came of it.
type Exchanged struct {
	Took []time.Duration // of the answered ones
	Lost int
}

// asker sends question i and says whether b is the answer to it.
type asker struct {
	fd       int
	question []byte
	prepare  func(i uint64)
	answers  func(i uint64, b []byte) bool
}

// questionLen is what a request and its response carry, bytes.
const questionLen = 64

// openUDPAsker asks an Echo.
func openUDPAsker(from netip.Addr, to netip.AddrPort) (*asker, error) {
	fd, err := udpSocket(netip.AddrPortFrom(from, 0))
	if err != nil {
		return nil, err
	}
	if err := unix.Connect(fd, sockaddr(to)); err != nil {
		return nil, errors.Join(fmt.Errorf("bench: connect to %s: %w", to, err), unix.Close(fd))
	}
	return numberedAsker(fd), nil
}

// openTCPAsker asks a TCP Echo over one connection. An answer stands in one segment, and so in one read.
func openTCPAsker(from netip.Addr, to netip.AddrPort) (*asker, error) {
	fd, err := tcpSocket(from)
	if err != nil {
		return nil, err
	}
	err = lowLatency(fd)
	if err == nil {
		err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Sec: 5}) // of connect, too
	}
	if err == nil {
		err = unix.Connect(fd, sockaddr(to))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("bench: connect to %s: %w", to, err), unix.Close(fd))
	}
	return numberedAsker(fd), nil
}

func numberedAsker(fd int) *asker {
	q := make([]byte, questionLen)
	return &asker{
		fd: fd, question: q,
		prepare: func(i uint64) { binary.BigEndian.PutUint64(q, i) },
		answers: func(i uint64, b []byte) bool { return len(b) == len(q) && binary.BigEndian.Uint64(b) == i },
	}
}

// openNeighbourAsker asks for target from a packet socket on one interface of the
// calling thread's namespace. Answers bear no number: one that comes so late that
// the next question is on its way is taken for the answer to that.
func openNeighbourAsker(ifindex int, request []byte, target netip.Addr) (*asker, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("bench: packet socket: %w", err)
	}
	err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(uint16(wire.Ethernet(request).Type())), Ifindex: ifindex})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("bench: packet socket: %w", err), unix.Close(fd))
	}
	return &asker{
		fd: fd, question: request,
		prepare: func(uint64) {},
		answers: func(_ uint64, b []byte) bool {
			a, ok := answered(b)
			return ok && a == target
		},
	}, nil
}

func (a *asker) Close() error { return unix.Close(a.fd) }

func htons(v uint16) uint16 { return v<<8 | v>>8 }

// run does the exchanges on a thread of its own.
func (a *asker) run(x Exchange) (Exchanged, error) {
	tv := unix.NsecToTimeval(int64(max(x.Timeout, time.Millisecond)))
	if err := unix.SetsockoptTimeval(a.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
		return Exchanged{}, fmt.Errorf("bench: time-out: %w", err)
	}
	out := Exchanged{Took: make([]time.Duration, 0, x.Count)}
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := pin(x.CPU)
		if err == nil {
			err = a.loop(x, &out)
		}
		done <- err
	}()
	err := <-done
	return out, err
}

func (a *asker) loop(x Exchange, out *Exchanged) error {
	buf, begin, lost := make([]byte, 2048), monotonic(), 0
	for i := range x.Count {
		if x.Pace > 0 {
			sleepUntil(begin + int64(i)*int64(x.Pace))
		}
		if out.Lost > lost { // late answers must not be taken for those to come
			lost = out.Lost
			for _, _, err := unix.Recvfrom(a.fd, buf, unix.MSG_DONTWAIT); err == nil; {
				_, _, err = unix.Recvfrom(a.fd, buf, unix.MSG_DONTWAIT)
			}
		}
		a.prepare(uint64(i))
		asked := time.Now()
		if errno := rawWrite(a.fd, a.question); errno != 0 {
			if !transient(errno) {
				return fmt.Errorf("bench: exchange %d: send: %w", i, errno)
			}
			out.Lost++
			continue
		}
		for {
			n, errno := rawRead(a.fd, buf)
			took := time.Since(asked)
			if errno == 0 && a.answers(uint64(i), buf[:n]) {
				out.Took = append(out.Took, took)
				break
			}
			if errno != 0 && !transient(errno) {
				return fmt.Errorf("bench: exchange %d: receive: %w", i, errno)
			}
			if took >= x.Timeout {
				out.Lost++
				break
			}
		}
	}
	return nil
}

// transient tells what is the network's answer, not ours: nothing yet, or an
// ICMP error.
func transient(errno syscall.Errno) bool {
	switch errno {
	case unix.EINTR, unix.EAGAIN, unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.ENOBUFS:
		return true
	}
	return false
}
