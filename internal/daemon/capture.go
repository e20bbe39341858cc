package daemon

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/arpd"
	"proxyarpd/capture"
	"proxyarpd/capture/filter"
	"proxyarpd/capture/pcapfile"
	"proxyarpd/forward"
	"proxyarpd/forward/route"
	"proxyarpd/internal/netstate"
	"proxyarpd/internal/pktring"
	"proxyarpd/internal/wire"
)

// Limits of capture sessions.
const (
	captureSessions  = 8
	captureBuffer    = 2 << 20  // bytes, where the session does not say
	captureMaxBuffer = 64 << 20 // bytes
	captureMinBuffer = 1 << 17  // bytes: any frame fits
	captureReasons   = 64
)

// source says who tells of a packet; each has a ring of its own, since a ring
// has one writer.
type source uint8

const (
	fromDatapath source = iota
	fromResponder
	fromHost
	sources
)

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
	case fromResponder:
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
	mac  macAddr
	seen int64 // when the verdict fell, ns since 1970; 0 of what left at look.Sent
	look forward.Look
	lost uint64 // of this source so far
}

// hub hands what the datapath, the responder and the host's own traffic show to
// the capture sessions. Without a session it is not asked.
type hub struct {
	d    *Daemon
	ids  atomic.Uint64
	view atomic.Pointer[view]

	// switching is held while the first session begins or the last one ends, so
	// that the one does not undo what the other does. It comes before mu.
	switching sync.Mutex

	mu       sync.Mutex // guards sessions
	sessions []*session
	host     *hostTap    // guarded by switching
	watched  atomic.Bool // there is a host
}

// view is what the sources read: who looks at what.
type view struct {
	links    map[int32]*netstate.Link
	sessions []*session
	wanted   []map[int32]bool // by session; nil is all
	only     int              // the interface that is wanted, if it is one; else 0
}

// session is one client that captures.
type session struct {
	req      capture.Request
	filter   *filter.Live
	cooked   bool               // shown as tcpdump -i any shows it
	verdicts [sources][256]bool // wanted ones
	named    []int32            // interfaces that were asked for by their names: they may get others
	lasting  bool               // interfaces may yet come
	first    uint64             // events with this id and older ones were before its time
	gone     chan struct{}      // closed when what it looks at has gone; guarded by hub.mu
	rings    [sources]*capture.Ring[event]
	reader   atomic.Uint32 // awake, resting, asleep
	wake     chan struct{}
	began    time.Time

	host        *hostTap // nil: there is none
	promiscuous []int32  // interfaces that are in that mode for it; guarded by hub.switching
	hostDrops   uint64   // of it when the session began
}

// What a session's reader does. To wake it costs the datapath more than the
// packet does: one that has just read rests for a moment, unless much comes.
const (
	awake uint32 = iota
	resting
	asleep
)

// newSession checks a request. Its errors are the client's.
func newSession(req capture.Request) (*session, error) {
	if len(req.Interfaces) == 0 {
		return nil, errors.New("no interface is named")
	}
	for _, g := range slices.Concat(req.Interfaces, req.Reasons) {
		if _, err := path.Match(g, ""); err != nil {
			return nil, fmt.Errorf("%q: %w", g, err)
		}
	}
	if len(req.Interfaces) > captureReasons || len(req.Reasons) > captureReasons {
		return nil, fmt.Errorf("more than %d names", captureReasons)
	}
	if req.Snap <= 0 || req.Snap > pcapfile.MaxSnapLen {
		req.Snap = pcapfile.MaxSnapLen
	}
	switch req.Direction {
	case "", "in", "out":
	default:
		return nil, fmt.Errorf("direction %q: want in, out or nothing", req.Direction)
	}
	if req.Buffer == 0 {
		req.Buffer = captureBuffer
	}
	req.Buffer = min(max(req.Buffer, captureMinBuffer), captureMaxBuffer)
	s := &session{req: req, wake: make(chan struct{}, 1), gone: make(chan struct{}), began: time.Now(), cooked: capture.Several(req.Interfaces),
		lasting: slices.ContainsFunc(req.Interfaces, capture.IsPattern)}
	var err error
	if s.filter, err = filter.CompileLive(req.Filter); err != nil {
		return nil, badExpression(err)
	}
	s.selectVerdicts()
	for i := range sources {
		bytes := req.Buffer
		if i == fromResponder {
			bytes = captureMinBuffer
		}
		s.rings[i] = capture.NewRing[event](capturePackets(i, req.Buffer), bytes)
	}
	return s, nil
}

// badExpression makes of what is wrong with an expression what a client is told.
func badExpression(err error) error {
	return capture.BadExpression(filter.Words(err))
}

