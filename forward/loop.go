package forward

import (
	"context"
	"encoding/binary"
	"net/netip"
	"sync/atomic"
	"time"

	"proxyarpd/internal/wire"
)

// Options of a Loop.
type Options struct {
	// Resolve asks the kernel to resolve a neighbour, or tells it that a stale
	// one is in use. It is called on the datapath: it must not block.
	Resolve func(ifindex int32, addr netip.Addr)
	// Behind reports whether the kernel has told of changes that no Table has
	// yet. A packet that has no way is held while that is so, for a moment. nil
	// is always.
	Behind func() bool
	// Incomplete reports whether the kernel's state is being read anew, so that
	// Tables may be old for seconds: nobody is told that there is no way. nil is
	// never.
	Incomplete func() bool
}

// Loop is the datapath: one goroutine that runs a Port.
type Loop struct {
	port     Port
	opts     Options
	table    atomic.Pointer[Table]
	counters Counters
	waiting  atomic.Bool // packets wait for a next hop: Publish must wake the loop

	batch      Batch
	res        result
	out        [BatchSize]Out
	counted    [BatchSize]Verdict // what out[i] counts as, if it is sent
	nout       int
	l2len      [BatchSize]int // of out[i]
	join       coalescer
	loaded     bool   // enough frames came together to coalesce
	scratch    []byte // frames made here, until the next flush
	used       int
	piece      []byte // segments and fragments before they are framed
	queue      hopQueue
	misses     missQueue
	limiter    icmpLimiter
	optionsBuf [40]byte
	seen       *Table
	checked    int64
	start      time.Time
	clock      int64 // ns since start, read at most once a batch; 0: not read
	ident      uint16
	wanted     atomic.Pointer[Tap]
	taps       tapping
}

const (
	scratchSize = 1 << 18
	pieceSize   = 1 << 16
)

// NewLoop makes a Loop over p. Publish a Table before Run.
func NewLoop(p Port, o Options) *Loop {
	if o.Resolve == nil {
		o.Resolve = func(int32, netip.Addr) {}
	}
	if o.Behind == nil {
		o.Behind = func() bool { return true }
	}
	if o.Incomplete == nil {
		o.Incomplete = func() bool { return false }
	}
	l := &Loop{port: p, opts: o, start: time.Now()}
	l.res.clock = midnight
	l.table.Store(NewBuilder(Policy{}).Publish())
	return l
}

// midnight gives the ms since midnight UTC that IP timestamps bear (RFC 791).
func midnight() uint32 { return uint32(time.Now().UnixMilli() % (24 * 3600 * 1000)) }

// Publish makes t the table for all further batches. For any goroutine.
func (l *Loop) Publish(t *Table) {
	l.table.Store(t)
	if l.waiting.Load() {
		l.port.Wake()
	}
}

// Table is the table in use.
func (l *Loop) Table() *Table { return l.table.Load() }

// Counters are the loop's counters.
func (l *Loop) Counters() *Counters { return &l.counters }

// drainTime bounds how long Run goes on after its end was asked for.
const drainTime = 100 * time.Millisecond

// Run forwards until ctx ends and the port has nothing more (nil), or the port
// fails. The caller decides about the thread it runs on.
func (l *Loop) Run(ctx context.Context) error {
	var ending atomic.Bool
	stop := context.AfterFunc(ctx, func() {
		ending.Store(true)
		l.port.Wake()
	})
	defer stop()
	var deadline time.Time
	for {
		wait := time.Duration(-1)
		switch {
		case ending.Load():
			if wait = 0; deadline.IsZero() {
				deadline = time.Now().Add(drainTime)
			}
		case !l.misses.empty():
			wait = missTick
		case !l.queue.empty():
			wait = queueTick
		}
		if err := l.port.Recv(&l.batch, wait); err != nil {
			if ending.Load() {
				return nil
			}
			return err
		}
		if wait == 0 && (l.batch.N == 0 || time.Now().After(deadline)) {
			l.port.Release(&l.batch)
			return nil
		}
		l.once()
	}
}

