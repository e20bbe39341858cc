package pcapfile

import (
	"fmt"
	"io"
)

// PacketWriter writes one capture file: a *PcapWriter or a *Writer.
type PacketWriter interface {
	// WritePacket writes a packet, at most as many bytes of it as the snapshot
	// length allows. It keeps nothing of p but p.Interface.
	WritePacket(p *Packet) error
	// Flush writes out what is buffered.
	Flush() error
	// Size returns how many bytes the file has, with those still buffered.
	Size() int64
}

// A full buffer is written out.
const writeBuffer = 64 << 10

// sink buffers what is written. After an error it takes no more and returns it
// whenever it is asked.
type sink struct {
	w       io.Writer
	buf     []byte
	written int64
	err     error
}

func (s *sink) Size() int64 { return s.written + int64(len(s.buf)) }

func (s *sink) Flush() error {
	if s.err == nil && len(s.buf) > 0 {
		var n int
		if n, s.err = s.w.Write(s.buf); s.err == nil && n < len(s.buf) {
			s.err = io.ErrShortWrite
		}
		s.written += int64(n)
	}
	s.buf = s.buf[:0]
	return s.err
}

// full writes out what has been appended to buf once it is enough.
func (s *sink) full() error {
	if len(s.buf) >= writeBuffer || s.err != nil {
		return s.Flush()
	}
	return nil
}

// limit returns p.Data, cut to the snapshot length if there is one.
func limit(p *Packet, snapLen uint32) []byte {
	if snapLen > 0 && uint64(len(p.Data)) > uint64(snapLen) {
		return p.Data[:snapLen]
	}
	return p.Data
}

// PcapHeader says what a pcap file's header does.
type PcapHeader struct {
	LinkType LinkType // of all packets
	SnapLen  uint32   // the most bytes of a packet that were captured; 0: MaxSnapLen
	Nano     bool     // time stamps in nanoseconds, not microseconds
	FCS      uint8    // as Interface.FCS
	Whole    bool     // packets are written whole, as they come from a file
}

// PcapWriter writes a pcap file. What that format can't say - interfaces,
// comments, flags - is not written.
type PcapWriter struct {
	sink
	header PcapHeader
}

// NewPcapWriter returns a writer of a little-endian pcap file, version 2.4. The
// file's header is buffered like all else.
func NewPcapWriter(w io.Writer, h PcapHeader) *PcapWriter {
	if h.SnapLen == 0 {
		h.SnapLen = MaxSnapLen
	}
	magic := uint32(magicMicro)
	if h.Nano {
		magic = magicNano
	}
	p := &PcapWriter{sink{w: w}, h}
	b := append32(make([]byte, 0, writeBuffer), magic)
	b = append16(append16(b, 2), 4)
	b = append32(append32(b, 0), 0) // time zone and accuracy are always 0
	p.buf = append32(append32(b, h.SnapLen), uint32(h.LinkType)|uint32(h.FCS)<<fcsShift)
	return p
}

// WritePacket writes a packet of the file's link type. Of a time the file has
// seconds in 32 bits, which are enough from 1970 to 2106. What a damaged file has
// in their place is written as it is.
func (w *PcapWriter) WritePacket(p *Packet) error {
	if p.LinkType != w.header.LinkType {
		return fmt.Errorf("a packet of link type %s does not go into a pcap file of link type %s; pcapng takes both", p.LinkType, w.header.LinkType)
	}
	data := p.Data
	if !w.header.Whole {
		data = limit(p, w.header.SnapLen)
	}
	t := p.Exact()
	if p.Odd == (Stamp{}) {
		t = stampOf(max(p.Time, 0))
	}
	if !w.header.Nano {
		t.Nanoseconds /= 1000
	}
	b := append32(append32(w.buf, uint32(t.Seconds)), uint32(t.Nanoseconds))
	b = append32(append32(b, uint32(len(data))), p.Len)
	w.buf = append(b, data...)
	return w.full()
}

// Writer writes a pcapng file of one section.
type Writer struct {
	sink
	ids  map[*Interface]uint32
	last *Interface // of the packet before, and its number
	id   uint32
}

// NewWriter returns a writer of a little-endian pcapng file. The section's
// header is buffered like all else.
func NewWriter(w io.Writer, s *Section) *Writer {
	return &Writer{
		sink: sink{w: w, buf: AppendSectionHeader(make([]byte, 0, writeBuffer), s)},
		ids:  make(map[*Interface]uint32),
	}
}

// AddInterface describes an interface and returns its number; one that has been
// described keeps its number. Interfaces are told apart by their pointers and
// must not change. WritePacket describes them when they first have a packet.
func (w *Writer) AddInterface(i *Interface) uint32 {
	id, known := w.ids[i]
	if !known {
		id = uint32(len(w.ids))
		w.ids[i] = id
		w.buf = AppendInterface(w.buf, i)
	}
	return id
}

// WritePacket writes a packet of p.Interface, which must not be nil; p.LinkType
// does not matter.
func (w *Writer) WritePacket(p *Packet) error {
	if p.Interface != w.last {
		w.last, w.id = p.Interface, w.AddInterface(p.Interface)
	}
	cut := *p
	cut.Data = limit(p, p.Interface.SnapLen)
	w.buf = AppendEnhancedPacket(w.buf, w.id, &cut)
	return w.full()
}

// WriteStatistics writes an interface's counters; the last ones count. Write
// them at the end of the file at least.
func (w *Writer) WriteStatistics(i *Interface, s *Statistics) error {
	w.buf = AppendStatistics(w.buf, w.AddInterface(i), s)
	return w.full()
}