// selectVerdicts works out --drops and --reason once, by verdict.
func (s *session) selectVerdicts() {
	for v := range route.NumVerdicts {
		ok := s.selects(v.Kind().String(), v.String())
		s.verdicts[fromDatapath][v], s.verdicts[fromHost][v] = ok, ok
	}
	for v := range arpd.NumVerdicts {
		s.verdicts[fromResponder][v] = s.selects(v.Kind().String(), v.String())
	}
}

func (s *session) selects(kind, reason string) bool {
	if s.req.Drops && kind != capture.Drop {
		return false
	}
	return len(s.req.Reasons) == 0 || slices.ContainsFunc(s.req.Reasons, func(g string) bool {
		a, _ := path.Match(g, reason)
		b, _ := path.Match(g, kind)
		return a || b
	})
}

// wants reports whether an interface's name was asked for.
func (s *session) wants(name string) bool {
	return slices.ContainsFunc(s.req.Interfaces, func(g string) bool {
		ok, _ := path.Match(g, name)
		return ok || g == capture.Any
	})
}

// add begins a session.
func (h *hub) add(s *session) (capture.Reply, error) {
	h.switching.Lock()
	defer h.switching.Unlock()
	rep, err := h.join(s)
	if err != nil {
		return rep, err
	}
	h.tap(true)
	if err := h.startHost(); err != nil {
		h.d.log.Warn("a capture does not show what is left to the kernel", "err", err)
	}
	if s.host = h.host; s.host != nil {
		s.host.follow()
		s.hostDrops = s.host.ring.Drops()
		h.promiscuous(s)
	}
	rep.HostTraffic = s.host != nil
	return rep, nil
}

// join makes a session one of those that are looked after.
func (h *hub) join(s *session) (rep capture.Reply, err error) {
	h.d.mu.Lock() // before mu, always
	defer h.d.mu.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.sessions) == captureSessions {
		return rep, fmt.Errorf("%d captures are under way, which is the most", captureSessions)
	}
	for index, l := range h.d.links {
		if !s.wants(l.Name) {
			continue
		}
		if slices.Contains(s.req.Interfaces, l.Name) {
			s.named = append(s.named, int32(index))
		}
		rep.Interfaces = append(rep.Interfaces, l.Name)
		if h.d.ports[index] == nil {
			rep.Foreign = append(rep.Foreign, l.Name)
		}
	}
	if err := s.checkNamed(h.d.links); err != nil {
		return rep, err
	}
	slices.Sort(rep.Interfaces)
	slices.Sort(rep.Foreign)
	s.first = h.ids.Load()
	h.sessions = append(h.sessions, s)
	h.publish()
	return rep, nil
}

// checkNamed finds why nothing could be captured on interfaces that are asked
// for by their names.
func (s *session) checkNamed(links map[int]*netstate.Link) error {
	for _, name := range s.req.Interfaces {
		if !capture.IsPattern(name) && !slices.ContainsFunc(s.named, func(i int32) bool { return links[int(i)].Name == name }) {
			return fmt.Errorf("%s: No such device exists", name)
		}
	}
	var meaningless error
	for _, index := range s.named {
		l := links[int(index)]
		if l.Flags&unix.IFF_UP == 0 {
			return fmt.Errorf("%s: That device is not up", l.Name)
		}
		e := sight{ethernet: isEthernet(l.Type)}
		err := s.filter.Err(e.linkType())
		if err == nil {
			return nil
		}
		meaningless = badExpression(err)
	}
	if s.lasting {
		return nil
	}
	return meaningless
}

// isEthernet reports whether frames of a device of that type (ARPHRD_*) begin
// with an Ethernet header.
func isEthernet(arphrd uint16) bool {
	return arphrd == unix.ARPHRD_ETHER || arphrd == unix.ARPHRD_LOOPBACK
}

// promiscuous has the interfaces that a session named give other hosts' frames,
// as long as it lasts; switching is held.
func (h *hub) promiscuous(s *session) {
	if !s.req.Promiscuous {
		return
	}
	h.mu.Lock()
	named := slices.Clone(s.named)
	h.mu.Unlock()
	for _, index := range named {
		if err := s.host.ring.Promiscuous(int(index), true); err != nil {
			h.d.log.Warn("a capture does not show other hosts' frames", "err", err)
			continue
		}
		s.promiscuous = append(s.promiscuous, index)
	}
}

