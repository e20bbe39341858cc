package pcapfile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
)

const (
	initialBuffer = 64 << 10 // a pipe's
	maxEmptyReads = 100
)

// source is an io.Reader whose next bytes can be looked at where they lie. It
// waits for no more bytes than are asked for, so a packet from a live stream
// is not held up, but takes what is there.
type source struct {
	r          io.Reader
	buf        []byte
	start, end int   // buf[start:end] has been read and not yet skipped
	err        error // what r returned last
}

// truncatedError says that the file ends where more should be. It is an
// io.ErrUnexpectedEOF.
type truncatedError struct {
	format    string // the name of the format, with a blank, or empty
	what      string // what was read, with a blank, or empty
	want, got int
}

func (e *truncatedError) Error() string {
	return fmt.Sprintf("truncated %sdump file; tried to read %d %sbytes, only got %d", e.format, e.want, e.what, e.got)
}

func (e *truncatedError) Unwrap() error { return io.ErrUnexpectedEOF }

// peek returns the next n bytes; they are valid until the next peek. If there
// are fewer it returns those that are there, with io.EOF or the error of the
// reader.
func (s *source) peek(n int) ([]byte, error) {
	for s.end-s.start < n {
		if s.err != nil {
			return s.buf[s.start:s.end], s.err
		}
		s.makeRoom(n)
		s.err = s.read()
	}
	return s.buf[s.start : s.start+n], nil
}

// makeRoom sees to it that something can be read behind what is there. The
// buffer grows with what was read, never by what a length field promises.
func (s *source) makeRoom(n int) {
	if s.start+n > len(s.buf) && s.start > 0 {
		s.end = copy(s.buf, s.buf[s.start:s.end])
		s.start = 0
	}
	if s.end == len(s.buf) {
		grown := make([]byte, max(2*len(s.buf), initialBuffer))
		copy(grown, s.buf)
		s.buf = grown
	}
}

func (s *source) read() error {
	for range maxEmptyReads {
		n, err := s.r.Read(s.buf[s.end:])
		if n < 0 || n > len(s.buf)-s.end {
			return errors.New("the reader returned an impossible count")
		}
		s.end += n
		if n > 0 || err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// skip leaves n bytes behind that peek has returned.
func (s *source) skip(n int) { s.start += n }

// failed is the error for a peek that did not get all: cut if the file is, else
// the reader's.
func failed(err error, cut truncatedError) error {
	if err != io.EOF {
		return fmt.Errorf("error reading dump file: %w", err)
	}
	return &cut
}

// slice returns b[from:to], to which nothing can be appended in place.
func slice(b []byte, from, to int) []byte { return b[from:to:to] }

// toNative puts what is in the byte order of the host that captured it into
// little-endian order, as libpcap does on such a host: the lengths and types in
// frames of NFLOG. They are the Reader's own bytes.
func (o byteOrder) toNative(p *Packet) {
	if !o.big || p.LinkType != LinkTypeNFLOG || len(p.Data) < nflogHeaderLen || p.Data[1] != nflogVersion {
		return
	}
	const head = 4 // length, type
	left := int64(p.Len) - nflogHeaderLen
	for b := p.Data[nflogHeaderLen:]; len(b) >= head; {
		n := padded(int(binary.BigEndian.Uint16(b)))
		b[0], b[1], b[2], b[3] = b[1], b[0], b[3], b[2]
		if n < head || n > len(b) || int64(n) > left {
			return
		}
		b, left = b[n:], left-int64(n)
	}
}

// The header of NFLOG: address family, version, resource.
const (
	nflogHeaderLen = 4
	nflogVersion   = 0
)

// byteOrder is that of a file or section.
type byteOrder struct{ big bool }

func (o byteOrder) uint16(b []byte) uint16 {
	v := binary.LittleEndian.Uint16(b)
	if o.big {
		return bits.ReverseBytes16(v)
	}
	return v
}

func (o byteOrder) uint32(b []byte) uint32 {
	v := binary.LittleEndian.Uint32(b)
	if o.big {
		return bits.ReverseBytes32(v)
	}
	return v
}

func (o byteOrder) uint64(b []byte) uint64 {
	v := binary.LittleEndian.Uint64(b)
	if o.big {
		return bits.ReverseBytes64(v)
	}
	return v
}
