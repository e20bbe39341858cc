package wire

import (
	"encoding/binary"
	"net/netip"
)

// NDLen is a neighbour solicitation or advertisement without options, in bytes: an
// ICMPv6 header and the target (RFC 4861 sections 4.3 and 4.4).
const NDLen = ICMPv6Len + 16

// Options of neighbour discovery (RFC 4861 section 4.6). Their length is in units of 8
// bytes, type and length included.
const (
	NDOptSourceLinkLayer = 1
	NDOptTargetLinkLayer = 2
	// NDOptLinkLayerLen is a link-layer address option of Ethernet in bytes (RFC 2464
	// section 6).
	NDOptLinkLayerLen = 8
)

// Flags of an advertisement, in the second word of its ICMPv6 header (RFC 4861 section
// 4.4).
const (
	NDRouter    = 1 << 31
	NDSolicited = 1 << 30
	NDOverride  = 1 << 29
)

// AdvertisementLen is the length in bytes of an Ethernet frame with an advertisement
// that bears a target link-layer address option.
const AdvertisementLen = EthernetLen + IPv6Len + NDLen + NDOptLinkLayerLen

// NDHopLimit is the hop limit of every message of neighbour discovery: one with
// another was forwarded, and comes from elsewhere (RFC 4861 section 7.1).
const NDHopLimit = 255

// AllNodes is the link's all-nodes address (RFC 4291 section 2.7.1).
var AllNodes = [16]byte{0xff, 0x02, 15: 0x01}

// ND is a neighbour solicitation or advertisement, from the ICMPv6 header on (RFC
// 4861).
type ND []byte

// Valid reports whether the part without options is there.
func (m ND) Valid() bool { return len(m) >= NDLen }

// Flags is the second word of the header: the flags of an advertisement, zero in a
// solicitation.
func (m ND) Flags() uint32 { return binary.BigEndian.Uint32(m[4:8]) }

// Target is the address that is asked for or advertised.
func (m ND) Target() netip.Addr { return netip.AddrFrom16([16]byte(m[8:24])) }

// Options are the options, from the first on.
func (m ND) Options() []byte { return m[NDLen:] }

// LinkLayer is the address of the first option of a type that bears one; has is false
// if there is none. ok is false if the options are not well-formed: one is cut off or of
// length 0 (RFC 4861 section 4.6), or that option is not of Ethernet's length.
func (m ND) LinkLayer(typ uint8) (mac MAC, has, ok bool) {
	ok = true
	for opts := m.Options(); len(opts) > 0; {
		if len(opts) < 2 || opts[1] == 0 || 8*int(opts[1]) > len(opts) {
			return mac, has, false
		}
		if opts[0] == typ && !has {
			mac, has, ok = MAC(opts[2:8]), true, opts[1] == NDOptLinkLayerLen/8
		}
		opts = opts[8*int(opts[1]):]
	}
	return mac, has, ok
}

// PutAdvertisement writes an Ethernet frame with a neighbour advertisement at frame,
// which has room for AdvertisementLen bytes. The link-layer address that it tells, and
// the frame's source, is mac; to and dst are where it goes.
func PutAdvertisement(frame []byte, mac MAC, src, target [16]byte, flags uint32, to MAC, dst [16]byte) {
	putND(frame, ICMPv6NeighAdvert, NDOptTargetLinkLayer, mac, src, target, flags, to, dst)
}

// SolicitationLen is the length in bytes of an Ethernet frame with a solicitation that
// bears a source link-layer address option.
const SolicitationLen = AdvertisementLen

// PutSolicitation writes an Ethernet frame with a neighbour solicitation for target, to
// its group, at frame, which has room for SolicitationLen bytes, and gives its length. If
// src is the unspecified address it is one of duplicate address detection, which tells no
// link-layer address (RFC 4861 section 4.3).
func PutSolicitation(frame []byte, mac MAC, src, target [16]byte) int {
	group := SolicitedNode(target)
	if src == [16]byte{} {
		const length = SolicitationLen - NDOptLinkLayerLen
		putND(frame[:length], ICMPv6NeighSolicit, 0, mac, src, target, 0, MulticastMAC(group), group)
		return length
	}
	putND(frame, ICMPv6NeighSolicit, NDOptSourceLinkLayer, mac, src, target, 0, MulticastMAC(group), group)
	return SolicitationLen
}

// putND writes a message with the option opt, which is a link-layer address; 0 is none.
func putND(frame []byte, typ, opt uint8, mac MAC, src, target [16]byte, flags uint32, to MAC, dst [16]byte) {
	length := NDLen
	if opt != 0 {
		length += NDOptLinkLayerLen
	}
	eth := Ethernet(frame)
	eth.SetDst(to)
	eth.SetSrc(mac)
	eth.SetType(EtherTypeIPv6)
	ip := eth.Payload()
	PutIPv6(ip, 0, 0, length, ProtoICMPv6, NDHopLimit, src, dst)
	msg := ip[IPv6Len : IPv6Len+length]
	copy(msg[ICMPv6Len:], target[:])
	if opt != 0 {
		msg[NDLen], msg[NDLen+1] = opt, NDOptLinkLayerLen/8
		copy(msg[NDLen+2:], mac[:])
	}
	PutICMPv6(msg, typ, 0, flags, src, dst)
}
