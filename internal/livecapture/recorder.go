package livecapture

import (
	"cmp"
	"context"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"proxyarpd/arpd"
	"proxyarpd/capture"
	"proxyarpd/forward"
	"proxyarpd/forward/route"
	"proxyarpd/internal/wire"
)

// How much a recorder keeps.
const (
	keptDatapath = 256 // drops
	keptElse     = 128
	keptBytes    = 160 // of each: Ethernet, IPv4 and TCP headers with options, and a little
)

// recorder keeps the last drops of one writer: each has its own, as with rings. It
// is the flight recorder's part that runs beside the packets: a drop costs a copy,
// and all else nothing. A reader takes a drop for as long as it copies it; the
// writer does not wait, but takes the next place. What was never written takes no
// memory.
type recorder struct {
	hub    *Hub
	from   source
	places []keptDrop
	next   uint64 // the writer's
	missed atomic.Uint64
	counts [256]atomic.Uint64 // recorded, by verdict
}

// keptDrop is a drop that is kept. It holds on to no table: what is told of the way
// out is copied.
type keptDrop struct {
	busy atomic.Bool // somebody writes, or reads
	used bool
	sight
	name               string // of the interface; "": not known yet
	mac                wire.MAC
	dropped            int64 // when, ns since 1970
	icmpType, icmpCode uint8
	mtu                int    // of the way out
	to, in             string // interfaces: of the way out, and of one that was to leave where it came in
	wayOut             bool
	rule               *route.Rule
	route              *route.Route
	next               netip.Addr
	data               [keptBytes]byte
	captured           int
}

func (h *Hub) newRecorder(from source) *recorder {
	n := keptElse
	if from == fromDatapath {
		n = keptDatapath
	}
	r := &recorder{hub: h, from: from, places: make([]keptDrop, n)}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.records = append(h.records, r)
	return r
}

// Recorder gives a worker of the datapath its recorder. One that has the number of
// one that has ended goes on with what that one's keeps. Workers ask in order.
func (h *Hub) Recorder(worker int) forward.Recorder {
	if r := h.loopRecorder(worker + 1); r != nil {
		return r
	}
	return h.newRecorder(fromDatapath)
}

// loopRecorder is the n-th recorder of loops, nil if there is none.
func (h *Hub) loopRecorder(n int) *recorder {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range h.records {
		if r.from != fromDatapath {
			continue
		}
		if n--; n == 0 {
			return r
		}
	}
	return nil
}

// NewARPRecorder makes the recorder of the responder to ARP requests, NewNDRecorder that
// of the one to neighbour solicitations.
func (h *Hub) NewARPRecorder() arpd.Recorder { return h.newRecorder(fromResponder).recordFrame }

// NewNDRecorder is NewARPRecorder for neighbour discovery.
func (h *Hub) NewNDRecorder() arpd.Recorder { return h.newRecorder(fromND).recordFrame }

// Record implements forward.Recorder: it runs on the datapath.
func (r *recorder) Record(k *forward.Look, now int64) {
	e := sight{source: fromDatapath, out: k.Out, known: true, ethernet: k.Ethernet, pktType: k.PktType, ifindex: k.Ifindex,
		received: k.Received, id: k.ID, verdict: uint8(k.Verdict), tagged: k.Tagged, tci: k.TCI, tpid: k.TPID}
	frame := k.Buf[min(forward.VnetLen, len(k.Buf)):]
	r.keep(&e, k, frame, len(frame), now)
}

// recordFrame is an arpd.Recorder: it runs on the responder's goroutine.
func (r *recorder) recordFrame(id uint64, ifindex int, received int64, frame []byte, v arpd.Verdict) {
	now := time.Now().UnixNano()
	if received == 0 {
		received = now
	}
	r.keep(&sight{source: r.from, arp: true, known: true, ethernet: true, ifindex: int32(ifindex), id: id, verdict: uint8(v), received: received},
		nil, frame, len(frame), now)
}

// keep keeps a drop. k is nil where the datapath has not seen it.
func (r *recorder) keep(e *sight, k *forward.Look, frame []byte, length int, now int64) {
	r.counts[e.verdict].Add(1)
	d := r.place()
	if d == nil {
		r.missed.Add(1)
		return
	}
	d.sight, d.used, d.dropped = *e, true, now
	d.length = length
	if d.id == 0 {
		d.id = r.hub.ID()
	}
	d.name, d.to, d.in, d.mtu, d.wayOut = "", "", "", 0, false
	d.rule, d.route, d.next, d.icmpType, d.icmpCode = nil, nil, netip.Addr{}, 0, 0
	if k != nil {
		d.describeWay(k)
	}
	d.captured = copy(d.data[:], frame)
	d.busy.Store(false)
}

