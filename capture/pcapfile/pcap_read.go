package pcapfile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// The magic numbers of pcap files, in the writer's byte order.
const (
	magicMicro = 0xa1b2c3d4
	magicNano  = 0xa1b23c4d
)

// modifiedMagics are formats that resemble pcap, and have other headers.
var modifiedMagics = map[uint32]string{
	0xa1b2cd34: "Kuznetzov's modified pcap",
	0xa1b234cd: "Mesquita's modified pcap",
	0xa12b3c4d: "Navtel's modified pcap",
	0x1c0001ac: "IXIA's lcap (hardware)",
	0x1c0001ab: "IXIA's lcap (software)",
}

const (
	pcapHeaderLen   = 24
	packetHeaderLen = 16
)

// pcapReader reads pcap files.
type pcapReader struct {
	source     *source
	order      byteOrder
	nano       bool
	lengths    lengthOrder
	interfaces [1]*Interface // a pcap file has one
}

// lengthOrder is how the two lengths of a packet header follow each other.
// They changed places with version 2.3.
type lengthOrder uint8

const (
	captureFirst lengthOrder = iota
	wireFirst
	smallerFirst // version 2.3, of which there are both kinds
)

// open reads the file's header.
func (r *pcapReader) open() error {
	magic, _ := r.source.peek(4)
	if !r.detect(magic) {
		return magicError(magic)
	}
	h, err := r.source.peek(pcapHeaderLen)
	if err != nil {
		return failed(err, truncatedError{what: "file header ", want: pcapHeaderLen, got: len(h)})
	}
	if err := r.version(r.order.uint16(h[4:]), r.order.uint16(h[6:])); err != nil {
		return err
	}
	// The upper six bits say something about frame check sequences.
	link := r.order.uint32(h[20:]) & 0x03ffffff
	if link > math.MaxUint16 {
		return fmt.Errorf("unknown link-layer type %d", link)
	}
	resolution := uint8(6)
	if r.nano {
		resolution = 9
	}
	r.interfaces[0] = &Interface{LinkType: LinkType(link), SnapLen: adjustSnapLen(r.order.uint32(h[16:])), TSResol: resolution}
	r.source.skip(pcapHeaderLen)
	return nil
}

// detect finds byte order and resolution by the magic number.
func (r *pcapReader) detect(magic []byte) bool {
	for _, o := range []byteOrder{{}, {big: true}} {
		m := o.uint32(magic)
		if m == magicMicro || m == magicNano {
			r.order, r.nano = o, m == magicNano
			return true
		}
	}
	return false
}

func magicError(magic []byte) error {
	for _, m := range []uint32{binary.LittleEndian.Uint32(magic), binary.BigEndian.Uint32(magic)} {
		if name, ok := modifiedMagics[m]; ok {
			return fmt.Errorf("%s file (magic number 0x%08x): not supported", name, m)
		}
	}
	return errUnknownFormat
}

// version checks the version, like libpcap, and what follows from it. 543.0 is
// what DG/UX's tcpdump writes.
func (r *pcapReader) version(major, minor uint16) error {
	switch {
	case major < 2:
		return errors.New("archaic pcap savefile format")
	case major == 543 && minor == 0, major == 2 && minor < 3:
		r.lengths = wireFirst
	case major == 2 && minor == 3:
		r.lengths = smallerFirst
	case major == 2 && minor == 4:
	default:
		return fmt.Errorf("unsupported pcap savefile version %d.%d", major, minor)
	}
	return nil
}

// adjustSnapLen returns the snapshot length that a file's header means.
func adjustSnapLen(n uint32) uint32 {
	if n == 0 || n > math.MaxInt32 {
		return MaxSnapLen
	}
	return n
}

func (r *pcapReader) next(p *Packet) error {
	h, err := r.source.peek(packetHeaderLen)
	if err == io.EOF && len(h) == 0 {
		return io.EOF
	}
	if err != nil {
		return failed(err, truncatedError{what: "header ", want: packetHeaderLen, got: len(h)})
	}
	i := r.interfaces[0]
	seconds, fraction := r.order.uint32(h), r.order.uint32(h[4:])
	capture, wire := r.order.uint32(h[8:]), r.order.uint32(h[12:])
	if r.lengths == wireFirst || r.lengths == smallerFirst && capture > wire {
		capture, wire = wire, capture
	}
	if capture > MaxSnapLen {
		return captureLengthError(capture, i.SnapLen)
	}
	total := packetHeaderLen + int(capture)
	b, err := r.source.peek(total)
	if err != nil {
		return failed(err, truncatedError{what: "captured ", want: int(capture), got: len(b) - packetHeaderLen})
	}
	r.source.skip(total)

	unit := uint32(1000)
	if r.nano {
		unit = 1
	}
	p.Time = int64(seconds)*1e9 + int64(fraction)*int64(unit)
	p.Nanoseconds = r.nano
	p.Has = HasTime
	p.Data = slice(b, packetHeaderLen, packetHeaderLen+int(min(capture, i.SnapLen)))
	p.Len = wire
	p.LinkType = i.LinkType
	p.Interface = i
	return nil
}

func captureLengthError(n, snapLen uint32) error {
	if n > snapLen {
		return fmt.Errorf("invalid packet capture length %d, bigger than snaplen of %d", n, snapLen)
	}
	return fmt.Errorf("invalid packet capture length %d, bigger than maximum of %d", n, MaxSnapLen)
}
