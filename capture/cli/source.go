package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"proxyarpd/capture"
	"proxyarpd/capture/filter"
	"proxyarpd/capture/pcapfile"
)

// Stream is a capture session of a daemon: pcapng, until End was called and the
// last of it read.
type Stream interface {
	io.ReadCloser
	End() error
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
}

func openFile(name string) (*reading, error) {
	if name == "-" {
		return newReading(os.Stdin, io.NopCloser(nil), nil)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	r, err := newReading(f, f, nil)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", name, err), f.Close())
	}
	return r, nil
}

func newReading(r io.Reader, c io.Closer, stop func()) (*reading, error) {
	s := &reading{closer: c, stop: stop}
	var err error
	s.r, err = pcapfile.NewReader(r)
	return s, err
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

// whole reports whether a daemon's stream came to its end, which are statistics.
func (s *reading) whole() bool {
	return slices.ContainsFunc(s.r.Interfaces(), func(i *pcapfile.Interface) bool { return i.Statistics != nil })
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
