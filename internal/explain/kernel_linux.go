package explain

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"proxyarpd/forward/route"
	"proxyarpd/internal/netstate"
)

// askKernel says what the kernel would do with the packet and the request, and
// compares.
func (v *View) askKernel(q *Question, in *netstate.Link, d *route.Decision, req *netstate.Requester, a *Answer) {
	k := &a.Kernel
	say := func(what, format string, args ...any) {
		k.Steps = append(k.Steps, Step{what, fmt.Sprintf(format, args...)})
	}
	conf := sysctls{in.Name}
	six := q.Dst.Is6()
	if six {
		say("forwarding", "net.ipv6.conf.all.forwarding, or force_forwarding of %s, is %d", in.Name, digit(in.Forwards6))
	} else {
		say("forwarding", "net.ipv4.conf.%s.forwarding is %d", in.Name, digit(in.Forwards))
		say("rp_filter", "%d (the larger of all and %s)", conf.most("rp_filter"), in.Name)
	}
	if !netstate.CanAskFor(q.Dst, q.Proto) {
		say("rules", "rules by protocol or port are not asked for: the kernel takes that question for TCP, UDP and ICMP alone")
	}
	way, err := req.Route(&netstate.RouteQuery{Dst: q.Dst, Src: q.From, IIF: in.Index, TOS: q.TOS, Proto: q.Proto, SPort: q.SPort, DPort: q.DPort})
	var errno unix.Errno
	switch {
	case six && (q.From.IsMulticast() || q.From.IsLoopback() || q.Dst.IsLoopback()): // before it looks for a route
		say("addresses", "%s > %s is none that a host takes", q.From, q.Dst)
		k.Verdict, k.Reason = text(route.KindDrop.String()), text(route.DropIPInHdr.String())
	case err == nil && six && len(way.Nexthops) == 1 && way.Nexthops[0].Input():
		say("route", "its encapsulation ends packets here, whatever the kernel forwards: a local segment of SRv6, or a program")
		k.Verdict = text(route.KindLocal.String())
	case err == nil && six && v.rejects(way):
		say("route", "to lo, by which the kernel reaches its own addresses alone: unreachable")
		k.Verdict, k.Reason = text(route.KindDrop.String()), text(route.DropRouteUnreachable.String())
	case err == nil && six && !in.Forwards6 && route.Type(way.Type) == route.TypeUnicast:
		say("route", "dropped: the kernel forwards nothing that comes in by %s", in.Name)
		k.Verdict = text(route.KindDrop.String())
	case err == nil:
		v.kernelWay(q, in, way, req, k, say)
	case errors.As(err, &errno):
		v.kernelRefuses(q, in, errno, &conf, req, k, say)
	default:
		say("route", "it could not be asked: %v", err)
	}
	if six {
		a.Kernel.ARP = v.kernelND(q, in, way)
	} else {
		a.Kernel.ARP = v.kernelARP(q, in, way, &conf)
	}
	f := &a.Forward
	a.Agree = same(f.Verdict, k.Verdict) && same(f.Out, k.Out) && same(f.Nexthop, k.Nexthop)
	if !a.Agree && k.Verdict != nil {
		a.Differs = v.why(in, d, &conf, a)
	}
}

// rejects reports whether an IPv6 route is over lo and does not end there (RTF_REJECT:
// ip6_route_info_create in net/ipv6/route.c).
func (v *View) rejects(way *netstate.Route) bool {
	if route.Type(way.Type) != route.TypeUnicast || len(way.Nexthops) == 0 {
		return false
	}
	l := v.Links[way.Nexthops[0].Index]
	return l != nil && l.Flags&unix.IFF_LOOPBACK != 0
}

func digit(on bool) int {
	if on {
		return 1
	}
	return 0
}

func same(a, b *string) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

