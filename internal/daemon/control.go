package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"proxyarpd/arpd"
	"proxyarpd/capture"
	"proxyarpd/forward"
	"proxyarpd/forward/claim"
	"proxyarpd/forward/route"
	"proxyarpd/internal/control"
	"proxyarpd/internal/livecapture"
)

// listen makes the control socket, with replace in the place of one that somebody
// listens on.
func (d *Daemon) listen(replace bool) (*control.Server, error) {
	s, err := control.Listen(control.Config{Path: d.config().Control, Log: d.log, Replace: replace, Operations: map[string]control.Handler{
		"status":   d.answerStatus,
		"capture":  d.serveCapture,
		"explain":  d.answerExplain,
		"reload":   d.answerReload,
		opTakeover: d.answerTakeover,
	}})
	if err != nil {
		return nil, fmt.Errorf("control socket %s: %w: --control names another one", d.config().Control, err)
	}
	return s, nil
}

// showControl makes the control socket anew where something else has its name by now.
func (d *Daemon) showControl() error {
	if !d.control.Hidden() {
		return nil
	}
	s, err := d.listen(true)
	if err != nil {
		return err
	}
	d.control = s
	d.group.Go(func() error { return s.Serve(d.metrics.life) })
	return nil
}

// maxWait is the longest that a client may have us wait.
const maxWait = 10 * time.Minute

// statusRequest asks for the daemon's status.
type statusRequest struct {
	Op   string        `json:"op"`
	Wait time.Duration `json:"wait,omitempty"` // ns: wait that long to be ready
}

type statusReply struct {
	Error  string  `json:"error,omitempty"`
	Status *Status `json:"status,omitempty"`
}

func (d *Daemon) answerStatus(ctx context.Context, _ *control.Conn, request []byte) (any, error) {
	var req statusRequest
	if err := control.Decode(request, &req); err != nil {
		return nil, err
	}
	if req.Wait > 0 {
		waiting, stop := context.WithTimeout(ctx, min(req.Wait, maxWait))
		d.awaitReady(waiting)
		stop()
	}
	s, ok := d.status(ctx)
	if !ok {
		return nil, errors.New("the daemon is ending")
	}
	return statusReply{Status: s}, nil
}

// captureRequest asks for a capture session.
type captureRequest struct {
	Op      string           `json:"op"`
	Capture *capture.Request `json:"capture,omitempty"`
}

// captureReply is what a capture session begins with, or why there is none. Behind
// it comes the stream: see capture.Reply.
type captureReply struct {
	Error   string         `json:"error,omitempty"`
	Capture *capture.Reply `json:"capture,omitempty"`
	// BadExpression says that Error is about the filter expression.
	BadExpression bool `json:"bad_expression,omitempty"`
}

func (d *Daemon) serveCapture(ctx context.Context, c *control.Conn, request []byte) (any, error) {
	var req captureRequest
	if err := control.Decode(request, &req); err != nil {
		return nil, err
	}
	if req.Capture == nil {
		return nil, control.Unknown(req.Op)
	}
	c.Keep() // the session ends by itself, with statistics
	begun := func(r *capture.Reply) error { return c.Reply(captureReply{Capture: r}) }
	if err := d.taps.Serve(ctx, c.UnixConn, req.Capture, begun); err != nil {
		return captureReply{Error: err.Error(), BadExpression: errors.As(err, new(capture.BadExpression))}, nil
	}
	return nil, nil
}

// sources are what captures look at. Its fields do not change once there is a
// control socket.
type sources struct{ d *Daemon }

func (s sources) SetTaps(packets forward.Tap, arp, nd arpd.Tap) {
	s.d.engines.setTap(packets)
	s.d.arp.SetTap(arp)
	if s.d.nd != nil {
		s.d.nd.SetTap(nd)
	}
}

func (s sources) SetMark(mark uint32) error {
	return errors.Join(s.d.setMark(mark), s.d.engines.setMark(mark))
}

func (s sources) AttachWatch(fd int, mark uint32, snap int) error {
	return s.d.engine().AttachWatch(fd, mark, snap)
}

func (s sources) Table() *route.Table {
	if !s.d.engine().Forwards() {
		return nil
	}
	return s.d.proxy.table.Load()
}

func (s sources) Announces(ifindex int, address netip.Addr) bool {
	return s.d.announcer.Holds(ifindex, address)
}

func (s sources) Drops() map[string]uint64 { return s.d.drops() }

func (s sources) Counters(ifindex int32) claim.Counters { return s.d.engine().Counters(ifindex) }

func (s sources) Stalled(at int64) bool { return s.d.engine().Stalls().During(at) }

func (s sources) ShowCarried() (livecapture.Carried, error) {
	shown, err := s.d.engine().Show()
	if shown == nil {
		return nil, err // and no interface that holds a nil pointer
	}
	return shown, err
}

func (s sources) Translated(packet []byte) bool { return s.d.engine().Translated(packet) }
