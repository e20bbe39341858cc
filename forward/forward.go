// Package forward is the datapath. It receives frames from a Conn, asks the
// routing table what to do with each (package route), and sends them as Linux's
// ip_forward would.
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
// rewrites it in place: padding cut off, TTL, checksum; MACs for Forward.
// It does no I/O and knows no clock.
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
	case f.Late && r.In.KernelForwards():
		r.drop(route.DropStalled)
		return
	}
	ip, ok := parse(f, r)
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
		rewrite(t, ip, f, r)
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

// parse takes the frame down to a sound IPv4 header (net/ipv4/ip_input.c,
// ip_rcv_core) and cuts link-layer padding off.
func parse(f *Frame, r *result) (wire.IPv4, bool) {
	if f.Tagged {
		r.drop(route.IgnoreTagged)
		return nil, false
	}
	if f.Ethernet {
		eth := f.ethernet()
		if !eth.Valid() {
			r.drop(route.DropPktTooSmall)
			return nil, false
		}
		if eth.Type() != wire.EtherTypeIPv4 {
			r.drop(route.IgnoreProto)
			return nil, false
		}
		if f.PktType != packetHost {
			if f.PktType != packetOtherHost {
				r.drop(route.IgnoreType)
				return nil, false
			}
			if !r.In.AnswersTo(eth.Dst()) {
				r.drop(route.DropOtherHost)
				return nil, false
			}
		}
	}
	start := VnetLen + f.l2len()
	ip := wire.IPv4(f.Buf[start:])
	switch {
	case !ip.Valid() || !ip.HeaderValid():
		r.drop(route.DropIPInHdr)
		return nil, false
	case !ip.ChecksumOK():
		r.drop(route.DropIPCsum)
		return nil, false
	}
	total := ip.TotalLen()
	if total == 0 && Vnet(f.Buf).gso() == gsoTCPv4 {
		total = len(ip) // BIG TCP: include/linux/ip.h, iph_totlen
	}
	switch {
	case total > len(ip):
		r.drop(route.DropPktTooSmall)
		return nil, false
	case total < ip.HeaderLen():
		r.drop(route.DropIPInHdr)
		return nil, false
	}
	if v := Vnet(f.Buf); total < len(ip) && v.flags()&vnetNeedsCsum != 0 && v.csumStart()+v.csumOffset()+2 > f.l2len()+total {
		r.drop(route.DropPktTooSmall) // pskb_trim_rcsum: the checksum to be filled in is cut off
		return nil, false
	}
	if v := Vnet(f.Buf); v.headerLen() > f.l2len()+total {
		v.setHeaderLen(f.l2len() + total) // a hint, but one that packet_snd checks
	}
	f.Buf = f.Buf[:start+total]
	return ip[:total], true
}

// rewrite makes a packet that goes on as it leaves: with one hop less to go
// (net/ipv4/ip_forward.c), and behind the MACs of the next hop, if those are
// known and fit where the frame lies.
func rewrite(t *route.Table, ip wire.IPv4, f *Frame, r *result) {
	if v := Vnet(f.Buf); v.gso() == gsoUDPL4 && v.flags()&vnetNeedsCsum == 0 {
		partialChecksum(ip, v, f.l2len())
	}
	ip.DecrementTTL()
	if r.compiled && !r.Redirect { // else a redirect quotes it first
		r.stamp(t, ip)
	}
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
