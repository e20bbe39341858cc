package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"proxyarpd/capture"
	"proxyarpd/capture/filter"
	"proxyarpd/capture/pcapfile"
)

// Stream is a capture session of a daemon: pcapng, until End was called and the
// last of it read.
type Stream interface {
	io.ReadCloser
	End() error
	// Ask has the statistics so far come with the packets: see
	// capture.AskStatistics.
	Ask() error
	Reply() capture.Reply
}

// Daemon begins a session of the daemon behind the control socket at path. The
// error is capture.ErrNoDaemon, by errors.Is, if none listens there.
type Daemon func(ctx context.Context, path string, req capture.Request) (Stream, error)

// source is where packets come from.
type source interface {
	// next waits for a packet; io.EOF is the end. It is borrowed until the next
	// call.
	next(*pcapfile.Packet) error
	// ready reports whether next has something without waiting.
	ready() bool
	// end has next return what is left, and then io.EOF. For any goroutine.
	end()
	// statistics are those that a live source has. They are its end's, or for
	// next's goroutine.
	statistics() counts
	// tell has a live source's statistics told of, once they are known; it does
	// not wait for that. For any goroutine.
	tell(func(counts))
	close() error
}

// counts are what a live source has seen, as tcpdump's last lines tell it.
type counts struct {
	received uint64 // selected by the filter
	dropped  uint64 // by the kernel, for want of room
	lost     uint64 // by the session, since its reader was slow
}

// reading is a source that a file or a stream of one is.
type reading struct {
	r      *pcapfile.Reader
	closer io.Closer
	stop   func()

	ahead    pcapfile.Packet // that look has read
	aheadErr error
	looked   bool

	over *atomic.Bool // it is enough of a file
	ask  func() error // of a daemon's stream
	mu   sync.Mutex
	told []func(counts) // who has asked
}

// openFile opens a file to be read until ctx ends.
func openFile(ctx context.Context, name string) (*reading, error) {
	if name == "-" { // a read that waits can't be ended but so
		out, in := io.Pipe()
		go func() {
			_, err := io.Copy(in, os.Stdin)
			_ = in.CloseWithError(err)
		}()
		context.AfterFunc(ctx, func() { _ = out.Close() }) // be it before the first byte
		return newReading(out, out, func() { _ = out.Close() })
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	var over atomic.Bool
	r, err := newReading(f, f, func() { over.Store(true) })
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", name, err), f.Close())
	}
	r.over = &over
	return r, nil
}

func newReading(r io.Reader, c io.Closer, stop func()) (*reading, error) {
	s := &reading{closer: c, stop: stop}
	var err error
	if s.r, err = pcapfile.NewReader(r); err == nil {
		s.r.OnStatistics(s.counted)
	}
	return s, err
}

// counted is told of statistics: those of the first interface are the last that
// come at a time. At the end nobody waits for them any more.
func (s *reading) counted(i *pcapfile.Interface) {
	if i.ID != 0 || i.Statistics.Has&pcapfile.HasEndTime != 0 {
		return
	}
	s.mu.Lock()
	told := s.told
	s.told = nil
	s.mu.Unlock()
	for _, f := range told {
		f(s.statistics())
	}
}

func (s *reading) tell(f func(counts)) {
	if s.ask == nil {
		return // a file has none
	}
	s.mu.Lock()
	s.told = append(s.told, f)
	asked := len(s.told) > 1
	s.mu.Unlock()
	if !asked {
		_ = s.ask() // fails only where the stream has ended, which next tells
	}
}

// look gives the interface of the first packet, which next gives later. An
// empty file has one all the same.
func (s *reading) look() *pcapfile.Interface {
	if !s.looked && s.ahead.Interface == nil {
		s.aheadErr = s.r.Next(&s.ahead)
		s.looked = true
	}
	if s.ahead.Interface != nil {
		return s.ahead.Interface
	}
	if all := s.r.Interfaces(); len(all) > 0 {
		return all[0]
	}
	return &pcapfile.Interface{LinkType: pcapfile.LinkTypeEthernet, SnapLen: pcapfile.MaxSnapLen}
}

// next is the Reader's, with what look has read first.
func (s *reading) next(p *pcapfile.Packet) error {
	if s.over != nil && s.over.Load() {
		return io.EOF
	}
	if !s.looked {
		return s.r.Next(p)
	}
	s.looked = false
	*p = s.ahead
	return s.aheadErr
}

func (s *reading) ready() bool { return s.looked || s.r.Buffered() > 0 }

func (s *reading) end() {
	if s.stop != nil {
		s.stop()
	}
}

func (s *reading) close() error { return s.closer.Close() }

// statistics adds up what the interfaces' last statistics blocks say.
func (s *reading) statistics() (c counts) {
	for _, i := range s.r.Interfaces() {
		if st := i.Statistics; st != nil {
			c.received += st.FilterAccept
			c.dropped += st.IfDrop
			c.lost += st.OSDrop
		}
	}
	return c
}

// whole reports whether a daemon's stream came to its end, which are statistics
// with the time of the end.
func (s *reading) whole() bool {
	return slices.ContainsFunc(s.r.Interfaces(), func(i *pcapfile.Interface) bool {
		return i.Statistics != nil && i.Statistics.Has&pcapfile.HasEndTime != 0
	})
}

// reason is why a daemon has ended its stream; "" if it says none.
func (s *reading) reason() (reason string) {
	for _, i := range s.r.Interfaces() {
		if r := capture.ParseEnd(i.Description); r != "" {
			reason = r
		}
	}
	return reason
}

// selector applies the expression to what a file has; each link type has a
// filter of its own. An expression that makes no sense for a link type selects
// none of its packets.
type selector struct {
	expression string
	noOptimize bool
	program    *filter.Filter
	filters    map[filter.LinkType]*filter.Filter // nil: selects none
}

// filterType is an interface's link type in the terms of filters.
func filterType(i *pcapfile.Interface) filter.LinkType {
	if i.BigEndian {
		return filter.NullBig
	}
	return filter.LinkType(i.LinkType)
}

// check returns an error if the expression makes sense for none of a file's
// interfaces.
func (s *selector) check(first *pcapfile.Interface, all []*pcapfile.Interface) error {
	_, err := s.of(filterType(first))
	for _, i := range all {
		if f, _ := s.of(filterType(i)); f != nil {
			return nil
		}
	}
	return err
}

func (s *selector) match(p *pcapfile.Packet) bool {
	f := s.program
	if f == nil && s.expression == "" {
		return true
	}
	if f == nil {
		f, _ = s.of(filterType(p.Interface))
	}
	return f != nil && f.Match(p.Data, int(p.Len))
}

func (s *selector) of(t filter.LinkType) (*filter.Filter, error) {
	if f, known := s.filters[t]; known {
		return f, nil
	}
	f, err := filter.Options{NoOptimize: s.noOptimize}.Compile(s.expression, t)
	if s.filters == nil {
		s.filters = map[filter.LinkType]*filter.Filter{}
	}
	s.filters[t] = f
	return f, err
}
