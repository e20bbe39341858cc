package livecapture

import (
	"context"
	"slices"
	"sync"
	"syscall"
	"time"

	"proxyarpd/capture"
	"proxyarpd/internal/pktring"
)

// Sessions go on in a successor of the daemon: the client's connection goes over, and the
// stream goes on in it with the same interfaces, numbers and counters. First all that the
// successor has to know to see the next packet (Suspend, Resume), and, once what was seen
// before has been written, where the stream is (Drain, Continue).

// Suspended are the sessions of a Hub that nobody shows packets to any more.
type Suspended struct {
	IDs      uint64 // of packets that were shown
	Host     bool   // there is a socket that looks at what the daemon does not handle
	HostNext int    // its place in the ring
	Sessions []SuspendedSession
}

// SuspendedSession is one of them.
type SuspendedSession struct {
	Request     capture.Request
	Began       time.Time
	Named       []int32 // interfaces that were asked for by name
	Promiscuous []int32 // those that are in that mode for it
}

// StreamState is how far a session's stream has got.
type StreamState struct {
	Broken     bool // the client has gone, or does not read
	Interfaces []StreamInterface
	Missed     uint64 // what no filter was asked of
}

// StreamInterface is an interface of the stream; its place is its number.
type StreamInterface struct {
	Index         int32
	Name          string
	Ethernet      bool
	Packets, Lost uint64
}

// Suspend has nobody look for the sessions any more, once nobody shows them packets. The
// descriptors are those of the socket that looked at the host's traffic, if there is one,
// and of the sessions' clients. They stay the Hub's.
func (h *Hub) Suspend() (s Suspended, fds []int) {
	h.switching.Lock()
	defer h.switching.Unlock()
	h.mu.Lock()
	h.suspended = nil
	for _, o := range h.sessions {
		w := o.stream.Load()
		if w == nil {
			continue // it has not begun
		}
		fd := descriptorOf(w.conn)
		if fd < 0 {
			continue // it has just ended
		}
		h.suspended, fds = append(h.suspended, o), append(fds, fd)
		s.Sessions = append(s.Sessions, SuspendedSession{Request: o.req, Began: o.began, Named: slices.Clone(o.named), Promiscuous: slices.Clone(o.promiscuous)})
	}
	h.mu.Unlock()
	s.IDs = h.ids.Load()
	if t := h.host; t != nil && len(s.Sessions) > 0 {
		t.ring.Shut()
		<-t.done
		s.Host, s.HostNext = true, t.ring.Position()
		fds = append([]int{t.ring.FD()}, fds...)
	}
	return s, fds
}

// drainTime is how long a client may take to read what there is when its session goes
// over.
const drainTime = time.Second

// Drain has the sessions that were suspended write what there is, and gives where their
// streams are. They end without statistics: another process writes on.
func (h *Hub) Drain() (all []StreamState) {
	h.mu.Lock()
	sessions := h.suspended
	h.mu.Unlock()
	for _, s := range sessions {
		w := s.stream.Load()
		w.suspend.Store(true)
		w.last.Store(time.Now().Add(drainTime).UnixNano())
		_ = w.conn.SetReadDeadline(time.Now()) // ends listen, and run
	}
	for _, s := range sessions {
		all = append(all, <-s.stream.Load().state)
	}
	return all
}

// Unsuspend has the Hub go on as before Suspend: the successor has died. Streams that were
// drained have ended.
func (h *Hub) Unsuspend() {
	h.switching.Lock()
	defer h.switching.Unlock()
	h.mu.Lock()
	h.suspended = nil
	h.mu.Unlock()
	t := h.host
	if t == nil || !t.ring.Unshut() {
		return
	}
	t.ring.SetPosition(pktring.Unknown)
	if err := t.ring.Refilter(); err != nil {
		h.cfg.Log.Warn("a capture shows other packets, too", "err", err)
	}
	t.done = make(chan struct{})
	go t.run()
}

// suspendHere writes what is there, and tells where the stream is.
func (w *stream) suspendHere() {
	for more := true; more && !w.broken; w.flush() {
		more = w.fill()
	}
	select {
	case <-w.ask:
		w.statistics(0)
		w.flush()
	default:
	}
	st := StreamState{Broken: w.broken, Interfaces: make([]StreamInterface, len(w.ifaces))}
	if len(w.ifaces) > 0 {
		for i, r := range w.s.rings {
			lost := r.Lost()
			w.ifaces[0].lost += lost - w.lost[i]
			w.lost[i] = lost
		}
	}
	for key, id := range w.ids {
		st.Interfaces[id] = StreamInterface{key.index, key.name, key.ethernet, w.ifaces[id].packets, w.ifaces[id].lost}
	}
	st.Missed, _ = w.s.missed()
	w.state <- st
}

