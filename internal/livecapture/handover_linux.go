package livecapture

import (
	"errors"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// unixConn makes a connection of a descriptor, which is the connection's from then on.
func unixConn(fd int) (*net.UnixConn, error) {
	f := os.NewFile(uintptr(fd), "capture")
	c, err := net.FileConn(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		return nil, errors.Join(errors.New("no unix socket"), c.Close())
	}
	return u, nil
}

func closeFD(fd int) { _ = unix.Close(fd) }