// once handles what one Recv gave.
func (l *Loop) once() {
	l.clock = 0
	l.taps.begin(l.wanted.Load())
	t := l.table.Load()
	changed := t != l.seen
	l.seen = t
	if !l.misses.empty() {
		l.retryMisses(t, changed)
	}
	if !l.queue.empty() && (changed || l.now()-l.checked >= queueTick) {
		l.retry(t)
	}
	if l.batch.N > 0 {
		l.process(t)
		l.port.Release(&l.batch)
	}
}

// now is a monotonic time in ns, the same within a batch and never 0.
func (l *Loop) now() int64 {
	if l.clock == 0 {
		l.clock = int64(time.Since(l.start)) + 1
	}
	return l.clock
}

// process takes the batch through step and sends what is to be sent.
func (l *Loop) process(t *Table) {
	l.loaded = l.batch.N >= coalesceFrom
	for i := range l.batch.Frames[:l.batch.N] {
		l.handle(t, &l.batch.Frames[i], 0)
	}
	l.flush()
	l.loaded = false
	l.counters.in.Add(uint64(l.batch.N))
	l.counters.batches.Add(1)
}

// handle takes one frame through step and does what it says. If there is no
// way, the frame may be held until the tables have caught up; since is when
// that began, 0 for a frame that is new.
func (l *Loop) handle(t *Table, f *Frame, since int64) {
	if l.taps.tap == nil {
		l.decide(t, f, since)
		return
	}
	l.taps.arrive(f)
	l.taps.settle(l.decide(t, f, since))
}

// decide is handle without a look at the outcome: Forward for what is to be
// sent by the next flush, Queue for what waits.
func (l *Loop) decide(t *Table, f *Frame, since int64) Verdict {
	r := &l.res
	step(t, f, r)
	if l.taps.tap != nil {
		l.taps.decided(t, r)
	}
	switch r.verdict {
	case Forward:
		if r.neigh != nil && r.neigh.Stale && r.neigh.touch(l.now(), 2*second) {
			l.opts.Resolve(r.out.Ifindex, r.next)
		}
		if r.redirect {
			l.sendRedirect(t, f, r)
		}
		buf := f.Buf
		if r.relink {
			buf = l.relink(f, r)
		}
		switch {
		case r.fragment:
			l.sendPieces(buf, r.neigh, r.out, r.mtu)
		case r.out.Flags&LinkNoOffload != 0 && Vnet(buf).wants():
			l.sendPieces(buf, r.neigh, r.out, 0)
		case l.loaded && !r.relink && l.join.join(buf, r.neigh, r.out, l.nout):
			if l.taps.tap != nil {
				l.taps.leave(l.join.joined, buf, r.out, Forward)
			}
		default:
			l.send(buf, r.out, Forward)
		}
		return Forward
	case Queue:
		if r.redirect {
			l.sendRedirect(t, f, r)
		}
		if r.relink {
			f.Buf, f.Ethernet = l.relink(f, r), true
		}
		return l.hold(f, r)
	case Local, Punt, PuntTransit:
		switch {
		case t.policy.Copies: // the kernel has it
		case l.port.Return(f):
			l.counters.returned.Add(1)
		default:
			r.verdict = DropLocalLate
		}
	case DropIPInNoRoutes, DropIPRPFilter, DropIfUnknown:
		if r.in != nil && l.holdMiss(f, since) {
			return Queue
		}
	}
	l.counters.verdicts[r.verdict].Add(1)
	l.explain(t, f, r)
	return r.verdict
}