// Resume makes sessions of those of another process, for which packets are kept from now
// on. The descriptors are those of Suspend, and the Hub's from then on. A session that
// can't be made is hung up on.
func (h *Hub) Resume(s *Suspended, fds []int) {
	if len(s.Sessions) == 0 {
		return
	}
	h.switching.Lock()
	defer h.switching.Unlock()
	h.ids.Store(max(h.ids.Load(), s.IDs))
	h.resumed = make([]*session, len(s.Sessions))
	hostFD := -1
	if s.Host {
		hostFD, fds = fds[0], fds[1:]
	}
	for i := range s.Sessions {
		o := &s.Sessions[i]
		conn, err := unixConn(fds[i])
		if err != nil {
			h.cfg.Log.Warn("a capture ends, since it can't be taken over", "err", err)
			continue
		}
		n, err := newSession(o.Request, h.cfg.Workers)
		if err != nil {
			h.cfg.Log.Warn("a capture ends, since it can't be taken over", "err", err)
			_ = conn.Close()
			continue
		}
		n.began, n.named, n.promiscuous, n.first = o.Began, o.Named, o.Promiscuous, s.IDs
		w := newStream(n, h, conn)
		w.buf = w.buf[:0] // the section has begun
		n.stream.Store(w)
		h.resumed[i] = n
		h.mu.Lock()
		h.sessions = append(h.sessions, n)
		h.publish()
		h.mu.Unlock()
	}
	h.cfg.Sources.SetTaps(h, h.lookARP, h.lookND)
	if hostFD < 0 {
		return
	}
	if err := h.adoptHost(hostFD, s.HostNext); err != nil {
		h.cfg.Log.Warn("a capture does not show what is left to the kernel any more", "err", err)
	}
	for _, n := range h.resumed {
		if n != nil {
			n.host = h.host
		}
	}
}

// adoptHost has a socket of another process's look on; switching is held.
func (h *Hub) adoptHost(fd, next int) error {
	src := h.cfg.Sources
	if err := src.SetMark(ownMark); err != nil {
		closeFD(fd)
		return err
	}
	c := hostConfig(src)
	c.Handed = &pktring.Handed{FD: fd, Next: next}
	ring, err := pktring.Open(c)
	if err != nil {
		closeFD(fd)
		return err
	}
	h.host = &hostTap{h: h, ring: ring, done: make(chan struct{})}
	h.watched.Store(true)
	go h.host.run()
	return nil
}

// Continue has the sessions that were resumed write on, until their clients have gone or
// ctx ends, and waits for that. Without a state, since the other process has died, a
// session is hung up on: its client sees that it has lost its daemon.
func (h *Hub) Continue(ctx context.Context, states []StreamState) {
	var all sync.WaitGroup
	defer all.Wait()
	for i, s := range h.resumed {
		if s == nil {
			continue
		}
		w := s.stream.Load()
		if i >= len(states) || states[i].Broken || len(states[i].Interfaces) > streamIfaces {
			h.remove(s)
			_ = w.conn.Close()
			continue
		}
		st := &states[i]
		for id, f := range st.Interfaces {
			w.ids[ifaceKey{f.Index, f.Name, f.Ethernet}] = uint32(id)
			w.ifaces = append(w.ifaces, ifaceCount{f.Packets, f.Lost})
		}
		s.before = st.Missed
		all.Go(func() {
			h.runStream(ctx, s, w)
			_ = w.conn.Close()
		})
	}
	h.resumed = nil
}

// Renew has sessions that are under way see what programs carry, where another engine
// does that by now.
func (h *Hub) Renew() error {
	h.switching.Lock()
	defer h.switching.Unlock()
	h.mu.Lock()
	sessions := slices.Clone(h.sessions)
	h.mu.Unlock()
	if h.host != nil {
		if err := h.host.ring.Refilter(); err != nil {
			return err
		}
	}
	if len(sessions) == 0 || h.carried != nil {
		return nil
	}
	if err := h.startCarried(); err != nil {
		return err
	}
	for _, s := range sessions {
		if s.carried = h.carried; s.carried != nil {
			s.unshown = s.carried.lost()
		}
	}
	h.follow()
	return nil
}

func descriptorOf(c syscall.Conn) (fd int) {
	fd = -1
	if raw, err := c.SyscallConn(); err == nil {
		_ = raw.Control(func(own uintptr) { fd = int(own) })
	}
	return fd
}