// kernelWay is for a packet that has one.
func (v *View) kernelWay(q *Question, in *netstate.Link, way *netstate.Route, req *netstate.Requester, k *Kernel, say func(string, string, ...any)) {
	typ := route.Type(way.Type)
	if typ != route.TypeUnicast {
		say("route", "%s", typ)
		k.Verdict = text(route.KindLocal.String())
		return
	}
	if len(way.Nexthops) == 0 {
		say("route", "no next hop")
		return
	}
	nh := &way.Nexthops[0]
	next, out := nh.Gateway, v.name(int32(nh.Index))
	if !next.IsValid() {
		next = q.Dst
	}
	k.Out, k.Nexthop = text(out), text(next.String())
	say("route", "%s dev %s, table %s", next, out, tableName(way.Table))
	l := v.Links[nh.Index]
	if q.Dst.Is6() && nh.Index != in.Index && (q.From.IsUnspecified() || q.From.IsLinkLocalUnicast()) { // net/ipv6/ip6_output.c, ip6_forward
		say("source", "%s reaches no other link", q.From)
		k.Verdict, k.Reason = text(route.KindDrop.String()), text(route.DropIPInAddrErrors.String())
		return
	}
	if l != nil && l.Flags&unix.IFF_LOOPBACK != 0 {
		say("device", "the host hands it to itself until its TTL has run out")
		k.Verdict, k.Reason = text(route.KindDrop.String()), text(route.DropTTLExpired.String())
		return
	}
	mtu := int(way.MTU)
	if mtu == 0 && l != nil {
		if mtu = l.MTU; q.Dst.Is6() {
			mtu = l.MTU6
		}
	}
	if mtu > 0 && q.Len > mtu {
		say("MTU", "%d: a packet of %d bytes %s", mtu, q.Len, q.tooLong())
		k.Verdict, k.Reason = text(route.KindDrop.String()), text(route.DropPktTooBig.String())
		return
	}
	if l != nil && l.Flags&unix.IFF_LOWER_UP == 0 {
		say("device", "%s has no carrier: what it is given is lost", out)
		k.Verdict, k.Reason = text(route.KindDrop.String()), text(route.DropIfDown.String())
		return
	}
	k.Verdict = text(route.KindForward.String())
	if l == nil || l.Flags&unix.IFF_NOARP != 0 || l.AddrLen == 0 {
		return
	}
	switch n, err := req.Neighbour(nh.Index, next); {
	case err != nil && !errors.Is(err, netstate.ErrNotFound):
		say("neighbour", "it could not be asked: %v", err)
	case err != nil || !n.State.Valid():
		say("neighbour", "%s is not resolved: the packet waits", next)
		k.Verdict = text(route.KindQueue.String())
	default:
		say("neighbour", "%s is resolved", next)
	}
}

// kernelRefuses tells the kernel's errors apart. Of several of them the number is
// one, EINVAL: the source's are told by what the source is.
func (v *View) kernelRefuses(q *Question, in *netstate.Link, errno unix.Errno, conf *sysctls, req *netstate.Requester, k *Kernel, say func(string, string, ...any)) {
	k.Verdict = text(route.KindDrop.String())
	reason := func(r route.Verdict) { k.Reason = text(r.String()) }
	switch {
	case errno == unix.EHOSTUNREACH && q.Dst.Is4() && !in.Forwards:
		say("route", "dropped: the kernel forwards nothing that comes in by %s", in.Name)
	case errno == unix.EHOSTUNREACH:
		say("route", "unreachable")
		reason(route.DropRouteUnreachable)
	case errno == unix.ENETUNREACH:
		say("route", "none")
		reason(route.DropIPInNoRoutes)
	case errno == unix.EACCES:
		say("route", "prohibit")
		reason(route.DropRouteProhibit)
	case errno == unix.EXDEV:
		say("source", "%s is not routed to %s", q.From, in.Name)
		reason(route.DropIPRPFilter)
	case errno == unix.EINVAL:
		r := v.refusal(q, conf, req)
		say("route", "refused: %s", r)
		reason(r)
	default:
		say("route", "refused: %v", errno)
	}
}

// refusal finds out what EINVAL stands for.
func (v *View) refusal(q *Question, conf *sysctls, req *netstate.Requester) route.Verdict {
	loopback := q.From.IsLoopback() || q.Dst.IsLoopback()
	if q.Dst.Is6() { // the source is not looked at
		return route.DropRouteBlackhole
	}
	switch {
	case q.From.IsUnspecified() || q.From.IsMulticast() || q.From == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return route.DropIPInvalidSource
	case q.Dst.IsUnspecified():
		return route.DropIPInvalidDest
	case loopback && !conf.either("route_localnet"):
		return route.DropIPLocalnet
	}
	if _, err := req.Route(&netstate.RouteQuery{Dst: q.Dst, TOS: q.TOS}); errors.Is(err, unix.EINVAL) {
		return route.DropRouteBlackhole
	}
	switch back, err := req.Route(&netstate.RouteQuery{Dst: q.From, TOS: q.TOS}); {
	case err != nil:
		return route.DropIPRPFilter
	case route.Type(back.Type) == route.TypeLocal:
		return route.DropIPLocalSource
	case route.Type(back.Type) != route.TypeUnicast:
		return route.DropIPInvalidSource
	}
	return route.DropIPRPFilter
}

// kernelARP says whether the kernel answers the request as well (net/ipv4/arp.c,
// arp_process).
func (v *View) kernelARP(q *Question, in *netstate.Link, way *netstate.Route, conf *sysctls) string {
	switch {
	case way != nil && route.Type(way.Type) == route.TypeLocal:
		if n := conf.most("arp_ignore"); n > 0 {
			return fmt.Sprintf("may answer, for %s is an address of this host: arp_ignore is %d", q.Dst, n)
		}
		return fmt.Sprintf("answers with %s: %s is an address of this host", macOf(in), q.Dst)
	case !conf.either("proxy_arp"):
		return "does not answer: proxy_arp is 0"
	case way == nil:
		return "does not answer: proxy_arp is 1, but no route leads there that the sender may use"
	case len(way.Nexthops) > 0 && way.Nexthops[0].Index == in.Index:
		return "does not answer: proxy_arp is 1, but the route leads back where the request came from"
	}
	delay := ""
	if n := readSysctl("neigh/" + in.Name + "/proxy_delay"); n > 0 {
		delay = fmt.Sprintf(", after up to %d ms (proxy_delay)", n*10) // hundredths of a second
	}
	return fmt.Sprintf("answers with %s too: proxy_arp is 1%s", macOf(in), delay)
}

