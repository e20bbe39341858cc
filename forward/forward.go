// Package forward is the datapath. It receives frames from a Conn, asks the
// routing table what to do with each (package route), and sends them as Linux's
// ip_forward and ip6_forward would.
//
// One goroutine, Loop.Run, does all of it: receive a batch, step each frame
// (parse, decide, rewrite), send the batch. It reads routes, links and
// neighbours from an immutable route.Table behind an atomic pointer. For a
// packet that is forwarded it takes no lock, allocates nothing, reads no clock,
// logs nothing and makes no system call of its own.
package forward

import (
	"proxyarpd/forward/route"
	"proxyarpd/internal/wire"
)

// result is what step found out about a frame.
type result struct {
	route.Decision
	v6       bool          // the packet is IPv6
	clock    func() uint32 // ms since midnight UTC, for IP timestamps
	options  ipOptions
	compiled bool // options are those of the packet
	relink   bool // the way out has another link layer than the way in, or none
}

// from is where a frame that waits came in, 0 for one that was made here.
func (r *result) from(f *Frame) int32 {
	if r.In == nil {
		return 0
	}
	return f.Ifindex
}

// drop ends the packet in place of what was decided, if anything was.
func (r *result) drop(v route.Verdict) { r.dropWith(v, route.ICMPError{}) }

func (r *result) dropWith(v route.Verdict, e route.ICMPError) { r.Verdict, r.ICMP = v, e }

// step decides about one frame and, where the verdict is Forward or Queue,
// rewrites it in place: padding cut off, TTL or hop limit, checksum; MACs for
// Forward. It does no I/O and knows no clock.
func step(t *route.Table, f *Frame, r *result) {
	*r = result{clock: r.clock}
	if r.In = t.Link(f.Ifindex); r.In != nil {
		f.Slot = r.In.Slot // whatever comes of the frame, the ring's filter counted it there
	}
	switch {
	case f.Lost != route.NotSpecified:
		r.drop(f.Lost)
		return
	case r.In == nil:
		r.drop(route.DropIfUnknown)
		return
	}
	r.v6 = f.isIPv6()
	switch {
	case f.Late && forwardsToo(r.In, r.v6):
		r.drop(route.DropStalled)
	case !checkFrame(t, f, r):
	case r.v6:
		step6(t, f, r)
	default:
		step4(t, f, r)
	}
}

// forwardsToo reports whether the kernel forwards packets of a family that come in by a
// link.
func forwardsToo(in *route.Link, v6 bool) bool {
	if v6 {
		return in.KernelForwards6()
	}
	return in.KernelForwards()
}

// step4 is step for a frame that bears IPv4.
func step4(t *route.Table, f *Frame, r *result) {
	ip, ok := parse4(f, r)
	if !ok {
		return
	}
	length := len(ip)
	if v := Vnet(f.Buf); v.gso() != gsoNone {
		length = segmentLen(ip, v)
	}
	t.Decide(ip, length, r.In, &r.Decision)
	if r.Routed && ip.HeaderLen() > wire.IPv4MinLen && !checkOptions(t, ip, r) {
		return
	}
	switch {
	case r.Verdict == route.Forward || r.Verdict == route.Queue:
		if v := Vnet(f.Buf); v.lacksChecksums() {
			partialChecksum(ip, v, f.l2len())
		}
		ip.DecrementTTL()
		if r.compiled && !r.Redirect { // else a redirect quotes it first
			r.stamp(t, ip)
		}
		r.readdress(f)
	case r.Looped:
		for ip.TTL() > 1 {
			ip.DecrementTTL()
		}
	}
}

// checkOptions is what the kernel does with the options of a received packet
// once it has a route (net/ipv4/ip_input.c, ip_rcv_options).
func checkOptions(t *route.Table, ip wire.IPv4, r *result) bool {
	r.compiled = true
	r.options.compile(ip, &hostEnv{t: t, in: r.In, src: ip.SrcAddr(), tos: ip.TOS(), clock: r.clock})
	switch {
	case r.options.problem != 0:
		r.dropWith(route.DropIPInHdr, route.ICMPError{Type: wire.ICMPParamProblem, Rest: uint32(r.options.problem) << 24})
		return false
	case r.options.srr == 0:
		return true
	case !r.In.Conf.AcceptSourceRoute:
		r.drop(route.DropSourceRoute)
		return false
	case r.options.strict:
		// The destination is not this host, so the route does not lead over it
		// (net/ipv4/ip_options.c, ip_options_rcv_srr).
		r.dropWith(route.DropIPInHdr, route.ICMPError{Type: wire.ICMPParamProblem, Rest: 16 << 24})
		return false
	}
	return true
}

// readdress puts a frame that goes on behind the MACs of its next hop, if those are known
// and fit where the frame lies.
func (r *result) readdress(f *Frame) {
	r.relink = !f.Ethernet || !r.Out.Ethernet()
	if !r.relink && r.Verdict == route.Forward {
		setMACs(f.ethernet(), r.Neighbour, r.Out)
	}
}

// stamp fills in what a router fills in of IP options on the way out.
func (r *result) stamp(t *route.Table, ip wire.IPv4) {
	r.options.forward(ip, addr4(t.SourceFor(r.Route, r.Nexthop, r.Out)))
}

func setMACs(eth wire.Ethernet, n *route.Neighbour, out *route.Link) {
	eth.SetDst(n.MAC)
	eth.SetSrc(out.MAC)
}