// describeWay copies what is known of a packet's way.
func (d *keptDrop) describeWay(k *forward.Look) {
	d.rule, d.route, d.next, d.icmpType, d.icmpCode = k.Rule, k.Route, k.Next, k.ICMPType, k.ICMPCode
	at := k.From
	if k.Out {
		at = k.To
	}
	if at != nil {
		d.name, d.mac = at.Name, at.MAC
	}
	if k.To != nil {
		d.wayOut, d.to, d.mtu = true, k.To.Name, k.To.MTU
	}
	if k.From != nil {
		d.in = k.From.Name
	}
}

// place gives the oldest place, nil if that and the next are being read.
func (r *recorder) place() *keptDrop {
	for range 2 {
		d := &r.places[r.next%uint64(len(r.places))]
		r.next++
		if d.busy.CompareAndSwap(false, true) {
			return d
		}
	}
	return nil
}

// each calls fn with each drop, which is borrowed until fn returns. One that is
// just being written is passed over.
func (r *recorder) each(fn func(d *keptDrop)) {
	for i := range r.places {
		d := &r.places[i]
		if !d.busy.CompareAndSwap(false, true) {
			continue
		}
		if d.used {
			fn(d)
		}
		d.busy.Store(false)
	}
}

// name is the last chance to learn the name of an interface that has gone.
func (r *recorder) name(ifindex int32, name string) {
	r.each(func(d *keptDrop) {
		if d.ifindex == ifindex && d.name == "" {
			d.name = name
		}
	})
}

// keptEvent is a drop as a stream tells of it.
type keptEvent struct {
	event
	data []byte
}

// event makes of a drop what it would have been in a session; links are those of
// now.
func (d *keptDrop) event(links map[int32]link) *keptEvent {
	e := &keptEvent{event: event{sight: d.sight, name: d.name, mac: d.mac, seen: d.dropped}, data: slices.Clone(d.data[:d.captured])}
	if l, ok := links[d.ifindex]; ok && e.name == "" {
		e.name, e.mac = l.Name, l.MAC
	}
	if d.arp {
		e.pktType = packetType(e.data, e.mac)
	}
	e.look = forward.Look{ICMPType: d.icmpType, ICMPCode: d.icmpCode, Rule: d.rule, Route: d.route, Next: d.next}
	if d.wayOut {
		e.look.To = &route.Link{Name: d.to, MTU: d.mtu}
	}
	if d.in != "" {
		e.look.From = &route.Link{Name: d.in}
	}
	return e
}

// reason is the name of a verdict of the writer's.
func (r *recorder) reason(v uint8) string {
	if r.from == fromResponder || r.from == fromND {
		return arpd.Verdict(v).String()
	}
	return route.Verdict(v).String()
}

// lastDrops gives the last of the drops that are kept and that a session selects,
// by when they passed their interfaces.
func (h *Hub) lastDrops(s *session) (all []*keptEvent, is *capture.Recorder) {
	counted := h.cfg.Sources.Drops()
	h.mu.Lock()
	links, records := maps.Clone(h.links), slices.Clone(h.records)
	h.mu.Unlock()
	is = &capture.Recorder{Unseen: map[string]uint64{}}
	seen := map[string]uint64{}
	for _, r := range records {
		for v := range r.counts {
			if n := r.counts[v].Load(); n > 0 {
				is.Recorded += n
				seen[r.reason(uint8(v))] += n
			}
		}
		r.each(func(d *keptDrop) {
			is.Kept++
			if e := d.event(links); s.wants(e.name) && s.wantsVerdict(&e.sight) && s.matches(&e.sight, e.data) {
				all = append(all, e)
			}
		})
	}
	for reason, n := range counted {
		if n > seen[reason] {
			is.Unseen[reason] = n - seen[reason]
		}
	}
	slices.SortStableFunc(all, func(a, b *keptEvent) int { return cmp.Compare(a.seen, b.seen) })
	all = all[max(0, len(all)-s.req.LastDrops):]
	slices.SortStableFunc(all, func(a, b *keptEvent) int { return cmp.Compare(a.at(), b.at()) })
	return all, is
}

// serveLast writes the last drops, and ends.
func (h *Hub) serveLast(ctx context.Context, conn *net.UnixConn, s *session, begun func(*capture.Reply) error) {
	all, is := h.lastDrops(s)
	rep := capture.Reply{Recorder: is, HostTraffic: true}
	for _, e := range all {
		if !slices.Contains(rep.Interfaces, e.name) {
			rep.Interfaces = append(rep.Interfaces, e.name)
		}
	}
	if begun(&rep) != nil {
		return // it is gone
	}
	w := newStream(s, h, conn)
	defer context.AfterFunc(ctx, w.hurry)()
	for _, e := range all {
		if w.packet(&e.event, e.data[:min(len(e.data), s.req.Snap)]); len(w.buf) >= streamChunk {
			w.flush()
		}
	}
	w.end()
}
