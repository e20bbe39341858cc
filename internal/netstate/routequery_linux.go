package netstate

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// RouteQuery is a packet whose way the kernel is asked for.
type RouteQuery struct {
	Dst, Src     netip.Addr // of one family; Src may be invalid
	IIF          int        // index of the interface that it came in by; 0: the host sends it
	TOS          uint8
	Proto        uint8 // 0: no protocol
	SPort, DPort uint16
}

// CanAskFor reports whether the kernel can be asked for the way of packets of a
// protocol, for a destination (rtm_getroute_parse_ip_proto in net/ipv4/netlink.c). For others the
// answer leaves out the rules by protocol and port.
func CanAskFor(dst netip.Addr, proto uint8) bool {
	switch proto {
	case unix.IPPROTO_TCP, unix.IPPROTO_UDP:
		return true
	case unix.IPPROTO_ICMP:
		return dst.Is4()
	case unix.IPPROTO_ICMPV6:
		return dst.Is6()
	}
	return false
}

// Attributes of RTM_GETROUTE that x/sys/unix does not name (include/uapi/linux/rtnetlink.h).
const (
	rtaIPProto  = 27
	rtaSPort    = 28
	rtaDPort    = 29
	lookupTable = 0x1000 // RTM_F_LOOKUP_TABLE
)

// Route asks the kernel for the way of a packet (RTM_GETROUTE), as `ip route get`
// does: route lookup with rules and, for one that came in, source validation and
// the forwarding setting. Where it would refuse the packet the error is the
// kernel's: ENETUNREACH, EHOSTUNREACH, EACCES, EINVAL, EXDEV
// (net/ipv4/route.c, ip_route_input_slow). Of IPv6 it asks neither for the
// forwarding setting nor for the source (net/ipv6/route.c, inet6_rtm_getroute).
//
// Dst of the Route is the packet's, not the prefix that matched.
func (r *Requester) Route(q *RouteQuery) (*Route, error) {
	fixed := make([]byte, unix.SizeofRtMsg)
	bits := byte(q.Dst.BitLen())
	fixed[0], fixed[1], fixed[3] = byte(familyOfAddr(q.Dst)), bits, q.TOS
	if q.Dst.Is4() { // the table is told of IPv6 in any case
		native.PutUint32(fixed[8:], lookupTable)
	}
	if q.Src.IsValid() {
		fixed[2] = bits
	}
	msg := appendAttr(newMessage(unix.RTM_GETROUTE, 0, fixed), unix.RTA_DST, q.Dst.AsSlice())
	if q.Src.IsValid() {
		msg = appendAttr(msg, unix.RTA_SRC, q.Src.AsSlice())
	}
	if q.IIF != 0 {
		msg = appendU32(msg, unix.RTA_IIF, uint32(q.IIF))
	}
	if q.IIF != 0 && q.Dst.Is6() { // as whose a forwarded packet counts; of IPv4 it needs no word
		msg = appendU32(msg, unix.RTA_UID, 0)
	}
	if CanAskFor(q.Dst, q.Proto) {
		msg = appendAttr(msg, rtaIPProto, []byte{q.Proto})
		if q.Proto != unix.IPPROTO_ICMP && q.Proto != unix.IPPROTO_ICMPV6 {
			msg = appendAttr(msg, rtaSPort, binary.BigEndian.AppendUint16(nil, q.SPort))
			msg = appendAttr(msg, rtaDPort, binary.BigEndian.AppendUint16(nil, q.DPort))
		}
	}
	found := new(Route)
	if err := r.c.request(msg, func(_ uint16, body []byte) error { return parseRoute(body, found) }); err != nil {
		return nil, fmt.Errorf("route to %s: %w", q.Dst, err)
	}
	return found, nil
}
