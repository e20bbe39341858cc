package pcapfile

import (
	"encoding/binary"
	"errors"
	"io"
)

// Format is that of a capture file.
type Format uint8

// The formats.
const (
	Pcap Format = iota
	Pcapng
)

func (f Format) String() string {
	if f == Pcapng {
		return "pcapng"
	}
	return "pcap"
}

// Reader reads a capture file or stream. It refuses packets of a pcap file of
// more than MaxSnapLen bytes (of buses, 128 MiB), pcapng blocks of more than
// 16 MiB (or what a packet takes) and sections of more than 65536 interfaces,
// and gives at most 256 comments of a packet. It
// needs no more memory than a few times the largest block.
type Reader struct {
	format Format
	source source
	pcap   pcapReader
	ng     ngReader
	err    error // that ended the file
}

// NewReader reads the file's header, of as many bytes as it has, and finds out
// the format by it. It returns an error, worded as libpcap does, for what is no
// capture file or one that it can't read.
func NewReader(r io.Reader) (*Reader, error) {
	d := &Reader{source: source{r: r}}
	magic, err := d.source.peek(4)
	if err != nil {
		return nil, failed(err, truncatedError{what: "file header ", want: 4, got: len(magic)})
	}
	if binary.LittleEndian.Uint32(magic) == blockSection {
		d.format = Pcapng
		d.ng.source = &d.source
		err = d.ng.open()
	} else {
		d.pcap.source = &d.source
		err = d.pcap.open()
	}
	if err != nil {
		return nil, err
	}
	return d, nil
}

// Next fills p, of which it overwrites all, with the next packet. It returns
// io.EOF at the end of the file, another error if the file is damaged or could
// not be read, and the same again when called again. An error that is
// io.ErrUnexpectedEOF says that the file was cut.
//
// It waits for no more than the packet's last byte.
func (r *Reader) Next(p *Packet) error {
	*p = Packet{Comments: p.Comments[:0]}
	switch {
	case r.err != nil:
	case r.format == Pcapng:
		r.err = r.ng.next(p)
	default:
		r.err = r.pcap.next(p)
	}
	return r.err
}

// Buffered returns how many bytes have been read and belong to no packet that
// Next has given. Where it is 0, Next waits for the file.
func (r *Reader) Buffered() int { return r.source.end - r.source.start }

// Format returns the file's format.
func (r *Reader) Format() Format { return r.format }

// Interfaces returns the interfaces of the current section that have been
// described so far. A pcap file always has one. The slice is the Reader's and
// valid until the next call of Next, what it points to stays.
func (r *Reader) Interfaces() []*Interface {
	if r.format == Pcapng {
		return r.ng.interfaces
	}
	return r.pcap.interfaces[:]
}

// OnStatistics has Next call f with each interface whose statistics it has read.
func (r *Reader) OnStatistics(f func(*Interface)) { r.ng.counted = f }

// Section returns what the current section's header says; it is empty for a
// pcap file.
func (r *Reader) Section() Section { return r.ng.section }

var errUnknownFormat = errors.New("unknown file format")
