package forward

import (
	"encoding/binary"
	"net/netip"

	"proxyarpd/forward/route"
	"proxyarpd/internal/wire"
)

// reporter tells the senders of packets by ICMP or ICMPv6 what has become of them, as far
// as the kernel would.
type reporter struct {
	turn       *turn
	clock      func() uint32 // ms since midnight UTC, for IP timestamps
	incomplete func() bool   // see Options
	emit       *emitter
	wait       *waiter

	shared  *Shared
	options [40]byte // of the error under construction
}

// dropped sends the ICMP error that a dropped packet deserves, if it does, and
// gives the one that was sent.
func (p *reporter) dropped(f *Frame, r *result) (sent route.ICMPError) {
	switch {
	case r.v6:
		return p.dropped6(f, r)
	case r.ICMP.Type == 0 && r.Verdict != route.DropRouteBlackhole:
		return sent
	}
	t := p.turn.table
	ip := wire.IPv4(f.Buf[VnetLen+f.l2len():])
	if !r.compiled && ip.HeaderLen() > wire.IPv4MinLen {
		if checkOptions(t, ip, r); r.options.srr != 0 && r.options.problem == 0 {
			return sent // source routed: dropped before its route would be found missing
		}
	}
	e := r.ICMP
	if e.Type == 0 {
		return sent
	}
	if e.Type == wire.ICMPDestUnreachable && e.Code != wire.ICMPFragNeeded &&
		(p.incomplete() || !p.shared.allowError(peer4(ip.Src()), p.turn.now(), t.Host())) {
		return sent
	}
	return p.send(ip, f.PktType, e, r)
}

// redirect tells the sender of a packet that leaves by the link it came in on of
// the better way (net/ipv4/route.c, ip_rt_send_redirect). What it quotes is the
// packet before its options are stamped.
func (p *reporter) redirect(f *Frame, r *result) {
	if r.v6 {
		p.redirect6(f, r)
		return
	}
	t := p.turn.table
	ip := wire.IPv4(f.Buf[VnetLen+f.l2len():])
	if r.compiled {
		defer r.stamp(t, ip)
	}
	if r.options.srr != 0 || !p.shared.allowRedirect(peer4(ip.Src()), p.turn.now(), t.Host()) {
		return
	}
	to := ip.Dst() // include/net/route.h, rt_nexthop
	if r.Next.Is4() {
		to = r.Next.As4()
	}
	p.send(ip, f.PktType, route.ICMPError{Type: wire.ICMPRedirect, Code: 1, Rest: binary.BigEndian.Uint32(to[:])}, r)
}

// failed tells the sender of a packet that its next hop has failed (net/ipv4/
// route.c, ipv4_send_dest_unreach): its options are compiled anew, as if it had
// come in by the interface that it was to leave by.
func (p *reporter) failed(w *waiting, out *route.Link) (sent route.ICMPError) {
	ip := wire.IPv4(w.buf[VnetLen+wire.EthernetLen:])
	if isIPv6(ip) {
		return p.failed6(w)
	}
	r := result{clock: p.clock}
	r.In = p.turn.table.Link(w.in)
	if ip.HeaderLen() > wire.IPv4MinLen {
		r.compiled = true
		r.options.compile(ip, &hostEnv{t: p.turn.table, in: out, src: ip.SrcAddr(), tos: ip.TOS(), clock: r.clock})
		if r.options.problem != 0 {
			return sent
		}
	}
	return p.send(ip, packetHost, route.ICMPError{Type: wire.ICMPDestUnreachable, Code: wire.ICMPHostUnreachable}, &r)
}

// send sends an ICMP error about ip to its source. Of r it needs what is known
// of how the packet came in: the link, the options. It gives e if that was sent.
func (p *reporter) send(ip wire.IPv4, pktType uint8, e route.ICMPError, r *result) (sent route.ICMPError) {
	if !mayReport(ip, pktType) || !p.allowed(ip, e) {
		return sent
	}
	dest := ip.Src()
	if r.compiled {
		dest = r.options.answerTo(ip)
	}
	to := netip.AddrFrom4(dest)
	if to.IsMulticast() {
		return sent // the last hop of a source route; for a source it is not accepted
	}
	t := p.turn.table
	way, ok := t.ErrorWay(ip, r.In, e, to)
	if !ok {
		return sent
	}
	msg := icmpReport{ICMPError: e, about: ip, dest: dest, mtu: way.MTU, ttl: way.TTL, id: p.shared.nextIdent()}
	if msg.source = addr4(way.Source); !way.Source.IsValid() {
		msg.source = dummySource
	}
	if r.compiled { // as far as the options were sound
		n := r.options.echo(p.options[:], ip, &hostEnv{t: t, in: r.In, src: ip.SrcAddr(), tos: ip.TOS(), clock: r.clock}, msg.source)
		if n < 0 {
			return sent
		}
		msg.options = p.options[:n]
	}
	b := p.emit.room(VnetLen + wire.EthernetLen + icmpRoom)
	n := msg.put(b)
	if n == 0 {
		return sent
	}
	p.turn.tap.report(e)
	p.put(b[:n], way)
	return e
}

// put sends a message, which stands behind room for an Ethernet header, or has it
// wait for its next hop.
func (p *reporter) put(b []byte, way route.ErrorWay) {
	if !way.Out.Ethernet() {
		clear(b[wire.EthernetLen:][:VnetLen])
		p.emit.send(b[wire.EthernetLen:], way.Out, route.Originate)
		return
	}
	n := way.Out.Neighbour(way.Next)
	if n != nil && n.Valid {
		setMACs(wire.Ethernet(b[VnetLen:]), n, way.Out)
		p.emit.send(b, way.Out, route.Originate)
		return
	}
	f := Frame{Buf: b, Ifindex: way.Out.Ifindex, Ethernet: true, id: p.turn.tap.id()}
	p.wait.hold(&f, &result{Decision: route.Decision{Out: way.Out, Next: way.Next, Neighbour: n}})
}

// allowed asks the rate limits.
func (p *reporter) allowed(ip wire.IPv4, e route.ICMPError) bool {
	if e.Type == wire.ICMPDestUnreachable && e.Code == wire.ICMPFragNeeded {
		return true // path MTU discovery is never limited
	}
	host := p.turn.table.Host()
	if e.Type < 32 && host.ICMPRateMask>>e.Type&1 == 0 {
		return true
	}
	return p.shared.allow(peer4(ip.Src()), int64(host.ICMPRateLimit)*(second/1000), p.turn.now(), host)
}
