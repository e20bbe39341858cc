package netstate

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// errMalformed is the kind of every parse error.
var errMalformed = errors.New("malformed netlink message")

// native is the byte order of rtnetlink, except where an attribute says
// otherwise.
var native = binary.NativeEndian

// attrs walks struct rtattr records: 16 bits of length, header included,
// 16 bits of type, payload, padding to 4 bytes.
//
//	for a := (attrs{rest: b}); a.next(); { switch a.typ { ... a.val ... } }
//
// and then a.err.
type attrs struct {
	rest []byte
	typ  uint16
	val  []byte
	err  error
}

func (a *attrs) next() bool {
	if a.err != nil || len(a.rest) == 0 {
		return false
	}
	if len(a.rest) < unix.SizeofRtAttr {
		a.err = fmt.Errorf("%w: %d bytes after the last attribute", errMalformed, len(a.rest))
		return false
	}
	n := int(native.Uint16(a.rest))
	if n < unix.SizeofRtAttr || n > len(a.rest) {
		a.err = fmt.Errorf("%w: attribute of %d bytes, %d left", errMalformed, n, len(a.rest))
		return false
	}
	a.typ = native.Uint16(a.rest[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
	a.val = a.rest[unix.SizeofRtAttr:n]
	a.rest = a.rest[min(align4(n), len(a.rest)):]
	return true
}

// fail makes the walk end with an error about the current attribute.
func (a *attrs) fail() {
	if a.err == nil {
		a.err = fmt.Errorf("%w: attribute %d has %d bytes", errMalformed, a.typ, len(a.val))
	}
}

// The accessors return zero, and fail the walk, on a wrong length.

func (a *attrs) u8() uint8 {
	if len(a.val) != 1 {
		a.fail()
		return 0
	}
	return a.val[0]
}

func (a *attrs) u16() uint16 {
	if len(a.val) != 2 {
		a.fail()
		return 0
	}
	return native.Uint16(a.val)
}

func (a *attrs) u32() uint32 {
	if len(a.val) != 4 {
		a.fail()
		return 0
	}
	return native.Uint32(a.val)
}

// index is a u32 that is an interface index: never negative.
func (a *attrs) index() int {
	v := a.u32()
	if v > 1<<31-1 {
		a.fail()
		return 0
	}
	return int(v)
}

// str is a string that ends with a NUL or with the attribute.
func (a *attrs) str() string {
	b := a.val
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

// addr is an address of the message's family.
func (a *attrs) addr(family uint8) netip.Addr {
	ip, ok := addrOf(family, a.val)
	if !ok {
		a.fail()
	}
	return ip
}

func addrOf(family uint8, b []byte) (netip.Addr, bool) {
	switch {
	case family == unix.AF_INET && len(b) == 4:
		return netip.AddrFrom4([4]byte(b)), true
	case family == unix.AF_INET6 && len(b) == 16:
		return netip.AddrFrom16([16]byte(b)), true
	}
	return netip.Addr{}, false
}

// familyBits is the length of an address of the family, 0 if unknown.
func familyBits(family uint8) int {
	switch family {
	case unix.AF_INET:
		return 32
	case unix.AF_INET6:
		return 128
	}
	return 0
}

func short(what string, b []byte) error {
	return fmt.Errorf("%w: %s of %d bytes", errMalformed, what, len(b))
}

func align4(n int) int { return (n + 3) &^ 3 }