// kernelND says whether the kernel answers the solicitation as well (net/ipv6/ndisc.c,
// ndisc_recv_ns). Its proxy entries, each for one address, are not asked for.
func (v *View) kernelND(q *Question, in *netstate.Link, way *netstate.Route) string {
	if !in.IPv6 {
		return "does not answer: it has no IPv6 there"
	}
	p := v.Policies6[in.Index]
	local := way != nil && route.Type(way.Type) == route.TypeLocal
	switch {
	case p != nil && p.IsGateway(q.Dst):
		if local {
			return fmt.Sprintf("has the address, and does not answer where the tc program is attached to %s; else it answers with %s, %s the router flag", in.Name, macOf(in), map[bool]string{true: "with", false: "without"}[in.Forwards6])
		}
		return "does not answer: it does not have the address there"
	case local:
		return fmt.Sprintf("answers with %s if %s is an address of %s", macOf(in), q.Dst, in.Name)
	}
	return "does not answer, but by a proxy entry (ip -6 neigh show proxy)"
}

func macOf(l *netstate.Link) string {
	parts := make([]string, len(l.MAC))
	for i, b := range l.MAC {
		parts[i] = fmt.Sprintf("%02x", b)
	}
	return strings.Join(parts, ":")
}

// why says what may make the two differ.
func (v *View) why(in *netstate.Link, d *route.Decision, conf *sysctls, a *Answer) (all []string) {
	f, k := &a.Forward, &a.Kernel
	kernel, ours := *k.Verdict, *f.Verdict
	say := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	six := a.Question.Dst.Is6()
	switch dropped := kernel == route.KindDrop.String() && k.Reason == nil; {
	case dropped && six && !in.Forwards6:
		say("the kernel does not forward what comes in by %s: net.ipv6.conf.all.forwarding is 0", in.Name)
	case dropped && !six && !in.Forwards:
		say("the kernel does not forward what comes in by %s: net.ipv4.conf.%s.forwarding is 0", in.Name, in.Name)
	}
	if six && !v.Table.Serves6(v.Table.Link(int32(in.Index))) {
		say("proxyarpd does not take the packet: IPv6 is not served on %s, and what the kernel has there is its own matter", in.Name)
	}
	if ours == route.KindPunt.String() {
		say("proxyarpd leaves the packet to the kernel, which does what it says here")
	}
	if six && f.Reason != nil && *f.Reason == route.DropIPRPFilter.String() {
		say("proxyarpd validates sources on %s (--rp-filter); the kernel does so for IPv4 alone", in.Name)
	}
	if link := v.Table.Link(int32(in.Index)); !six && link != nil && int(link.Conf.RPFilter) != conf.most("rp_filter") {
		refused := route.DropIPRPFilter.String()
		if f.Reason != nil && *f.Reason == refused || k.Reason != nil && *k.Reason == refused {
			say("proxyarpd validates sources on %s with rp_filter %d (--rp-filter), the kernel with %d", in.Name, link.Conf.RPFilter, conf.most("rp_filter"))
		}
	}
	if f.Reason != nil && (*f.Reason == route.DropTransit.String() || *f.Reason == route.DropIfUnknown.String() || *f.Reason == route.DropRouteEncap.String()) {
		say("proxyarpd does not forward there: %s (docs/VERDICTS.md)", *f.Reason)
	}
	if d.Route != nil && len(d.Route.Nexthops) > 1 && ours == kernel {
		say("the route has several next hops: `ip route get` is not told what the packet's hash is made of")
	}
	if len(all) == 0 {
		say("what the kernel is asked by (RTM_GETROUTE) leaves out marks, VLANs and tunnels; a capture shows which is right")
	}
	return slices.Compact(all)
}

// sysctls are those of an interface.
type sysctls struct{ name string }

func readSysctl(key string) int {
	b, err := os.ReadFile("/proc/sys/net/ipv4/" + key)
	if err != nil {
		return 0
	}
	n, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return n
}

// most is the larger of the values of all interfaces and of this one
// (include/linux/inetdevice.h, IN_DEV_MAXCONF).
func (s *sysctls) most(key string) int {
	return max(readSysctl("conf/all/"+key), readSysctl("conf/"+s.name+"/"+key))
}

// either is whether one of them is set (IN_DEV_ORCONF).
func (s *sysctls) either(key string) bool { return s.most(key) > 0 }
