package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"sync/atomic"
	"time"

	"proxyarpd/capture"
	"proxyarpd/capture/filter"
	"proxyarpd/capture/pcapfile"
)

// File is a capture file. Beside what a [Source] has, its methods are for the
// goroutine that reads.
type File struct {
	reads
	in *fileFeed
}

// OpenFile opens a capture file, pcap or pcapng, "-" is standard input. It reads
// up to the first packet, by which the link type is known; the end of ctx ends
// that where it waits, and only that. Errors are those of package os, and libpcap's words for
// what is no capture file. A filter expression that makes sense for none of the
// link types is a capture.BadExpression.
//
// Close does not close standard input; a read of it that waits is left behind.
func OpenFile(ctx context.Context, name string, o Options) (*File, error) {
	if err := checkGlobs(o.Reasons); err != nil {
		return nil, err
	}
	in, err := openInput(name)
	if err != nil {
		return nil, err
	}
	stop := func() bool { return true }
	if in.waits {
		stop = context.AfterFunc(ctx, func() { _ = in.in.Close() })
	}
	err = in.begin(o.Idle)
	if !stop() {
		in.over.Store(true)
	}
	if err != nil {
		if name != "-" {
			err = fmt.Errorf("%s: %w", name, err)
		}
		return nil, errors.Join(err, in.close())
	}
	f := &File{reads: reads{feed: in, selects: selection{o: o, cut: max(o.SnapLen, 0)}}, in: in}
	if o.Filter != "" {
		if err := f.SetFilter(o.Filter, filter.Options{}); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	return f, nil
}

// checkGlobs finds what is no glob.
func checkGlobs(globs []string) error {
	for _, g := range globs {
		if _, err := path.Match(g, ""); err != nil {
			return fmt.Errorf("%q: %w", g, err)
		}
	}
	return nil
}

// LinkType implements [Source].
func (f *File) LinkType() pcapfile.LinkType { return f.First().LinkType }

// AskStatistics implements [Source]: f is never called.
func (f *File) AskStatistics(func(Statistics)) {}

// First is the interface of the first packet. An empty file has one all the same.
func (f *File) First() *pcapfile.Interface { return f.in.first }

// Format is that of the file.
func (f *File) Format() pcapfile.Format { return f.in.r.Format() }

// Section is what a pcapng file says of itself.
func (f *File) Section() pcapfile.Section { return f.in.r.Section() }

// Interfaces are those that the file has described so far. The slice is valid
// until the next read, what it points to stays.
func (f *File) Interfaces() []*pcapfile.Interface { return f.in.r.Interfaces() }

// SetFilter selects packets from now on by an expression, instead of any earlier
// one: see [Options.Filter]. Of o the origin is that of a file whatever it says.
// The error is a capture.BadExpression if the expression makes sense for none of
// the interfaces that there are so far.
func (f *File) SetFilter(expression string, o filter.Options) error {
	o.Origin = filter.FromFile
	s := &selector{expression: expression, options: o}
	if err := s.check(f.First(), f.Interfaces()); err != nil {
		return capture.BadExpression(filter.Words(err))
	}
	f.selects.match = s.match
	return nil
}

// SetProgram selects packets from now on by a program, whatever their link type.
func (f *File) SetProgram(p *filter.Filter) {
	f.selects.match = func(packet *pcapfile.Packet) bool { return p.Match(packet.Data, int(packet.Len)) }
}

// input is what bytes are read from.
type input interface {
	io.ReadCloser
	SetReadDeadline(time.Time) error
}

// fileFeed reads a file.
type fileFeed struct {
	r      *pcapfile.Reader
	in     input
	waits  bool // a read may wait: it is no regular file
	over   atomic.Bool
	first  *pcapfile.Interface
	ahead  pcapfile.Packet // that was read to find first
	err    error           // with it
	looked bool
	counts lastCounts
}

func openInput(name string) (*fileFeed, error) {
	if name == "-" {
		return &fileFeed{in: standardInput(), waits: true}, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	i, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &fileFeed{in: f, waits: !i.Mode().IsRegular()}, nil
}

// stdin is standard input by way of a pipe: a read that waits for it can't be
// ended but so.
type stdin struct{ *io.PipeReader }

func standardInput() stdin {
	out, in := io.Pipe()
	go func() {
		_, err := io.Copy(in, os.Stdin)
		_ = in.CloseWithError(err)
	}()
	return stdin{out}
}

// SetReadDeadline ends reads, whichever the deadline.
func (s stdin) SetReadDeadline(time.Time) error { return s.Close() }

// begin reads the header and the first packet.
func (f *fileFeed) begin(idle func() error) (err error) {
	in := io.Reader(f.in)
	if f.waits {
		in = &idler{in, idle}
	}
	if f.r, err = pcapfile.NewReader(in); err != nil {
		return err
	}
	f.r.OnStatistics(func(i *pcapfile.Interface) {
		if i.ID == 0 {
			f.counts.add(f.r.Interfaces())
		}
	})
	f.err, f.looked = f.r.Next(&f.ahead), true
	if f.first = f.ahead.Interface; f.first != nil {
		return nil
	}
	f.first = &pcapfile.Interface{LinkType: pcapfile.LinkTypeEthernet, SnapLen: pcapfile.MaxSnapLen}
	if all := f.r.Interfaces(); len(all) > 0 {
		f.first = all[0]
	}
	return nil
}

func (f *fileFeed) next(p *pcapfile.Packet) (err error) {
	switch {
	case f.over.Load():
		return io.EOF
	case f.looked:
		f.looked = false
		*p, err = f.ahead, f.err
	default:
		err = f.r.Next(p)
	}
	if err == nil {
		return nil
	}
	f.counts.add(f.r.Interfaces())
	if f.over.Load() {
		return io.EOF // stop has brought it about
	}
	return unidle(err)
}

func (f *fileFeed) stop() {
	f.over.Store(true)
	if f.waits {
		_ = f.in.SetReadDeadline(time.Now())
	}
}

func (f *fileFeed) close() error {
	if err := f.in.Close(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil // the end of OpenFile's ctx has done it
}

func (f *fileFeed) statistics() Statistics { return f.counts.load() }

// lastCounts adds up what interfaces' last statistics blocks say, for any
// goroutine.
type lastCounts struct{ last atomic.Pointer[Statistics] }

func (c *lastCounts) add(all []*pcapfile.Interface) Statistics {
	var sum Statistics
	for _, i := range all {
		if st := i.Statistics; st != nil {
			sum.Received += st.FilterAccept
			sum.Dropped += st.IfDrop
			sum.Lost += st.OSDrop
		}
	}
	c.last.Store(&sum)
	return sum
}

func (c *lastCounts) load() Statistics {
	if last := c.last.Load(); last != nil {
		return *last
	}
	return Statistics{}
}

// idler says that a read is about to wait.
type idler struct {
	io.Reader
	idle func() error
}

func (r *idler) Read(b []byte) (int, error) {
	if r.idle != nil {
		if err := r.idle(); err != nil {
			return 0, &idleError{err}
		}
	}
	return r.Reader.Read(b)
}

// idleError is an error of Options.Idle, which is not the file's.
type idleError struct{ err error }

func (e *idleError) Error() string { return e.err.Error() }

// unidle gives an error of Options.Idle as it was.
func unidle(err error) error {
	var idle *idleError
	if errors.As(err, &idle) {
		return idle.err
	}
	return err
}
