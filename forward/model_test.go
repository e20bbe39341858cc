package forward

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

// The model decides about a frame as the kernel does, written from RFC 1812
// and the kernel's text as plainly as can be: linear scans, fields by their
// offsets, nothing of the code that it is held against. Types that only carry
// data are shared.

// world is a host: what a Builder is told, in lists.
type world struct {
	links  []worldLink // by index
	routes []worldRoute
	rules  []Rule // by priority
	policy Policy
}

type worldLink struct {
	Link
	addrs []Address
	neigh map[netip.Addr]worldNeighbour
}

// worldNeighbour is what the model needs to know of a neighbour.
type worldNeighbour struct {
	mac   [6]byte
	valid bool
}

// worldRoute is one route; those to one destination are in the kernel's order.
type worldRoute struct {
	table  uint32
	prefix netip.Prefix
	Route
}

// outcome is what becomes of a frame.
type outcome struct {
	verdict   Verdict
	icmp      icmpError
	out       int32
	next      netip.Addr
	mtu       int
	fragment  bool
	redirect  bool
	anyAnswer bool   // whether there is a redirect is not said
	buf       []byte // what leaves, if it is forwarded
	stale     bool   // the checksum in buf is not to be looked at yet
}

func (w *world) link(index int32) *worldLink {
	for i := range w.links {
		if w.links[i].Ifindex == index {
			return &w.links[i]
		}
	}
	return nil
}

func be16(b []byte) int { return int(b[0])<<8 | int(b[1]) }

// onesSum is the sum of RFC 1071, not complemented.
func onesSum(b []byte) int {
	sum := 0
	for i := 0; i < len(b); i += 2 {
		sum += int(b[i]) << 8
		if i+1 < len(b) {
			sum += int(b[i+1])
		}
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return sum
}

func drop(v Verdict) []outcome { return []outcome{{verdict: v}} }

func refuse(v Verdict, typ, code uint8, rest uint32) []outcome {
	return []outcome{{verdict: v, icmp: icmpError{typ, code, rest}}}
}

// decide gives what may become of a frame: several where a flow may take one of
// several nexthops. The frame's buffer is not touched.
func (w *world) decide(f Frame, millis uint32) []outcome {
	in := w.link(f.Ifindex)
	switch {
	case f.Lost != NotSpecified:
		return drop(f.Lost)
	case in == nil || !in.known():
		return drop(DropIfUnknown)
	case f.Tagged:
		return drop(IgnoreTagged)
	}
	l2 := 0
	frame := f.Buf[10:]
	if f.Ethernet {
		l2 = 14
		switch {
		case len(frame) < 14:
			return drop(DropPktTooSmall)
		case be16(frame[12:]) != 0x0800:
			return drop(IgnoreProto)
		case f.PktType != 0 && f.PktType != 3:
			return drop(IgnoreType)
		case f.PktType == 3 && !in.answersTo([6]byte(frame[:6])):
			return drop(DropOtherHost)
		}
	}
	return w.ipRcv(f, in, l2, millis)
}

// known: the Builder was told of the link itself, not of its addresses alone.
func (l *worldLink) known() bool { return l.Flags&(LinkWorkload|LinkUplink) != 0 }

func (l *worldLink) answersTo(mac [6]byte) bool {
	for _, alias := range l.Aliases {
		if mac == alias && alias != [6]byte{} {
			return true
		}
	}
	return mac == l.MAC
}

// ipRcv is ip_rcv_core (net/ipv4/ip_input.c).
func (w *world) ipRcv(f Frame, in *worldLink, l2 int, millis uint32) []outcome {
	vnet, ip := f.Buf[:10], f.Buf[10+l2:]
	if len(ip) < 20 || ip[0]>>4 != 4 || ip[0]&15 < 5 || int(ip[0]&15)*4 > len(ip) {
		return drop(DropIPInHdr)
	}
	header := int(ip[0]&15) * 4
	if onesSum(ip[:header]) != 0xffff {
		return drop(DropIPCsum)
	}
	total := be16(ip[2:])
	if total == 0 && vnet[1]&0x7f == 1 {
		total = len(ip)
	}
	switch {
	case total > len(ip):
		return drop(DropPktTooSmall)
	case total < header:
		return drop(DropIPInHdr)
	}
	n := binary.NativeEndian
	if total < len(ip) && vnet[0]&1 != 0 && int(n.Uint16(vnet[6:]))+int(n.Uint16(vnet[8:]))+2 > l2+total {
		return drop(DropPktTooSmall)
	}
	leaves := slices.Clone(f.Buf[:10+l2+total])
	if int(n.Uint16(leaves[2:])) > l2+total {
		n.PutUint16(leaves[2:], uint16(l2+total))
	}
	return w.routeInput(packetOf{in: in, l2: l2, header: header, millis: millis, buf: leaves})
}

// packetOf is a sound packet on its way.
type packetOf struct {
	in     *worldLink
	l2     int
	header int // bytes
	millis uint32
	buf    []byte
	record int // offset of the address that a router records, 0: none
}

func (p *packetOf) vnet() []byte { return p.buf[:10] }
func (p *packetOf) ip() []byte   { return p.buf[10+p.l2:] }

func modelAddr(b []byte) netip.Addr { return netip.AddrFrom4([4]byte(b[:4])) }

func nothing(a netip.Addr) bool { return a == netip.AddrFrom4([4]byte{}) }

func everyone(a netip.Addr) bool { return a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) }

