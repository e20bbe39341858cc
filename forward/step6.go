package forward

import (
	"proxyarpd/forward/route"
	"proxyarpd/internal/wire"
)

// step6 is step for a frame that bears IPv6.
func step6(t *route.Table, f *Frame, r *result) {
	ip, ok := parse6(f, r)
	if !ok {
		return
	}
	var hop hopOptions
	if ip.NextHeader() == wire.ProtoHopByHop {
		ip = checkHopOptions(t, f, ip, &hop)
	}
	length := len(ip)
	if v := Vnet(f.Buf); v.gso() != gsoNone {
		length = min(length, segmentLen(ip, v)) // ip6_pkt_too_big: what fits whole is not looked into
	}
	t.Decide6(ip, length, r.In, &r.Decision)
	switch {
	case hop.verdict != route.NotSpecified && overrules(r):
		// The kernel looks at the options before it looks for a way.
		r.Redirect, r.Hopped = false, false
		r.dropWith(hop.verdict, hop.icmp)
	case r.Verdict == route.Forward || r.Verdict == route.Queue:
		if v := Vnet(f.Buf); v.lacksChecksums() {
			partialChecksum(ip, v, f.l2len())
		}
		ip.DecrementHopLimit()
		r.readdress(f)
	case r.Looped:
		for ip.HopLimit() > 1 {
			ip.DecrementHopLimit()
		}
	}
}

// overrules reports whether bad hop-by-hop options end a packet in place of what was decided
// about it: not if it is the kernel's, nor if its addresses are no sound packet's, at which
// the kernel looks first.
func overrules(r *result) bool {
	switch r.Verdict.Kind() {
	case route.KindLocal, route.KindPunt, route.KindIgnore:
		return false
	}
	return r.Verdict != route.DropIPInHdr
}

// parse6 takes the frame down to a sound IPv6 header (net/ipv6/ip6_input.c, ip6_rcv_core)
// and cuts link-layer padding off. Addresses are Decide6's.
func parse6(f *Frame, r *result) (wire.IPv6, bool) {
	ip := wire.IPv6(f.Buf[VnetLen+f.l2len():])
	switch {
	case !ip.Valid():
		r.drop(route.DropIPInHdr)
		return nil, false
	case ip.Version() != 6:
		r.drop(route.DropUnhandledProto)
		return nil, false
	}
	total := wire.IPv6Len + ip.PayloadLen()
	if total == wire.IPv6Len {
		switch {
		case ip.NextHeader() == wire.ProtoHopByHop: // may have a jumbo payload option
			total = len(ip)
		case Vnet(f.Buf).gso() == gsoTCPv6:
			total = len(ip) // BIG TCP: include/linux/ipv6.h, ipv6_payload_len
		}
	}
	if total > len(ip) {
		r.drop(route.DropPktTooSmall)
		return nil, false
	}
	if !f.trim(total) {
		r.drop(route.DropIPInHdr)
		return nil, false
	}
	return ip[:total], true
}

// checkHopOptions looks at the hop-by-hop options of a packet, and cuts off what is behind
// the length that a jumbo payload option gives.
func checkHopOptions(t *route.Table, f *Frame, ip wire.IPv6, o *hopOptions) wire.IPv6 {
	host := &t.Host().V6
	if !o.parse(ip, host.MaxHopOptions, host.MaxHopLength) || o.total == 0 {
		return ip
	}
	if !f.trim(o.total) {
		o.bad(route.DropIPInHdr)
		return ip
	}
	return ip[:o.total]
}
