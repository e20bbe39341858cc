package dissect

// sumOf adds b's 16-bit words to sum, as RFC 1071 does; only the last part of a message may have an odd length.
func sumOf(sum uint64, b []byte) uint64 {
	for len(b) > 1 {
		sum += uint64(b[0])<<8 | uint64(b[1])
		b = b[2:]
	}
	if len(b) == 1 {
		sum += uint64(b[0]) << 8
	}
	return sum
}

// folded is the checksum that sum comes to.
func folded(sum uint64) uint16 {
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// checksum is the Internet checksum of b; it is 0 if b holds a right one.
func checksum(b []byte) uint16 {
	return folded(sumOf(0, b))
}

// pseudoChecksum is the checksum of length bytes of b and the pseudo-header of h (RFC 793, section 3.1; RFC 8200,
// section 8.1), 0 if it is right; whole is false if b has less.
func pseudoChecksum(h *ipHeader, proto uint8, b []byte, length int) (sum uint16, whole bool) {
	if length > len(b) {
		return 0, false
	}
	s := sumOf(0, h.src)
	s = sumOf(s, h.last)
	s += uint64(proto) + uint64(length>>16) + uint64(length&0xffff)
	return folded(sumOf(s, b[:length])), true
}

// shouldBe is what the checksum field, which is was, would have to be for the checksum not to be sum but 0.
func shouldBe(was, sum uint16) uint16 {
	s := uint32(was) + uint32(sum)
	return uint16(s>>16 + s&0xffff)
}
