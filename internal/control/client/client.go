// Package client speaks to the control socket of a daemon: a question is a line
// of JSON, and so is the answer.
package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"proxyarpd/capture"
)

// Ask writes a question to conn, the control socket at path, and reads the
// answer, of at most so many bytes: whoever may bind the path can say anything.
// What follows the answer is read from rest.
func Ask(conn net.Conn, path string, question, answer any, most int) (rest *bufio.Reader, err error) {
	if err := json.NewEncoder(conn).Encode(question); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	rest = bufio.NewReaderSize(conn, readBuffer)
	line, err := readLine(rest, most)
	if err == nil {
		err = json.Unmarshal(line, answer)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: no answer: %w", path, err)
	}
	return rest, nil
}

const readBuffer = 64 << 10 // bytes

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

// CaptureSession is a capture session of a daemon. The packets come as pcapng
// from the reader; End asks for the last of them and the statistics, after which
// the reader ends.
type CaptureSession struct {
	capture.Reply
	io.Reader
	conn *net.UnixConn
}

// Bounds of the answer to a request for a session.
const (
	maxCaptureReply = 1 << 20 // bytes
	captureDeadline = 10 * time.Second
)

// Capture begins a capture session of the daemon behind the control socket at
// path. The error is capture.ErrNoDaemon, by errors.Is, if none listens there,
// and a capture.BadExpression if the filter's is wrong. The end of ctx ends the
// call, not the session.
func Capture(ctx context.Context, path string, req capture.Request) (*CaptureSession, error) {
	conn, err := Dial(ctx, path, time.Now())
	switch {
	case Absent(err):
		return nil, fmt.Errorf("%s: %w", path, capture.ErrNoDaemon)
	case err != nil:
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(captureDeadline))
	question := struct {
		Op      string           `json:"op"`
		Capture *capture.Request `json:"capture"`
	}{"capture", &req}
	var answer struct {
		Error         string         `json:"error"`
		Capture       *capture.Reply `json:"capture"`
		BadExpression bool           `json:"bad_expression"`
	}
	rest, err := Ask(conn, path, &question, &answer, maxCaptureReply)
	switch {
	case !stop(): // which closes
		return nil, ctx.Err()
	case err != nil:
	case answer.BadExpression:
		err = capture.BadExpression(answer.Error)
	case answer.Error != "": // about what was asked for
		err = errors.New(answer.Error)
	case answer.Capture == nil:
		err = fmt.Errorf("%s: the daemon can't capture", path)
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	_ = conn.SetDeadline(time.Time{})
	return &CaptureSession{Reply: *answer.Capture, Reader: rest, conn: conn}, nil
}

// End says that it is enough. For any goroutine.
func (s *CaptureSession) End() error { return s.conn.CloseWrite() }

// Ask asks for the statistics so far: see capture.AskStatistics. For any
// goroutine.
func (s *CaptureSession) Ask() error {
	_, err := s.conn.Write([]byte{capture.AskStatistics})
	return err
}

// Close hangs up. For any goroutine: a read that waits returns.
func (s *CaptureSession) Close() error { return s.conn.Close() }
