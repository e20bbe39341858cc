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

// segmentLen is the length at the network layer of the segments that a GSO
// frame stands for (net/core/gso.c, skb_gso_network_seglen), or -1 if type and
// packet don't fit together.
func segmentLen(ip wire.IPv4, v Vnet) int {
	hlen := ip.HeaderLen()
	l4 := ip[hlen:]
	if v.gsoSize() == 0 {
		return -1
	}
	switch v.gso() {
	case gsoTCPv4:
		if ip.Protocol() == wire.ProtoTCP && len(l4) >= 20 {
			if thl := int(l4[12]>>4) * 4; thl >= 20 && thl <= len(l4) {
				return hlen + thl + v.gsoSize()
			}
		}
	case gsoUDPL4:
		if ip.Protocol() == wire.ProtoUDP && len(l4) >= 8 {
			return hlen + 8 + v.gsoSize()
		}
	}
	return -1
}

// segments cuts a GSO packet into the datagrams that it stands for, as
// net/ipv4/tcp_offload.c and udp_offload.c do, and calls emit for each. The
// slice given to emit is scratch, overwritten by the next segment; checksums
// are complete. segmentLen must have accepted the packet.
func segments(ip wire.IPv4, v Vnet, scratch []byte, emit func(wire.IPv4)) {
	hlen := ip.HeaderLen()
	l4len := 8
	tcp := v.gso() == gsoTCPv4
	if tcp {
		l4len = int(ip[hlen+12]>>4) * 4
	}
	headers := hlen + l4len
	data := ip[headers:]
	id := ip.ID()
	for done := 0; done < len(data) || done == 0; {
		n := min(v.gsoSize(), len(data)-done)
		if len(scratch) < headers+n {
			return
		}
		seg := wire.IPv4(scratch[:headers+n])
		copy(seg, ip[:headers])
		copy(seg[headers:], data[done:done+n])
		seg.SetTotalLen(len(seg))
		seg.SetID(id)
		seg.UpdateHeaderChecksum()
		l4 := seg[hlen:]
		if tcp {
			binary.BigEndian.PutUint32(l4[4:], binary.BigEndian.Uint32(l4[4:])+uint32(done))
			if done+n < len(data) {
				l4[13] &^= tcpFIN | tcpPSH
			}
			if done > 0 {
				l4[13] &^= tcpCWR
			}
			putL4Checksum(seg, l4, 16)
		} else {
			binary.BigEndian.PutUint16(l4[4:], uint16(len(l4)))
			putL4Checksum(seg, l4, 6)
		}
		emit(seg)
		id++
		done += n
		if n == 0 {
			return
		}
	}
}

// putL4Checksum computes a TCP or UDP checksum that stands at off of l4. A UDP
// checksum of 0 is sent as 0xffff (RFC 768).
func putL4Checksum(ip wire.IPv4, l4 []byte, off int) {
	l4[off], l4[off+1] = 0, 0
	sum := wire.Fold(wire.Sum(l4, wire.PseudoSum4(ip.Src(), ip.Dst(), ip.Protocol(), len(l4))))
	if sum == 0 && ip.Protocol() == wire.ProtoUDP {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(l4[off:], sum)
}

// partialChecksum leaves the checksums of a UDP super-packet's segments to who
// cuts it. Those that a device put together with rx-gro-list (net/ipv4/udp_offload.c,
// udp4_gro_complete) come without that wish, and no packet socket takes them so
// (include/linux/virtio_net.h, __virtio_net_hdr_to_skb).
func partialChecksum(ip wire.IPv4, v Vnet, l2len int) {
	udp := ip[ip.HeaderLen():]
	v[0] = vnetNeedsCsum
	v.setCsumStart(l2len + ip.HeaderLen())
	binary.NativeEndian.PutUint16(v[8:], 6)
	binary.BigEndian.PutUint16(udp[6:], ^wire.Fold(wire.PseudoSum4(ip.Src(), ip.Dst(), wire.ProtoUDP, len(udp))))
}

// completeChecksum does what the sender left to a device: it fills in the
// checksum that v describes, and clears the wish (net/core/dev.c,
// skb_checksum_help). l2len is the length of the link-layer header. It reports
// whether the offsets lie inside the packet.
func completeChecksum(ip wire.IPv4, v Vnet, l2len int) bool {
	if v.flags()&vnetNeedsCsum == 0 {
		return true
	}
	start := v.csumStart() - l2len
	at := start + v.csumOffset()
	if start < wire.IPv4MinLen || at+2 > len(ip) {
		return false
	}
	// The field holds the pseudo-header's sum already.
	sum := wire.Checksum(ip[start:])
	if sum == 0 && ip.Protocol() == wire.ProtoUDP {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(ip[at:], sum)
	v[0] &^= vnetNeedsCsum
	return true
}

// fragments cuts a datagram for a link with an MTU of mtu bytes (RFC 791
// section 3.2; net/ipv4/ip_output.c, ip_do_fragment) and calls emit for each
// piece. The slice given to emit is scratch, overwritten by the next piece.
func fragments(ip wire.IPv4, mtu int, scratch []byte, emit func(wire.IPv4)) bool {
	hlen := ip.HeaderLen()
	room := (mtu - hlen) &^ 7
	if room <= 0 || len(scratch) < mtu {
		return false
	}
	var header [60]byte
	copy(header[:], ip[:hlen])
	data := ip[hlen:]
	offset, more := ip.FragmentOffset(), ip.Frag()&wire.IPv4MF
	for done := 0; done < len(data); {
		n := len(data) - done
		if n > mtu-hlen {
			n = room
		}
		piece := wire.IPv4(scratch[:hlen+n])
		copy(piece, header[:hlen])
		copy(piece[hlen:], data[done:done+n])
		frag := uint16((offset + done) / 8)
		if done+n < len(data) || more != 0 {
			frag |= wire.IPv4MF
		}
		piece.SetFrag(frag)
		piece.SetTotalLen(len(piece))
		piece.UpdateHeaderChecksum()
		emit(piece)
		if done == 0 && offset == 0 { // else they are blank already, says the kernel
			blankUncopied(header[wire.IPv4MinLen:hlen])
		}
		done += n
	}
	return true
}

// blankUncopied replaces the options that only the first fragment bears by
// no-operation (net/ipv4/ip_options.c, ip_options_fragment).
func blankUncopied(opts []byte) {
	const end, nop, copied = 0, 1, 0x80
	for i := 0; i < len(opts); {
		switch opts[i] {
		case end:
			return
		case nop:
			i++
			continue
		}
		if i+1 >= len(opts) || opts[i+1] < 2 || i+int(opts[i+1]) > len(opts) {
			return
		}
		n := int(opts[i+1])
		if opts[i]&copied == 0 {
			for j := i; j < i+n; j++ {
				opts[j] = nop
			}
		}
		i += n
	}
}
