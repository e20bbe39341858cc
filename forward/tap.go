package forward

import (
	"net/netip"
	"slices"
	"time"

	"proxyarpd/forward/route"
	"proxyarpd/internal/wire"
)

// Look is what a Tap is shown: a packet where it came in or where it left, and
// what became of it. It and all it points to is the loop's: Buf is borrowed
// until Tap.Look returns; Table, links, routes and neighbours are immutable.
type Look struct {
	ID       uint64 // the same for a packet, its copies, its wait and its ICMP error
	Received int64  // ns since 1970: when the kernel took the packet in
	Sent     int64  // ns since 1970: when it was given to the kernel, of one that left
	Out      bool   // as it left; else as it came
	Buf      []byte // virtio_net_hdr and frame
	Ifindex  int32  // where it came in, or left
	PktType  uint8  // PACKET_*, of a packet that came in
	Ethernet bool
	Tag      // of a packet that came in
	// Again says that the packet has been shown before, as it began to wait:
	// this is how that ended. It is shown as it came both times.
	Again bool
	// Memo is the Tap's: what Wants leaves here is there when Look shows the frame.
	// It is zero where Wants was not asked.
	Memo [2]uint64
	// Worker is the number of the loop that shows it.
	Worker int

	Verdict   route.Verdict
	ICMPType  uint8 // of the error that was sent about it; 0: none
	ICMPCode  uint8
	Table     *route.Table
	From, To  *route.Link // nil where it got no further
	Rule      *route.Rule // that led to Route
	Route     *route.Route
	Next      netip.Addr // neighbour to send to
	Neighbour *route.Neighbour
}

// Tap is shown packets while one is set: as they came with their verdict, and
// each frame that left. It runs on the datapath, all workers at a time, and must
// not block.
type Tap interface {
	// ID gives a new event id, never 0.
	ID() uint64
	// Wants reports whether a frame is worth a Look. Nothing but where it came in
	// or leaves, and its bytes, is known yet.
	Wants(*Look) bool
	// Look shows a frame that is wanted.
	Look(*Look)
}

// SetTap makes t see all packets from the next batch on; nil ends that. A call
// may still be under way when SetTap returns.
func (l *Loop) SetTap(t Tap) {
	if t == nil {
		l.wanted.Store(nil)
		return
	}
	l.wanted.Store(&t)
}

// tapHead is how much of a frame the datapath rewrites in place: the
// virtio_net_hdr, an Ethernet header, an IPv4 header with options, or an IPv6 and a UDP
// header.
const tapHead = VnetLen + wire.EthernetLen + 60

// tapping is what the loop remembers of the packets of a turn for its Tap.
// Frames are rewritten where they lie, so what is kept is the head that they
// came with. A nil one is that nobody looks: its methods do nothing, and cost
// the datapath one comparison.
type tapping struct {
	tap     Tap
	worker  int
	notes   []note
	current int       // place in notes of the packet that is handled, -1: none
	leaving []leaving // what flush is to show
	look    Look
	sent    int64 // when flush began to send, ns since 1970
}

// cameAs is a packet that waits as it came: what waits is rewritten.
type cameAs struct {
	buf      []byte // nil: nobody wanted to see it
	pktType  uint8
	ethernet bool
	tag      Tag
}

// note is a packet that came in, or had been waiting.
type note struct {
	look  Look
	head  [tapHead]byte
	shown bool // as it came, or that is not wanted: nothing is left to tell but where it went
}

// leaving is a frame that send or the coalescer took.
type leaving struct {
	place   int // in emitter.out
	note    int
	buf     []byte
	head    [tapHead]byte // joining rewrites the first frame's
	out     *route.Link
	verdict route.Verdict
	wanted  bool      // as it leaves
	memo    [2]uint64 // see Look.Memo
}

// begin asks once a turn whether somebody looks, and is nil if not.
func (p *tapping) begin(wanted *Tap) *tapping {
	switch {
	case wanted != nil:
		p.tap = *wanted
		p.notes, p.leaving, p.current = p.notes[:0], p.leaving[:0], -1
		return p
	case p.tap != nil:
		*p = tapping{current: -1, worker: p.worker} // keeps no table alive
	}
	return nil
}

