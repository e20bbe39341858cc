package control

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// peer says who has connected (SO_PEERCRED, unix(7)).
func peer(conn *net.UnixConn) (uid uint32, pid int32, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, 0, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, 0, err
	}
	if credErr != nil {
		return 0, 0, credErr
	}
	return cred.Uid, cred.Pid, nil
}

// silent reports whether the client has said nothing that is not read yet, for at least that long.
func (i idleClient) silent(atLeast time.Duration) bool {
	unread := 0
	raw, err := i.conn.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { unread, _ = unix.IoctlGetInt(int(fd), unix.SIOCINQ) })
	}
	return err != nil || unread == 0 && time.Since(i.since) >= atLeast
}

// awaited reports whether a client waits to be accepted. Accept takes a descriptor before it looks for one (Linux,
// net/socket.c), and fails when there is none even if nobody waits.
func (s *Server) awaited() bool {
	l, ok := s.l.(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := l.SyscallConn()
	if err != nil {
		return true
	}
	var n int
	var errPoll error
	err = raw.Control(func(fd uintptr) {
		n, errPoll = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	})
	return n > 0 || err != nil || errPoll != nil
}
