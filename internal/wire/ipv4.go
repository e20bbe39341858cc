package wire

import (
	"encoding/binary"
	"net/netip"
)

// IPv4MinLen is the length of an IPv4 header without options, in bytes.
const IPv4MinLen = 20

// IP protocol numbers (IANA) that the datapath tells apart.
const (
	ProtoICMP = 1
	ProtoTCP  = 6
	ProtoUDP  = 17
	ProtoSCTP = 132
)

// Bits of the IPv4 flags and fragment offset word (RFC 791 section 3.1).
const (
	IPv4DF         = 0x4000
	IPv4MF         = 0x2000
	IPv4OffsetMask = 0x1fff
)

// IPv4 is an IPv4 datagram from its first header byte on (RFC 791). Accessors
// beyond the fixed header (Options, Payload) need HeaderValid as well.
type IPv4 []byte

// Valid reports whether the fixed header is there.
func (p IPv4) Valid() bool { return len(p) >= IPv4MinLen }

// HeaderValid reports whether version and IHL are right and the whole header,
// options included, is there.
func (p IPv4) HeaderValid() bool {
	return p[0]>>4 == 4 && p.HeaderLen() >= IPv4MinLen && p.HeaderLen() <= len(p)
}

// Version is the version field, 4 in anything that HeaderValid accepts.
func (p IPv4) Version() uint8 { return p[0] >> 4 }

// HeaderLen is the length of the header with options, in bytes.
func (p IPv4) HeaderLen() int { return int(p[0]&0xf) * 4 }

// TOS is the DS field and ECN (RFC 2474, RFC 3168).
func (p IPv4) TOS() uint8 { return p[1] }

// TotalLen is the length of the datagram in bytes as its header says.
func (p IPv4) TotalLen() int { return int(binary.BigEndian.Uint16(p[2:4])) }

// ID is the identification field.
func (p IPv4) ID() uint16 { return binary.BigEndian.Uint16(p[4:6]) }

// Frag is the word of flags and fragment offset.
func (p IPv4) Frag() uint16 { return binary.BigEndian.Uint16(p[6:8]) }

// DontFragment reports the DF flag.
func (p IPv4) DontFragment() bool { return p.Frag()&IPv4DF != 0 }

// IsFragment reports whether the datagram is a piece of a larger one.
func (p IPv4) IsFragment() bool { return p.Frag()&(IPv4MF|IPv4OffsetMask) != 0 }

// FragmentOffset is the offset of this fragment's data in bytes.
func (p IPv4) FragmentOffset() int { return int(p.Frag()&IPv4OffsetMask) * 8 }

// TTL is the time to live.
func (p IPv4) TTL() uint8 { return p[8] }

// Protocol is the IP protocol number of the payload.
func (p IPv4) Protocol() uint8 { return p[9] }

// HeaderChecksum is the checksum field.
func (p IPv4) HeaderChecksum() uint16 { return binary.BigEndian.Uint16(p[10:12]) }

// Src is the source address.
func (p IPv4) Src() [4]byte { return [4]byte(p[12:16]) }

// Dst is the destination address.
func (p IPv4) Dst() [4]byte { return [4]byte(p[16:20]) }

// SrcAddr is the source address as netip.Addr.
func (p IPv4) SrcAddr() netip.Addr { return netip.AddrFrom4(p.Src()) }

// DstAddr is the destination address as netip.Addr.
func (p IPv4) DstAddr() netip.Addr { return netip.AddrFrom4(p.Dst()) }

// Options are the option bytes, possibly none.
func (p IPv4) Options() []byte { return p[IPv4MinLen:p.HeaderLen()] }

// Payload is what follows the header, up to the end of the slice.
func (p IPv4) Payload() []byte { return p[p.HeaderLen():] }

// ChecksumOK verifies the header checksum (RFC 791).
func (p IPv4) ChecksumOK() bool {
	h := p.HeaderLen()
	s := uint64(binary.BigEndian.Uint32(p[0:])) + uint64(binary.BigEndian.Uint32(p[4:])) +
		uint64(binary.BigEndian.Uint32(p[8:])) + uint64(binary.BigEndian.Uint32(p[12:])) +
		uint64(binary.BigEndian.Uint32(p[16:]))
	for i := IPv4MinLen; i < h; i += 4 {
		s += uint64(binary.BigEndian.Uint32(p[i:]))
	}
	s = s>>32 + s&0xffffffff
	s = s>>16 + s&0xffff
	s = s>>16 + s&0xffff
	s = s>>16 + s&0xffff
	return s == 0xffff
}

// DecrementTTL takes one off the TTL, which must not be 0, and updates the
// checksum as ip_decrease_ttl does (include/net/ip.h; RFC 1141).
func (p IPv4) DecrementTTL() {
	s := uint32(p.HeaderChecksum()) + 0x0100
	binary.BigEndian.PutUint16(p[10:12], uint16(s+s>>16))
	p[8]--
}

// SetTotalLen stores the total length; the checksum is the caller's.
func (p IPv4) SetTotalLen(n int) { binary.BigEndian.PutUint16(p[2:4], uint16(n)) }

// SetID stores the identification; the checksum is the caller's.
func (p IPv4) SetID(id uint16) { binary.BigEndian.PutUint16(p[4:6], id) }

// SetFrag stores flags and fragment offset; the checksum is the caller's.
func (p IPv4) SetFrag(v uint16) { binary.BigEndian.PutUint16(p[6:8], v) }

// UpdateHeaderChecksum computes the header checksum anew and stores it.
func (p IPv4) UpdateHeaderChecksum() {
	p[10], p[11] = 0, 0
	binary.BigEndian.PutUint16(p[10:12], Checksum(p[:p.HeaderLen()]))
}

// PutIPv4 writes a header without options at b[:20], checksum included.
// totalLen is in bytes.
func PutIPv4(b []byte, tos uint8, totalLen int, id, frag uint16, ttl, protocol uint8, src, dst [4]byte) {
	p := IPv4(b)
	p[0], p[1] = 0x45, tos
	p.SetTotalLen(totalLen)
	p.SetID(id)
	p.SetFrag(frag)
	p[8], p[9] = ttl, protocol
	copy(p[12:16], src[:])
	copy(p[16:20], dst[:])
	p.UpdateHeaderChecksum()
}