// note makes room for one more.
func (p *tapping) note() *note {
	if len(p.notes) == cap(p.notes) {
		p.notes = slices.Grow(p.notes, 1)
	}
	p.current = len(p.notes)
	p.notes = p.notes[:p.current+1]
	return &p.notes[p.current]
}

// arrive notes a frame before it is rewritten.
func (p *tapping) arrive(f *Frame) {
	if p != nil {
		p.doArrive(f)
	}
}

func (p *tapping) doArrive(f *Frame) {
	again := f.id != 0
	if !again {
		f.id = p.tap.ID()
	}
	n := p.note()
	n.look = Look{Worker: p.worker, ID: f.id, Received: f.Received, Buf: f.Buf, Ifindex: f.Ifindex, PktType: f.PktType, Ethernet: f.Ethernet, Tag: f.Tag, Again: again}
	if n.shown = !p.tap.Wants(&n.look); !n.shown {
		copy(n.head[:], f.Buf)
	}
}

// decided notes what step found out about the current packet.
func (p *tapping) decided(t *route.Table, r *result) {
	if p != nil {
		p.doDecided(t, r)
	}
}

func (p *tapping) doDecided(t *route.Table, r *result) {
	k := &p.notes[p.current].look
	k.Table, k.From, k.To, k.Rule, k.Route, k.Next, k.Neighbour = t, r.In, r.Out, r.Rule, r.Route, r.Next, r.Neighbour
}

// settle notes how the current packet ended. Unless it is on its way out, that
// is all there is to tell: one that goes on waiting has been told of.
func (p *tapping) settle(v route.Verdict) {
	if p != nil {
		p.doSettle(v)
	}
}

func (p *tapping) doSettle(v route.Verdict) {
	n := &p.notes[p.current]
	if v != route.Forward && !n.shown && !(v == route.Queue && n.look.Again) {
		n.look.Verdict = v
		p.show(n)
	}
	p.current = -1
}

// waits gives the current packet as it came, since it begins to wait.
func (p *tapping) waits() (c cameAs) {
	n := &p.notes[p.current]
	if n.shown {
		return c
	}
	c = cameAs{buf: slices.Clone(n.look.Buf), pktType: n.look.PktType, ethernet: n.look.Ethernet, tag: n.look.Tag}
	copy(c.buf, n.head[:])
	return c
}

// resume makes a packet that has been waiting the current one. If nobody looked
// when it came, what is known of it is the packet as it would leave.
func (p *tapping) resume(t *route.Table, w *waiting, key hopKey, out *route.Link, nb *route.Neighbour) {
	if p != nil {
		p.doResume(t, w, key, out, nb)
	}
}

func (p *tapping) doResume(t *route.Table, w *waiting, key hopKey, out *route.Link, nb *route.Neighbour) {
	again := w.id != 0
	if !again {
		w.id = p.tap.ID()
	}
	n := p.note()
	n.look = Look{Worker: p.worker, ID: w.id, Received: w.received, Buf: w.came.buf, Ifindex: w.in, PktType: w.came.pktType,
		Ethernet: w.came.ethernet, Tag: w.came.tag, Again: again, Table: t, From: t.Link(w.in), To: out, Rule: w.rule, Route: w.route, Next: key.addr, Neighbour: nb}
	if n.shown = n.look.Buf == nil; !n.shown {
		copy(n.head[:], n.look.Buf)
	}
}

// failed shows a packet whose wait was in vain, with the TTL that it came with.
func (p *tapping) failed(w *waiting, v route.Verdict) {
	if p != nil {
		p.doFailed(w, v)
	}
}

func (p *tapping) doFailed(w *waiting, v route.Verdict) {
	n := &p.notes[p.current]
	p.current = -1
	if !n.shown {
		n.look.Verdict = v
		p.show(n)
		return
	}
	n.look.Buf, n.look.Ethernet, n.look.Again = w.buf, true, false
	if w.as != route.Forward {
		n.look.Out = true
		if n.look.Ifindex = 0; n.look.To != nil {
			n.look.Ifindex = n.look.To.Ifindex
		}
	} else {
		giveHopBack(w.buf[VnetLen+wire.EthernetLen:])
		if from := n.look.From; from != nil && !from.Ethernet() { // it got its Ethernet header here
			n.look.Buf, n.look.Ethernet = w.buf[wire.EthernetLen:], false
		}
	}
	n.look.Verdict = v
	if p.tap.Wants(&n.look) {
		p.tap.Look(&n.look)
	}
}

