package livecapture

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/capture"
	"proxyarpd/capture/pcapfile"
	"proxyarpd/internal/wire"
)

// How a session's stream is written.
const (
	streamChunk   = 64 << 10         // bytes that are collected before they are written, while more are there
	streamStall   = 10 * time.Second // a client that reads nothing for so long is cut off
	streamGrace   = time.Second      // so long the daemon's end waits for a client
	streamRest    = 5 * time.Millisecond
	streamIfaces  = 8192 // interfaces in a stream: names come and go
	commentRoom   = 512
	streamSection = "proxyarpd"
)

// stream writes a session's packets to its client as pcapng.
type stream struct {
	s       *session
	hub     *Hub
	conn    *net.UnixConn
	buf     []byte
	comment []byte
	one     [1][]byte // a packet's only comment
	broken  bool      // the client is gone, or does not read
	last    atomic.Int64
	ids     map[ifaceKey]uint32
	ifaces  []ifaceCount
	names   map[int32]ifaceName
	lost    []uint64 // by writer, told of so far
	verdict capture.Verdict
	ask     chan struct{} // the client wants statistics

	suspend atomic.Bool      // another process is to write on
	state   chan StreamState // then: where
}

// ifaceKey tells interfaces apart: a name may come again with another index.
type ifaceKey struct {
	index    int32
	name     string
	ethernet bool
}

// ifaceName is what an index stood for last.
type ifaceName struct {
	name      string
	mac       wire.MAC
	ethernet  bool
	described bool
	id        uint32
}

type ifaceCount struct{ packets, lost uint64 }

// Serve serves a client that wants to see packets, until it hangs up or ctx
// ends. begun sends the reply, behind which the stream begins. An error says why
// no session has begun, and is the client's; it is a capture.BadExpression if it
// is about the filter. Serve neither closes conn nor minds that it fails.
func (h *Hub) Serve(ctx context.Context, conn *net.UnixConn, req *capture.Request, begun func(*capture.Reply) error) error {
	s, err := newSession(*req, h.cfg.Workers)
	if err != nil {
		return err
	}
	if req.LastDrops > 0 {
		h.serveLast(ctx, conn, s, begun)
		return nil
	}
	rep, err := h.add(s)
	if err != nil {
		return err
	}
	if begun(&rep) != nil {
		h.remove(s)
		return nil // it is gone
	}
	w := newStream(s, h, conn)
	s.stream.Store(w)
	h.runStream(ctx, s, w)
	return nil
}

// runStream writes a session's stream to its end.
func (h *Hub) runStream(ctx context.Context, s *session, w *stream) {
	leave := sync.OnceFunc(func() { h.remove(s) })
	defer leave()
	defer func() {
		select {
		case w.state <- StreamState{Broken: true}: // nobody writes on
		default:
		}
	}()
	_ = w.conn.SetReadDeadline(time.Time{})
	over := make(chan struct{})
	go func() {
		defer close(over)
		w.listen()
	}()
	stop := context.AfterFunc(ctx, w.hurry)
	defer stop()
	w.run(over)
	if w.suspend.Load() {
		w.suspendHere()
		return
	}
	if s.carried != nil && !w.broken {
		s.carried.settle(streamGrace) // what was carried before the end is counted
	}
	leave() // nothing comes any more
	w.end()
}

func newStream(s *session, h *Hub, conn *net.UnixConn) *stream {
	w := &stream{s: s, hub: h, conn: conn, ids: map[ifaceKey]uint32{}, names: map[int32]ifaceName{}, comment: make([]byte, 0, commentRoom), lost: make([]uint64, len(s.rings)),
		ask: make(chan struct{}, 1), state: make(chan StreamState, 1)}
	w.buf = pcapfile.AppendSectionHeader(w.buf, &pcapfile.Section{OS: osRelease(), Application: streamSection + " " + h.cfg.Version})
	return w
}

// listen returns when the client has said that it is enough, or says rubbish.
func (w *stream) listen() {
	for {
		var b [1]byte
		if n, err := w.conn.Read(b[:]); n == 0 || err != nil || b[0] != capture.AskStatistics {
			return
		}
		select {
		case w.ask <- struct{}{}:
		default: // it is about to be answered
		}
	}
}

