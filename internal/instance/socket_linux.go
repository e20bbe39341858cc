package instance

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// socketName is the abstract name; Go writes the leading NUL of such a name as @.
const socketName = "@proxyarpd"

// bindSocket takes the name, or says who has it. It returns nil, and has logged a warning, if the holder is
// neither root nor us. Nothing is ever said through the socket: whoever wants to know the holder connects, asks
// for SO_PEERCRED, and is hung up on, so that the queue of connections does not fill.
func bindSocket(log *slog.Logger) (net.Listener, error) {
	for range lockTries {
		fd, err := listen()
		if err == nil {
			return newSocket(fd)
		}
		if !errors.Is(err, unix.EADDRINUSE) {
			return nil, fmt.Errorf("instance: socket %s: %w", socketName, err)
		}
		cred, err := holder()
		if errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.EAGAIN) {
			time.Sleep(time.Millisecond) // it ended, or has yet to listen, or its queue is full
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("instance: socket %s: %w", socketName, err)
		}
		if cred.Uid == 0 || int(cred.Uid) == os.Geteuid() {
			return nil, &RunningError{PID: int(cred.Pid), By: "the abstract socket " + socketName}
		}
		log.Warn("an unprivileged process holds the daemon's socket name: a second daemon is kept out by the lock file alone",
			"socket", socketName, "pid", cred.Pid, "uid", cred.Uid)
		return nil, nil
	}
	log.Warn("somebody holds the daemon's socket name without serving it: a second daemon is kept out by the lock file alone",
		"socket", socketName)
	return nil, nil
}

// backlog is how many connections wait to be hung up on.
const backlog = 128

// socketFD is the descriptor of a listener, -1 if there is none.
func socketFD(l net.Listener) int {
	fd := -1
	if c, ok := l.(syscall.Conn); ok {
		if raw, err := c.SyscallConn(); err == nil {
			_ = raw.Control(func(own uintptr) { fd = int(own) })
		}
	}
	return fd
}

func listen() (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: socketName}); err != nil {
		unix.Close(fd)
		return -1, os.NewSyscallError("bind", err)
	}
	if err := unix.Listen(fd, backlog); err != nil {
		unix.Close(fd)
		return -1, os.NewSyscallError("listen", err)
	}
	return fd, nil
}

// holder returns who listens on the name.
func holder() (*unix.Ucred, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: socketName}); err != nil {
		return nil, os.NewSyscallError("connect", err)
	}
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	return cred, os.NewSyscallError("getsockopt(SO_PEERCRED)", err)
}

func newSocket(fd int) (net.Listener, error) {
	f := os.NewFile(uintptr(fd), socketName)
	defer f.Close() // the listener has its own descriptor of the same socket
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("instance: socket %s: %w", socketName, err)
	}
	go hangUp(l)
	return l, nil
}

func hangUp(l net.Listener) {
	for {
		c, err := l.Accept()
		switch {
		case err == nil:
			c.Close()
		case errors.Is(err, net.ErrClosed):
			return
		default:
			time.Sleep(100 * time.Millisecond) // no descriptors left, most likely
		}
	}
}