// explain sends the ICMP error that a dropped packet deserves, if it does.
func (l *Loop) explain(t *Table, f *Frame, r *result) {
	if r.icmp.Type == 0 && r.verdict != DropRouteBlackhole {
		return
	}
	ip := wire.IPv4(f.Buf[VnetLen+f.l2len():])
	if !r.compiled && ip.HeaderLen() > wire.IPv4MinLen {
		if checkOptions(t, ip, r); r.options.srr != 0 && r.options.problem == 0 {
			return // source routed: dropped before its route would be found missing
		}
	}
	if r.icmp.Type == 0 {
		return
	}
	if r.icmp.Type == wire.ICMPDestUnreachable && r.icmp.Code != wire.ICMPFragNeeded &&
		(l.opts.Incomplete() || !l.limiter.allowError(ip.Src(), l.now(), &t.host)) {
		return
	}
	l.report(t, ip, f.PktType, r)
}

// relink gives a frame the link-layer header of its way out where the one it
// came with is of another kind. It lasts until the next flush.
func (l *Loop) relink(f *Frame, r *result) []byte {
	ip := f.Buf[VnetLen+f.l2len():]
	l2len := r.out.l2len()
	b := l.room(VnetLen + l2len + len(ip))
	copy(b, f.Buf[:VnetLen])
	clear(b[VnetLen : VnetLen+l2len])
	copy(b[VnetLen+l2len:], ip)
	if v := Vnet(b); v.flags()&vnetNeedsCsum != 0 || v.gso() != gsoNone {
		v.moveHeaders(l2len - f.l2len())
	}
	if eth := wire.Ethernet(b[VnetLen:]); r.out.ethernet() {
		eth.SetType(wire.EtherTypeIPv4)
		if r.neigh != nil {
			setMACs(eth, r.neigh, r.out)
		}
	}
	return b
}

// holdMiss keeps a frame that has no way yet.
func (l *Loop) holdMiss(f *Frame, since int64) bool {
	fresh := since == 0
	if fresh {
		since = l.now()
	}
	if l.now()-since >= missHold {
		return false
	}
	if !l.opts.Behind() && l.table.Load() == l.seen {
		return false // what is known is all there is
	}
	if !l.misses.add(f, since) {
		return false
	}
	if fresh {
		l.counters.verdicts[Queue].Add(1)
	}
	l.await()
	return true
}

// retryMisses looks again for the way of packets that had none: with a new
// table, or for the last time, because nothing more is to come.
func (l *Loop) retryMisses(t *Table, changed bool) {
	if !changed && l.now()-l.misses.packets[0].since < missHold && l.opts.Behind() {
		return
	}
	for _, m := range l.misses.take() {
		f := Frame{Buf: m.buf, Ifindex: m.in, PktType: m.pktType, Ethernet: m.ethernet, Received: m.received, id: m.id, Tag: m.tag}
		l.handle(t, &f, m.since)
	}
	l.flush()
	if l.misses.empty() && l.queue.empty() {
		l.waiting.Store(false)
	}
}

// await has Publish wake the loop from now on, and now if it has been called
// since this batch began.
func (l *Loop) await() {
	l.waiting.Store(true)
	if l.table.Load() != l.seen {
		l.port.Wake()
	}
}

// send puts a frame on its way; buf is borrowed until the next flush.
func (l *Loop) send(buf []byte, out *Link, as Verdict) {
	o := &l.out[l.nout]
	o.Buf, o.Ifindex = buf, out.Ifindex
	l.l2len[l.nout] = out.l2len()
	o.Bypass = out.Flags&LinkBypass != 0 && Vnet(buf).gso() == gsoNone
	l.counted[l.nout] = as
	l.join.alone(l.nout)
	if l.taps.tap != nil {
		l.taps.leave(l.nout, buf, out, as)
	}
	if l.nout++; l.nout == len(l.out) {
		l.flush()
	}
}

