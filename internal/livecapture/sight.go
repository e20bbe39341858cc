package livecapture

import (
	"golang.org/x/sys/unix"

	"proxyarpd/arpd"
	"proxyarpd/capture/filter"
	"proxyarpd/forward"
	"proxyarpd/forward/route"
	"proxyarpd/internal/wire"
)

// source says who tells of a packet.
type source uint8

const (
	fromDatapath source = iota
	fromResponder
	fromHost
	fromPrograms
	fromND // the responder to neighbour solicitations; its verdicts are those of fromResponder
	sources
)

// writer is the number of a ring: each has one writer. They are the sources, and
// behind them the datapath's further workers.
func (s source) writer(worker int) int {
	if s == fromDatapath && worker > 0 {
		return int(sources) + worker - 1
	}
	return int(s)
}

// wroteBy is the source of a writer.
func wroteBy(writer int) source {
	if writer >= int(sources) {
		return fromDatapath
	}
	return source(writer)
}

// How many packets may wait for the reader besides their bytes: as many as there
// is room for small ones, within bounds.
const (
	capturePacket     = 128 // bytes
	captureMinPackets = 1 << 10
	captureMaxPackets = 1 << 16
)

// capturePackets is how many packets of a source may wait in a session.
func capturePackets(s source, buffer int) int {
	switch s {
	case fromResponder, fromND:
		return captureMinPackets
	case fromHost:
		buffer /= 4
	}
	return min(max(buffer/capturePacket, captureMinPackets), captureMaxPackets)
}

// sight is a packet where it was seen: what can be told without asking.
type sight struct {
	source   source
	out      bool
	known    bool // the daemon has a verdict
	again    bool // it was told of when it began to wait; in an event: to this session
	ethernet bool
	tagged   bool // bore a VLAN tag that its bytes do not show
	pktType  uint8
	arp      bool // verdict is an arpd.Verdict, not a route.Verdict
	verdict  uint8
	answer   [6]byte
	tci      uint16 // the VLAN tag
	tpid     uint16
	ifindex  int32
	length   int    // on the wire, without that tag, bytes
	received int64  // ns since 1970
	id       uint64 // 0: there is none
}

// decidedBy is whose verdict it is.
func (e *sight) decidedBy() source {
	if e.arp {
		return fromResponder
	}
	return e.source
}

// linkType is that of its bytes.
func (e *sight) linkType() filter.LinkType {
	if e.ethernet {
		return filter.Ethernet
	}
	return filter.Raw
}

// event is what a session is told of a packet besides its bytes.
type event struct {
	sight
	name string // of the interface
	mac  wire.MAC
	seen int64 // when the verdict fell, ns since 1970; 0 of what left at look.Sent
	look forward.Look
	lost uint64 // of this source so far
}

// isEthernet reports whether frames of a device of that type (ARPHRD_*) begin
// with an Ethernet header.
func isEthernet(arphrd uint16) bool {
	return arphrd == unix.ARPHRD_ETHER || arphrd == unix.ARPHRD_LOOPBACK
}

// ID implements forward.Tap.
func (h *Hub) ID() uint64 { return h.ids.Add(1) }

// Wants implements forward.Tap: it runs on the datapath.
func (h *Hub) Wants(k *forward.Look) bool {
	v := h.view.Load()
	if v == nil {
		return false
	}
	e := sight{out: k.Out, ethernet: k.Ethernet, ifindex: k.Ifindex, tagged: k.Tagged, tci: k.TCI}
	frame := k.Buf[forward.VnetLen:]
	e.length = len(frame)
	k.Memo = [2]uint64{v.id, v.selected(&e, frame)}
	return k.Memo[1] != 0
}

// selected has a bit for each session that the packet is for, as far as that
// depends on its interface, its direction and its bytes.
func (v *view) selected(e *sight, frame []byte) (sessions uint64) {
	for i, s := range v.sessions {
		if v.shows(i, e.ifindex) && s.matches(e, frame) {
			sessions |= 1 << i
		}
	}
	return sessions
}

