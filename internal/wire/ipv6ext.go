package wire

import "encoding/binary"

// Hop-by-hop options (IANA "Destination Options and Hop-by-Hop Options") that the
// datapath tells apart. The upper two bits of a type say what becomes of a packet with
// an option that a node does not know (RFC 8200 section 4.2).
const (
	IPv6OptPad1        = 0x00
	IPv6OptPadN        = 0x01
	IPv6OptRouterAlert = 0x05 // RFC 2711
	IPv6OptCALIPSO     = 0x07 // RFC 5570
	IPv6OptIOAM        = 0x31 // RFC 9486
	IPv6OptJumbo       = 0xc2 // RFC 2675
)

// IPv6FragmentLen is the length of a fragment header in bytes (RFC 8200 section 4.5).
const IPv6FragmentLen = 8

// IPv6IsExtension reports whether a Next Header value is that of an extension header that
// Linux skips on the way to the upper layer (net/ipv6/exthdrs_core.c, ipv6_ext_hdr).
func IPv6IsExtension(next uint8) bool {
	switch next {
	case ProtoHopByHop, ProtoRouting, ProtoFragment, ProtoAH, ProtoNone, ProtoDestOpts:
		return true
	}
	return false
}

// Upper finds what stands behind the extension headers: the offset of it from the fixed
// header's first byte, and its type (net/ipv6/exthdrs_core.c, ipv6_skip_exthdr). frag is
// the fragment header's word of offset and flags, 0 without one; of a fragment that is
// not the first, next is Fragment and the offset that of the fragment header. ok is false
// if the headers end within the packet, which begins with a fixed header, or in "no next
// header".
func (p IPv6) Upper() (off int, next uint8, frag uint16, ok bool) {
	off, next = IPv6Len, p.NextHeader()
	for IPv6IsExtension(next) {
		if next == ProtoNone || off+2 > len(p) {
			return 0, 0, 0, false
		}
		length := int(p[off+1])*8 + 8
		switch next {
		case ProtoFragment:
			if off+4 > len(p) {
				return 0, 0, 0, false
			}
			if frag = binary.BigEndian.Uint16(p[off+2:]); frag&^7 != 0 {
				return off, next, frag, true
			}
			length = IPv6FragmentLen
		case ProtoAH:
			length = int(p[off+1])*4 + 8
		}
		next = p[off]
		off += length
	}
	return off, next, frag, true
}
