package wire

import "encoding/binary"

// ICMPv6Len is the length of an ICMPv6 header in bytes, its second word included
// (RFC 4443 section 2.1).
const ICMPv6Len = 8

// ICMPv6 types (IANA "ICMPv6 Type Numbers").
const (
	ICMPv6DestUnreachable = 1
	ICMPv6PacketTooBig    = 2
	ICMPv6TimeExceeded    = 3
	ICMPv6ParamProblem    = 4
	ICMPv6EchoRequest     = 128
	ICMPv6EchoReply       = 129
	ICMPv6RouterSolicit   = 133
	ICMPv6RouterAdvert    = 134
	ICMPv6NeighSolicit    = 135
	ICMPv6NeighAdvert     = 136
	ICMPv6Redirect        = 137
)

// Codes of destination unreachable (RFC 4443 section 3.1).
const (
	ICMPv6NoRoute         = 0
	ICMPv6AdminProhibited = 1
	ICMPv6BeyondScope     = 2
	ICMPv6AddrUnreachable = 3
	ICMPv6PolicyFail      = 5
	ICMPv6RejectRoute     = 6
)

// Codes of parameter problem (RFC 4443 section 3.4).
const (
	ICMPv6ErroneousHeader = 0
	ICMPv6UnknownOption   = 2
)

// ICMPv6IsError reports whether a type is an error message: no error may be sent about
// one (RFC 4443 section 2.4 (e)).
func ICMPv6IsError(typ uint8) bool { return typ < 128 }

// PutICMPv6 writes an ICMPv6 message at b: header, then the bytes that the caller has
// already put at b[8:]. rest is the second header word (the MTU of packet too big, the
// pointer of a parameter problem). The checksum covers the pseudo-header, too.
func PutICMPv6(b []byte, typ, code uint8, rest uint32, src, dst [16]byte) {
	b[0], b[1], b[2], b[3] = typ, code, 0, 0
	binary.BigEndian.PutUint32(b[4:8], rest)
	binary.BigEndian.PutUint16(b[2:4], Fold(Sum(b, PseudoSum6(src, dst, ProtoICMPv6, len(b)))))
}
