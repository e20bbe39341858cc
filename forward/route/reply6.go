package route

import (
	"net/netip"

	"proxyarpd/internal/wire"
)

// ErrorWay6 finds the way of an ICMPv6 error about an IPv6 packet that came in by a
// link (nil: that is not known) to an address (net/ipv6/icmp.c, icmp6_send and
// icmpv6_route_lookup). It is false if there is none that can be taken. about is read
// only.
func (t *Table) ErrorWay6(about wire.IPv6, in *Link, e ICMPError, to netip.Addr) (way ErrorWay, ok bool) {
	if to.IsUnspecified() || isMulticast6(to) {
		return way, false
	}
	source := t.errorSource(about, in, to)
	if isLinkLocal6(to) {
		if in == nil || !in.sends6() || !source.IsValid() || in.owns6(to) || !linkLocalSubnet.Contains(to) {
			return way, false
		}
		return t.errorBy(in, nil, to, to, source, e), true
	}
	// To rules, type and code stand where ports do (include/net/flow.h, union flowi_uli).
	f := flow{dst: to, src: source, iif: loopbackIfindex, proto: wire.ProtoICMPv6, dport: uint16(e.Type)<<8 | uint16(e.Code)}
	route, _ := t.v6.lookup(&f)
	if !source.IsValid() { // net/ipv6/ip6_output.c, ip6_dst_lookup_tail
		if f.src = t.sourceBy(route, to); !f.src.IsValid() {
			return way, false
		}
		if route == nil || route.refuses() {
			route, _ = t.v6.lookup(&f)
		}
	}
	if route == nil || route.Type != TypeUnicast {
		return way, false
	}
	nh := t.nexthopFor6(route, about, nil)
	out := t.Link(nh.Ifindex)
	if out == nil || !out.sends6() || nh.Encap || t.anycast(route, nh, to) {
		return way, false
	}
	next := nh.Gateway
	if !next.IsValid() {
		next = to
	}
	return t.errorBy(out, route, next, to, f.src, e), true
}

// linkLocalSubnet is what link-local addresses are of (RFC 4291 section 2.5.6), and the
// kernel has a route to on each interface.
var linkLocalSubnet = netip.MustParsePrefix("fe80::/64")

// sends6 reports whether what this host makes can leave by a link.
func (l *Link) sends6() bool { return l.Up() && l.MTU6 != 0 }

// errorSource is the source that icmp6_send asks for: the packet's destination if that
// is this host's, else what suits the interface that the packet came in by. It is
// invalid where the route has a preferred source, or is to say for another reason.
func (t *Table) errorSource(about wire.IPv6, in *Link, to netip.Addr) netip.Addr {
	dst := about.DstAddr()
	if r, ok := t.v6.local.Lookup(dst); ok && (r.Type == TypeLocal || r.Type == TypeAnycast) {
		return dst
	}
	// icmpv6_rt_has_prefsrc
	r, _ := t.v6.lookup(&flow{dst: to, iif: loopbackIfindex, proto: wire.ProtoICMPv6})
	if r != nil && !r.refuses() && r.Source.IsValid() || in == nil {
		return netip.Addr{}
	}
	return t.selectAddr6(in, to)
}

// sourceBy is ip6_route_get_saddr: this host's address for packets by a route, nil if there
// is none.
func (t *Table) sourceBy(r *Route, to netip.Addr) netip.Addr {
	switch {
	case r == nil || r.refuses():
		return t.selectAddr6(nil, to)
	case r.Source.IsValid():
		return r.Source
	}
	return t.selectAddr6(t.Link(r.Dev), to)
}

// anycast is ipv6_anycast_destination: the subnet-router anycast address of a subnet
// on the link (RFC 4291 section 2.6.1), which no error is sent to.
func (t *Table) anycast(r *Route, nh *Nexthop, to netip.Addr) bool {
	return !t.host.V6.AnycastAsUnicast && r.Bits < 127 && !nh.Gateway.IsValid() && r.PrefixOf(to).Addr() == to
}

func (t *Table) errorBy(out *Link, r *Route, next, to, source netip.Addr, e ICMPError) ErrorWay {
	way := ErrorWay{Out: out, Next: next, Source: source, MTU: out.MTU6}
	switch {
	case r != nil && r.HopLimit != 0:
		way.TTL = r.HopLimit
	case out.Conf6.HopLimit != 0:
		way.TTL = out.Conf6.HopLimit
	default:
		way.TTL = t.host.V6.HopLimit
	}
	if t.host.V6.AutoFlowLabels { // include/net/ipv6.h, ip6_make_flowlabel
		k := flowKeys{v6: true, src: source.As16(), dst: to.As16(), proto: wire.ProtoICMPv6, ports: [4]byte{2: e.Type, 3: e.Code}}
		hash := hashFields(k, hashSrc|hashDst|hashProto|hashSrcPort|hashDstPort, t.host.HashSeed)
		way.FlowLabel = hash >> 12
		if t.host.V6.FlowLabelRanges {
			way.FlowLabel |= flowLabelStateless
		}
	}
	return way
}

// flowLabelStateless is IPV6_FLOWLABEL_STATELESS_FLAG.
const flowLabelStateless = 0x80000
