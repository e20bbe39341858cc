package forward

import (
	"encoding/binary"

	"proxyarpd/internal/wire"
)

// TCP flags that differ between the segments of a super-packet (RFC 9293).
const (
	tcpFIN = 0x01
	tcpPSH = 0x08
	tcpCWR = 0x80
)

// upper is what stands behind a packet's network header: behind IPv4's options, or IPv6's
// extension headers. Of a fragment, and where the headers end within the packet, it is
// nothing.
func upper(ip []byte) (off int, proto uint8) {
	if !isIPv6(ip) {
		h := wire.IPv4(ip)
		return h.HeaderLen(), h.Protocol()
	}
	off, proto, frag, ok := wire.IPv6(ip).Upper()
	if !ok || frag != 0 || off > len(ip) {
		return len(ip), wire.ProtoNone
	}
	return off, proto
}

// jumboLen is the length of the hop-by-hop options header that a stack which hands on more
// than 64 KB at a time puts before TCP (BIG TCP), and that no segment bears
// (include/net/ipv6.h, ipv6_has_hopopt_jumbo).
func jumboLen(ip []byte) int {
	const legacy = 65536 // GRO_LEGACY_MAX_SIZE
	if len(ip) > legacy && isIPv6(ip) && ip[6] == wire.ProtoHopByHop && ip[wire.IPv6Len] == wire.ProtoTCP &&
		ip[wire.IPv6Len+1] == 0 && ip[wire.IPv6Len+2] == wire.IPv6OptJumbo {
		return 8
	}
	return 0
}

// segmentLen is the length at the network layer of the segments that a GSO
// frame stands for (net/core/gso.c, skb_gso_network_seglen), or -1 if type and
// packet don't fit together.
func segmentLen(ip []byte, v Vnet) int {
	hlen, proto := upper(ip)
	l4 := ip[hlen:]
	if v.gsoSize() == 0 {
		return -1
	}
	switch gso := v.gso(); {
	case gso == gsoTCPv4 && !isIPv6(ip), gso == gsoTCPv6 && isIPv6(ip):
		if proto == wire.ProtoTCP && len(l4) >= 20 {
			if thl := int(l4[12]>>4) * 4; thl >= 20 && thl <= len(l4) {
				return hlen - jumboLen(ip) + thl + v.gsoSize()
			}
		}
	case gso == gsoUDPL4:
		if proto == wire.ProtoUDP && len(l4) >= udpLen {
			return hlen + udpLen + v.gsoSize()
		}
	}
	return -1
}

// segments cuts a GSO packet into the datagrams that it stands for, as
// net/ipv4/tcp_offload.c, udp_offload.c and net/ipv6/ip6_offload.c do, and calls emit for
// each. The slice given to emit is scratch, overwritten by the next segment; checksums
// are complete. segmentLen must have accepted the packet.
func segments(ip []byte, v Vnet, scratch []byte, emit func([]byte)) {
	at, proto := upper(ip)
	pseudo, hlen := pseudoOf(ip, v, at, proto), at-jumboLen(ip)
	cut(ip, v.gsoSize(), func(n int) []byte { return scratch[:min(n, len(scratch))] }, func(seg []byte, _ int) {
		finishChecksum(seg[hlen:], proto, pseudo)
		emit(seg)
	})
}

// cut makes a super-packet several that have at most size bytes of data each, in buffers that
// room gives: less than n bytes end it. Checksums are not what they should be.
func cut(ip []byte, size int, room func(n int) []byte, emit func(seg []byte, data int)) {
	at, proto := upper(ip)
	l4len := udpLen
	if proto == wire.ProtoTCP {
		l4len = int(ip[at+12]>>4) * 4
	}
	data := ip[at+l4len:]
	hlen := at - jumboLen(ip)
	headers := hlen + l4len
	for number, done := 0, 0; done < len(data) || done == 0; number++ {
		n := min(size, len(data)-done)
		seg := room(headers + n)
		if len(seg) < headers+n {
			return
		}
		copy(seg, ip[:hlen])
		copy(seg[hlen:], ip[at:at+l4len])
		copy(seg[headers:], data[done:done+n])
		if isIPv6(ip) {
			if hlen < at {
				seg[6] = proto // in place of the header that was left out
			}
			wire.IPv6(seg).SetPayloadLen(len(seg) - wire.IPv6Len)
		} else {
			h := wire.IPv4(seg)
			h.SetTotalLen(len(seg))
			h.SetID(h.ID() + uint16(number))
			h.UpdateHeaderChecksum()
		}
		l4 := seg[hlen:]
		if proto == wire.ProtoTCP {
			binary.BigEndian.PutUint32(l4[4:], binary.BigEndian.Uint32(l4[4:])+uint32(done))
			if done+n < len(data) {
				l4[13] &^= tcpFIN | tcpPSH
			}
			if done > 0 {
				l4[13] &^= tcpCWR
			}
		} else {
			binary.BigEndian.PutUint16(l4[4:], uint16(len(l4)))
		}
		emit(seg, n)
		done += n
		if n == 0 {
			return
		}
	}
}

