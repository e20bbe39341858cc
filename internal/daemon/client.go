package daemon

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/capture"
)

// Query asks the daemon behind the control socket at path for its status. With
// wait > 0 it waits that long for the daemon to appear and to be ready; a
// status that is not ready is returned all the same.
func Query(ctx context.Context, path string, wait time.Duration) (*Status, error) {
	deadline := time.Now().Add(wait)
	conn, err := dial(ctx, path, deadline)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	left := max(time.Until(deadline), 0)
	_ = conn.SetDeadline(time.Now().Add(left + 2*controlDeadline))
	if err := json.NewEncoder(conn).Encode(request{Op: "status", Wait: left}); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	line, err := readLine(bufio.NewReader(conn), maxStatus)
	if err != nil {
		return nil, fmt.Errorf("%s: no answer: %w", path, err)
	}
	var rep reply
	if err := json.Unmarshal(line, &rep); err != nil {
		return nil, fmt.Errorf("%s: no answer: %w", path, err)
	}
	if rep.Error != "" || rep.Status == nil {
		return nil, fmt.Errorf("%s: %s", path, cmp.Or(rep.Error, "the answer is no status"))
	}
	return rep.Status, nil
}

// Bounds of an answer, in bytes: whoever may bind the path can say anything.
// 4095 interfaces take some 4 MB.
const (
	maxStatus       = 32 << 20
	maxCaptureReply = 1 << 20
)

// readLine reads a line of at most so many bytes. One without its end is cut off.
func readLine(r *bufio.Reader, most int) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > most {
			return nil, fmt.Errorf("it is longer than %d bytes", most)
		}
		line = append(line, part...)
		switch {
		case err == nil:
			return line, nil
		case errors.Is(err, bufio.ErrBufferFull):
		case err == io.EOF && len(line) > 0:
			return nil, io.ErrUnexpectedEOF
		default:
			return nil, err
		}
	}
}

// Capture begins a capture session of the daemon behind the control socket at
// path. The packets come as pcapng from the reader; End asks for the last of
// them and the statistics, after which the reader ends.
func Capture(ctx context.Context, path string, req capture.Request) (*CaptureStream, error) {
	conn, err := dial(ctx, path, time.Now())
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ECONNREFUSED):
		return nil, fmt.Errorf("%s: %w", path, capture.ErrNoDaemon)
	case err != nil:
		return nil, err
	}
	unixConn := conn.(*net.UnixConn)
	_ = conn.SetDeadline(time.Now().Add(2 * controlDeadline))
	if err := json.NewEncoder(conn).Encode(request{Op: "capture", Capture: &req}); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), conn.Close())
	}
	buffered := bufio.NewReaderSize(conn, 64<<10)
	line, err := readLine(buffered, maxCaptureReply)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: no answer: %w", path, err), conn.Close())
	}
	var rep reply
	if err := json.Unmarshal(line, &rep); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), conn.Close())
	}
	switch {
	case rep.BadExpression:
		return nil, errors.Join(capture.BadExpression(rep.Error), conn.Close())
	case rep.Error != "": // about what was asked for
		return nil, errors.Join(errors.New(rep.Error), conn.Close())
	case rep.Capture == nil:
		return nil, errors.Join(fmt.Errorf("%s: the daemon can't capture", path), conn.Close())
	}
	_ = conn.SetDeadline(time.Time{})
	return &CaptureStream{Reply: *rep.Capture, Reader: buffered, conn: unixConn}, nil
}

// CaptureStream is a capture session as its client has it.
type CaptureStream struct {
	capture.Reply
	io.Reader
	conn *net.UnixConn
}

// End says that it is enough. For any goroutine.
func (s *CaptureStream) End() error { return s.conn.CloseWrite() }

// Ask asks for the statistics so far. For any goroutine.
func (s *CaptureStream) Ask() error {
	_, err := s.conn.Write([]byte{capture.AskStatistics})
	return err
}

// Close hangs up.
func (s *CaptureStream) Close() error { return s.conn.Close() }

// dialTick is the time between attempts where the directory can't be watched.
const dialTick = 50 * time.Millisecond

// dial connects, and where nobody listens waits until deadline for the socket
// to be put in place: by the directory's events. Where those are not to be had,
// because the user's inotify instances are used up or the directory is yet to
// be made, it asks again and again.
func dial(ctx context.Context, path string, deadline time.Time) (net.Conn, error) {
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

func connect(ctx context.Context, path string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	switch {
	case errors.Is(err, unix.EACCES):
		return nil, fmt.Errorf("%s: %w: the control socket is root's", path, unix.EACCES)
	case err != nil:
		return nil, fmt.Errorf("%s: no daemon listens (%w)", path, errors.Unwrap(errors.Unwrap(err)))
	}
	return conn, nil
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
