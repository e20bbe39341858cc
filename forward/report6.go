package forward

import (
	"proxyarpd/forward/route"
	"proxyarpd/internal/wire"
)

// dropped6 is dropped for an IPv6 packet. The kernel sends a redirect before it looks at
// the MTU (net/ipv6/ip6_output.c, ip6_forward).
func (p *reporter) dropped6(f *Frame, r *result) (sent route.ICMPError) {
	if r.Redirect {
		p.redirect6(f, r)
	}
	e := r.ICMP
	if e.Type == 0 || e.Type == wire.ICMPv6DestUnreachable && p.incomplete() {
		return sent
	}
	ip := wire.IPv6(f.Buf[VnetLen+f.l2len():])
	switch v := Vnet(f.Buf); {
	case r.Hopped && !fragmentable(ip):
		return sent
	case r.Hopped && v.gso() != gsoNone:
		return p.hopped6(ip, v, f.PktType, r)
	case r.Hopped:
		ip.DecrementHopLimit()
		defer giveHopBack(ip)
	}
	return p.send6(ip, f.PktType, e, r.In)
}

// fragmentable reports whether the headers that each fragment would have end within the
// packet: else the kernel, which is about to fragment it, ends it without a word
// (net/ipv6/output_core.c, ip6_find_1stfragopt).
func fragmentable(ip wire.IPv6) bool {
	next, at, routing := ip.NextHeader(), wire.IPv6Len, false
	for at <= len(ip) {
		switch {
		case next == wire.ProtoRouting:
			routing = true
		case next == wire.ProtoDestOpts && !routing, next == wire.ProtoHopByHop:
		default:
			return true
		}
		if at+2 > len(ip) {
			return false
		}
		next, at = ip[at], at+8+int(ip[at+1])*8
	}
	return false
}

// hopped6 ends a super-packet whose segments are larger than the route's MTU: the kernel
// cuts it, sends an error about each segment that is too large, and those on their way that
// are not, as the last may be (net/ipv6/ip6_output.c, ip6_finish_output_gso_slowpath_drop). One
// that fits is lost where the next hop is not known.
func (p *reporter) hopped6(ip wire.IPv6, v Vnet, pktType uint8, r *result) (sent route.ICMPError) {
	var d route.Decision
	p.turn.table.Decide6(ip, 0, r.In, &d)
	p.emit.room(0)
	ip.DecrementHopLimit()
	defer giveHopBack(ip)
	segments(ip, v, p.emit.piece[:pieceSize], func(seg []byte) {
		switch {
		case len(seg) > r.MTU:
			if r.Out.Flags&route.LinkNoOffload == 0 {
				leavePseudoSum(seg)
			}
			if e := p.send6(seg, pktType, r.ICMP, r.In); e.Type != 0 {
				sent = e
			}
		case d.Verdict == route.Forward:
			p.emit.whole(seg, d.Neighbour, d.Out, route.NotSpecified)
		}
	})
	return sent
}

// failed6 is failed for an IPv6 packet (net/ipv6/route.c, ip6_link_failure).
func (p *reporter) failed6(w *waiting) route.ICMPError {
	ip := wire.IPv6(w.buf[VnetLen+wire.EthernetLen:])
	return p.send6(ip, packetHost, route.ICMPError{Type: wire.ICMPv6DestUnreachable, Code: wire.ICMPv6AddrUnreachable}, p.turn.table.Link(w.in))
}

// send6 sends an ICMPv6 error about ip, which came in by a link, to its source. It gives e
// if that was sent.
func (p *reporter) send6(ip wire.IPv6, pktType uint8, e route.ICMPError, in *route.Link) (sent route.ICMPError) {
	if !mayReport6(ip, pktType, e) {
		return sent
	}
	t := p.turn.table
	way, ok := t.ErrorWay6(ip, in, e, ip.SrcAddr())
	if !ok || !p.allowed6(ip, e) {
		return sent
	}
	msg := icmpv6Report{ICMPError: e, about: ip, source: way.Source.As16(), dest: ip.Src(), class: way.Class, label: way.FlowLabel, hopLimit: way.TTL}
	b := p.emit.room(VnetLen + wire.EthernetLen + icmpv6Room)
	b = b[:msg.put(b)]
	p.turn.tap.report(e)
	p.put(b, way)
	return e
}

// allowed6 asks the rate limits (net/ipv6/icmp.c, icmpv6_global_allow and
// icmpv6_xrlim_allow). Older kernels send more to who is reached by a shorter prefix;
// Linux 6.18 does not.
func (p *reporter) allowed6(ip wire.IPv6, e route.ICMPError) bool {
	host := p.turn.table.Host()
	if host.V6.ICMPRateMask[e.Type/32]>>(e.Type%32)&1 == 0 {
		return true
	}
	interval := int64(host.V6.ICMPRateLimit) * (second / 1000)
	return p.shared.allow(peer6(ip.Src()), interval, p.turn.now(), host)
}

// redirect6 tells the sender of a packet that leaves by the link it came in on of the
// better way (net/ipv6/ip6_output.c, ip6_forward; net/ipv6/ndisc.c,
// ndisc_send_redirect): of one packet a second for each destination, and one a second for
// each sender.
func (p *reporter) redirect6(f *Frame, r *result) {
	now := p.turn.now()
	ip := wire.IPv6(f.Buf[VnetLen+f.l2len():])
	if !p.shared.allowPeer(peer6(ip.Dst()), second, now) || !p.shared.allowPeer(peer6(ip.Src()), second, now) {
		return
	}
	msg := redirect6{about: ip, hops: ip.HopLimit(), target: r.Next.As16(), source: r.In.LinkLocal().As16()}
	if r.Verdict == route.Forward || r.Verdict == route.Queue {
		msg.hops++ // it is quoted as it came
	}
	if n := r.Out.Neighbour(r.Next); r.Out.Ethernet() && n != nil && n.Valid {
		msg.mac, msg.known = n.MAC, true
	}
	b := p.emit.room(VnetLen + wire.EthernetLen + icmpv6Room)
	b = b[:msg.put(b)]
	p.turn.tap.report(route.ICMPError{Type: wire.ICMPv6Redirect})
	p.put(b, route.ErrorWay{Out: r.In, Next: ip.SrcAddr()})
}
