package source

import (
	"errors"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/gopacket"

	"proxyarpd/capture"
	"proxyarpd/capture/pcapfile"
)

// DefaultControl is where a daemon's control socket is, unless its --control
// says otherwise.
const DefaultControl = "/run/proxyarpd.sock"

// Errors of a read, beside io.EOF.
var (
	// ErrHungUp is that of a daemon's stream that ended without its end.
	ErrHungUp = errors.New("the daemon hung up: it was killed, or has not waited any longer for so slow a reader")
	// ErrDisappeared says that the last of the interfaces that were named has
	// gone, in libpcap's words.
	ErrDisappeared error = disappeared{}
)

type disappeared struct{}

func (disappeared) Error() string { return capture.Disappeared }

// Source is what a [File], a [Live] and a [Stream] have in common.
type Source interface {
	// ReadPacketData waits for a packet. What it returns is the caller's.
	// io.EOF is the end, also after Stop and Close.
	gopacket.PacketDataSource
	// ZeroCopyReadPacketData is ReadPacketData without copies: data, and all that
	// AncillaryData points to but the Interface and the Verdict's texts, is the
	// source's, and valid until the next read or Close.
	gopacket.ZeroCopyPacketDataSource
	// LinkType is that of the first packet of a file, and of the interface that
	// is captured on; Ethernet, where there are several.
	LinkType() pcapfile.LinkType
	// Statistics are those known so far. For any goroutine, also after Close.
	Statistics() Statistics
	// AskStatistics has f called once with the statistics of that moment. A Live
	// calls it at once; a Stream asks the daemon, and the goroutine that reads
	// packets calls f when the answer has come, or never if the stream ends
	// before. A File never does. For any goroutine; f must not read or Close.
	AskStatistics(f func(Statistics))
	// Stop has reads return what there is so far, and then io.EOF. A read that
	// waits does not wait any longer than for that: a daemon has five seconds to
	// say its last. For any goroutine.
	Stop()
	// Err is the error that ended the source, nil if that was io.EOF, or it goes
	// on. For any goroutine.
	Err() error
	// Close ends the source and lets go of what it holds. A read that waits
	// returns io.EOF. What ZeroCopyReadPacketData gave must not be used any more.
	// For any goroutine; a second call does nothing.
	Close() error
}

var _ = []Source{(*File)(nil), (*Live)(nil), (*Stream)(nil)}

// Options say what is read. The zero value is all packets, whole, with their
// verdicts.
type Options struct {
	// Interfaces are names, globs, or "any"; none is any. Not for a File.
	Interfaces []string
	// Filter is an expression of pcap-filter(7), see capture/filter. In a File it
	// selects no packets of link types for which it makes no sense.
	Filter string
	// SnapLen is how many bytes of a packet are kept; 0 is all of a File's, and
	// pcapfile.MaxSnapLen of others', which is their most.
	SnapLen int
	// Direction, if it is Inbound or Outbound, selects packets of that direction
	// alone. In a File those that say none are left out.
	Direction pcapfile.Direction
	// Drops selects packets that were dropped, Reasons those with a verdict whose
	// reason or kind matches one of these globs. Not for a Live.
	Drops   bool
	Reasons []string
	// LastDrops asks a daemon for the drops that it has kept, so many of the last
	// ones at most that are selected: the source ends behind them. 0 is what comes
	// from now on. Not for a File or a Live.
	LastDrops int
	// Buffer is how many bytes of packets may wait for the reader; 0 is 2 MiB in a
	// daemon, and 16 MiB of a packet socket. Not for a File.
	Buffer int
	// NoPromiscuous leaves a single interface that is named out of promiscuous
	// mode. Several never are put into it.
	NoPromiscuous bool
	// NoVerdicts leaves Ancillary.Verdict nil, for those who copy packets with
	// their comments as they are. It spares the parsing. With Drops or Reasons it
	// does nothing.
	NoVerdicts bool
	// Idle, if it is not nil, is called before a read waits for packets: who
	// buffers what it makes of them writes it then. An error ends the source. It
	// is called by the goroutine that reads, and must not read or Close. Regular
	// files never wait.
	Idle func() error
}

func (o *Options) wantsVerdict() bool { return o.Drops || len(o.Reasons) > 0 }

