package dissect

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// nfsHandleLayout is where a server keeps a file system's major and minor number and the file's number in its handles.
type nfsHandleLayout int

const (
	handleUnknown nfsHandleLayout = iota
	handleAuspex
	handleOSF
	handleIRIX
	handleSunOS4
	handleSunOS5
	handleUltrix
	handleVMS
	handleHPUX
	handleBSD
)

// handle prints a file handle, of which tcpdump guesses what server made it.
func (r *nfsReader) handle(v3 bool) bool {
	words := nfsOldHandle / 4
	if v3 {
		words = int(r.word() / 4)
	}
	if !r.has(4 * words) {
		return false
	}
	fh := r.b[r.off : r.off+4*words]
	r.off += len(fh)
	if r.opt.RawHandles {
		r.rawHandle(fh)
		return true
	}
	layout := nfsLayout(fh)
	switch layout {
	case handleUnknown:
		const unknown = "Unknown"
		r.printf(" fh %s/%X", unknown[:min(words, len(unknown))], upto(fh, 32))
		return true
	case handleVMS:
		name := fh[1:min(len(fh), 1+min(words, 64))]
		if end := bytes.IndexAny(name, "\x00 "); end >= 0 {
			name = name[:end]
		}
		r.str(" fh ")
		r.safe(name)
		r.printf("/%d", uint32(fh[26])<<24|uint32(fh[27])<<16|uint32(binary.LittleEndian.Uint16(fh[22:])))
		return true
	}
	major, minor, file := layout.numbers(fh)
	r.printf(" fh %d,%d/", major, minor)
	if minor != 257 { // tcpdump's mark of an unknown handle, of which it has no digits here
		r.str(fmt.Sprint(file))
	}
	return true
}

// rawHandle prints the words of a file handle: -u.
func (r *nfsReader) rawHandle(fh []byte) {
	r.str(" fh[")
	for i := 0; i+4 <= len(fh); i += 4 {
		r.sep(i > 0, ":")
		r.printf("%x", r.u32(fh, i))
	}
	r.char(']')
}

// nfsLayout guesses who made a handle, as tcpdump's parsenfsfh.c does.
func nfsLayout(fh []byte) nfsHandleLayout {
	if len(fh) < 16 {
		return handleUnknown
	}
	zero := func(from, to int) bool { return len(bytes.Trim(fh[from:to], "\x00")) == 0 }
	switch {
	case zero(0, 4):
		return handleAuspex
	case zero(0, 2):
		switch {
		case fh[4] != 0 && fh[5] == 0 && fh[8] == 12 && fh[9] == 0:
			return handleOSF
		case fh[4] == 0 && fh[5] == 8 && zero(6, 8):
			return handleIRIX
		}
		return handleSunOS4
	case zero(2, 4):
		switch {
		case zero(6, 8):
			return handleBSD
		case len(fh) >= 24 && fh[21] == 0 && fh[23] == 0:
			return handleUltrix
		case fh[9] == 10:
			return handleSunOS5
		}
		return handleUnknown
	case fh[8] == 12 && fh[9] == 0:
		return handleOSF
	case fh[8] == 0 && fh[9] == 10 && zero(4, 8):
		return handleHPUX
	case fh[8] == 0 && fh[9] == 10:
		return handleSunOS5
	case nfsDeviceName(fh):
		return handleVMS
	}
	return handleUnknown
}

// nfsDeviceName says whether a handle begins as those of VMS do: a device's name and zeros.
func nfsDeviceName(fh []byte) bool {
	if len(fh) < 28 {
		return false
	}
	name := bytes.TrimRight(fh[1:14], "\x00")
	for _, c := range name {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return true
}

// numbers are a file system's major and minor number and the file's.
func (l nfsHandleLayout) numbers(fh []byte) (major, minor, file uint32) {
	little, big := binary.LittleEndian.Uint32, binary.BigEndian.Uint32
	switch l {
	case handleAuspex:
		return uint32(fh[6]), uint32(fh[7]), big(fh[12:])
	case handleOSF:
		return little(fh) >> 20, little(fh) & 0xfffff, little(fh[12:])
	case handleIRIX:
		return uint32(fh[2]), uint32(fh[3]), big(fh[8:])
	case handleSunOS5:
		return big(fh) >> 18, big(fh) & 0x3ffff, big(fh[12:])
	case handleUltrix:
		return uint32(fh[1]), uint32(fh[0]), little(fh[4:])
	case handleHPUX:
		return uint32(fh[0]), big(fh) & 0xffffff, big(fh[12:])
	case handleBSD:
		return uint32(fh[1]), uint32(fh[0]), little(fh[12:])
	default:
		return uint32(fh[2]), uint32(fh[3]), big(fh[12:])
	}
}