// remove ends a session.
func (h *hub) remove(s *session) {
	h.switching.Lock()
	defer h.switching.Unlock()
	for _, index := range s.promiscuous {
		_ = s.host.ring.Promiscuous(int(index), false) // fails only if it has gone
	}
	s.promiscuous = nil
	if h.part(s) > 0 {
		if h.host != nil {
			h.host.follow()
		}
		return
	}
	h.tap(false)
	if h.host != nil {
		h.watched.Store(false)
		h.host.stop()
		h.host = nil
	}
}

// part takes a session from those that are looked after, and tells how many
// those are.
func (h *hub) part(s *session) int {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sessions = slices.DeleteFunc(h.sessions, func(o *session) bool { return o == s })
	h.publish()
	return len(h.sessions)
}

// tap asks datapath and responder to tell of packets, or not to.
func (h *hub) tap(on bool) {
	var packets forward.Tap
	var frames arpd.Tap
	if on {
		packets, frames = h, h.lookARP
	}
	if h.d.loop != nil {
		h.d.loop.SetTap(packets)
	}
	h.d.arp.SetTap(frames)
}

// linksChanged is called when an interface came, went or was renamed; the
// daemon's mu is held.
func (h *hub) linksChanged() {
	if h.view.Load() == nil {
		return
	}
	h.mu.Lock()
	before := h.view.Load()
	h.publish()
	now := h.view.Load()
	h.mu.Unlock()
	if before == nil || now == nil || before.only == now.only {
		return
	}
	go func() { // a bind waits for the readers of the kernel's lists
		h.switching.Lock()
		defer h.switching.Unlock()
		if h.host != nil {
			h.host.follow()
		}
	}()
}

// publish makes a view; both mu are held.
func (h *hub) publish() {
	links := h.d.links
	if len(h.sessions) == 0 {
		h.view.Store(nil)
		return
	}
	v := &view{links: make(map[int32]*netstate.Link, len(links)), sessions: slices.Clone(h.sessions)}
	for _, l := range links {
		v.links[int32(l.Index)] = l
	}
	for _, s := range v.sessions {
		wanted := map[int32]bool{}
		for _, l := range links {
			if s.wants(l.Name) || slices.Contains(s.named, int32(l.Index)) {
				wanted[int32(l.Index)] = true
			}
		}
		s.follow(links)
		if slices.Contains(s.req.Interfaces, capture.Any) {
			wanted = nil
		}
		v.wanted = append(v.wanted, wanted)
	}
	v.only = onlyOne(v.wanted)
	h.view.Store(v)
}

// follow notes which of the interfaces that were asked for by name are left; the
// hub's mu is held.
func (s *session) follow(links map[int]*netstate.Link) {
	if len(s.named) == 0 {
		return
	}
	s.named = slices.DeleteFunc(s.named, func(i int32) bool { return links[int(i)] == nil })
	if len(s.named) == 0 && !s.lasting {
		close(s.gone)
	}
}

// onlyOne gives the interface that all sessions want and nothing else, 0 if there
// is none such.
func onlyOne(wanted []map[int32]bool) int {
	one := int32(0)
	for _, w := range wanted {
		if len(w) != 1 {
			return 0
		}
		for index := range w {
			if one != 0 && one != index {
				return 0
			}
			one = index
		}
	}
	return int(one)
}

// ID implements forward.Tap.
func (h *hub) ID() uint64 { return h.ids.Add(1) }

// Wants implements forward.Tap: it runs on the datapath.
func (h *hub) Wants(k *forward.Look) bool {
	v := h.view.Load()
	if v == nil {
		return false
	}
	e := sight{out: k.Out, ethernet: k.Ethernet, ifindex: k.Ifindex, tagged: k.Tagged, tci: k.TCI}
	frame := k.Buf[forward.VnetLen:]
	e.length = len(frame)
	for i, s := range v.sessions {
		if v.shows(i, k.Ifindex) && s.matches(&e, frame) {
			return true
		}
	}
	return false
}

// Look implements forward.Tap: it runs on the datapath.
func (h *hub) Look(k *forward.Look) {
	v := h.view.Load()
	if v == nil {
		return
	}
	e := sight{source: fromDatapath, out: k.Out, known: true, again: k.Again, ethernet: k.Ethernet, pktType: k.PktType, ifindex: k.Ifindex,
		received: k.Received, id: k.ID, verdict: uint8(k.Verdict), tagged: k.Tagged, tci: k.TCI, tpid: k.TPID}
	frame := k.Buf[forward.VnetLen:]
	v.offer(&e, k, frame, len(frame))
}

