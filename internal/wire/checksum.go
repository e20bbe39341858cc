package wire

import (
	"encoding/binary"
	"math/bits"
)

// Sum adds b to a partial Internet checksum (RFC 1071). The result is not
// folded to 16 bits, but is little more; an odd last byte counts as the high byte of a
// 16-bit word, so only the last piece of a message may have an odd length.
func Sum(b []byte, initial uint32) uint32 {
	// Words are added with their bytes the wrong way round, as a little-endian machine
	// reads them, and the sum is turned in the end (RFC 1071 section 2 (B)).
	e := binary.LittleEndian
	var sum, carry uint64
	for len(b) >= 32 {
		sum, carry = bits.Add64(sum, e.Uint64(b), 0)
		sum, carry = bits.Add64(sum, e.Uint64(b[8:]), carry)
		sum, carry = bits.Add64(sum, e.Uint64(b[16:]), carry)
		sum, carry = bits.Add64(sum, e.Uint64(b[24:]), carry)
		sum += carry // at most 2^64-2 with a carry: no overflow
		b = b[32:]
	}
	for len(b) >= 8 {
		sum, carry = bits.Add64(sum, e.Uint64(b), 0)
		sum += carry
		b = b[8:]
	}
	var rest uint64
	if len(b) >= 4 {
		rest = uint64(e.Uint32(b))
		b = b[4:]
	}
	if len(b) >= 2 {
		rest += uint64(e.Uint16(b))
		b = b[2:]
	}
	if len(b) == 1 {
		rest += uint64(b[0])
	}
	sum, carry = bits.Add64(sum, rest, 0)
	sum += carry
	sum = sum>>32 + sum&0xffffffff
	sum = sum>>16&0xffff + sum&0xffff + sum>>32
	sum = sum>>16 + sum&0xffff
	sum = sum>>16 + sum&0xffff
	return uint32(bits.ReverseBytes16(uint16(sum))) + initial>>16 + initial&0xffff
}

// Fold brings a partial sum to 16 bits and complements it: the value that
// stands in a checksum field.
func Fold(sum uint32) uint16 {
	sum = sum>>16 + sum&0xffff
	sum += sum >> 16
	return ^uint16(sum)
}

// Checksum is the Internet checksum of b (RFC 1071).
func Checksum(b []byte) uint16 { return Fold(Sum(b, 0)) }

// UpdateChecksum gives the checksum after one 16-bit word of what it covers
// changed from before to after (RFC 1624 equation 3).
func UpdateChecksum(sum, before, after uint16) uint16 {
	s := uint32(^sum) + uint32(^before) + uint32(after)
	s = s>>16 + s&0xffff
	s += s >> 16
	return ^uint16(s)
}

// PseudoSum4 is the partial sum of the IPv4 pseudo-header of TCP and UDP
// (RFC 9293 section 3.1, RFC 768): length is that of the transport header and
// data, in bytes.
func PseudoSum4(src, dst [4]byte, protocol uint8, length int) uint32 {
	s := uint32(binary.BigEndian.Uint16(src[0:])) + uint32(binary.BigEndian.Uint16(src[2:])) +
		uint32(binary.BigEndian.Uint16(dst[0:])) + uint32(binary.BigEndian.Uint16(dst[2:]))
	return s + uint32(protocol) + uint32(length)
}
