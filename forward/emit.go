package forward

import (
	"proxyarpd/forward/route"
	"proxyarpd/internal/wire"
)

// emitter collects the frames of a turn that are to be sent, gives them the form
// that their way out takes, and sends them.
type emitter struct {
	turn     *turn
	conn     Conn
	counters *Counters
	drops    *dropper

	out     [BatchSize]Out
	nout    int
	counted [BatchSize]route.Verdict // what out[i] counts as, if it is sent
	l2len   [BatchSize]int           // of out[i]
	since   int64                    // Out.Received of what is sent
	in      int32                    // where it came in; 0: made here
	from    [BatchSize]int32         // of out[i]
	join    coalescer
	loaded  bool   // enough frames came together to coalesce
	joined  int    // of this batch, frames that left as part of an earlier one
	scratch []byte // frames made here, until the next flush
	used    int
	piece   []byte // segments and fragments before they are framed
	big     []byte // super-packets that another was too long for
}

const (
	scratchSize = 1 << 18
	pieceSize   = 1 << 16
)

// forward puts a frame that step has made ready on its way.
func (e *emitter) forward(f *Frame, r *result) {
	if forwardsToo(r.In, r.v6) {
		e.since = f.Received
	}
	e.in = f.Ifindex
	e.forwardOne(f, r)
	e.since, e.in = 0, 0
}

func (e *emitter) forwardOne(f *Frame, r *result) {
	switch { // pieces have headers of their own
	case r.Fragment:
		e.pieces(f.Buf, f.l2len(), r.Neighbour, r.Out, r.MTU)
		return
	case r.Out.Flags&route.LinkNoOffload != 0 && Vnet(f.Buf).wants():
		e.pieces(f.Buf, f.l2len(), r.Neighbour, r.Out, 0)
		return
	}
	buf := f.Buf
	if r.relink {
		buf = e.relink(f, r)
	}
	switch {
	case e.loaded && !r.relink && e.join.join(buf, r.Neighbour, r.Out, e.nout):
		e.joined++
		e.turn.tap.leave(e.join.joined, buf, r.Out, route.Forward)
	default:
		e.send(buf, r.Out, route.Forward)
	}
}

// send puts a frame on its way; buf is borrowed until the next flush.
func (e *emitter) send(buf []byte, out *route.Link, as route.Verdict) {
	if len(buf) > maxSuper && big(buf[VnetLen+out.L2Len():], Vnet(buf)) {
		e.sendBig(buf, out, as)
		return
	}
	o := &e.out[e.nout]
	o.Buf, o.Ifindex, o.Received = buf, out.Ifindex, e.since
	e.l2len[e.nout] = out.L2Len()
	o.Bypass = out.Flags&route.LinkBypass != 0 && Vnet(buf).gso() == gsoNone
	o.Type, o.Priority = wire.EtherTypeIPv4, 0
	if ip := buf[VnetLen+out.L2Len():]; isIPv6(ip) {
		o.Type = wire.EtherTypeIPv6 // forwarded with the priority that it came with (net/ipv6/ip6_output.c, ip6_forward): 0
	} else if out.Flags&route.LinkSorts != 0 && as != route.Originate && !e.turn.table.Host().NoPriority {
		o.Priority = priorities[ip[1]>>3&3]
	}
	e.counted[e.nout], e.from[e.nout] = as, e.in
	e.join.alone(e.nout)
	e.turn.tap.leave(e.nout, buf, out, as)
	if e.nout++; e.nout == len(e.out) {
		e.flush()
	}
}

// priorities are those of forwarded IPv4 packets by the bits 0x18 of their TOS, as
// TC_PRIO_* in linux/pkt_sched.h (rt_tos2priority in include/net/route.h,
// ip_tos2prio in net/ipv4/route.c).
var priorities = [4]uint8{0, 2, 6, 4}

// flush sends what send collected and counts how it ended.
func (e *emitter) flush() {
	e.used = 0
	if e.nout == 0 {
		return
	}
	out := e.out[:e.nout]
	for i, tails := 0, 0; i < len(out); i++ {
		if e.join.count[i] > 1 {
			out[i].Tail = e.join.finish(i, out[i].Buf, tails)
			out[i].Bypass = false
			tails += len(out[i].Tail)
		}
	}
	e.turn.tap.sending()
	e.conn.Send(out)
	e.turn.tap.flushed(out)
	e.count(out)
	e.nout = 0
	e.join.reset()
}