// routeInput is ip_route_input_slow (net/ipv4/route.c) and, where it finds no
// way, ip_error.
func (w *world) routeInput(p packetOf) []outcome {
	ip := p.ip()
	src, dst, tos := modelAddr(ip[12:]), modelAddr(ip[16:]), ip[1]
	switch {
	case src.IsMulticast() || everyone(src) || nothing(src):
		return drop(DropIPInvalidSource)
	case nothing(dst):
		return drop(DropIPInvalidDest)
	case (src.IsLoopback() || dst.IsLoopback()) && !p.in.Conf.RouteLocalnet:
		return drop(DropIPLocalnet)
	case dst.IsMulticast() || everyone(dst):
		return drop(IgnoreType)
	}
	route, failed := w.fibLookup(dst, src, p.in.Ifindex, tos)
	switch {
	case failed == noError && route.Type != 1:
		return drop(Local)
	case w.isPunted(dst):
		return drop(Punt)
	}
	switch failed {
	case noError:
	case errInvalid:
		return drop(DropRouteBlackhole)
	case errHostUnreach:
		return refuse(DropRouteUnreachable, 3, 1, 0)
	case errAccess:
		return refuse(DropRouteProhibit, 3, 13, 0)
	case errRuleUnreach:
		return refuse(DropRouteUnreachable, 3, 0, 0)
	case errNetUnreach:
		return refuse(DropIPInNoRoutes, 3, 0, 0)
	}
	var all []outcome
	for i := range route.Nexthops {
		q := p
		q.buf = slices.Clone(p.buf)
		all = append(all, w.mkroute(q, route, &route.Nexthops[i])...)
	}
	return all
}

func (w *world) isPunted(dst netip.Addr) bool {
	return slices.ContainsFunc(w.policy.Punt, func(p netip.Prefix) bool { return p.Contains(dst) })
}

// mkroute is __mkroute_input, and what comes before ip_forward.
func (w *world) mkroute(p packetOf, route *worldRoute, nh *Nexthop) []outcome {
	ip := p.ip()
	src, dst := modelAddr(ip[12:]), modelAddr(ip[16:])
	out := w.link(nh.Ifindex)
	served := out != nil && out.known() && out.Flags&(LinkLeft|LinkReceiveOnly) == 0
	kernelToo := p.in.Flags&LinkKernelForwards != 0
	if kernelToo && (!served || nh.Encap) {
		return drop(PuntTransit)
	}
	v, onlink := w.validSource(src, dst, p.in, nh.Ifindex, ip[1])
	switch {
	case v != Forward:
		return drop(v)
	case nh.Encap:
		return drop(DropRouteEncap)
	case nh.Ifindex == 1:
		if p.header > 20 {
			if bad := w.rcvOptions(&p, nh.Ifindex); bad != nil {
				return bad
			}
		}
		return refuse(DropTTLExpired, 11, 0, 0)
	case !served:
		return drop(DropIfUnknown)
	case !w.policy.Transit && !kernelToo && p.in.Flags&LinkWorkload == 0 && out.Flags&LinkWorkload == 0:
		return drop(DropTransit)
	}
	o := outcome{out: out.Ifindex, next: dst}
	if nh.Gateway.IsValid() {
		o.next = nh.Gateway
	}
	if out.Ifindex == p.in.Ifindex && onlink != no && out.Conf.SendRedirects {
		o.redirect = out.Conf.SharedMedia || out.addrOnlink(src, nh.Gateway)
		o.anyAnswer = o.redirect && onlink == maybe
	}
	if p.header > 20 {
		if bad := w.rcvOptions(&p, nh.Ifindex); bad != nil {
			return bad
		}
	}
	return w.ipForward(p, route, nh, out, o)
}

