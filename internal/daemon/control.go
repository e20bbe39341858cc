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
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/capture"
)

func pid() int { return os.Getpid() }

// Limits of the control socket: a client that says too much, too slowly or too
// often is cut off.
const (
	controlClients  = 16
	controlRequest  = 64 << 10 // bytes
	controlDeadline = 5 * time.Second
	maxWait         = 10 * time.Minute
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

// control serves the socket at path.
type control struct {
	d    *Daemon
	l    *net.UnixListener
	path string
	log  *slog.Logger
	slot chan struct{}

	mu   sync.Mutex
	idle []*net.UnixConn // oldest first: we wait for the client, not it for us
}

// setIdle says whether the client is the one who is waited for.
func (c *control) setIdle(conn *net.UnixConn, idle bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle = slices.DeleteFunc(c.idle, func(o *net.UnixConn) bool { return o == conn })
	if idle {
		c.idle = append(c.idle, conn)
	}
}

// evict hangs up on the client that is idle longest, if one is.
func (c *control) evict() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.idle) == 0 {
		return false
	}
	_ = c.idle[0].Close()
	c.idle = slices.Delete(c.idle, 0, 1)
	return true
}

// listen makes the control socket. It is bound under another name and renamed,
// so that whoever sees it can connect.
func (d *Daemon) listen() (*control, error) {
	path := d.cfg.Control
	if st, err := os.Lstat(path); err == nil && st.Mode()&os.ModeSocket == 0 {
		return nil, fmt.Errorf("--control %s: is there and no socket", path)
	}
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		_ = c.Close()
		return nil, fmt.Errorf("--control %s: another daemon listens there", path)
	}
	temp := fmt.Sprintf("%s.%d", path, os.Getpid())
	if len(temp) > 107 {
		return nil, fmt.Errorf("--control %s: path is too long", path)
	}
	_ = os.Remove(temp)
	old := unix.Umask(0o177)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: temp, Net: "unix"})
	unix.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("--control: %w", err)
	}
	l.SetUnlinkOnClose(false)
	if err := os.Rename(temp, path); err != nil {
		return nil, errors.Join(fmt.Errorf("--control: %w", err), l.Close(), os.Remove(temp))
	}
	return &control{d: d, l: l, path: path, log: d.log, slot: make(chan struct{}, controlClients)}, nil
}

// serve answers clients until ctx ends.
func (c *control) serve(ctx context.Context) error {
	defer func() { _ = os.Remove(c.path) }()
	stop := context.AfterFunc(ctx, func() { _ = c.l.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		conn, err := c.l.AcceptUnix()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("control socket: %w", err)
		}
		select {
		case c.slot <- struct{}{}:
		default:
			if !c.evict() {
				_ = conn.Close() // too many at once
				continue
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
}

// client serves one client; keep keeps the end of ctx from closing conn.
func (c *control) client(ctx context.Context, conn *net.UnixConn, keep func() bool) {
	if err := c.allowed(conn); err != nil {
		c.log.Warn("control client refused", "err", err)
		return
	}
	_ = conn.SetDeadline(time.Now().Add(controlDeadline))
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
