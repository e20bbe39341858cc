package daemon

import (
	"encoding/json"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/capture"
	"proxyarpd/capture/pcapfile"
)

// How a session's stream is written.
const (
	streamChunk   = 64 << 10         // bytes that are collected before they are written, while more are there
	streamStall   = 10 * time.Second // a client that reads nothing for so long is cut off
	streamIfaces  = 8192             // interfaces in a stream: names come and go
	commentRoom   = 512
	streamSection = "proxyarpd"
)

// stream writes a session's packets to its client as pcapng.
type stream struct {
	s       *session
	conn    net.Conn
	buf     []byte
	comment []byte
	one     [1][]byte // a packet's only comment
	broken  bool      // the client is gone, or does not read
	ids     map[ifaceKey]uint32
	ifaces  []ifaceCount
	lost    [sources]uint64 // told of so far
	verdict capture.Verdict
}

// ifaceKey tells interfaces apart: a name may come again with another index.
type ifaceKey struct {
	index    int32
	name     string
	ethernet bool
}

type ifaceCount struct{ packets, lost uint64 }

// capture serves a client that wants to see packets, until it hangs up.
func (c *control) capture(conn *net.UnixConn, req *capture.Request, ended <-chan struct{}) error {
	s, err := newSession(*req)
	if err != nil {
		return err
	}
	rep, err := c.d.taps.add(s)
	if err != nil {
		return err
	}
	defer c.d.taps.remove(s)
	_ = conn.SetWriteDeadline(time.Now().Add(controlDeadline))
	if err := json.NewEncoder(conn).Encode(&reply{Capture: &rep}); err != nil {
		return nil // it is gone
	}
	_ = conn.SetReadDeadline(time.Time{})
	hung := make(chan struct{})
	go func() {
		defer close(hung)
		var b [1]byte
		_, _ = conn.Read(b[:]) // says no more: the end, or rubbish
	}()
	w := &stream{s: s, conn: conn, ids: map[ifaceKey]uint32{}, comment: make([]byte, 0, commentRoom)}
	w.buf = pcapfile.AppendSectionHeader(w.buf, &pcapfile.Section{OS: osRelease(), Application: streamSection + " " + c.d.cfg.Version})
	w.run(hung, ended)
	return nil
}

// run writes until the client has said that it is enough, the daemon ends, or
// the client does not read.
func (w *stream) run(hung, ended <-chan struct{}) {
	for {
		w.drain()
		if w.flush(); w.broken {
			return
		}
		w.s.asleep.Store(true)
		if e, _, _ := w.oldest(); e != nil {
			w.s.asleep.Store(false)
			continue
		}
		select {
		case <-w.s.wake:
		case <-hung:
			w.end()
			return
		case <-ended:
			w.end()
			return
		}
	}
}

// end writes what is still there and the statistics.
func (w *stream) end() {
	w.drain()
	now := time.Now().UnixNano()
	for id, n := range w.ifaces {
		w.buf = pcapfile.AppendStatistics(w.buf, uint32(id), &pcapfile.Statistics{
			Time: now, StartTime: w.s.began.UnixNano(), EndTime: now, FilterAccept: n.packets + n.lost, OSDrop: n.lost, UsrDeliv: n.packets,
			Has: pcapfile.HasStartTime | pcapfile.HasEndTime | pcapfile.HasFilterAccept | pcapfile.HasOSDrop | pcapfile.HasUsrDeliv})
	}
	w.flush()
}

// at is when a packet passed its interface, ns since 1970: the kernel tells when
// it came, and when it sent one itself.
func (e *event) at() int64 {
	if e.received != 0 && (!e.out || e.source == fromHost) {
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

// drain encodes what is there, and writes it in chunks.
func (w *stream) drain() {
	for {
		e, data, ring := w.oldest()
		if e == nil || w.broken {
			return
		}
		w.packet(e, data)
		ring.Next()
		if len(w.buf) >= streamChunk {
			w.flush()
		}
	}
}

func (w *stream) packet(e *event, data []byte) {
	id, ok := w.iface(e)
	if !ok {
		return
	}
	p := pcapfile.Packet{Time: e.at(), Data: data, Len: uint32(e.length), Has: pcapfile.HasFlags, Flags: e.flags()}
	if e.known {
		e.describe(&w.verdict, data)
		w.comment = w.verdict.AppendComment(w.comment[:0])
		w.one[0] = w.comment
		p.Comments = w.one[:]
		p.Has |= pcapfile.HasPacketID
		p.PacketID = e.id
	}
	w.ifaces[id].packets++
	if n := e.lost - w.lost[e.source]; n > 0 {
		w.lost[e.source] = e.lost
		w.ifaces[id].lost += n
		p.Has |= pcapfile.HasDropCount
		p.DropCount = n
	}
	w.buf = pcapfile.AppendEnhancedPacket(w.buf, id, &p)
}

// flags are direction and kind of address.
func (e *event) flags() pcapfile.Flags {
	if e.out {
		return pcapfile.MakeFlags(pcapfile.Outbound, pcapfile.ReceptionUnknown)
	}
	reception := pcapfile.Unicast
	switch e.pktType {
	case unix.PACKET_BROADCAST:
		reception = pcapfile.Broadcast
	case unix.PACKET_MULTICAST:
		reception = pcapfile.Multicast
	case unix.PACKET_OTHERHOST:
		reception = pcapfile.Promiscuous
	}
	return pcapfile.MakeFlags(pcapfile.Inbound, reception)
}

// iface gives the number of an event's interface, which is described when it is
// met first.
func (w *stream) iface(e *event) (id uint32, ok bool) {
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

// flush writes what was collected.
func (w *stream) flush() {
	if len(w.buf) == 0 || w.broken {
		return
	}
	_ = w.conn.SetWriteDeadline(time.Now().Add(streamStall))
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