// flush sends what send collected and counts how it ended.
func (l *Loop) flush() {
	l.used = 0
	if l.nout == 0 {
		return
	}
	out := l.out[:l.nout]
	for i, tails := 0, 0; i < len(out); i++ {
		if l.join.count[i] > 1 {
			out[i].Tail = l.join.finish(i, out[i].Buf, tails)
			out[i].Bypass = false
			tails += len(out[i].Tail)
		}
	}
	if l.taps.tap != nil {
		l.taps.sent = time.Now().UnixNano()
	}
	l.port.Send(out)
	if l.taps.tap != nil {
		l.taps.flushed(out)
	}
	sent, bytes, forwarded := 0, 0, 0
	for i := range out {
		o, n := &out[i], l.join.count[i]
		switch {
		case o.Err != Forward:
			l.counters.verdicts[o.Err].Add(uint64(n))
		case l.counted[i] == Forward:
			forwarded += n
			fallthrough
		default:
			sent += n
			bytes += len(o.Buf) - VnetLen - l.l2len[i]
			if n > 1 {
				bytes += l.join.groups[i].bytes - (len(o.Buf) - VnetLen - wire.EthernetLen) + (n-1)*(wire.IPv4MinLen+udpLen)
			}
			if l.counted[i] != Forward && l.counted[i] != NotSpecified {
				l.counters.verdicts[l.counted[i]].Add(1)
			}
		}
		o.Buf, o.Tail = nil, nil
	}
	l.nout = 0
	l.join.reset()
	l.counters.verdicts[Forward].Add(uint64(forwarded))
	l.counters.out.Add(uint64(sent))
	l.counters.bytesOut.Add(uint64(bytes))
}

// room gives n bytes of scratch that last until the next flush.
func (l *Loop) room(n int) []byte {
	if l.scratch == nil {
		l.scratch = make([]byte, scratchSize)
		l.piece = make([]byte, 2*pieceSize)
	}
	if l.used+n > len(l.scratch) {
		l.flush()
	}
	b := l.scratch[l.used : l.used+n : l.used+n]
	l.used += n
	return b
}

// sendPieces sends a packet that is larger than mtu and may be fragmented: a
// GSO packet is cut into its segments first. With mtu 0 nothing is fragmented, but
// all is done that else a device or the kernel does. buf is as step left it.
func (l *Loop) sendPieces(buf []byte, n *Neighbour, out *Link, mtu int) {
	l.room(0)
	l2len := out.l2len()
	ip, v := wire.IPv4(buf[VnetLen+l2len:]), Vnet(buf)
	first := true
	emit := func(p wire.IPv4) {
		b := l.room(VnetLen + l2len + len(p))
		clear(b[:VnetLen])
		if out.ethernet() {
			eth := wire.Ethernet(b[VnetLen:])
			eth.SetType(wire.EtherTypeIPv4)
			setMACs(eth, n, out)
		}
		copy(b[VnetLen+l2len:], p)
		as := NotSpecified // one packet, one verdict: its first piece counts
		if first {
			as, first = Forward, false
		}
		l.send(b, out, as)
	}
	ok := true
	switch {
	case mtu == 0 && v.gso() != gsoNone:
		segments(ip, v, l.piece[:pieceSize], emit)
	case mtu == 0:
		if ok = completeChecksum(ip, v, l2len); ok {
			emit(ip)
		}
	case v.gso() != gsoNone:
		segments(ip, v, l.piece[:pieceSize], func(seg wire.IPv4) {
			// Also one that fits: ip_do_fragment clears its reserved bit.
			ok = fragments(seg, mtu, l.piece[pieceSize:], emit) && ok
		})
	default:
		ok = completeChecksum(ip, v, l2len) && fragments(ip, mtu, l.piece[pieceSize:], emit)
	}
	if !ok {
		l.counters.verdicts[DropGSO].Add(1)
	}
}

