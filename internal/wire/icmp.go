package wire

import "encoding/binary"

// ICMPLen is the length of an ICMP header in bytes (RFC 792).
const ICMPLen = 8

// ICMP types (IANA "ICMP Type Numbers").
const (
	ICMPEchoReply       = 0
	ICMPDestUnreachable = 3
	ICMPSourceQuench    = 4
	ICMPRedirect        = 5
	ICMPEcho            = 8
	ICMPTimeExceeded    = 11
	ICMPParamProblem    = 12
	ICMPTypes           = 18 // highest type that Linux knows, NR_ICMP_TYPES
)

// Codes of destination unreachable (RFC 792, RFC 1812 section 5.2.7.1).
const (
	ICMPNetUnreachable  = 0
	ICMPHostUnreachable = 1
	ICMPFragNeeded      = 4
	ICMPPacketFiltered  = 13
)

// ICMPIsError reports whether an ICMP type is an error message: no error may
// be sent about one (RFC 1122 section 3.2.2). Unknown types, and those that
// Linux knows but does not handle (1, 2, 6, 7, 9, 10), count as errors, as its
// icmp_pointers table has it.
func ICMPIsError(typ uint8) bool {
	const errors = 1<<1 | 1<<2 | 1<<ICMPDestUnreachable | 1<<ICMPSourceQuench | 1<<ICMPRedirect | 1<<6 | 1<<7 |
		1<<9 | 1<<10 | 1<<ICMPTimeExceeded | 1<<ICMPParamProblem
	return typ > ICMPTypes || errors>>typ&1 != 0
}

// PutICMP writes an ICMP message at b: header, then the quoted bytes that the
// caller has already put at b[8:]. rest is the second header word (the MTU of
// fragmentation needed, the pointer of a parameter problem, a gateway).
func PutICMP(b []byte, typ, code uint8, rest uint32) {
	b[0], b[1], b[2], b[3] = typ, code, 0, 0
	binary.BigEndian.PutUint32(b[4:8], rest)
	binary.BigEndian.PutUint16(b[2:4], Checksum(b))
}