// count counts what Send has done with out, and lets go of it.
func (e *emitter) count(out []Out) {
	sent, bytes, forwarded := 0, 0, 0
	run, in := 0, int32(0) // of those forwarded the last that came in by one interface
	for i := range out {
		o, n := &out[i], e.join.count[i]
		switch {
		case o.Err != route.Forward:
			e.counters.end(o.Err, e.from[i], uint64(n))
			e.drops.unsent(o, e.from[i], e.l2len[i] > 0)
		case e.counted[i] == route.Forward:
			if forwarded += n; e.from[i] != in {
				e.counters.places.add(route.Forward, in, uint64(run))
				run, in = 0, e.from[i]
			}
			run += n
			fallthrough
		default:
			sent += n
			bytes += len(o.Buf) - VnetLen - e.l2len[i]
			if n > 1 {
				e.counters.super(n)
				g := &e.join.groups[i]
				bytes += g.bytes - (len(o.Buf) - VnetLen - wire.EthernetLen) + (n-1)*(g.hlen+udpLen)
			}
			if e.counted[i] != route.Forward && e.counted[i] != route.NotSpecified {
				e.counters.end(e.counted[i], e.from[i], 1)
			}
		}
		o.Buf, o.Tail = nil, nil
	}
	e.counters.ends[route.Forward].Add(uint64(forwarded))
	e.counters.places.add(route.Forward, in, uint64(run))
	e.counters.out.Add(uint64(sent))
	e.counters.bytesOut.Add(uint64(bytes))
}

// room gives n bytes of scratch that last until the next flush.
func (e *emitter) room(n int) []byte {
	if e.scratch == nil {
		e.scratch = make([]byte, scratchSize)
		e.piece = make([]byte, 2*pieceSize)
	}
	if e.used+n > len(e.scratch) {
		e.flush()
		if n > len(e.scratch) { // BIG TCP, and another link layer
			e.scratch = make([]byte, n)
		}
	}
	b := e.scratch[e.used : e.used+n : e.used+n]
	e.used += n
	return b
}

// relink gives a frame the link-layer header of its way out where the one it
// came with is of another kind. It lasts until the next flush.
func (e *emitter) relink(f *Frame, r *result) []byte {
	ip := f.Buf[VnetLen+f.l2len():]
	l2len := r.Out.L2Len()
	b := e.room(VnetLen + l2len + len(ip))
	copy(b, f.Buf[:VnetLen])
	clear(b[VnetLen : VnetLen+l2len])
	copy(b[VnetLen+l2len:], ip)
	if v := Vnet(b); v.flags()&vnetNeedsCsum != 0 || v.gso() != gsoNone {
		v.moveHeaders(l2len - f.l2len())
	}
	if r.Out.Ethernet() {
		eth := wire.Ethernet(b[VnetLen:])
		eth.SetType(etherType(ip))
		if r.Verdict == route.Forward {
			setMACs(eth, r.Neighbour, r.Out)
		}
	}
	return b
}

// etherType is that of a packet.
func etherType(ip []byte) wire.EtherType {
	if isIPv6(ip) {
		return wire.EtherTypeIPv6
	}
	return wire.EtherTypeIPv4
}

// pieces sends a packet that is larger than mtu and may be fragmented, which only
// IPv4 may: a GSO packet is cut into its segments first. With mtu 0 nothing is
// fragmented, but all is done that else a device or the kernel does. buf is as step left it,
// with a link-layer header of l2len bytes. It must not lie in scratch, which a
// flush between two pieces gives to the next ones.
func (e *emitter) pieces(buf []byte, l2len int, n *route.Neighbour, out *route.Link, mtu int) {
	e.room(0)
	ip, v := buf[VnetLen+l2len:], Vnet(buf)
	as := route.Forward
	emit := func(p []byte) {
		e.whole(p, n, out, as)
		as = route.NotSpecified // one packet, one verdict: its first piece counts
	}
	ok := true
	switch {
	case mtu == 0 && v.gso() != gsoNone:
		segments(ip, v, e.piece[:pieceSize], emit)
	case mtu == 0:
		if ok = completeChecksum(ip, v, l2len); ok {
			emit(ip)
		}
	case v.gso() != gsoNone:
		segments(ip, v, e.piece[:pieceSize], func(seg []byte) {
			// Also one that fits: ip_do_fragment clears its reserved bit.
			ok = fragments(seg, mtu, e.piece[pieceSize:], emit) && ok
		})
	default:
		ok = completeChecksum(ip, v, l2len) && fragments(ip, mtu, e.piece[pieceSize:], emit)
	}
	if !ok {
		e.counters.end(route.DropGSO, e.in, 1)
		e.drops.unsent(&Out{Buf: buf, Ifindex: out.Ifindex, Err: route.DropGSO}, e.in, l2len > 0)
	}
}

// whole sends a packet that needs nothing of a device. It must not lie in scratch.
func (e *emitter) whole(ip []byte, n *route.Neighbour, out *route.Link, as route.Verdict) {
	outLen := out.L2Len()
	b := e.room(VnetLen + outLen + len(ip))
	clear(b[:VnetLen])
	if out.Ethernet() {
		eth := wire.Ethernet(b[VnetLen:])
		eth.SetType(etherType(ip))
		setMACs(eth, n, out)
	}
	copy(b[VnetLen+outLen:], ip)
	e.send(b, out, as)
}
