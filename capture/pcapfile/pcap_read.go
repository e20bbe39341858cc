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
	magicMicro    = 0xa1b2c3d4
	magicNano     = 0xa1b23c4d
	magicModified = 0xa1b2cd34 // Kuznetzov's: packet headers are longer
)

// modifiedMagics are formats that resemble pcap, and have other headers.
var modifiedMagics = map[uint32]string{
	0xa1b234cd: "Mesquita's modified pcap",
	0xa12b3c4d: "Navtel's modified pcap",
	0x1c0001ac: "IXIA's lcap (hardware)",
	0x1c0001ab: "IXIA's lcap (software)",
}

const (
	pcapHeaderLen   = 24
	packetHeaderLen = 16
	modifiedLen     = 24 // with interface, protocol and packet type
	cookedEthernet  = 14 // what Kuznetzov's may have of an Ethernet frame beyond the snapshot length
)

// pcapReader reads pcap files.
type pcapReader struct {
	source     *source
	order      byteOrder
	nano       bool
	headerLen  int // of packets
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
	link := r.order.uint32(h[20:])
	fcs := uint8(link >> fcsShift)
	if link &= 1<<fcsShift - 1; link > math.MaxUint16 {
		return unknownLinkType(link)
	}
	resolution := uint8(6)
	if r.nano {
		resolution = 9
	}
	i := &Interface{LinkType: linkTypeOf(uint16(link)), TSResol: resolution, FCS: fcs}
	i.SnapLen = i.LinkType.adjustSnapLen(r.order.uint32(h[16:]))
	i.BigEndian = r.order.big && i.LinkType == LinkTypeNull
	if r.headerLen == modifiedLen && i.LinkType == LinkTypeEthernet {
		i.SnapLen = min(i.SnapLen+cookedEthernet, math.MaxInt32)
	}
	r.interfaces[0] = i
	r.source.skip(pcapHeaderLen)
	return nil
}

// detect finds byte order and resolution by the magic number.
func (r *pcapReader) detect(magic []byte) bool {
	for _, o := range []byteOrder{{}, {big: true}} {
		m := o.uint32(magic)
		switch m {
		case magicMicro, magicNano:
			r.order, r.nano, r.headerLen = o, m == magicNano, packetHeaderLen
			return true
		case magicModified:
			r.order, r.headerLen = o, modifiedLen
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

func (r *pcapReader) next(p *Packet) error {
	h, err := r.source.peek(r.headerLen)
	if err == io.EOF && len(h) == 0 {
		return io.EOF
	}
	if err != nil {
		return failed(err, truncatedError{what: "header ", want: r.headerLen, got: len(h)})
	}
	i := r.interfaces[0]
	seconds, fraction := r.order.uint32(h), r.order.uint32(h[4:])
	capture, wire := r.order.uint32(h[8:]), r.order.uint32(h[12:])
	if r.lengths == wireFirst || r.lengths == smallerFirst && capture > wire {
		capture, wire = wire, capture
	}
	if capture > i.LinkType.maxSnapLen() {
		return i.captureLengthError(capture)
	}
	total := r.headerLen + int(capture)
	b, err := r.source.peek(total)
	if err != nil {
		return failed(err, truncatedError{what: "captured ", want: int(capture), got: len(b) - r.headerLen})
	}
	r.source.skip(total)

	r.stamp(p, seconds, fraction)
	p.Nanoseconds = r.nano
	p.Has = HasTime
	p.Data = slice(b, r.headerLen, r.headerLen+int(min(capture, i.SnapLen)))
	p.Len = wire
	p.LinkType = i.LinkType
	p.Interface = i
	r.order.toNative(p)
	return nil
}

// stamp sets the packet's time. libpcap takes both words for signed where they
// are in its own byte order, and carries no fraction of a second and more.
func (r *pcapReader) stamp(p *Packet, seconds, fraction uint32) {
	unit := int64(1000)
	if r.nano {
		unit = 1
	}
	p.Time = int64(seconds)*1e9 + int64(fraction)*unit
	exact := Stamp{int64(seconds), int64(fraction) * unit}
	if !r.order.big {
		exact = Stamp{int64(int32(seconds)), int64(int32(fraction)) * unit}
	}
	if exact != stampOf(p.Time) {
		p.Odd = exact
	}
}

func (i *Interface) captureLengthError(n uint32) error {
	if n > i.SnapLen {
		return fmt.Errorf("invalid packet capture length %d, bigger than snaplen of %d", n, i.SnapLen)
	}
	return fmt.Errorf("invalid packet capture length %d, bigger than maximum of %d", n, i.LinkType.maxSnapLen())
}
