package forward

import (
	"proxyarpd/forward/route"
	"proxyarpd/internal/wire"
)

// Recorder is told of each packet that a Loop drops: where it came in, or, of one
// that could not be sent, where it was to leave. now is when it was dropped, ns
// since 1970. What the Look points to is borrowed, as a Tap's. A Recorder has one
// Loop; it runs on the datapath and must not block.
type Recorder interface {
	Record(k *Look, now int64)
}

// dropper tells the Recorder.
type dropper struct {
	turn *turn
	to   Recorder // nil: nobody keeps them
	look Look
}

func (d *dropper) wants(v route.Verdict) bool { return d.to != nil && v.Kind() == route.KindDrop }

// record tells of look, and lets go of what it points to.
func (d *dropper) record() {
	d.to.Record(&d.look, d.turn.wall())
	d.look = Look{}
}

// frame tells of a frame that lies as it came, if it was dropped; e is the ICMP
// error that was sent about it.
func (d *dropper) frame(f *Frame, r *result, e route.ICMPError) {
	if !d.wants(r.Verdict) {
		return
	}
	d.look = Look{ID: f.id, Received: f.Received, Buf: f.Buf, Ifindex: f.Ifindex, PktType: f.PktType, Ethernet: f.Ethernet, Tag: f.Tag, Verdict: r.Verdict,
		ICMPType: e.Type, ICMPCode: e.Code, Table: d.turn.table, From: r.In, To: r.Out, Rule: r.Rule, Route: r.Route, Next: r.Next, Neighbour: r.Neighbour}
	d.record()
}

// waiting tells of a packet that had to wait, and did so in vain.
func (d *dropper) waiting(w *waiting, v route.Verdict, key hopKey, out *route.Link, n *route.Neighbour, e route.ICMPError) {
	if !d.wants(v) {
		return
	}
	t := d.turn.table
	d.look = Look{ID: w.id, Received: w.received, Buf: w.buf, Ifindex: w.in, Ethernet: true, Verdict: v, ICMPType: e.Type, ICMPCode: e.Code,
		Table: t, From: t.Link(w.in), To: out, Rule: w.rule, Route: w.route, Next: key.addr, Neighbour: n}
	if w.as != route.Forward { // made here
		d.look.Out, d.look.Ifindex, d.look.From = true, key.ifindex, nil
		d.record()
		return
	}
	ip := w.buf[VnetLen+wire.EthernetLen:]
	if from := d.look.From; from != nil && !from.Ethernet() { // it got its Ethernet header here
		d.look.Buf, d.look.Ethernet = w.buf[wire.EthernetLen:], false
	}
	left := [12]byte(ip) // with hop limit, or TTL and checksum
	giveHopBack(ip)
	d.record()
	copy(ip, left[:])
}

// giveHopBack makes the TTL or hop limit of a packet as it came.
func giveHopBack(ip []byte) {
	if isIPv6(ip) {
		ip[7]++
		return
	}
	ip[8]++
	wire.IPv4(ip).UpdateHeaderChecksum()
}

// held tells of a frame that was made ready to wait, and may not.
func (d *dropper) held(f *Frame, r *result, v route.Verdict) {
	if !d.wants(v) {
		return
	}
	w := waiting{buf: f.Buf, in: f.Ifindex, as: route.Forward, id: f.id, received: f.Received, rule: r.Rule, route: r.Route}
	if r.In == nil {
		w.as = route.Originate
	}
	d.waiting(&w, v, hopKey{ifindex: r.Out.Ifindex, addr: r.Next}, r.Out, r.Neighbour, route.ICMPError{})
}

// unsent tells of a frame that could not be sent; in is where it came in, 0 if it
// was made here.
func (d *dropper) unsent(o *Out, in int32, ethernet bool) {
	if !d.wants(o.Err) {
		return
	}
	t := d.turn.table
	d.look = Look{Received: o.Received, Buf: o.Buf, Ifindex: o.Ifindex, Verdict: o.Err, Out: true, Ethernet: ethernet, Table: t, From: t.Link(in), To: t.Link(o.Ifindex)}
	d.record()
}
