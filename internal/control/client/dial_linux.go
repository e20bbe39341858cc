package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// dialTick is the time between attempts where the directory can't be watched.
const dialTick = 50 * time.Millisecond

// Dial connects to the control socket at path, and where nobody listens waits
// until deadline for the socket to be put in place: by the directory's events.
// Where those are not to be had, because the user's inotify instances are used
// up or the directory is yet to be made, it asks again and again.
func Dial(ctx context.Context, path string, deadline time.Time) (*net.UnixConn, error) {
	conn, err := connect(ctx, path)
	if err == nil || errors.Is(err, unix.EACCES) || !time.Now().Before(deadline) {
		return conn, err
	}
	dir := filepath.Dir(path)
	w, watchErr := watchDir(dir)
	if watchErr == nil {
		defer context.AfterFunc(ctx, func() { _ = w.Close() })()
		defer w.Close()
	}
	for {
		conn, err := connect(ctx, path)
		if err == nil || errors.Is(err, unix.EACCES) || !time.Now().Before(deadline) || ctx.Err() != nil {
			return conn, err
		}
		if watchErr != nil {
			select {
			case <-ctx.Done():
			case <-time.After(min(dialTick, time.Until(deadline))):
			}
			continue
		}
		_ = w.SetReadDeadline(deadline)
		var buf [4096]byte
		if _, err := w.Read(buf[:]); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, fmt.Errorf("watch %s: %w", dir, err)
		}
	}
}

// Absent reports whether an error of Dial says that no daemon listens.
func Absent(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED)
}

// Trusted is an error unless root listens, or the user that this process runs as.
func Trusted(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	ctlErr := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	switch err := errors.Join(ctlErr, err); {
	case err != nil:
		return err
	case cred.Uid != 0 && int(cred.Uid) != os.Geteuid():
		return fmt.Errorf("user %d listens", cred.Uid)
	}
	return nil
}

func connect(ctx context.Context, path string) (*net.UnixConn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	switch {
	case errors.Is(err, unix.EACCES):
		return nil, fmt.Errorf("%s: %w: the control socket is root's", path, unix.EACCES)
	case err != nil:
		return nil, fmt.Errorf("%s: no daemon listens (%w)", path, errors.Unwrap(errors.Unwrap(err)))
	}
	return conn.(*net.UnixConn), nil
}

// watchDir gives a file that can be read when a name appears in dir.
func watchDir(dir string) (*os.File, error) {
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("inotify: %w", err)
	}
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_ONLYDIR); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("watch %s: %w", dir, err)
	}
	return os.NewFile(uintptr(fd), "inotify"), nil
}