// show shows a packet as it came.
func (p *tapping) show(n *note) {
	n.shown = true
	b := n.look.Buf
	size := min(len(b), tapHead)
	var now [tapHead]byte
	copy(now[:], b[:size])
	copy(b, n.head[:size])
	p.tap.Look(&n.look)
	copy(b, now[:size])
}

// leave notes a frame of the current packet that goes to place in emitter.out, if
// it or the packet as it came is to be shown.
func (p *tapping) leave(place int, buf []byte, out *route.Link, as route.Verdict) {
	if p != nil {
		p.doLeave(place, buf, out, as)
	}
}

func (p *tapping) doLeave(place int, buf []byte, out *route.Link, as route.Verdict) {
	k := &p.look
	k.Out, k.Buf, k.Ifindex, k.PktType, k.Ethernet, k.Tag = true, buf, out.Ifindex, 0, out.Ethernet(), Tag{}
	wanted := p.tap.Wants(k)
	if !wanted && (as == route.Originate || p.current < 0 || p.notes[p.current].shown) {
		return
	}
	i := len(p.leaving)
	p.leaving = append(p.leaving, leaving{place: place, note: p.current, buf: buf, out: out, verdict: as, wanted: wanted, memo: k.Memo})
	if wanted {
		copy(p.leaving[i].head[:], buf)
	}
}

// looking reports whether a packet is handled that somebody may look at.
func (p *tapping) looking() bool { return p != nil && p.current >= 0 }

// id is that of the current packet, 0 if nobody looks.
func (p *tapping) id() uint64 {
	if !p.looking() {
		return 0
	}
	return p.notes[p.current].look.ID
}

// place is that of the current packet in notes.
func (p *tapping) place() int {
	if p == nil {
		return -1
	}
	return p.current
}

// back makes the packet at that place the current one again.
func (p *tapping) back(place int) {
	if p != nil {
		p.current = place
	}
}

// report notes the ICMP error that goes out about the current packet.
func (p *tapping) report(e route.ICMPError) {
	if p.looking() {
		p.notes[p.current].look.ICMPType, p.notes[p.current].look.ICMPCode = e.Type, e.Code
	}
}

// sending says that flush begins to send.
func (p *tapping) sending() {
	if p != nil {
		p.doSending()
	}
}

func (p *tapping) doSending() { p.sent = time.Now().UnixNano() }

// flushed shows what was sent, or why it was not.
func (p *tapping) flushed(out []Out) {
	if p != nil {
		p.doFlushed(out)
	}
}

func (p *tapping) doFlushed(out []Out) {
	for i := range p.leaving {
		e := &p.leaving[i]
		v := out[e.place].Err
		k := &p.look
		*k = Look{Worker: p.worker}
		if e.note >= 0 {
			n := &p.notes[e.note]
			if !n.shown && e.verdict != route.Originate {
				n.look.Verdict = v
				p.show(n)
			}
			*k = n.look
		}
		if e.verdict == route.Originate {
			k.From, k.Rule, k.Route, k.Next, k.Neighbour, k.ICMPType, k.ICMPCode = nil, nil, nil, netip.Addr{}, nil, 0, 0
			if v == route.Forward {
				v = route.Originate
			}
		} else if v != route.Forward {
			continue // told where it came in
		}
		if !e.wanted {
			continue
		}
		k.Again, k.Tag, k.Memo = false, Tag{}, e.memo
		k.Out, k.Buf, k.Ifindex, k.To, k.Ethernet, k.Verdict, k.Sent = true, e.buf, e.out.Ifindex, e.out, e.out.Ethernet(), v, p.sent
		copy(e.buf, e.head[:min(len(e.buf), tapHead)])
		p.tap.Look(k)
		e.buf = nil
	}
	p.leaving = p.leaving[:0]
}
