package livecapture

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/arpd"
	"proxyarpd/capture"
	"proxyarpd/capture/filter"
	"proxyarpd/capture/pcapfile"
	"proxyarpd/forward"
	"proxyarpd/forward/route"
	"proxyarpd/internal/pktring"
	"proxyarpd/internal/wire"
)

// Limits of capture sessions.
const (
	captureBuffer    = 2 << 20  // bytes, where the session does not say
	captureMaxBuffer = 64 << 20 // bytes
	captureMinBuffer = 1 << 17  // bytes: any frame fits
	captureReasons   = 64
)

// session is one client that captures.
type session struct {
	req      capture.Request
	filter   *filter.Live
	cooked   bool                   // shown as tcpdump -i any shows it
	verdicts [sources][256]bool     // wanted ones
	named    []int32                // interfaces that were asked for by their names: they may get others
	lasting  bool                   // interfaces may yet come
	first    uint64                 // events with this id and older ones were before its time
	gone     chan struct{}          // closed when what it looks at has gone; guarded by hub.mu
	rings    []*capture.Ring[event] // by writer
	reader   atomic.Uint32          // awake, resting, asleep
	wake     chan struct{}
	began    time.Time

	host        *hostTap    // nil: there is none
	promiscuous []int32     // interfaces that are in that mode for it; guarded by hub.switching
	hostDrops   uint64      // of it when the session began
	carried     *carriedTap // nil: programs carry nothing
	unshown     uint64      // of it when the session began
	before      uint64      // what a predecessor missed

	stream atomic.Pointer[stream] // nil: it has not begun
}

// What a session's reader does. To wake it costs the datapath more than the
// packet does: one that has just read rests for a moment, unless much comes.
const (
	awake uint32 = iota
	resting
	asleep
)

// newSession checks a request. Its errors are the client's.
func newSession(req capture.Request, workers int) (*session, error) {
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
	if req.LastDrops < 0 {
		return nil, fmt.Errorf("%d last drops", req.LastDrops)
	}
	s := &session{req: req, wake: make(chan struct{}, 1), gone: make(chan struct{}), began: time.Now(), cooked: capture.Several(req.Interfaces),
		lasting: slices.ContainsFunc(req.Interfaces, capture.IsPattern)}
	var err error
	if s.filter, err = filter.CompileLive(req.Filter); err != nil {
		return nil, badExpression(err)
	}
	s.selectVerdicts()
	for i := range int(sources) + max(workers, 1) - 1 {
		from, bytes := wroteBy(i), req.Buffer
		if from == fromResponder || from == fromND {
			bytes = captureMinBuffer
		}
		packets := capturePackets(from, req.Buffer)
		if req.LastDrops > 0 { // nothing comes
			packets, bytes = 1, 1
		}
		s.rings = append(s.rings, capture.NewRing[event](packets, bytes))
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
		s.verdicts[fromDatapath][v], s.verdicts[fromHost][v], s.verdicts[fromPrograms][v] = ok, ok, ok
	}
	for v := range arpd.NumVerdicts {
		ok := s.selects(v.Kind().String(), v.String())
		s.verdicts[fromResponder][v], s.verdicts[fromND][v] = ok, ok
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

// checkNamed finds why nothing could be captured on interfaces that are asked
// for by their names.
func (s *session) checkNamed(links map[int32]link) error {
	for _, name := range s.req.Interfaces {
		if !capture.IsPattern(name) && !slices.ContainsFunc(s.named, func(i int32) bool { return links[i].Name == name }) {
			return fmt.Errorf("%s: No such device exists", name)
		}
	}
	var meaningless error
	for _, index := range s.named {
		l := links[index]
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

// follow notes which of the interfaces that were asked for by name are left; the
// hub's mu is held.
func (s *session) follow(links map[int32]link) {
	if len(s.named) == 0 {
		return
	}
	s.named = slices.DeleteFunc(s.named, func(i int32) bool { return links[i].Link == nil })
	if len(s.named) == 0 && !s.lasting {
		close(s.gone)
	}
}

// wantsQueued reports whether the session was told when a packet of that source
// began to wait.
func (s *session) wantsQueued(from source) bool {
	if from == fromResponder || from == fromND {
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
	worker := 0
	if k != nil {
		worker = k.Worker
	}
	ring := s.rings[e.source.writer(worker)]
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
	if l, ok := v.links[e.ifindex]; ok {
		facts.name, facts.mac = l.Name, l.MAC
	}
	sent := false
	if k != nil {
		facts.look, sent = *k, k.Sent != 0
		facts.look.Buf = nil
	}
	switch {
	case sent:
		facts.seen = 0
	case e.source == fromPrograms: // they take no time
		facts.seen = e.received
	default:
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

// missed is how many packets no filter was asked of, since they came too fast to be
// copied: of the host's own, and of those that programs carried.
func (s *session) missed() (n uint64, counted bool) {
	if s.host != nil {
		n = s.host.ring.Drops() - s.hostDrops
	}
	if s.carried != nil {
		n += s.carried.lost() - s.unshown
	}
	return n + s.before, s.host != nil || s.carried != nil
}
