package daemon

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
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/capture"
	"proxyarpd/internal/shortage"
)

func pid() int { return os.Getpid() }

// Limits of the control socket: a client that says too much, too slowly or too
// often is cut off.
const (
	controlClients  = 16
	controlRequest  = 64 << 10 // bytes
	controlDeadline = 5 * time.Second
	lastDeadline    = 500 * time.Millisecond
	maxWait         = 10 * time.Minute
	acceptPause     = 100 * time.Millisecond // between attempts, at most; who came since then may be about to speak
)

// request is one line of JSON from a client; the answer is one line too.
type request struct {
	Op      string           `json:"op"`             // "status", "capture"
	Wait    time.Duration    `json:"wait,omitempty"` // ns: wait that long to be ready
	Capture *capture.Request `json:"capture,omitempty"`
}

type reply struct {
	Error   string         `json:"error,omitempty"`
	Status  *Status        `json:"status,omitempty"`
	Capture *capture.Reply `json:"capture,omitempty"` // a capture follows
	// BadExpression says that Error is about a capture's filter expression.
	BadExpression bool `json:"bad_expression,omitempty"`
}

// control serves the socket.
type control struct {
	d    *Daemon
	l    net.Listener
	own  *ownSocket
	log  *slog.Logger
	slot chan struct{}

	mu   sync.Mutex
	idle []idleClient // oldest first

	evicted, refused *burst
}

func newControl(d *Daemon, l net.Listener, own *ownSocket) *control {
	return &control{d: d, l: l, own: own, log: d.log, slot: make(chan struct{}, controlClients),
		evicted: newBurst(d.log, "control clients that were idle were hung up on, to make room"),
		refused: newBurst(d.log, "control clients refused"),
	}
}

// idleClient is one that we wait for, and that does not wait for us.
type idleClient struct {
	conn  *net.UnixConn
	since time.Time
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

// setIdle says whether the client is the one who is waited for.
func (c *control) setIdle(conn *net.UnixConn, idle bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle = slices.DeleteFunc(c.idle, func(o idleClient) bool { return o.conn == conn })
	if idle {
		c.idle = append(c.idle, idleClient{conn, time.Now()})
	}
}

// evict hangs up on the client that is idle longest, if one is for at least that long.
func (c *control) evict(atLeast time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.idle, func(o idleClient) bool { return o.silent(atLeast) })
	if i < 0 {
		return false
	}
	_ = c.idle[i].conn.Close()
	c.idle = slices.Delete(c.idle, i, i+1)
	c.evicted.add("")
	return true
}

// awaited reports whether a client waits to be accepted. Accept takes a descriptor before it looks for one (Linux,
// net/socket.c), and fails when there is none even if nobody waits.
func (c *control) awaited() bool {
	l, ok := c.l.(syscall.Conn)
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

// listen makes the control socket.
func (d *Daemon) listen() (*control, error) {
	own, l, err := bindSocket(d.cfg.Control)
	if err != nil {
		return nil, fmt.Errorf("control socket %s: %w: --control names another one", d.cfg.Control, err)
	}
	return newControl(d, l, own), nil
}

// serve answers clients until ctx ends. No other error ends it: what is short
// now will be there again, and the daemon has better to do than to end.
func (c *control) serve(ctx context.Context) error {
	defer c.refused.end()
	defer c.evicted.end()
	defer c.own.remove()
	stop := context.AfterFunc(ctx, func() { _ = c.l.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	failed := newBurst(c.log, "control clients can't be accepted, trying again")
	defer failed.end()
	pause := shortage.Backoff{Most: acceptPause}
	for {
		conn, err := c.l.Accept()
		switch {
		case err == nil:
			pause.Reset()
			c.admit(ctx, &wg, conn.(*net.UnixConn))
		case ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return nil
		default:
			if c.awaited() {
				failed.add(err.Error())
				if shortage.Passing(err) {
					c.evict(acceptPause) // what it has is free in a moment
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
func (c *control) admit(ctx context.Context, wg *sync.WaitGroup, conn *net.UnixConn) {
	select {
	case c.slot <- struct{}{}:
	default:
		if !c.evict(0) {
			c.refused.add("all are busy")
			_ = conn.Close() // too many at once
			return
		}
		c.slot <- struct{}{} // as soon as it has gone
	}
	c.setIdle(conn, true)
	wg.Go(func() {
		defer func() { <-c.slot }()
		defer c.setIdle(conn, false)
		stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
		defer stop()
		defer conn.Close()
		c.client(ctx, conn, stop)
	})
}

// client serves one client; keep keeps the end of ctx from closing conn.
func (c *control) client(ctx context.Context, conn *net.UnixConn, keep func() bool) {
	switch err := c.allowed(conn); {
	case errors.Is(err, net.ErrClosed):
		return // hung up on already
	case err != nil:
		c.refused.add(err.Error())
		return
	}
	_ = conn.SetDeadline(time.Now().Add(c.patience(conn)))
	line, err := bufio.NewReader(io.LimitReader(conn, controlRequest)).ReadBytes('\n')
	if err != nil {
		return
	}
	c.setIdle(conn, false)
	var req request
	var rep reply
	if err := json.Unmarshal(line, &req); err != nil {
		rep.Error = "request is not a line of JSON"
	} else if req.Op == "capture" && req.Capture != nil {
		keep()
		if err := c.capture(ctx, conn, req.Capture); err == nil {
			return
		} else {
			rep.Error = err.Error()
			rep.BadExpression = errors.As(err, new(capture.BadExpression))
		}
	} else {
		rep = c.answer(ctx, conn, &req)
	}
	c.setIdle(conn, true)
	_ = conn.SetDeadline(time.Now().Add(controlDeadline))
	_ = json.NewEncoder(conn).Encode(&rep)
}

// patience is how long the request may take to come. Who takes one of the last descriptors, which the daemon itself
// needs now and then, has little: the kernel gives out the lowest number that is free.
func (c *control) patience(conn *net.UnixConn) time.Duration {
	number := 0
	if raw, err := conn.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { number = int(fd) })
	}
	if number >= limitOfDescriptors()-fewDescriptors {
		return lastDeadline
	}
	return controlDeadline
}

// allowed lets root in, and the user the daemon runs as.
func (c *control) allowed(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return err
	}
	if credErr != nil {
		return credErr
	}
	if cred.Uid != 0 && int(cred.Uid) != os.Geteuid() {
		return fmt.Errorf("uid %d, pid %d", cred.Uid, cred.Pid)
	}
	return nil
}

func (c *control) answer(ctx context.Context, conn *net.UnixConn, req *request) reply {
	if req.Op != "status" {
		return reply{Error: fmt.Sprintf("unknown request %q", req.Op)}
	}
	if req.Wait > 0 {
		wait := min(req.Wait, maxWait)
		_ = conn.SetDeadline(time.Now().Add(wait + controlDeadline))
		t := time.NewTimer(wait)
		defer t.Stop()
		select {
		case <-c.d.waitReady():
		case <-t.C:
		case <-ctx.Done():
		}
	}
	return reply{Status: c.d.status()}
}
