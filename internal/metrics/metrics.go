// Package metrics shows a daemon's status to Prometheus, and to whoever asks whether
// it is well. Nothing is counted here: each scrape takes a status.
//
// The text format and as much of HTTP as a scrape needs are its own:
// client_golang and net/http cost each process 6 MB of resident memory, also those
// that show no metrics. The tests hold what it writes to client_golang's parser and
// linter.
package metrics

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"proxyarpd/internal/status"
)

// Source gives the daemon's status, false if it is ending.
type Source func(ctx context.Context) (*status.Status, bool)

// Server answers GET for /metrics, /healthz and /readyz, a request a connection.
type Server struct {
	l      net.Listener
	source Source
	log    *slog.Logger
	places chan struct{}
}

// Bounds of what clients may cause.
const (
	mostClients = 8               // at a time; others wait in the socket's queue
	askedFor    = 5 * time.Second // a daemon that takes longer is not well
	requestTime = 5 * time.Second
	mostRequest = 16 << 10 // bytes, of a request's head
)

// Address is where to listen: an address without a host is on loopback.
func Address(s string) (string, error) {
	if !strings.Contains(s, ":") {
		s = ":" + s // a port alone
	}
	host, port, err := net.SplitHostPort(s)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil || port == "" {
		return "", errors.New("want HOST:PORT, or a port")
	}
	if host == "" {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port), nil
}

// Listen makes the socket.
func Listen(address string, source Source, log *slog.Logger) (*Server, error) {
	address, err := Address(address)
	if err != nil {
		return nil, err
	}
	s := &Server{source: source, log: log, places: make(chan struct{}, mostClients)}
	s.l, err = net.Listen("tcp", address)
	return s, err
}

// Adopt makes a Server of another process's socket, which is the Server's from then on.
func Adopt(socket *os.File, source Source, log *slog.Logger) (*Server, error) {
	s := &Server{source: source, log: log, places: make(chan struct{}, mostClients)}
	var err error
	s.l, err = net.FileListener(socket)
	return s, errors.Join(err, socket.Close())
}

// File is a descriptor of the socket, the caller's.
func (s *Server) File() (*os.File, error) {
	l, ok := s.l.(*net.TCPListener)
	if !ok {
		return nil, fmt.Errorf("a listener of type %T", s.l)
	}
	return l.File()
}

// Addr is where it listens.
func (s *Server) Addr() net.Addr { return s.l.Addr() }

// Close is for a server that does not serve.
func (s *Server) Close() error { return s.l.Close() }

// acceptPause is the time between attempts where descriptors are short.
const acceptPause = 100 * time.Millisecond

// Serve answers until ctx ends.
func (s *Server) Serve(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { _ = s.l.Close() })()
	var all sync.WaitGroup
	defer all.Wait()
	for {
		select {
		case s.places <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		conn, err := s.l.Accept()
		if err != nil {
			<-s.places
			if ctx.Err() != nil {
				return nil
			}
			s.log.Debug("metrics", "err", err)
			select {
			case <-time.After(acceptPause):
			case <-ctx.Done():
			}
			continue
		}
		all.Go(func() {
			defer func() { <-s.places }()
			defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
			if err := s.answer(ctx, conn); err != nil {
				s.log.Debug("metrics", "client", conn.RemoteAddr().String(), "err", err)
			}
			_ = conn.Close()
		})
	}
}

// answer reads a request and answers it.
func (s *Server) answer(ctx context.Context, conn net.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(requestTime + askedFor)); err != nil {
		return err
	}
	method, path, err := readRequest(io.LimitReader(conn, mostRequest))
	if err != nil {
		return errors.Join(err, reply(conn, 400, "text/plain", []byte("bad request\n"), true))
	}
	path, _, _ = strings.Cut(path, "?")
	code, typ, body := 404, "text/plain; charset=utf-8", []byte("not found\n")
	switch {
	case method != "GET" && method != "HEAD":
		code, body = 405, []byte("method not allowed\n")
	case path == "/metrics" || path == "/healthz" || path == "/readyz":
		ctx, stop := context.WithTimeout(ctx, askedFor)
		st, ok := s.source(ctx)
		stop()
		switch {
		case !ok:
			code, body = 503, []byte("the daemon does not answer, or is ending\n")
		case path == "/metrics":
			code, typ, body = 200, ContentType, collect(st)
		case path == "/readyz" && !st.Ready:
			code, body = 503, []byte("not ready: "+st.NotReady+"\n")
		default:
			code, body = 200, []byte("ok\n")
		}
	}
	return reply(conn, code, typ, body, method != "HEAD")
}

// readRequest reads the head of a request (RFC 9112) and gives method and target.
func readRequest(from io.Reader) (method, target string, err error) {
	r := bufio.NewReader(from)
	first, err := r.ReadString('\n')
	if err != nil {
		return "", "", fmt.Errorf("request line: %w", err)
	}
	fields := strings.Split(strings.TrimRight(first, "\r\n"), " ")
	if len(fields) != 3 || !strings.HasPrefix(fields[2], "HTTP/1.") || !strings.HasPrefix(fields[1], "/") {
		return "", "", errors.New("not a request of HTTP/1")
	}
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return "", "", fmt.Errorf("header: %w", err)
		}
		if strings.TrimRight(line, "\r\n") == "" {
			return fields[0], fields[1], nil
		}
	}
}

var reasons = map[int]string{200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}

func reply(to io.Writer, code int, typ string, body []byte, withBody bool) error {
	head := fmt.Sprintf("HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %d\r\nConnection: close\r\n", code, reasons[code], typ, len(body))
	if code == 405 {
		head += "Allow: GET, HEAD\r\n"
	}
	all := append([]byte(head+"\r\n"), body...)
	if !withBody {
		all = all[:len(all)-len(body)]
	}
	_, err := to.Write(all)
	return err
}
