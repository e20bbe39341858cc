package forward

import (
	"net/netip"

	"proxyarpd/internal/wire"
)

// What Linux uses for the ICMP errors that it makes itself.
const (
	icmpTTL      = 64  // net.ipv4.ip_default_ttl
	icmpRoom     = 576 // net/ipv4/icmp.c: "RFC says return as much as we can without exceeding 576 bytes"
	precInternet = 0xc0
)

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

// appendICMP writes an ICMP error about ip behind a virtio_net_hdr and room
// for an Ethernet header, into b, and gives its length; 0 if b is too short.
// src is this host's address.
func putICMP(b []byte, ip wire.IPv4, e icmpError, src [4]byte, id uint16) int {
	quote := min(len(ip), icmpRoom-wire.IPv4MinLen-wire.ICMPLen)
	total := wire.IPv4MinLen + wire.ICMPLen + quote
	start := VnetLen + wire.EthernetLen
	if len(b) < start+total {
		return 0
	}
	clear(b[:start])
	wire.Ethernet(b[VnetLen:]).SetType(wire.EtherTypeIPv4)
	out := b[start : start+total]
	tos := ip.TOS()&0x1e | precInternet
	wire.PutIPv4(out, tos, total, id, 0, icmpTTL, wire.ProtoICMP, src, ip.Src())
	msg := out[wire.IPv4MinLen:]
	copy(msg[wire.ICMPLen:], ip[:quote])
	wire.PutICMP(msg, e.Type, e.Code, e.Rest)
	return start + total
}

// sourceFor is the address from which this host reports an error that goes
// out by a route (net/ipv4/fib_semantics.c, fib_result_prefsrc;
// net/ipv4/devinet.c, inet_select_addr): the route's preferred source, an
// address of the egress link, or any address that is valid beyond a link.
func (t *Table) sourceFor(r *Route, out *Link) [4]byte {
	for _, a := range []netip.Addr{r.Source, out.Address, t.fallbackSource} {
		if a.Is4() {
			return a.As4()
		}
	}
	return dummySource
}
