package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"proxyarpd/capture"
	"proxyarpd/capture/pcapfile"
	"proxyarpd/internal/control/client"
)

// Stream is a capture session of a daemon. It needs what the daemon's control
// socket asks for: to be root.
type Stream struct {
	reads
	o     Options
	in    *streamFeed
	reply capture.Reply
}

// Dial begins a capture session of the daemon whose control socket is at path.
// The daemon selects packets and keeps them for the reader. The end of ctx ends
// Dial, not the session.
//
// The error is capture.ErrNoDaemon, by errors.Is, if no daemon listens there,
// and a capture.BadExpression if the filter expression is wrong. A read's error
// is [ErrHungUp] if the daemon was killed, or would not wait for so slow a reader,
// [ErrDisappeared] if what it captured on has gone.
func Dial(ctx context.Context, path string, o Options) (*Stream, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	req := capture.Request{Interfaces: o.Interfaces, Filter: o.Filter, Snap: o.SnapLen, Drops: o.Drops, Reasons: o.Reasons, Buffer: o.Buffer, LastDrops: o.LastDrops,
		Promiscuous: !o.NoPromiscuous && !capture.Several(o.Interfaces)}
	switch o.Direction {
	case pcapfile.Inbound:
		req.Direction = "in"
	case pcapfile.Outbound:
		req.Direction = "out"
	}
	session, err := client.Capture(ctx, path, req)
	if err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, func() { _ = session.Close() })()
	in := &streamFeed{session: session, names: o.names()}
	if in.r, err = pcapfile.NewReader(&idler{session, o.Idle}); err != nil {
		return nil, errors.Join(unidle(err), in.close())
	}
	in.r.OnStatistics(in.counted)
	return &Stream{reads: reads{feed: in, selects: selection{o: o, sorted: true}}, o: o, in: in, reply: session.Reply}, nil
}

// LinkType implements [Source].
func (s *Stream) LinkType() pcapfile.LinkType { return s.o.linkType() }

// Reply is what the daemon said of the session as it began. For any goroutine.
func (s *Stream) Reply() capture.Reply { return s.reply }

// Interfaces are those that packets have come from so far, and one that has
// lost its name, where there was none. It is for the goroutine that reads, and
// valid until the next read; what it points to stays.
func (s *Stream) Interfaces() []*pcapfile.Interface { return s.in.r.Interfaces() }

// AskStatistics implements [Source].
func (s *Stream) AskStatistics(f func(Statistics)) {
	s.in.ask(func(st Statistics) {
		st.Verdicts = s.verdicts.Load()
		f(st)
	})
}

// streamFeed reads a session's stream.
type streamFeed struct {
	r       *pcapfile.Reader
	session *client.CaptureSession
	names   string // of what is captured on
	counts  lastCounts

	mu     sync.Mutex
	asked  []func(Statistics)
	hangUp *time.Timer // stop's
	closed bool
}

// counted is told of statistics: those of the first interface are the last that
// come at a time. At the end nobody waits for them any more.
func (f *streamFeed) counted(i *pcapfile.Interface) {
	if i.ID != 0 || i.Statistics.Has&pcapfile.HasEndTime != 0 {
		return
	}
	now := f.counts.add(f.r.Interfaces())
	f.mu.Lock()
	asked := f.asked
	f.asked = nil
	f.mu.Unlock()
	for _, tell := range asked {
		tell(now)
	}
}

func (f *streamFeed) ask(tell func(Statistics)) {
	f.mu.Lock()
	f.asked = append(f.asked, tell)
	under := len(f.asked) > 1
	f.mu.Unlock()
	if !under {
		_ = f.session.Ask() // fails only where the stream has ended, which next tells
	}
}

func (f *streamFeed) next(p *pcapfile.Packet) error {
	err := f.r.Next(p)
	if err == nil {
		return nil
	}
	f.counts.add(f.r.Interfaces())
	var idle *idleError
	if errors.As(err, &idle) {
		return idle.err
	}
	reason, whole := f.how()
	switch {
	case reason == capture.Disappeared:
		return fmt.Errorf("%s: %w", f.names, ErrDisappeared)
	case reason != "":
		return fmt.Errorf("%s: %s", f.names, reason)
	case !whole:
		return ErrHungUp
	case errors.Is(err, io.EOF):
		return io.EOF
	}
	return err
}

// how says how the stream ended: why, if the daemon says so, and whether all of
// it has come, the last of which are statistics with the time of the end.
func (f *streamFeed) how() (reason string, whole bool) {
	all := f.r.Interfaces()
	for _, i := range all {
		if r := capture.ParseEnd(i.Description); r != "" {
			reason = r
		}
	}
	return reason, slices.ContainsFunc(all, func(i *pcapfile.Interface) bool {
		return i.Statistics != nil && i.Statistics.Has&pcapfile.HasEndTime != 0
	})
}

func (f *streamFeed) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.hangUp != nil || f.closed {
		return
	}
	_ = f.session.End()
	f.hangUp = time.AfterFunc(grace, func() { _ = f.session.Close() })
}

func (f *streamFeed) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed = true; f.hangUp != nil && !f.hangUp.Stop() {
		return nil // it was hung up on
	}
	return f.session.Close()
}

func (f *streamFeed) statistics() Statistics { return f.counts.load() }