// addrOnlink is inet_addr_onlink (net/ipv4/devinet.c).
func (l *worldLink) addrOnlink(a, b netip.Addr) bool {
	return slices.ContainsFunc(l.addrs, func(x Address) bool {
		return x.Prefix.Contains(a) && (!b.IsValid() || x.Prefix.Contains(b))
	})
}

type answer int

const (
	no answer = iota
	yes
	maybe // by a look-up that depends on the interface, which is not modelled
)

// validSource is fib_validate_source (net/ipv4/fib_frontend.c): Forward if the
// source may come in here, and whether it is on the link.
func (w *world) validSource(src, dst netip.Addr, in *worldLink, oif int32, tos uint8) (Verdict, answer) {
	strictness := in.Conf.RPFilter
	if strictness == 0 && !(in.Ifindex == oif && in.Conf.SendRedirects) {
		if in.Conf.AcceptLocal {
			return Forward, no
		}
		if !w.hasOwnRules() {
			for i := range w.links {
				for _, a := range w.links[i].addrs {
					if a.Local == src {
						return DropIPLocalSource, no
					}
				}
			}
			return Forward, no
		}
	}
	back, failed := w.fibLookup(src, dst, oif, tos)
	if failed != noError {
		if strictness != 0 {
			return DropIPRPFilter, no
		}
		return Forward, no
	}
	switch {
	case back.Type == 2 && !in.Conf.AcceptLocal:
		return DropIPLocalSource, no
	case back.Type != 1 && back.Type != 2:
		return DropIPInvalidSource, no
	}
	for _, nh := range back.Nexthops {
		if nh.Ifindex == in.Ifindex && back.Type == 1 {
			if back.Nexthops[0].Gateway.IsValid() {
				return Forward, no
			}
			return Forward, yes
		}
	}
	switch {
	case len(in.addrs) == 0 && strictness == 0:
		return Forward, no
	case len(in.addrs) == 0, strictness == 1:
		return DropIPRPFilter, no
	}
	return Forward, maybe
}

// hasOwnRules is fib4_has_custom_rules.
func (w *world) hasOwnRules() bool {
	if len(w.rules) != 3 {
		return true
	}
	for i, table := range []uint32{255, 254, 253} {
		want := Rule{Priority: []uint32{0, 32766, 32767}[i], Action: RuleToTable, Table: table, SuppressPrefixLen: -1}
		if w.rules[i] != want {
			return true
		}
	}
	return false
}

type fibError int

const (
	noError        fibError = iota
	errInvalid              // blackhole
	errHostUnreach          // route of type unreachable
	errAccess               // prohibit
	errRuleUnreach          // rule of type unreachable
	errNetUnreach           // nothing matches
	errAgain                // throw, or not in this table
)

// fibLookup is fib_rules_lookup (net/core/fib_rules.c).
func (w *world) fibLookup(dst, src netip.Addr, iif int32, tos uint8) (*worldRoute, fibError) {
	for i := 0; i < len(w.rules); i++ {
		r := &w.rules[i]
		if w.ruleMatches(r, dst, src, iif, tos) == r.Invert {
			continue
		}
		switch r.Action {
		case RuleGoto:
			for j := i + 1; j < len(w.rules); j++ {
				if w.rules[j].Priority == r.Goto {
					i = j - 1
					break
				}
			}
			continue
		case RuleNop:
			continue
		case RuleBlackhole:
			return nil, errInvalid
		case RuleUnreachable:
			return nil, errRuleUnreach
		case RuleProhibit:
			return nil, errAccess
		}
		route, failed := w.tableLookup(r.Table, dst, tos)
		if failed == errAgain || failed == noError && route.prefix.Bits() <= r.SuppressPrefixLen {
			continue
		}
		return route, failed
	}
	return nil, errNetUnreach
}

