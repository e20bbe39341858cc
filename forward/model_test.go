package forward

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"

	"proxyarpd/forward/route"
	"proxyarpd/forward/route/routetest"
)

// The model decides about a frame as the kernel does, written from RFC 1812
// and the kernel's text as plainly as can be: linear scans, fields by their
// offsets, nothing of the code that it is held against. Types that only carry
// data are shared.

// world is a host that the model decides for.
type world struct{ *routetest.World }

func newWorld(rng *rand.Rand) world { return world{routetest.New(rng)} }

// outcome is what becomes of a frame.
type outcome struct {
	verdict   route.Verdict
	icmp      route.ICMPError
	out       int32
	next      netip.Addr
	mtu       int
	fragment  bool
	redirect  bool
	anyAnswer bool   // whether there is a redirect is not said
	buf       []byte // what leaves, if it is forwarded
	stale     bool   // the checksum in buf is not to be looked at yet
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

func drop(v route.Verdict) []outcome { return []outcome{{verdict: v}} }

func refuse(v route.Verdict, typ, code uint8, rest uint32) []outcome {
	return []outcome{{verdict: v, icmp: icmpError(typ, code, rest)}}
}

// decide gives what may become of a frame: several where a flow may take one of
// several nexthops. The frame's buffer is not touched.
func (w world) decide(f Frame, millis uint32) []outcome {
	in := w.Link(f.Ifindex)
	switch {
	case f.Lost != route.NotSpecified:
		return drop(f.Lost)
	case in == nil || !in.Known():
		return drop(route.DropIfUnknown)
	case f.Tagged:
		return drop(route.IgnoreTagged)
	}
	l2 := 0
	frame := f.Buf[10:]
	if f.Ethernet {
		l2 = 14
		switch {
		case len(frame) < 14:
			return drop(route.DropPktTooSmall)
		case be16(frame[12:]) != 0x0800:
			return drop(route.IgnoreProto)
		case f.PktType != 0 && f.PktType != 3:
			return drop(route.IgnoreType)
		case f.PktType == 3 && !answersTo(in, [6]byte(frame[:6])):
			return drop(route.DropOtherHost)
		}
	}
	return w.ipRcv(f, in, l2, millis)
}

func answersTo(l *routetest.Link, mac [6]byte) bool {
	for _, alias := range l.Aliases {
		if mac == alias && alias != [6]byte{} {
			return true
		}
	}
	return mac == l.MAC
}

// ipRcv is ip_rcv_core (net/ipv4/ip_input.c).
func (w world) ipRcv(f Frame, in *routetest.Link, l2 int, millis uint32) []outcome {
	vnet, ip := f.Buf[:10], f.Buf[10+l2:]
	if len(ip) < 20 || ip[0]>>4 != 4 || ip[0]&15 < 5 || int(ip[0]&15)*4 > len(ip) {
		return drop(route.DropIPInHdr)
	}
	header := int(ip[0]&15) * 4
	if onesSum(ip[:header]) != 0xffff {
		return drop(route.DropIPCsum)
	}
	total := be16(ip[2:])
	if total == 0 && vnet[1]&0x7f == 1 {
		total = len(ip)
	}
	switch {
	case total > len(ip):
		return drop(route.DropPktTooSmall)
	case total < header:
		return drop(route.DropIPInHdr)
	}
	n := binary.NativeEndian
	if total < len(ip) && vnet[0]&1 != 0 && int(n.Uint16(vnet[6:]))+int(n.Uint16(vnet[8:]))+2 > l2+total {
		return drop(route.DropPktTooSmall)
	}
	leaves := slices.Clone(f.Buf[:10+l2+total])
	if int(n.Uint16(leaves[2:])) > l2+total {
		n.PutUint16(leaves[2:], uint16(l2+total))
	}
	return w.routeInput(packetOf{in: in, l2: l2, header: header, millis: millis, buf: leaves})
}

// packetOf is a sound packet on its way.
type packetOf struct {
	in     *routetest.Link
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
func (w world) routeInput(p packetOf) []outcome {
	ip := p.ip()
	src, dst, tos := modelAddr(ip[12:]), modelAddr(ip[16:]), ip[1]
	switch {
	case src.IsMulticast() || everyone(src) || nothing(src):
		return drop(route.DropIPInvalidSource)
	case nothing(dst):
		return drop(route.DropIPInvalidDest)
	case (src.IsLoopback() || dst.IsLoopback()) && !p.in.Conf.RouteLocalnet:
		return drop(route.DropIPLocalnet)
	case dst.IsMulticast() || everyone(dst):
		return drop(route.IgnoreType)
	}
	way, failed := w.fibLookup(dst, src, p.in.Ifindex, tos)
	switch {
	case failed == noError && way.Type != 1:
		return drop(route.Local)
	case w.isPunted(dst):
		return drop(route.Punt)
	}
	switch failed {
	case noError:
	case errInvalid:
		return drop(route.DropRouteBlackhole)
	case errHostUnreach:
		return refuse(route.DropRouteUnreachable, 3, 1, 0)
	case errAccess:
		return refuse(route.DropRouteProhibit, 3, 13, 0)
	case errRuleUnreach:
		return refuse(route.DropRouteUnreachable, 3, 0, 0)
	case errNetUnreach:
		return refuse(route.DropIPInNoRoutes, 3, 0, 0)
	}
	var all []outcome
	for i := range way.Nexthops {
		q := p
		q.buf = slices.Clone(p.buf)
		all = append(all, w.mkroute(q, way, &way.Nexthops[i])...)
	}
	return all
}

func (w world) isPunted(dst netip.Addr) bool {
	return slices.ContainsFunc(w.Policy.Punt, func(p netip.Prefix) bool { return p.Contains(dst) })
}

// mkroute is __mkroute_input, and what comes before ip_forward.
func (w world) mkroute(p packetOf, way *routetest.Route, nh *route.Nexthop) []outcome {
	ip := p.ip()
	src, dst := modelAddr(ip[12:]), modelAddr(ip[16:])
	out := w.Link(nh.Ifindex)
	served := out != nil && out.Known() && out.Flags&(route.LinkLeft|route.LinkReceiveOnly) == 0
	kernelToo := p.in.Flags&route.LinkKernelForwards != 0
	if kernelToo && (!served || nh.Encap) {
		return drop(route.PuntTransit)
	}
	v, onlink := w.validSource(src, dst, p.in, nh.Ifindex, ip[1])
	switch {
	case v != route.Forward:
		return drop(v)
	case nh.Encap:
		return drop(route.DropRouteEncap)
	case nh.Ifindex == 1:
		if p.header > 20 {
			if bad := w.rcvOptions(&p, nh.Ifindex); bad != nil {
				return bad
			}
		}
		return refuse(route.DropTTLExpired, 11, 0, 0)
	case !served:
		return drop(route.DropIfUnknown)
	case !w.Policy.Transit && !kernelToo && p.in.Flags&route.LinkWorkload == 0 && out.Flags&route.LinkWorkload == 0:
		return drop(route.DropTransit)
	}
	o := outcome{out: out.Ifindex, next: dst}
	if nh.Gateway.IsValid() {
		o.next = nh.Gateway
	}
	if out.Ifindex == p.in.Ifindex && onlink != no && out.Conf.SendRedirects {
		o.redirect = out.Conf.SharedMedia || addrOnlink(out, src, nh.Gateway)
		o.anyAnswer = o.redirect && onlink == maybe
	}
	if p.header > 20 {
		if bad := w.rcvOptions(&p, nh.Ifindex); bad != nil {
			return bad
		}
	}
	return w.ipForward(p, way, nh, out, o)
}

// addrOnlink is inet_addr_onlink (net/ipv4/devinet.c).
func addrOnlink(l *routetest.Link, a, b netip.Addr) bool {
	return slices.ContainsFunc(l.Addrs, func(x route.Address) bool {
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
func (w world) validSource(src, dst netip.Addr, in *routetest.Link, oif int32, tos uint8) (route.Verdict, answer) {
	strictness := in.Conf.RPFilter
	if strictness == 0 && !(in.Ifindex == oif && in.Conf.SendRedirects) {
		if in.Conf.AcceptLocal {
			return route.Forward, no
		}
		if !w.hasOwnRules() {
			for i := range w.Links {
				for _, a := range w.Links[i].Addrs {
					if a.Local == src {
						return route.DropIPLocalSource, no
					}
				}
			}
			return route.Forward, no
		}
	}
	back, failed := w.fibLookup(src, dst, oif, tos)
	if failed != noError {
		if strictness != 0 {
			return route.DropIPRPFilter, no
		}
		return route.Forward, no
	}
	switch {
	case back.Type == 2 && !in.Conf.AcceptLocal:
		return route.DropIPLocalSource, no
	case back.Type != 1 && back.Type != 2:
		return route.DropIPInvalidSource, no
	}
	for _, nh := range back.Nexthops {
		if nh.Ifindex == in.Ifindex && back.Type == 1 {
			if back.Nexthops[0].Gateway.IsValid() {
				return route.Forward, no
			}
			return route.Forward, yes
		}
	}
	switch {
	case len(in.Addrs) == 0 && strictness == 0:
		return route.Forward, no
	case len(in.Addrs) == 0, strictness == 1:
		return route.DropIPRPFilter, no
	}
	return route.Forward, maybe
}

// hasOwnRules is fib4_has_custom_rules.
func (w world) hasOwnRules() bool {
	if len(w.Rules) != 3 {
		return true
	}
	for i, table := range []uint32{255, 254, 253} {
		want := route.Rule{Priority: []uint32{0, 32766, 32767}[i], Action: route.RuleToTable, Table: table, SuppressPrefixLen: -1}
		if w.Rules[i] != want {
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
func (w world) fibLookup(dst, src netip.Addr, iif int32, tos uint8) (*routetest.Route, fibError) {
	for i := 0; i < len(w.Rules); i++ {
		r := &w.Rules[i]
		if w.ruleMatches(r, dst, src, iif, tos) == r.Invert {
			continue
		}
		switch r.Action {
		case route.RuleGoto:
			for j := i + 1; j < len(w.Rules); j++ {
				if w.Rules[j].Priority == r.Goto {
					i = j - 1
					break
				}
			}
			continue
		case route.RuleNop:
			continue
		case route.RuleBlackhole:
			return nil, errInvalid
		case route.RuleUnreachable:
			return nil, errRuleUnreach
		case route.RuleProhibit:
			return nil, errAccess
		}
		way, failed := w.tableLookup(r.Table, dst, tos)
		if failed == errAgain || failed == noError && way.Prefix.Bits() <= r.SuppressPrefixLen {
			continue
		}
		return way, failed
	}
	return nil, errNetUnreach
}

func (w world) ruleMatches(r *route.Rule, dst, src netip.Addr, iif int32, tos uint8) bool {
	if r.IIF != "" {
		named := int32(-1)
		if r.IIF == "lo" {
			named = 1 // LOOPBACK_IFINDEX
		}
		for i := range w.Links {
			if w.Links[i].Name == r.IIF && w.Links[i].Known() {
				named = w.Links[i].Ifindex
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
func (w world) tableLookup(table uint32, dst netip.Addr, tos uint8) (*routetest.Route, fibError) {
	for length := 32; length >= 0; length-- {
		for i := range w.Routes {
			r := &w.Routes[i]
			switch {
			case r.InTable != table || r.Prefix.Bits() != length || !r.Prefix.Contains(dst):
			case r.TOS != 0 && r.TOS != tos&0x1c:
			case r.Type == 1 && len(r.Nexthops) == 0:
			default:
				return r, map[route.Type]fibError{6: errInvalid, 7: errHostUnreach, 8: errAccess, 9: errAgain}[r.Type]
			}
		}
	}
	return nil, errAgain
}

// ipForward is ip_forward (net/ipv4/ip_forward.c) and ip_finish_output2.
func (w world) ipForward(p packetOf, way *routetest.Route, nh *route.Nexthop, out *routetest.Link, o outcome) []outcome {
	ip, vnet := p.ip(), p.vnet()
	if ip[8] < 2 {
		return refuse(route.DropTTLExpired, 11, 0, 0)
	}
	o.mtu = out.MTU
	if way.MTU > 0 {
		o.mtu = way.MTU
	}
	length := len(ip)
	if vnet[1]&0x7f != 0 {
		if length = segmentLength(ip, p.header, vnet); length == 0 {
			return drop(route.DropGSO)
		}
	}
	if length > o.mtu {
		if ip[6]&0x40 != 0 {
			return refuse(route.DropPktTooBig, 3, 4, uint32(o.mtu%0x10000))
		}
		o.fragment = true
	}
	n, known := out.Neigh[o.next]
	o.verdict = route.Forward
	if out.Flags&route.LinkEthernet != 0 && (!known || !n.Valid) {
		o.verdict = route.Queue
	} else if out.Flags&route.LinkUp == 0 {
		return drop(route.DropIfDown)
	}
	if vnet[1]&0x7f == 5 && vnet[0]&1 == 0 {
		leaveChecksum(&p)
	}
	ip[8]--
	if p.header > 20 && !o.redirect {
		w.forwardOptions(&p, way, nh, out)
	}
	o.stale = p.header > 20 && o.redirect // who makes the redirect does the rest
	if !o.stale {
		ip[10], ip[11] = 0, 0
		sum := 0xffff - onesSum(ip[:p.header])
		ip[10], ip[11] = byte(sum>>8), byte(sum)
	}
	if o.verdict == route.Forward && out.Flags&route.LinkEthernet != 0 && p.l2 == 14 {
		copy(p.buf[10:], n.MAC[:])
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
