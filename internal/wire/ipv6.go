package wire

import (
	"encoding/binary"
	"net/netip"
)

// IPv6Len is the length of the fixed IPv6 header in bytes (RFC 8200 section 3).
const IPv6Len = 40

// IPv6MinMTU is the least MTU of a link that IPv6 uses, bytes (RFC 8200 section 5).
const IPv6MinMTU = 1280

// Next Header values (IANA) that the datapath tells apart, beside the IP protocol
// numbers.
const (
	ProtoHopByHop = 0
	ProtoIPv6     = 41
	ProtoRouting  = 43
	ProtoFragment = 44
	ProtoESP      = 50
	ProtoAH       = 51
	ProtoICMPv6   = 58
	ProtoNone     = 59
	ProtoDestOpts = 60
	ProtoMobility = 135
)

// IPv6 is an IPv6 packet from its first header byte on (RFC 8200).
type IPv6 []byte

// Valid reports whether the fixed header is there.
func (p IPv6) Valid() bool { return len(p) >= IPv6Len }

// Version is the version field, 6 in any IPv6 packet.
func (p IPv6) Version() uint8 { return p[0] >> 4 }

// TrafficClass is the DS field and ECN (RFC 2474, RFC 3168).
func (p IPv6) TrafficClass() uint8 { return p[0]<<4 | p[1]>>4 }

// FlowLabel is the flow label, 20 bits (RFC 6437).
func (p IPv6) FlowLabel() uint32 { return binary.BigEndian.Uint32(p[0:4]) & 0xfffff }

// FlowInfo is traffic class and flow label as one number of 28 bits.
func (p IPv6) FlowInfo() uint32 { return binary.BigEndian.Uint32(p[0:4]) & 0xfffffff }

// PayloadLen is the length in bytes of what follows the fixed header, as the header
// says. 0 is also that of a jumbogram (RFC 2675).
func (p IPv6) PayloadLen() int { return int(binary.BigEndian.Uint16(p[4:6])) }

// NextHeader is the type of what follows the fixed header.
func (p IPv6) NextHeader() uint8 { return p[6] }

// HopLimit is the hop limit.
func (p IPv6) HopLimit() uint8 { return p[7] }

// Src is the source address.
func (p IPv6) Src() [16]byte { return [16]byte(p[8:24]) }

// Dst is the destination address.
func (p IPv6) Dst() [16]byte { return [16]byte(p[24:40]) }

// SrcAddr is the source address as netip.Addr, without a zone. A mapped IPv4 address
// stays an IPv6 one.
func (p IPv6) SrcAddr() netip.Addr { return netip.AddrFrom16(p.Src()) }

// DstAddr is the destination address as netip.Addr, as SrcAddr.
func (p IPv6) DstAddr() netip.Addr { return netip.AddrFrom16(p.Dst()) }

// Payload is what follows the fixed header, up to the end of the slice.
func (p IPv6) Payload() []byte { return p[IPv6Len:] }

// DecrementHopLimit takes one off the hop limit, which must not be 0. No checksum
// covers it.
func (p IPv6) DecrementHopLimit() { p[7]-- }

// SetPayloadLen stores the payload length in bytes.
func (p IPv6) SetPayloadLen(n int) { binary.BigEndian.PutUint16(p[4:6], uint16(n)) }

// PutIPv6 writes a fixed header at b[:40]. payloadLen is in bytes, flowLabel has 20 bits.
func PutIPv6(b []byte, class uint8, flowLabel uint32, payloadLen int, next, hopLimit uint8, src, dst [16]byte) {
	binary.BigEndian.PutUint32(b[0:4], 6<<28|uint32(class)<<20|flowLabel&0xfffff)
	p := IPv6(b)
	p.SetPayloadLen(payloadLen)
	p[6], p[7] = next, hopLimit
	copy(p[8:24], src[:])
	copy(p[24:40], dst[:])
}

// PseudoSum6 is the partial sum of the IPv6 pseudo-header (RFC 8200 section 8.1):
// next is the upper layer's protocol, length that of its header and data, in bytes.
func PseudoSum6(src, dst [16]byte, next uint8, length int) uint32 {
	return Sum(dst[:], Sum(src[:], uint32(next)+uint32(length)>>16+uint32(length)&0xffff))
}

// SolicitedNode is the solicited-node multicast address of an address (RFC 4291
// section 2.7.1).
func SolicitedNode(a [16]byte) [16]byte {
	return [16]byte{0xff, 0x02, 11: 0x01, 12: 0xff, 13: a[13], 14: a[14], 15: a[15]}
}

// MulticastMAC is the Ethernet address of an IPv6 multicast address (RFC 2464
// section 7).
func MulticastMAC(a [16]byte) MAC { return MAC{0x33, 0x33, a[12], a[13], a[14], a[15]} }
