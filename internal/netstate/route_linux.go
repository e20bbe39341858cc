package netstate

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

const rtaNHID = 30 // RTA_NH_ID, include/uapi/linux/rtnetlink.h

// nexthopFlags are the bits of rtm_flags that are RTNH_F_*, not RTM_F_*.
const nexthopFlags = 0xff

// parseRoute reads struct rtmsg and attributes (fib_dump_info in
// net/ipv4/fib_semantics.c) into r. The storage of r.Nexthops is reused.
func parseRoute(b []byte, r *Route) error {
	*r = Route{Nexthops: r.Nexthops[:0]}
	if len(b) < unix.SizeofRtMsg {
		return short("rtmsg", b)
	}
	family, bits := b[0], int(b[1])
	if familyBits(family) == 0 || bits > familyBits(family) {
		return fmt.Errorf("%w: route of family %d with %d bits", errMalformed, family, bits)
	}
	r.TOS, r.Table, r.Protocol = b[3], uint32(b[4]), Protocol(b[5])
	r.Scope, r.Type = Scope(b[6]), RouteType(b[7])
	r.Flags = native.Uint32(b[8:])
	var dst netip.Addr
	var from netip.Addr
	single := Nexthop{Weight: 1, Flags: r.Flags & nexthopFlags}
	a := attrs{rest: b[unix.SizeofRtMsg:]}
	for a.next() {
		switch a.typ {
		case unix.RTA_DST:
			dst = a.addr(family)
		case unix.RTA_SRC:
			from = a.addr(family)
		case unix.RTA_PREF:
			r.Pref = a.u8()
		case unix.RTA_TABLE:
			r.Table = a.u32()
		case unix.RTA_PRIORITY:
			r.Priority = a.u32()
		case unix.RTA_PREFSRC:
			r.PrefSrc = a.addr(family)
		case unix.RTA_METRICS:
			parseMetrics(r, &a)
		case unix.RTA_MULTIPATH:
			parseMultipath(r, family, &a)
		case unix.RTA_OIF:
			single.Index = a.index()
		case unix.RTA_CACHEINFO:
			if len(a.val) >= rtaExpires+4 && family == unix.AF_INET6 {
				r.expires = int32(native.Uint32(a.val[rtaExpires:]))
			}
		case rtaNHID:
			r.NHID = a.u32()
		default:
			parseNexthopAttr(&single, family, &a)
		}
	}
	if a.err != nil {
		return a.err
	}
	if len(r.Nexthops) == 0 && (single.Index != 0 || single.Gateway.IsValid()) && !rejects(r.Type) {
		r.Nexthops = append(r.Nexthops, single)
	}
	if from.IsValid() && int(b[2]) <= familyBits(family) {
		r.From = netip.PrefixFrom(from, int(b[2])).Masked()
	}
	return r.setDst(dst, family, bits)
}

// rejects reports whether packets go nowhere by routes of a type. Those of IPv6
// name lo, or the device that they were given (ip6_route_dev_notify and
// fib6_nh_init in net/ipv6/route.c).
func rejects(t RouteType) bool {
	switch t {
	case unix.RTN_BLACKHOLE, unix.RTN_UNREACHABLE, unix.RTN_PROHIBIT, unix.RTN_THROW:
		return true
	}
	return false
}

func (r *Route) setDst(dst netip.Addr, family uint8, bits int) error {
	switch {
	case dst.IsValid():
	case bits > 0:
		return fmt.Errorf("%w: route to %d bits of nothing", errMalformed, bits)
	case family == unix.AF_INET6:
		dst = netip.IPv6Unspecified()
	default:
		dst = netip.IPv4Unspecified()
	}
	r.Dst = netip.PrefixFrom(dst, bits).Masked()
	return nil
}

// parseNexthopAttr reads what a nexthop may have alone and in RTA_MULTIPATH.
func parseNexthopAttr(nh *Nexthop, family uint8, a *attrs) {
	switch a.typ {
	case unix.RTA_GATEWAY:
		nh.Gateway = a.addr(family)
	case unix.RTA_VIA: // struct rtvia: the gateway is of another family
		if len(a.val) < 2 {
			a.fail()
			return
		}
		ip, ok := addrOf(uint8(native.Uint16(a.val)), a.val[2:])
		if !ok {
			a.fail()
		}
		nh.Gateway = ip
	case unix.RTA_ENCAP_TYPE:
		nh.Encap = a.u16()
	}
}

// parseMultipath reads the struct rtnexthop records of RTA_MULTIPATH.
func parseMultipath(r *Route, family uint8, a *attrs) {
	for b := a.val; len(b) > 0; {
		if len(b) < unix.SizeofRtNexthop {
			a.fail()
			return
		}
		n := int(native.Uint16(b))
		if n < unix.SizeofRtNexthop || n > len(b) {
			a.fail()
			return
		}
		index := int32(native.Uint32(b[4:]))
		if index < 0 {
			a.fail()
			return
		}
		nh := Nexthop{Index: int(index), Flags: uint32(b[2]), Weight: int(b[3]) + 1}
		nested := attrs{rest: b[unix.SizeofRtNexthop:n]}
		for nested.next() {
			parseNexthopAttr(&nh, family, &nested)
		}
		a.take(&nested)
		r.Nexthops = append(r.Nexthops, nh)
		b = b[min(align4(n), len(b)):]
	}
}

func parseMetrics(r *Route, a *attrs) {
	nested := attrs{rest: a.val}
	for nested.next() {
		switch nested.typ {
		case unix.RTAX_MTU:
			r.MTU = nested.u32()
		case unix.RTAX_HOPLIMIT:
			r.HopLimit = uint8(min(nested.u32(), 255))
		case unix.RTAX_LOCK:
			r.MTULocked = nested.u32()&(1<<unix.RTAX_MTU) != 0
		}
	}
	a.take(&nested)
}