// hurry says that the daemon ends: nobody is waited for any longer than
// streamGrace. For any goroutine.
func (w *stream) hurry() {
	t := time.Now().Add(streamGrace)
	w.last.Store(t.UnixNano())
	_ = w.conn.SetWriteDeadline(t)
	_ = w.conn.CloseRead() // as if the client had said that it is enough
}

// run writes until that is over, or the client does not read. Packets may come
// faster than they are written, so it does not wait for the last of them.
func (w *stream) run(over <-chan struct{}) {
	rest := time.NewTimer(streamRest)
	defer rest.Stop()
	for {
		more := w.fill()
		state := asleep
		if len(w.buf) > 0 {
			state = resting
		}
		if w.flush(); w.broken {
			return
		}
		rest.Reset(streamRest)
		if w.s.reader.Store(state); !more && (state == resting || !w.waiting()) {
			var later <-chan time.Time
			if state == resting {
				later = rest.C
			}
			select {
			case <-w.s.wake:
			case <-later:
			case <-over:
			case <-w.s.gone:
			case <-w.ask:
				w.statistics(0)
			}
		}
		w.s.reader.Store(awake)
		select {
		case <-over:
			return
		case <-w.s.gone:
			return
		case <-w.ask:
			w.statistics(0)
		default:
		}
	}
}

// waiting reports whether there is something to write.
func (w *stream) waiting() bool {
	e, _, _ := w.oldest()
	return e != nil
}

// end writes what is still there and the statistics, by which the client knows
// that it has all: there is always an interface that has some.
func (w *stream) end() {
	for more := true; more && !w.broken; w.flush() {
		more = w.fill()
	}
	select {
	case <-w.s.gone:
		w.buf = pcapfile.AppendInterface(w.buf, &pcapfile.Interface{Description: capture.EndText(capture.Disappeared), LinkType: pcapfile.LinkTypeEthernet})
	default:
	}
	w.statistics(pcapfile.HasEndTime)
	w.flush()
}

// statistics tells what there was so far, of each interface, of the first one
// last. has is what it has beside that.
func (w *stream) statistics(has pcapfile.HasStatistics) {
	if len(w.ifaces) == 0 {
		w.iface(&event{sight: sight{ethernet: true}})
	}
	for i, r := range w.s.rings { // what no packet has told of
		lost := r.Lost()
		w.ifaces[0].lost += lost - w.lost[i]
		w.lost[i] = lost
	}
	now := time.Now().UnixNano()
	for id := len(w.ifaces) - 1; id >= 0; id-- {
		n := w.ifaces[id]
		st := pcapfile.Statistics{
			Time: now, StartTime: w.s.began.UnixNano(), EndTime: now, FilterAccept: n.packets + n.lost, OSDrop: n.lost, UsrDeliv: n.packets,
			Has: has | pcapfile.HasStartTime | pcapfile.HasFilterAccept | pcapfile.HasOSDrop | pcapfile.HasUsrDeliv}
		if n, counted := w.s.missed(); id == 0 && counted { // nobody knows of which interface they were
			st.IfDrop, st.Has = n, st.Has|pcapfile.HasIfDrop
		}
		w.buf = pcapfile.AppendStatistics(w.buf, uint32(id), &st)
	}
}

// at is when a packet passed its interface, ns since 1970: the kernel tells when
// it came, and when it sent one itself. Of one that was told of it is when its
// wait ended.
func (e *event) at() int64 {
	if e.received != 0 && !e.again && (!e.out || e.source == fromHost) {
		return e.received
	}
	if e.out && e.look.Sent != 0 {
		return e.look.Sent
	}
	return e.seen
}

// oldest gives the ring whose next packet passed first.
func (w *stream) oldest() (first *event, data []byte, ring *capture.Ring[event]) {
	for _, r := range w.s.rings {
		if e, b := r.Peek(); e != nil && (first == nil || e.at() < first.at()) {
			first, data, ring = e, b, r
		}
	}
	return first, data, ring
}

