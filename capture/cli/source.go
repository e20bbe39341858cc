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
// filter of its own.
type selector struct {
	expression string
	program    *filter.Filter
	filters    map[pcapfile.LinkType]*filter.Filter
}

func (s *selector) match(p *pcapfile.Packet) (bool, error) {
	f := s.program
	if f == nil {
		if s.expression == "" {
			return true, nil
		}
		var err error
		if f, err = s.of(p.LinkType); err != nil {
			return false, err
		}
	}
	return f.Match(p.Data, int(p.Len)), nil
}

func (s *selector) of(t pcapfile.LinkType) (*filter.Filter, error) {
	if f := s.filters[t]; f != nil {
		return f, nil
	}
	f, err := filter.Compile(s.expression, filter.LinkType(t))
	if err != nil {
		return nil, err
	}
	if s.filters == nil {
		s.filters = map[pcapfile.LinkType]*filter.Filter{}
	}
	s.filters[t] = f
	return f, nil
}
