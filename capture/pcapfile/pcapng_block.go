package pcapfile

import (
	"errors"
	"fmt"
	"io"
)

// block returns the next block's type and what stands between its header and
// its trailer, valid until the next call; io.EOF at the end of the file.
func (r *ngReader) block() (uint32, []byte, error) {
	h, err := r.source.peek(blockHeaderLen)
	if err == io.EOF && len(h) == 0 {
		return 0, nil, io.EOF
	}
	if err != nil {
		return 0, nil, failedBlock(err, blockHeaderLen, len(h))
	}
	kind, known := r.order.uint32(h), blockHeaderLen
	if kind == blockSection {
		// Its length is in the byte order that stands behind it.
		if err := r.newOrder(); err != nil {
			return 0, nil, err
		}
		known += 4
		h, _ = r.source.peek(known)
	}
	length := r.order.uint32(h[4:])
	if err := r.checkLength(kind, length); err != nil {
		return 0, nil, err
	}
	b, err := r.source.peek(int(length))
	if err != nil {
		return 0, nil, failedBlock(err, int(length)-known, len(b)-known)
	}
	if t := r.order.uint32(b[length-blockTrailerLen:]); t != length {
		return 0, nil, fmt.Errorf("block total length in header %d and trailer %d don't match", length, t)
	}
	r.source.skip(int(length))
	return kind, b[blockHeaderLen : length-blockTrailerLen], nil
}

func failedBlock(err error, want, got int) error {
	return failed(err, truncatedError{format: "pcapng ", want: want, got: got})
}

// newOrder takes the byte order from the Section Header Block that comes next.
func (r *ngReader) newOrder() error {
	const want = blockHeaderLen + 4
	b, err := r.source.peek(want)
	if err != nil {
		return failedBlock(err, want, len(b))
	}
	for _, o := range []byteOrder{{}, {big: true}} {
		if o.uint32(b[blockHeaderLen:]) == byteOrderMagic {
			r.order = o
			return nil
		}
	}
	return errBadOrder
}

var errBadOrder = errors.New("the file has a section with a bad byte order magic field")

func (r *ngReader) checkLength(kind, length uint32) error {
	const least = blockHeaderLen + blockTrailerLen
	switch {
	case kind == blockSection && !r.begun && (length < least+sectionLen || length > maxSectionLen):
		return fmt.Errorf("Section Header Block in pcapng dump file has a length of %d, not of %d to %d", length, least+sectionLen, maxSectionLen)
	case length < least:
		return fmt.Errorf("block in pcapng dump file has a length of %d < %d", length, least)
	case length%4 != 0:
		return fmt.Errorf("block in pcapng dump file has a length of %d that is not a multiple of 4", length)
	case length > max(maxBlockLen, r.maxBlock):
		return fmt.Errorf("pcapng block size %d > maximum %d", length, max(maxBlockLen, r.maxBlock))
	case kind == blockSection && length < least+sectionLen:
		return shortBlock(kind)
	}
	return nil
}

func shortBlock(kind uint32) error {
	return fmt.Errorf("block of type %d in pcapng dump file is too short", kind)
}

// option is one of a block.
type option struct {
	code  uint16
	value []byte
}

// options reads the options of a block of a kind one after the other.
type options struct {
	order byteOrder
	kind  uint32
	rest  []byte
	err   error // if they run past the block's end
}

// next returns the next option, false at the end or after an error.
func (o *options) next() (option, bool) {
	if len(o.rest) == 0 || o.err != nil {
		return option{}, false
	}
	if len(o.rest) < optionHeaderLen {
		o.err = shortBlock(o.kind)
		return option{}, false
	}
	code, n := o.order.uint16(o.rest), int(o.order.uint16(o.rest[2:]))
	if code == optEnd {
		return option{}, false
	}
	end := optionHeaderLen + padded(n)
	if len(o.rest) < end {
		o.err = shortBlock(o.kind)
		return option{}, false
	}
	value := slice(o.rest, optionHeaderLen, optionHeaderLen+n)
	o.rest = o.rest[end:]
	return option{code, value}, true
}

// must reports whether an option of an interface has n bytes, and sets the error
// if not.
func (o *options) must(name string, opt option, n int) bool {
	if len(opt.value) != n && o.err == nil {
		o.err = fmt.Errorf("Interface Description Block has %s option with length %d != %d", name, len(opt.value), n)
	}
	return len(opt.value) == n
}

// stamp reads a time stamp: two words, the higher first in either byte order.
func stamp(o byteOrder, b []byte) uint64 {
	return uint64(o.uint32(b))<<32 | uint64(o.uint32(b[4:]))
}