// report sends the ICMP error in r about ip to its source.
func (l *Loop) report(t *Table, ip wire.IPv4, pktType uint8, r *result) {
	if !mayReport(ip, pktType) || !l.mayReportNow(t, ip, r.icmp) {
		return
	}
	dest := ip.Src()
	if r.compiled {
		dest = r.options.answerTo(ip)
	}
	to := netip.AddrFrom4(dest)
	if to.IsMulticast() {
		return // the last hop of a source route; for a source it is not accepted
	}
	asked := anyAddr // to have one chosen
	if t.host.ICMPFromInbound && r.in != nil {
		if a := t.selectAddr(r.in, ip.SrcAddr(), scopeLink); a.IsValid() {
			asked = a
		}
	}
	// To rules, type and code stand where ports do (include/net/flow.h, union flowi_uli).
	route, _ := t.lookup(&flow{dst: to, src: asked, iif: loopbackIfindex, tos: ip.TOS()&0x1e | precInternet,
		proto: wire.ProtoICMP, dport: uint16(r.icmp.Type)<<8 | uint16(r.icmp.Code)})
	if route == nil || route.Type != RouteUnicast {
		return
	}
	nh := t.nexthopFor(route, ip)
	out := t.Link(nh.Ifindex)
	if out == nil || !out.Up() || nh.Encap {
		return
	}
	l.ident++
	e := icmpReport{icmpError: r.icmp, about: ip, dest: dest, mtu: out.MTU, ttl: t.host.DefaultTTL, id: l.ident}
	if route.MTU != 0 {
		e.mtu = route.MTU
	}
	source := asked
	if source == anyAddr {
		source = t.sourceFor(route, nh, out)
	}
	if e.source = addr4(source); !source.IsValid() {
		e.source = dummySource
	}
	if r.compiled { // as far as the options were sound
		n := r.options.echo(l.optionsBuf[:], ip, &hostEnv{t: t, in: r.in, src: ip.SrcAddr(), tos: ip.TOS(), clock: r.clock}, e.source)
		if n < 0 {
			return
		}
		e.options = l.optionsBuf[:n]
	}
	b := l.room(VnetLen + wire.EthernetLen + icmpRoom)
	n := e.put(b)
	if n == 0 {
		return
	}
	l.taps.report(r.icmp)
	if !out.ethernet() {
		clear(b[wire.EthernetLen:][:VnetLen])
		l.send(b[wire.EthernetLen:n], out, Originate)
		return
	}
	f := Frame{Buf: b[:n], Ifindex: out.Ifindex, Ethernet: true, id: l.taps.id()}
	next := nh.Gateway
	if !next.IsValid() {
		next = to
	}
	if nb := out.Neighbour(next); nb != nil && nb.Valid {
		setMACs(f.ethernet(), nb, out)
		l.send(f.Buf, out, Originate)
		return
	}
	l.hold(&f, &result{out: out, next: next})
}

// mayReportNow asks the rate limits.
func (l *Loop) mayReportNow(t *Table, ip wire.IPv4, e icmpError) bool {
	if e.Type == wire.ICMPDestUnreachable && e.Code == wire.ICMPFragNeeded {
		return true // path MTU discovery is never limited
	}
	if e.Type < 32 && t.host.ICMPRateMask>>e.Type&1 == 0 {
		return true
	}
	return l.limiter.allow(ip.Src(), l.now(), &t.host)
}

// sendRedirect tells the sender of a packet that leaves by the link it came in
// on of the better way (net/ipv4/route.c, ip_rt_send_redirect). What it quotes
// is the packet before its options are stamped.
func (l *Loop) sendRedirect(t *Table, f *Frame, r *result) {
	ip := wire.IPv4(f.Buf[VnetLen+f.l2len():])
	if r.compiled {
		defer r.stamp(t, ip)
	}
	if r.options.srr != 0 || !l.limiter.allowRedirect(ip.Src(), l.now(), &t.host) {
		return
	}
	about, to := *r, ip.Dst() // include/net/route.h, rt_nexthop
	if r.next.Is4() {
		to = r.next.As4()
	}
	about.icmp = icmpError{Type: wire.ICMPRedirect, Code: 1, Rest: binary.BigEndian.Uint32(to[:])}
	l.report(t, ip, f.PktType, &about)
}

