package forward

import (
	"proxyarpd/forward/route"
	"proxyarpd/internal/wire"
)

// icmpRoom is how long an ICMP error that Linux makes itself may be, bytes.
const icmpRoom = 576 // net/ipv4/icmp.c: "RFC says return as much as we can without exceeding 576 bytes"

// dummySource is used where the host has no address at all (RFC 7600; net/ipv4/icmp.c).
var dummySource = [4]byte{192, 0, 0, 8}

// mayReport says whether an ICMP error may be sent about a packet (RFC 1122
// section 3.2.2; net/ipv4/icmp.c, __icmp_send): not for one that came by
// broadcast, not for later fragments, not for an ICMP error.
func mayReport(ip wire.IPv4, pktType uint8) bool {
	if pktType != packetHost && pktType != packetOtherHost {
		return false
	}
	if ip.FragmentOffset() != 0 {
		return false
	}
	if ip.Protocol() == wire.ProtoICMP {
		p := ip.Payload()
		if len(p) == 0 || wire.ICMPIsError(p[0]) {
			return false
		}
	}
	return true
}

// icmpReport is an ICMP error under construction.
type icmpReport struct {
	route.ICMPError
	about   wire.IPv4 // the packet as the kernel would quote it
	options []byte    // of the answer, a multiple of 4 bytes
	source  [4]byte
	dest    [4]byte
	mtu     int // of the way back
	ttl     uint8
	id      uint16
}

// put writes the error behind a virtio_net_hdr and room for an Ethernet
// header, into b, and gives its length; 0 if nothing can be said
// (net/ipv4/icmp.c, __icmp_send).
func (e *icmpReport) put(b []byte) int {
	header := wire.IPv4MinLen + len(e.options)
	room := min(icmpRoom, e.mtu) - header - wire.ICMPLen
	if room <= wire.IPv4MinLen {
		return 0
	}
	quote := min(len(e.about), room)
	total := header + wire.ICMPLen + quote
	start := VnetLen + wire.EthernetLen
	if len(b) < start+total {
		return 0
	}
	clear(b[:start])
	wire.Ethernet(b[VnetLen:]).SetType(wire.EtherTypeIPv4)
	out := wire.IPv4(b[start : start+total])
	wire.PutIPv4(out, route.ErrorTOS(e.about), total, e.id, 0, e.ttl, wire.ProtoICMP, e.source, e.dest)
	if len(e.options) > 0 {
		out[0] = 4<<4 | byte(header/4)
		copy(out[wire.IPv4MinLen:], e.options)
		out.UpdateHeaderChecksum()
	}
	msg := out[header:]
	copy(msg[wire.ICMPLen:], e.about[:quote])
	wire.PutICMP(msg, e.Type, e.Code, e.Rest)
	return start + total
}