// lookARP is an arpd.Tap: it runs on the responder's goroutine.
func (h *hub) lookARP(id uint64, ifindex int, frame, reply []byte, verdict arpd.Verdict) uint64 {
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
	e := sight{source: fromResponder, arp: true, known: true, again: again, ethernet: true, ifindex: int32(ifindex), id: id, verdict: uint8(verdict)}
	if l := v.links[e.ifindex]; l != nil {
		e.pktType = packetType(frame, l.MAC)
	}
	if len(reply) >= arpSenderMAC+6 {
		copy(e.answer[:], reply[arpSenderMAC:])
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
func packetType(frame []byte, own macAddr) uint8 {
	dst := wire.Ethernet(frame)
	switch {
	case !dst.Valid() || dst.Dst() == own:
		return unix.PACKET_HOST
	case dst.Dst() == macAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}:
		return unix.PACKET_BROADCAST
	case dst.Dst().IsMulticast():
		return unix.PACKET_MULTICAST
	}
	return unix.PACKET_OTHERHOST
}

// arpSenderMAC is where an ARP packet in an Ethernet frame has ar$sha (RFC 826).
const arpSenderMAC = 14 + 8

// shows reports whether the session at that place asked for an interface.
func (v *view) shows(i int, ifindex int32) bool {
	wanted := v.wanted[i]
	return wanted == nil || wanted[ifindex]
}

// offer gives a packet to the sessions that want it.
func (v *view) offer(e *sight, k *forward.Look, frame []byte, length int) {
	e.length = length
	for i, s := range v.sessions {
		if v.shows(i, e.ifindex) && s.wantsVerdict(e) && s.matches(e, frame) && !v.seenLeaving(i, e, k) {
			s.take(v, e, k, frame)
		}
	}
}

// seenLeaving reports whether how a packet's wait ended is told by the packet as
// it leaves, which the session at that place is shown too.
func (v *view) seenLeaving(i int, e *sight, k *forward.Look) bool {
	return e.again && k != nil && k.Verdict == route.Forward && k.To != nil && v.shows(i, k.To.Ifindex) && v.sessions[i].req.Direction != "in"
}

// wantsQueued reports whether the session was told when a packet of that source
// began to wait.
func (s *session) wantsQueued(from source) bool {
	if from == fromResponder {
		return s.verdicts[from][arpd.Queued]
	}
	return s.verdicts[from][route.Queue]
}

func (s *session) wantsVerdict(e *sight) bool {
	if e.known {
		return s.verdicts[e.decidedBy()][e.verdict]
	}
	return !s.req.Drops && len(s.req.Reasons) == 0
}

// matches reports whether a packet goes the direction, and is one that the
// filter selects.
func (s *session) matches(e *sight, frame []byte) bool {
	if s.req.Direction != "" && (s.req.Direction == "out") != e.out {
		return false
	}
	length := e.length
	if s.cooked && e.ethernet {
		length -= wire.EthernetLen
	}
	return s.filter.Match(e.linkType(), frame, length, filter.Meta{Outgoing: e.out, Ifindex: uint32(e.ifindex), HasVLAN: e.tagged, VLANTCI: e.tci})
}

// retag writes a frame with its VLAN tag to data, as much as there is room for.
func retag(data, frame []byte, e *sight) {
	const addresses = 12
	tpid := e.tpid
	if tpid == 0 {
		tpid = unix.ETH_P_8021Q
	}
	copy(data[min(addresses, len(data)):], []byte{byte(tpid >> 8), byte(tpid), byte(e.tci >> 8), byte(e.tci)})
	copy(data[min(addresses+pktring.TagLen, len(data)):], frame[addresses:])
}

// take keeps a copy of the packet, if there is room. It never waits.
func (s *session) take(v *view, e *sight, k *forward.Look, frame []byte) {
	ring := s.rings[e.source]
	n := len(frame)
	if e.tagged {
		n += pktring.TagLen
	}
	facts, data := ring.Reserve(min(n, s.req.Snap))
	if facts == nil {
		return
	}
	facts.sight = *e
	if copy(data, frame); e.tagged {
		facts.length += pktring.TagLen
		retag(data, frame, e)
	}
	facts.again = e.again && e.id > s.first && s.wantsQueued(e.source)
	if l := v.links[e.ifindex]; l != nil {
		facts.name, facts.mac = l.Name, macAddr(l.MAC)
	}
	sent := false
	if k != nil {
		facts.look, sent = *k, k.Sent != 0
		facts.look.Buf = nil
	}
	if facts.seen = 0; !sent {
		facts.seen = time.Now().UnixNano()
	}
	facts.lost = ring.Lost()
	ring.Commit()
	switch s.reader.Load() {
	case awake:
		return
	case resting:
		if !ring.Pressed() {
			return
		}
	}
	if s.reader.Swap(awake) != awake {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}