// fill encodes what is there, but not much more than a chunk: then it reports
// that there may be more.
func (w *stream) fill() (more bool) {
	for len(w.buf) < streamChunk {
		e, data, ring := w.oldest()
		if e == nil {
			return false
		}
		w.packet(e, data)
		ring.Next()
	}
	return true
}

func (w *stream) packet(e *event, data []byte) {
	id, ok := w.iface(e)
	if !ok {
		w.ifaces[0].lost++
		return
	}
	p := pcapfile.Packet{Time: e.at(), Data: data, Len: uint32(e.length), Has: pcapfile.HasFlags, Flags: pcapfile.FlagsOfPacketType(e.packetType())}
	if e.known {
		e.describe(&w.verdict, data)
		w.comment = w.verdict.AppendComment(w.comment[:0])
		w.one[0] = w.comment
		p.Comments = w.one[:]
		p.Has |= pcapfile.HasPacketID
		p.PacketID = e.id
	}
	if !e.again { // else it has been counted
		w.ifaces[id].packets++
	}
	writer := e.source.writer(e.look.Worker)
	if n := e.lost - min(w.lost[writer], e.lost); n > 0 {
		w.lost[writer] = e.lost
		w.ifaces[id].lost += n
		p.Has |= pcapfile.HasDropCount
		p.DropCount = n
	}
	w.buf = pcapfile.AppendEnhancedPacket(w.buf, id, &p)
}

// packetType is what a packet socket would say.
func (e *event) packetType() uint8 {
	if e.out {
		return unix.PACKET_OUTGOING
	}
	return e.pktType
}

// iface gives the number of an event's interface, which is described when it is
// met first.
func (w *stream) iface(e *event) (id uint32, ok bool) {
	last := w.names[e.ifindex]
	if last.described && last.name == e.name && last.ethernet == e.ethernet {
		return last.id, true
	}
	w.rename(e, last)
	if id, ok = w.describe(e); ok {
		w.names[e.ifindex] = ifaceName{e.name, e.mac, e.ethernet, true, id}
	}
	return id, ok
}

func (w *stream) describe(e *event) (id uint32, ok bool) {
	key := ifaceKey{e.ifindex, e.name, e.ethernet}
	if id, ok = w.ids[key]; ok {
		return id, true
	}
	if len(w.ids) == streamIfaces {
		return 0, false
	}
	id = uint32(len(w.ids))
	i := pcapfile.Interface{Name: e.name, Description: capture.IfindexText(e.ifindex), Filter: w.s.req.Filter, OS: osRelease(),
		LinkType: pcapfile.LinkTypeRaw, SnapLen: uint32(w.s.req.Snap)}
	if e.ethernet {
		i.LinkType, i.MAC = pcapfile.LinkTypeEthernet, e.mac[:]
	}
	w.ids[key] = id
	w.ifaces = append(w.ifaces, ifaceCount{})
	w.buf = pcapfile.AppendInterface(w.buf, &i)
	return id, true
}

// rename gives a packet the name of its interface where that was not known
// when it passed: the interface has just come, or gone.
func (w *stream) rename(e *event, last ifaceName) {
	if e.name != "" || e.ifindex == 0 {
		return
	}
	if v := w.hub.view.Load(); v != nil {
		if l, ok := v.links[e.ifindex]; ok {
			e.name, e.mac = l.Name, l.MAC
			return
		}
	}
	if last.described {
		e.name, e.mac = last.name, last.mac
	} else if i, err := net.InterfaceByIndex(int(e.ifindex)); err == nil {
		e.name = i.Name
		copy(e.mac[:], i.HardwareAddr)
	}
}

// flush writes what was collected.
func (w *stream) flush() {
	if len(w.buf) == 0 || w.broken {
		return
	}
	_ = w.conn.SetWriteDeadline(time.Now().Add(streamStall))
	if t := w.last.Load(); t != 0 { // else hurry is still to come, and sets it
		_ = w.conn.SetWriteDeadline(time.Unix(0, t))
	}
	_, err := w.conn.Write(w.buf)
	w.buf, w.broken = w.buf[:0], err != nil
}

// osRelease is the name of the kernel, as capture files have it.
func osRelease() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return "Linux"
	}
	return "Linux " + unix.ByteSliceToString(u.Release[:])
}