// Look implements forward.Tap: it runs on the datapath.
func (h *Hub) Look(k *forward.Look) {
	v := h.view.Load()
	if v == nil {
		return
	}
	e := sight{source: fromDatapath, out: k.Out, known: true, again: k.Again, ethernet: k.Ethernet, pktType: k.PktType, ifindex: k.Ifindex,
		received: k.Received, id: k.ID, verdict: uint8(k.Verdict), tagged: k.Tagged, tci: k.TCI, tpid: k.TPID}
	frame := k.Buf[forward.VnetLen:]
	v.offer(&e, k, frame, len(frame))
}

// lookARP and lookND are each an arpd.Tap, which runs on its responder's goroutine.
func (h *Hub) lookARP(id uint64, ifindex int, frame, reply []byte, verdict arpd.Verdict) uint64 {
	return h.lookFrame(fromResponder, id, ifindex, frame, reply, verdict)
}

func (h *Hub) lookND(id uint64, ifindex int, frame, reply []byte, verdict arpd.Verdict) uint64 {
	return h.lookFrame(fromND, id, ifindex, frame, reply, verdict)
}

func (h *Hub) lookFrame(from source, id uint64, ifindex int, frame, reply []byte, verdict arpd.Verdict) uint64 {
	v := h.view.Load()
	if v == nil {
		return id
	}
	if (verdict == arpd.IgnoreVLAN || verdict == arpd.IgnoreNotWorkload || verdict == arpd.IgnoreOtherhost) && h.watched.Load() {
		return id // is shown there, with its tag if it has one
	}
	again := id != 0
	if !again {
		id = h.ID()
	}
	e := sight{source: from, arp: true, known: true, again: again, ethernet: true, ifindex: int32(ifindex), id: id, verdict: uint8(verdict)}
	if l, ok := v.links[e.ifindex]; ok {
		e.pktType = packetType(frame, l.MAC)
	}
	if eth := wire.Ethernet(reply); eth.Valid() {
		e.answer = eth.Src() // which the answer tells, too
	}
	v.offer(&e, nil, frame, len(frame))
	if reply != nil {
		e.out, e.again = true, false
		v.offer(&e, nil, reply, len(reply))
	}
	return id
}

// packetType is what the kernel takes an untagged frame for by its destination
// (net/ethernet/eth.c, eth_type_trans).
func packetType(frame []byte, own wire.MAC) uint8 {
	dst := wire.Ethernet(frame)
	switch {
	case !dst.Valid() || dst.Dst() == own:
		return unix.PACKET_HOST
	case dst.Dst() == wire.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}:
		return unix.PACKET_BROADCAST
	case dst.Dst().IsMulticast():
		return unix.PACKET_MULTICAST
	}
	return unix.PACKET_OTHERHOST
}

// shows reports whether the session at that place asked for an interface.
func (v *view) shows(i int, ifindex int32) bool {
	wanted := v.wanted[i]
	return wanted == nil || wanted[ifindex]
}

// offer gives a packet to the sessions that want it.
func (v *view) offer(e *sight, k *forward.Look, frame []byte, length int) {
	e.length = length
	asked := k != nil && k.Memo[0] == v.id // Wants has asked the filters
	for i, s := range v.sessions {
		switch {
		case !s.wantsVerdict(e), asked && k.Memo[1]&(1<<i) == 0, !asked && !(v.shows(i, e.ifindex) && s.matches(e, frame)):
		case !v.seenLeaving(i, e, k):
			s.take(v, e, k, frame)
		}
	}
}

// seenLeaving reports whether how a packet's wait ended is told by the packet as
// it leaves, which the session at that place is shown too.
func (v *view) seenLeaving(i int, e *sight, k *forward.Look) bool {
	return e.again && k != nil && k.Verdict == route.Forward && k.To != nil && v.shows(i, k.To.Ifindex) && v.sessions[i].req.Direction != "in"
}