// hold keeps a frame until its next hop has a MAC.
func (l *Loop) hold(f *Frame, r *result) Verdict {
	if r.out.Conf.NoSolicit { // net/core/neighbour.c, __neigh_event_send
		l.counters.verdicts[DropNeighFailed].Add(1)
		return DropNeighFailed
	}
	key := hopKey{ifindex: r.out.Ifindex, addr: r.next}
	ask, kept := l.queue.add(key, f, r, r.out.Neighbour(r.next), l.now())
	l.counters.verdicts[Queue].Add(1)
	if kept && r.in != nil && l.taps.tap != nil && l.taps.current >= 0 {
		l.queue.last(key).came = l.taps.waits()
	}
	l.await()
	for i := range l.queue.evicted {
		l.evict(&l.queue.evicted[i], key, r.out)
	}
	clear(l.queue.evicted)
	if ask {
		l.opts.Resolve(key.ifindex, key.addr)
	}
	if !kept {
		l.counters.verdicts[DropNeighQueueFull].Add(1)
		return DropNeighQueueFull
	}
	return Queue
}

// evict ends a packet that gave way to a later one.
func (l *Loop) evict(w *waiting, key hopKey, out *Link) {
	l.counters.verdicts[DropNeighQueueFull].Add(1)
	if l.taps.tap != nil {
		defer l.taps.back(l.taps.current)
		l.taps.resume(l.seen, w, key, out, nil)
		l.taps.failed(w, DropNeighQueueFull)
	}
}

// retry looks at all packets that wait: a next hop may have an address now,
// have failed, or be gone with its interface.
func (l *Loop) retry(t *Table) {
	now := l.now()
	l.checked = now
	for key, h := range l.queue.hops {
		out, n, v := h.state(t, key, now)
		switch v {
		case Queue:
			if h.again(out, now) {
				l.opts.Resolve(key.ifindex, key.addr)
			}
			continue
		case Forward:
			for i := range h.packets {
				if l.taps.tap != nil {
					l.taps.resume(t, &h.packets[i], key, out, n)
				}
				l.release(h.packets[i], n, out)
			}
		default:
			for i := range h.packets {
				w := &h.packets[i]
				l.counters.verdicts[v].Add(1)
				if l.taps.tap != nil {
					l.taps.resume(t, w, key, out, n)
				}
				if v == DropNeighFailed {
					l.reportFailed(t, w, out)
				}
				if l.taps.tap != nil {
					l.taps.failed(w, v)
				}
			}
		}
		l.queue.remove(key, h)
	}
	l.flush()
	if l.misses.empty() && l.queue.empty() {
		l.waiting.Store(false)
	}
}

// reportFailed tells the sender of a packet that its next hop has failed
// (net/ipv4/route.c, ipv4_send_dest_unreach): its options are compiled anew, as
// if it had come in by the interface that it was to leave by.
func (l *Loop) reportFailed(t *Table, w *waiting, out *Link) {
	ip := wire.IPv4(w.buf[VnetLen+wire.EthernetLen:])
	r := result{clock: l.res.clock, in: t.Link(w.in), icmp: icmpError{Type: wire.ICMPDestUnreachable, Code: wire.ICMPHostUnreachable}}
	if ip.HeaderLen() > wire.IPv4MinLen {
		r.compiled = true
		r.options.compile(ip, &hostEnv{t: t, in: out, src: ip.SrcAddr(), tos: ip.TOS(), clock: r.clock})
		if r.options.problem != 0 {
			return
		}
	}
	l.report(t, ip, packetHost, &r)
}

func (l *Loop) release(w waiting, n *Neighbour, out *Link) {
	if w.mtu != 0 {
		l.sendPieces(w.buf, n, out, w.mtu)
		return
	}
	setMACs(wire.Ethernet(w.buf[VnetLen:]), n, out)
	l.send(w.buf, out, w.as)
}
