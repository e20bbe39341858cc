package forward

import (
	"encoding/binary"

	"proxyarpd/forward/route"
	"proxyarpd/internal/wire"
)

// icmpv6Room is how long an ICMPv6 message that this host makes may be, bytes: as much of
// the packet as fits into the least MTU (RFC 4443 section 2.4 (c)).
const icmpv6Room = wire.IPv6MinMTU

// mayReport6 says whether an ICMPv6 error may be sent about a packet (RFC 4443 section
// 2.4 (e); net/ipv6/icmp.c, icmp6_send): not for one that came by multicast, but for the
// two errors that are of use there too; not to a source that is not one node; not for an
// ICMPv6 error.
func mayReport6(ip wire.IPv6, pktType uint8, e route.ICMPError) bool {
	src, group := ip.Src(), ip.Dst()[0] == 0xff || pktType != packetHost && pktType != packetOtherHost
	if group && e.Type != wire.ICMPv6PacketTooBig && !asksForReport(ip, e) {
		return false
	}
	return src != [16]byte{} && src[0] != 0xff && !bearsError6(ip)
}

// asksForReport reports whether an error is about an unknown option that wants it to be
// sent for multicast, too.
func asksForReport(ip wire.IPv6, e route.ICMPError) bool {
	return e.Type == wire.ICMPv6ParamProblem && e.Code == wire.ICMPv6UnknownOption &&
		(int64(e.Rest) >= int64(len(ip)) || ip[e.Rest]&0xc0 == 0x80)
}

// bearsError6 reports whether a packet is an ICMPv6 error, or one of unknown type (net/
// ipv6/icmp.c, is_ineligible). A fragment without the type is none.
func bearsError6(ip wire.IPv6) bool {
	off, next, frag, ok := ip.Upper()
	switch {
	case !ok || next != wire.ProtoICMPv6:
		return false
	case off >= len(ip):
		return frag == 0
	}
	return wire.ICMPv6IsError(ip[off])
}

// icmpv6Report is an ICMPv6 error under construction.
type icmpv6Report struct {
	route.ICMPError
	about    wire.IPv6 // the packet as the kernel would quote it
	source   [16]byte
	dest     [16]byte
	class    uint8
	label    uint32 // flow label
	hopLimit uint8
}

// put writes the error behind a virtio_net_hdr and room for an Ethernet header, into b, and
// gives its length (net/ipv6/icmp.c, icmp6_send).
func (e *icmpv6Report) put(b []byte) int {
	quote := min(len(e.about), icmpv6Room-wire.IPv6Len-wire.ICMPv6Len)
	msg := putICMPv6Header(b, wire.ICMPv6Len+quote, e.class, e.label, e.hopLimit, e.source, e.dest)
	copy(msg[wire.ICMPv6Len:], e.about[:quote])
	wire.PutICMPv6(msg, e.Type, e.Code, e.Rest, e.source, e.dest)
	return VnetLen + wire.EthernetLen + wire.IPv6Len + len(msg)
}

// putICMPv6Header writes what stands before an ICMPv6 message of length bytes, and gives
// the place of the message.
func putICMPv6Header(b []byte, length int, class uint8, label uint32, hopLimit uint8, source, dest [16]byte) []byte {
	start := VnetLen + wire.EthernetLen
	clear(b[:start])
	wire.Ethernet(b[VnetLen:]).SetType(wire.EtherTypeIPv6)
	wire.PutIPv6(b[start:], class, label, length, wire.ProtoICMPv6, hopLimit, source, dest)
	return b[start+wire.IPv6Len:][:length]
}

// redirect6 is a redirect under construction (RFC 4861 section 4.5).
type redirect6 struct {
	about  wire.IPv6 // as it came
	hops   uint8     // its hop limit
	target [16]byte  // the better first hop, or the destination itself, which is a neighbour
	mac    wire.MAC  // of the target
	known  bool      // mac is
	source [16]byte  // link-local
}

const (
	redirectLen    = 40 // header, target and destination, bytes
	ndOptTargetMAC = 2  // target link-layer address
	ndOptRedirect  = 4  // redirected header
	ndOptLen       = 8  // of a link-layer address of Ethernet, bytes, and of the fixed part of the other
	ndHopLimit     = 255
)

// put writes the redirect behind a virtio_net_hdr and room for an Ethernet header, into b,
// and gives its length (net/ipv6/ndisc.c, ndisc_send_redirect).
func (d *redirect6) put(b []byte) int {
	options := 0
	if d.known {
		options = ndOptLen
	}
	quoted := min(icmpv6Room-wire.IPv6Len-redirectLen-options, len(d.about)+ndOptLen) &^ 7
	length := redirectLen + options + quoted
	msg := putICMPv6Header(b, length, 0, 0, ndHopLimit, d.source, d.about.Src())
	dst := d.about.Dst()
	copy(msg[8:], d.target[:])
	copy(msg[24:], dst[:])
	opt := msg[redirectLen:]
	if d.known {
		opt[0], opt[1] = ndOptTargetMAC, ndOptLen/8
		copy(opt[2:], d.mac[:])
		opt = opt[ndOptLen:]
	}
	binary.BigEndian.PutUint64(opt, uint64(ndOptRedirect)<<56|uint64(quoted/8)<<48)
	copy(opt[ndOptLen:], d.about)
	opt[ndOptLen+7] = d.hops
	wire.PutICMPv6(msg, wire.ICMPv6Redirect, 0, 0, d.source, d.about.Src())
	return VnetLen + wire.EthernetLen + wire.IPv6Len + length
}