func (w *world) ruleMatches(r *Rule, dst, src netip.Addr, iif int32, tos uint8) bool {
	if r.IIF != "" {
		named := int32(-1)
		if r.IIF == "lo" {
			named = 1 // LOOPBACK_IFINDEX
		}
		for i := range w.links {
			if w.links[i].Name == r.IIF && w.links[i].known() {
				named = w.links[i].Ifindex
			}
		}
		if named != iif {
			return false
		}
	}
	return !r.Never &&
		!(r.From.IsValid() && !r.From.Contains(src)) &&
		!(r.To.IsValid() && !r.To.Contains(dst)) &&
		!(r.TOS != 0 && r.TOS != tos&0x1c)
}

// tableLookup is fib_table_lookup (net/ipv4/fib_trie.c).
func (w *world) tableLookup(table uint32, dst netip.Addr, tos uint8) (*worldRoute, fibError) {
	for length := 32; length >= 0; length-- {
		for i := range w.routes {
			r := &w.routes[i]
			switch {
			case r.table != table || r.prefix.Bits() != length || !r.prefix.Contains(dst):
			case r.TOS != 0 && r.TOS != tos&0x1c:
			case r.Type == 1 && len(r.Nexthops) == 0:
			default:
				return r, map[RouteType]fibError{6: errInvalid, 7: errHostUnreach, 8: errAccess, 9: errAgain}[r.Type]
			}
		}
	}
	return nil, errAgain
}

// ipForward is ip_forward (net/ipv4/ip_forward.c) and ip_finish_output2.
func (w *world) ipForward(p packetOf, route *worldRoute, nh *Nexthop, out *worldLink, o outcome) []outcome {
	ip, vnet := p.ip(), p.vnet()
	if ip[8] < 2 {
		return refuse(DropTTLExpired, 11, 0, 0)
	}
	o.mtu = out.MTU
	if route.MTU > 0 {
		o.mtu = route.MTU
	}
	length := len(ip)
	if vnet[1]&0x7f != 0 {
		if length = segmentLength(ip, p.header, vnet); length == 0 {
			return drop(DropGSO)
		}
	}
	if length > o.mtu {
		if ip[6]&0x40 != 0 {
			return refuse(DropPktTooBig, 3, 4, uint32(o.mtu%0x10000))
		}
		o.fragment = true
	}
	n, known := out.neigh[o.next]
	o.verdict = Forward
	if out.Flags&LinkEthernet != 0 && (!known || !n.valid) {
		o.verdict = Queue
	} else if out.Flags&LinkUp == 0 {
		return drop(DropIfDown)
	}
	if vnet[1]&0x7f == 5 && vnet[0]&1 == 0 {
		leaveChecksum(&p)
	}
	ip[8]--
	if p.header > 20 && !o.redirect {
		w.forwardOptions(&p, route, nh, out)
	}
	o.stale = p.header > 20 && o.redirect // who makes the redirect does the rest
	if !o.stale {
		ip[10], ip[11] = 0, 0
		sum := 0xffff - onesSum(ip[:p.header])
		ip[10], ip[11] = byte(sum>>8), byte(sum)
	}
	if o.verdict == Forward && out.Flags&LinkEthernet != 0 && p.l2 == 14 {
		copy(p.buf[10:], n.mac[:])
		copy(p.buf[16:], out.MAC[:])
	}
	o.buf = p.buf
	return []outcome{o}
}

// segmentLength is skb_gso_network_seglen (net/core/gso.c), 0 for what cannot be.
func segmentLength(ip []byte, header int, vnet []byte) int {
	size := int(binary.NativeEndian.Uint16(vnet[4:]))
	l4 := ip[header:]
	switch {
	case size == 0:
	case vnet[1]&0x7f == 1 && ip[9] == 6 && len(l4) >= 20:
		if n := int(l4[12]>>4) * 4; n >= 20 && n <= len(l4) {
			return header + n + size
		}
	case vnet[1]&0x7f == 5 && ip[9] == 17 && len(l4) >= 8:
		return header + 8 + size
	}
	return 0
}

// leaveChecksum has the device fill in the checksums of UDP segments: the field
// holds the sum of the pseudo-header (RFC 768).
func leaveChecksum(p *packetOf) {
	ip, vnet := p.ip(), p.vnet()
	udp := ip[p.header:]
	pseudo := append(slices.Clone(ip[12:20]), 0, 17, byte(len(udp)>>8), byte(len(udp)))
	sum := onesSum(pseudo)
	udp[6], udp[7] = byte(sum>>8), byte(sum)
	vnet[0] = 1
	binary.NativeEndian.PutUint16(vnet[6:], uint16(p.l2+p.header))
	binary.NativeEndian.PutUint16(vnet[8:], 6)
}
