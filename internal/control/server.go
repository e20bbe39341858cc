package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"proxyarpd/internal/descriptors"
	"proxyarpd/internal/shortage"
)

// Limits of the control socket: a client that says too much, too slowly or too
// often is cut off.
const (
	Clients = 16 // at once

	requestBytes = 64 << 10
	deadline     = 5 * time.Second        // for the request to come, and again for the reply to go
	lastDeadline = 500 * time.Millisecond // of a client that holds one of the last descriptors
	acceptPause  = 100 * time.Millisecond // between attempts, at most; who came since then may be about to speak
)

// Descriptors is how many a server holds besides its clients': the socket and
// its directory.
const Descriptors = 2

// A Handler serves requests of one operation, each on a goroutine of its own.
// request is the client's line, which Decode reads. The reply is encoded as a
// line of JSON, an error as a Refusal. Where both are nil the handler has
// replied on its own, by Conn.Reply, and has said all that there is to say.
//
// When ctx ends, c is closed, unless the handler has called Conn.Keep.
type Handler func(ctx context.Context, c *Conn, request []byte) (reply any, err error)

// Conn is a client that is being served.
type Conn struct {
	*net.UnixConn
	keep      func() bool
	replyTime time.Duration
}

// Peer is the process that has connected, 0 if it is in another PID namespace.
func (c *Conn) Peer() (pid int, err error) {
	_, p, err := peer(c.UnixConn)
	return int(p), err
}

// Keep leaves the connection open when the server ends: the handler sees to it
// that it returns soon then.
func (c *Conn) Keep() { c.keep() }

// Reply sends a line of JSON before the handler is done.
func (c *Conn) Reply(v any) error {
	_ = c.SetWriteDeadline(time.Now().Add(c.replyTime))
	return json.NewEncoder(c.UnixConn).Encode(v)
}

// Config is what a Server needs.
type Config struct {
	Path       string // of the socket
	Operations map[string]Handler
	Log        *slog.Logger
	// Replace has the socket take the place of one that somebody listens on.
	Replace bool
}

// Server serves the socket.
type Server struct {
	cfg  Config
	l    net.Listener
	own  *ownSocket
	slot chan struct{}
	// replyTime is how long a client may take to read a reply, requestTime to say
	// its request.
	requestTime, replyTime time.Duration

	mu   sync.Mutex
	idle []idleClient // oldest first

	evicted, refused *burst
}

// Counters count the clients that were not served.
type Counters struct {
	Evicted uint64 // were idle, and others came
	Refused uint64 // may not ask, or all places were taken
}

// Listen makes the socket. A client can connect from now on, and is answered by
// Serve, which also removes the socket.
func Listen(cfg Config) (*Server, error) {
	own, l, err := bindSocket(cfg.Path, cfg.Replace)
	if err != nil {
		return nil, err
	}
	return newServer(cfg, l, own), nil
}

func newServer(cfg Config, l net.Listener, own *ownSocket) *Server {
	return &Server{cfg: cfg, l: l, own: own, slot: make(chan struct{}, Clients), requestTime: deadline, replyTime: deadline,
		evicted: newBurst(cfg.Log, "control clients that were idle were hung up on, to make room"),
		refused: newBurst(cfg.Log, "control clients refused"),
	}
}

// Hidden reports whether something else has the name of the socket by now.
func (s *Server) Hidden() bool { return !s.own.there() }

// Counters gives them as they are now. For any goroutine.
func (s *Server) Counters() Counters {
	return Counters{Evicted: s.evicted.count(), Refused: s.refused.count()}
}

// Serve answers clients until ctx ends. No other error ends it: what is short
// now will be there again, and the daemon has better to do than to end.
func (s *Server) Serve(ctx context.Context) error {
	defer s.refused.end()
	defer s.evicted.end()
	defer s.own.remove()
	stop := context.AfterFunc(ctx, func() { _ = s.l.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	failed := newBurst(s.cfg.Log, "control clients can't be accepted, trying again")
	defer failed.end()
	pause := shortage.Backoff{Most: acceptPause}
	for {
		conn, err := s.l.Accept()
		switch {
		case err == nil:
			pause.Reset()
			s.admit(ctx, &wg, conn.(*net.UnixConn))
		case ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return nil
		default:
			if s.awaited() {
				failed.add(err.Error())
				if shortage.Passing(err) {
					s.evict(acceptPause) // what it has is free in a moment
				}
			}
			select {
			case <-ctx.Done():
			case <-time.After(pause.Next()):
			}
		}
	}
}

// admit serves a client, once there is room.
func (s *Server) admit(ctx context.Context, wg *sync.WaitGroup, conn *net.UnixConn) {
	select {
	case s.slot <- struct{}{}:
	default:
		if !s.evict(0) {
			s.refused.add("all are busy")
			_ = conn.Close() // too many at once
			return
		}
		s.slot <- struct{}{} // as soon as it has gone
	}
	s.setIdle(conn)
	wg.Go(func() {
		defer func() { <-s.slot }()
		defer s.setBusy(conn)
		stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
		defer stop()
		defer conn.Close()
		s.client(ctx, conn, stop)
	})
}

// client serves one client; keep keeps the end of ctx from closing conn.
func (s *Server) client(ctx context.Context, conn *net.UnixConn, keep func() bool) {
	switch err := allowed(conn); {
	case errors.Is(err, net.ErrClosed):
		return // hung up on already
	case err != nil:
		s.refused.add(err.Error())
		return
	}
	_ = conn.SetDeadline(time.Now().Add(s.patience(conn)))
	line, err := bufio.NewReader(io.LimitReader(conn, requestBytes)).ReadBytes('\n')
	if err != nil {
		return
	}
	if !s.setBusy(conn) {
		return // hung up on as it spoke: who waits for its place shall have it
	}
	reply, err := s.handle(ctx, &Conn{conn, keep, s.replyTime}, line)
	switch {
	case err != nil:
		reply = Refusal{err.Error()}
	case reply == nil:
		return
	}
	s.setIdle(conn)
	_ = conn.SetDeadline(time.Now().Add(s.replyTime))
	_ = json.NewEncoder(conn).Encode(reply)
}

// handle has a request served by its operation.
func (s *Server) handle(ctx context.Context, c *Conn, line []byte) (reply any, err error) {
	var req Request
	if err := Decode(line, &req); err != nil {
		return nil, err
	}
	serve, ok := s.cfg.Operations[req.Op]
	if !ok {
		return nil, Unknown(req.Op)
	}
	return serve(ctx, c, line)
}

// patience is how long the request may take to come. Who takes one of the last
// descriptors, which the daemon itself needs now and then, has little.
func (s *Server) patience(conn *net.UnixConn) time.Duration {
	number := 0
	if raw, err := conn.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { number = int(fd) })
	}
	if descriptors.Last(number) {
		return min(lastDeadline, s.requestTime)
	}
	return s.requestTime
}

// allowed lets root in, and the user the daemon runs as.
func allowed(conn *net.UnixConn) error {
	uid, pid, err := peer(conn)
	switch {
	case err != nil:
		return err
	case !mayAsk(uid, os.Geteuid()):
		return fmt.Errorf("uid %d, pid %d", uid, pid)
	}
	return nil
}

func mayAsk(uid uint32, daemon int) bool { return uid == 0 || int(uid) == daemon }
