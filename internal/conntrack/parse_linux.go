// Package conntrack follows the flows of IPv4 and IPv6 that the kernel's conntrack translates (NAT), by ctnetlink.
//
// What answers a packet of such a flow bears the address of who really got it, and is for who sent the first packet.
// Nothing in it says that the kernel has to translate it back. [Mirror] keeps who these are.
package conntrack

import (
	"encoding/binary"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// A flow is one that the kernel translates.
type flow struct {
	id     uint32     // the kernel's, CTA_ID
	client netip.Addr // who began it, and whom answers are for
	proto  uint8
	port   uint16 // from which it sends; of ICMP: the identifier
	answer uint16 // to which answers come: another one if the kernel translates it
	to     netip.Addr
	// hidden says that the kernel translates the client's address: what answers is for an address of this host.
	hidden bool
}

// Attributes (include/uapi/linux/netfilter/nfnetlink_conntrack.h), and bits of CTA_STATUS (nf_conntrack_common.h).
const (
	ctaStatusMask = 26
	ctaICMPID     = 4 // CTA_PROTO_ICMP_ID
	ctaICMPv6ID   = 7 // CTA_PROTO_ICMPV6_ID

	statusSrcNAT = 1 << 4 // IPS_SRC_NAT
	statusDstNAT = 1 << 5 // IPS_DST_NAT

	sizeofNfgenmsg = 4
)

// tuple is what is read of one direction.
type tuple struct {
	src, dst         netip.Addr
	srcPort, dstPort uint16
	icmpID           uint16
	proto            uint8
}

// parse reads a message of ctnetlink; ok is false for flows that are not translated.
func parse(m []byte) (f flow, ok bool) {
	if len(m) < sizeofNfgenmsg || m[0] != unix.AF_INET && m[0] != unix.AF_INET6 {
		return f, false
	}
	var original, reply tuple
	var status uint32
	for typ, v := range attributes(m[sizeofNfgenmsg:]) {
		switch typ {
		case nl.CTA_TUPLE_ORIG:
			original = parseTuple(v)
		case nl.CTA_TUPLE_REPLY:
			reply = parseTuple(v)
		case nl.CTA_STATUS:
			status = be32(v)
		case nl.CTA_ID:
			f.id = be32(v)
		}
	}
	if status&(statusSrcNAT|statusDstNAT) == 0 || !original.src.IsValid() || !original.dst.IsValid() {
		return f, false
	}
	f.to, f.hidden = original.dst, original.src != reply.dst
	f.client, f.proto, f.port, f.answer = original.src, original.proto, original.srcPort, reply.dstPort
	if f.proto == unix.IPPROTO_ICMP || f.proto == unix.IPPROTO_ICMPV6 {
		f.port, f.answer = original.icmpID, reply.icmpID
	}
	return f, true
}

func parseTuple(b []byte) (t tuple) {
	for typ, v := range attributes(b) {
		switch typ {
		case nl.CTA_TUPLE_IP:
			for typ, v := range attributes(v) {
				a, _ := netip.AddrFromSlice(v)
				switch typ {
				case nl.CTA_IP_V4_SRC, nl.CTA_IP_V6_SRC:
					t.src = a
				case nl.CTA_IP_V4_DST, nl.CTA_IP_V6_DST:
					t.dst = a
				}
			}
		case nl.CTA_TUPLE_PROTO:
			for typ, v := range attributes(v) {
				switch {
				case typ == nl.CTA_PROTO_NUM && len(v) == 1:
					t.proto = v[0]
				case len(v) != 2:
				case typ == nl.CTA_PROTO_SRC_PORT:
					t.srcPort = binary.BigEndian.Uint16(v)
				case typ == nl.CTA_PROTO_DST_PORT:
					t.dstPort = binary.BigEndian.Uint16(v)
				case typ == ctaICMPID, typ == ctaICMPv6ID:
					t.icmpID = binary.BigEndian.Uint16(v)
				}
			}
		}
	}
	return t
}

// attributes walks netlink attributes; the type comes without its flags. A malformed rest ends the walk.
func attributes(b []byte) func(yield func(typ int, v []byte) bool) {
	return func(yield func(int, []byte) bool) {
		for len(b) >= unix.SizeofNlAttr {
			n := int(binary.NativeEndian.Uint16(b))
			typ := binary.NativeEndian.Uint16(b[2:]) &^ uint16(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER)
			if n < unix.SizeofNlAttr || n > len(b) || !yield(int(typ), b[unix.SizeofNlAttr:n]) {
				return
			}
			b = b[min((n+3)&^3, len(b)):]
		}
	}
}

func be32(b []byte) uint32 {
	if len(b) < 4 {
		return 0
	}
	return binary.BigEndian.Uint32(b)
}