// check finds what could not be selected by, and puts defaults in.
func (o *Options) check() error {
	if o.SnapLen <= 0 || o.SnapLen > pcapfile.MaxSnapLen {
		o.SnapLen = pcapfile.MaxSnapLen
	}
	if len(o.Interfaces) == 0 {
		o.Interfaces = []string{capture.Any}
	}
	return checkGlobs(slices.Concat(o.Interfaces, o.Reasons))
}

// linkType is that of packets of the interfaces.
func (o *Options) linkType() pcapfile.LinkType {
	if capture.Several(o.Interfaces) {
		return pcapfile.LinkTypeEthernet
	}
	return LinkTypeOf(o.Interfaces[0])
}

// names are the interfaces, as errors name them.
func (o *Options) names() string { return strings.Join(o.Interfaces, ", ") }

// Statistics are counts of packets.
type Statistics struct {
	Received uint64 // selected by the filter
	Dropped  uint64 // by the kernel, for want of room
	Lost     uint64 // by the daemon's session, since its reader was slow
	Verdicts uint64 // read that bore a verdict, be they selected or not
}

// feed is where the packets of a source come from.
type feed interface {
	// next waits for a packet, which is borrowed until the next call. Errors are
	// for ever.
	next(*pcapfile.Packet) error
	// stop has next return what there is, and then io.EOF. For any goroutine.
	stop()
	// close has next return, and lets go of all. For any goroutine, once.
	close() error
	// statistics are for any goroutine, also after close.
	statistics() Statistics
}

// reads is what sources have in common: it makes of packets what gopacket wants.
type reads struct {
	feed    feed
	selects selection

	ended  bool
	anc    Ancillary
	list   [1]any // AncillaryData: anc
	ifaces ifindexes

	closed   atomic.Bool
	failed   atomic.Pointer[error]
	verdicts atomic.Uint64
}

// ReadPacketData implements [gopacket.PacketDataSource].
func (s *reads) ReadPacketData() (data []byte, ci gopacket.CaptureInfo, err error) {
	if err := s.read(); err != nil {
		return nil, ci, err
	}
	own := s.anc.clone()
	s.info(&ci)
	ci.AncillaryData = []any{own}
	return own.Data, ci, nil
}

// ZeroCopyReadPacketData implements [gopacket.ZeroCopyPacketDataSource].
func (s *reads) ZeroCopyReadPacketData() (data []byte, ci gopacket.CaptureInfo, err error) {
	if err := s.read(); err != nil {
		return nil, ci, err
	}
	if s.list[0] == nil {
		s.list[0] = &s.anc
	}
	s.info(&ci)
	ci.AncillaryData = s.list[:]
	return s.anc.Data, ci, nil
}

// read fills anc with the next packet that is selected.
func (s *reads) read() error {
	for {
		if s.ended || s.closed.Load() {
			return io.EOF
		}
		if err := s.feed.next(&s.anc.Packet); err != nil {
			return s.end(err)
		}
		if s.selects.take(&s.anc, &s.verdicts) {
			return nil
		}
	}
}

// end notes why there is no more. What Close brought about is no error.
func (s *reads) end(err error) error {
	s.ended = true
	if s.closed.Load() {
		return io.EOF
	}
	if !errors.Is(err, io.EOF) {
		s.failed.Store(&err)
	}
	return err
}

// info fills in what gopacket has to know of anc.
func (s *reads) info(ci *gopacket.CaptureInfo) {
	p := &s.anc.Packet
	ci.CaptureLength, ci.Length, ci.InterfaceIndex = len(p.Data), max(int(p.Len), len(p.Data)), s.ifaces.of(p.Interface)
	if p.Has&pcapfile.HasTime != 0 {
		ci.Timestamp = p.When()
	}
}

// ifindexes remembers the kernel's index of the last interface.
type ifindexes struct {
	last  *pcapfile.Interface
	index int
}

func (x *ifindexes) of(i *pcapfile.Interface) int {
	if i != x.last && i != nil {
		x.last, x.index = i, capture.ParseIfindex(i.Description)
	}
	return x.index
}

// Stop implements [Source].
func (s *reads) Stop() { s.feed.stop() }

// Err implements [Source].
func (s *reads) Err() error {
	if err := s.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// Statistics implements [Source].
func (s *reads) Statistics() Statistics {
	st := s.feed.statistics()
	st.Verdicts = s.verdicts.Load()
	return st
}

// Close implements [Source].
func (s *reads) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	return s.feed.close()
}

// grace is how long a daemon has to say its last.
const grace = 5 * time.Second