// pseudoOf is the sum of the pseudo-header of a super-packet's segments in 16 bits, but for
// their length. Of IPv6 it is what the sender has left in the checksum field, if it has:
// with a routing header the last destination counts (RFC 8200 section 8.1), not the
// header's.
func pseudoOf(ip []byte, v Vnet, at int, proto uint8) uint32 {
	sum := pseudoSum(ip, proto, 0)
	if l4 := ip[at:]; isIPv6(ip) && v.flags()&vnetNeedsCsum != 0 {
		length := uint32(len(l4))>>16 + uint32(len(l4))&0xffff
		sum = uint32(binary.BigEndian.Uint16(l4[checksumAt(proto):])) + uint32(wire.Fold(length))
	}
	return uint32(^wire.Fold(sum))
}

// checksumAt is the offset of the checksum in a TCP or UDP header.
func checksumAt(proto uint8) int {
	if proto == wire.ProtoTCP {
		return 16
	}
	return 6
}

// finishChecksum puts the checksum in a TCP or UDP header; pseudo is as of pseudoOf. A UDP checksum of 0 is sent as 0xffff (RFC 768).
func finishChecksum(l4 []byte, proto uint8, pseudo uint32) {
	off := checksumAt(proto)
	l4[off], l4[off+1] = 0, 0
	sum := wire.Fold(wire.Sum(l4, pseudo+uint32(len(l4))))
	if sum == 0 && proto == wire.ProtoUDP {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(l4[off:], sum)
}

// pseudoSum is the partial sum of the pseudo-header of a packet's upper layer, length bytes
// long.
func pseudoSum(ip []byte, proto uint8, length int) uint32 {
	if isIPv6(ip) {
		h := wire.IPv6(ip)
		return wire.PseudoSum6(h.Src(), h.Dst(), proto, length)
	}
	h := wire.IPv4(ip)
	return wire.PseudoSum4(h.Src(), h.Dst(), proto, length)
}

// partialChecksum leaves the checksums of a UDP super-packet's segments to who
// cuts it. Those that a device put together with rx-gro-list (net/ipv4/udp_offload.c,
// udp4_gro_complete; net/ipv6/udp_offload.c) come without that wish, and no packet socket
// takes them so (include/linux/virtio_net.h, __virtio_net_hdr_to_skb).
func partialChecksum(ip []byte, v Vnet, l2len int) {
	at, proto := upper(ip)
	udp := ip[at:]
	v[0] = vnetNeedsCsum
	v.setCsumStart(l2len + at)
	binary.NativeEndian.PutUint16(v[8:], 6)
	binary.BigEndian.PutUint16(udp[6:], ^wire.Fold(pseudoSum(ip, proto, len(udp))))
}

// leavePseudoSum makes the checksum of a segment what it is in the kernel when it is left to a device
// (net/ipv4/tcp_offload.c, tcp_gso_segment): the sum of the pseudo-header.
func leavePseudoSum(seg []byte) {
	off, proto := upper(seg)
	at := off + 6
	if proto == wire.ProtoTCP {
		at = off + 16
	}
	binary.BigEndian.PutUint16(seg[at:], ^wire.Fold(pseudoSum(seg, proto, len(seg)-off)))
}

// completeChecksum does what the sender left to a device: it fills in the
// checksum that v describes, and clears the wish (net/core/dev.c,
// skb_checksum_help). l2len is the length of the link-layer header. It reports
// whether the offsets lie inside the packet.
func completeChecksum(ip []byte, v Vnet, l2len int) bool {
	if v.flags()&vnetNeedsCsum == 0 {
		return true
	}
	header := wire.IPv4MinLen
	if isIPv6(ip) {
		header = wire.IPv6Len
	}
	start := v.csumStart() - l2len
	at := start + v.csumOffset()
	if start < header || at+2 > len(ip) {
		return false
	}
	// The field holds the pseudo-header's sum already.
	sum := wire.Checksum(ip[start:])
	if sum == 0 {
		sum = 0xffff // CSUM_MANGLED_0, of any protocol
	}
	binary.BigEndian.PutUint16(ip[at:], sum)
	v[0] &^= vnetNeedsCsum
	return true
}
