package livecapture

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"proxyarpd/arpd"
	"proxyarpd/capture"
	"proxyarpd/capture/pcapfile"
	"proxyarpd/forward"
	"proxyarpd/forward/claim"
	"proxyarpd/internal/nstest"
)

// patience bounds every wait of a test; none lasts so long when the code is right.
const patience = time.Minute

// recorded are Sources that note what they are asked for.
type recorded struct {
	nothing
	watch error  // of AttachWatch
	last  func() // called when the taps are taken away, if it is set

	mu    sync.Mutex
	taps  []bool // set, or not
	marks []uint32
	snaps []int
}

func (r *recorded) SetTaps(packets forward.Tap, arp, nd arpd.Tap) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if (packets == nil) != (arp == nil) || (packets == nil) != (nd == nil) {
		r.taps = append(r.taps, false, false)
	}
	r.taps = append(r.taps, packets != nil)
	if packets == nil && r.last != nil {
		r.last()
	}
}

func (r *recorded) SetMark(mark uint32) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.marks = append(r.marks, mark)
	return nil
}

func (r *recorded) AttachWatch(_ int, mark uint32, snap int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.marks = append(r.marks, mark)
	r.snaps = append(r.snaps, snap)
	return r.watch
}

func (r *recorded) want(t *testing.T, taps []bool, marks []uint32) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Equal(r.taps, taps) || !slices.Equal(r.marks, marks) {
		t.Errorf("taps were set %v, want %v; marks %x, want %x", r.taps, taps, r.marks, marks)
	}
	for _, n := range r.snaps {
		if n != pcapfile.MaxSnapLen {
			t.Errorf("frames are cut to %d bytes", n)
		}
	}
}

// recordedHub is one whose sources note what they are asked for.
func recordedHub(t *testing.T, watch error) (*Hub, *recorded) {
	t.Helper()
	h, r := newHub(), &recorded{watch: watch}
	h.cfg = Config{Log: slog.New(slog.DiscardHandler), Version: "v1.2.3", Sources: r}
	return h, r
}

// served is a session as its client has it.
type served struct {
	*net.UnixConn
	reply  chan capture.Reply
	done   chan error
	cancel func()
}

func serve(t *testing.T, h *Hub, req capture.Request) *served {
	t.Helper()
	ours, theirs := pair(t)
	if err := ours.SetReadDeadline(time.Unix(1, 0)); err != nil { // that of the request has passed
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	s := &served{theirs, make(chan capture.Reply, 1), make(chan error, 1), cancel}
	go func() {
		s.done <- h.Serve(ctx, ours, &req, func(r *capture.Reply) error { s.reply <- *r; return nil })
		ours.Close()
	}()
	t.Cleanup(func() {
		cancel()
		theirs.Close()
	})
	if err := theirs.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return s
}

// ended waits for the end of a session.
func (s *served) ended(t *testing.T) {
	t.Helper()
	select {
	case err := <-s.done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("the session does not end")
	}
}

// stream reads what a session wrote.
type pcapngStream struct {
	*pcapfile.Reader
	raw bytes.Buffer
}

func (s *served) stream(t *testing.T) *pcapngStream {
	t.Helper()
	p := new(pcapngStream)
	r, err := pcapfile.NewReader(io.TeeReader(s.UnixConn, &p.raw))
	if err != nil {
		t.Fatal(err)
	}
	p.Reader = r
	return p
}

// rest reads to the end: how many packets, and whether it ended with statistics.
func (p *pcapngStream) rest(t *testing.T) (packets int) {
	t.Helper()
	var pkt pcapfile.Packet
	for {
		if err := p.Next(&pkt); err != nil {
			if err != io.EOF {
				t.Error(err)
			}
			break
		}
		packets++
	}
	st := p.Interfaces()[0].Statistics
	if st == nil || st.Has&pcapfile.HasEndTime == 0 || st.EndTime < st.StartTime || st.UsrDeliv+st.OSDrop != st.FilterAccept {
		t.Errorf("statistics: %+v", st)
	}
	return packets
}

// TestServe: a session tells what it looks at, shows it, and ends when its client
// says so, with statistics.
func TestServe(t *testing.T) {
	h, src := recordedHub(t, claim.ErrNotSupported)
	s := serve(t, h, capture.Request{Interfaces: []string{"any"}, Snap: 96, Filter: "udp"})
	if rep := <-s.reply; !slices.Equal(rep.Interfaces, []string{"cali1", "ens192"}) || !slices.Equal(rep.Foreign, []string{"ens192"}) || rep.HostTraffic {
		t.Errorf("%+v", rep)
	}
	src.want(t, []bool{true}, []uint32{ownMark, ownMark, 0})
	k := look(udp(500))
	k.ID = 77
	for range 3 {
		h.Look(k)
	}
	p := s.stream(t)
	var pkt pcapfile.Packet
	for range 3 {
		if err := p.Next(&pkt); err != nil {
			t.Fatal(err)
		}
		if i := pkt.Interface; i.Name != "cali1" || i.SnapLen != 96 || i.Filter != "udp" || i.Description != capture.IfindexText(testPod) || i.LinkType != pcapfile.LinkTypeEthernet {
			t.Errorf("%+v", i)
		}
		if len(pkt.Data) != 96 || pkt.Len != 514 || pkt.Has&pcapfile.HasPacketID == 0 || pkt.PacketID != 77 || len(pkt.Comments) != 1 || !strings.Contains(string(pkt.Comments[0]), "forward") {
			t.Errorf("%+v", pkt)
		}
	}
	second := serve(t, h, capture.Request{Interfaces: []string{"cali1"}})
	<-second.reply
	if _, err := s.Write([]byte{capture.AskStatistics}); err != nil {
		t.Fatal(err)
	}
	for p.Interfaces()[0].Statistics == nil { // the reader meets them before the next packet
		h.Look(k)
		if err := p.Next(&pkt); err != nil {
			t.Fatal(err)
		}
	}
	if st := p.Interfaces()[0].Statistics; st.UsrDeliv < 3 || st.OSDrop != 0 || st.Has&pcapfile.HasEndTime != 0 {
		t.Errorf("so far: %+v", st)
	}
	if err := s.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	p.rest(t)
	s.ended(t)
	if !bytes.Contains(p.raw.Bytes(), []byte("proxyarpd v1.2.3")) {
		t.Error("the stream does not say who wrote it")
	}
	src.want(t, []bool{true, true}, []uint32{ownMark, ownMark, 0, ownMark, ownMark, 0})
	if err := second.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	second.stream(t).rest(t)
	second.ended(t)
	src.want(t, []bool{true, true, false}, []uint32{ownMark, ownMark, 0, ownMark, ownMark, 0})
	if h.view.Load() != nil {
		t.Error("sessions are left")
	}
}

// TestServeEnds: other ways in which a session ends. None leaves anything.
func TestServeEnds(t *testing.T) {
	for name, end := range map[string]func(h *Hub, s *served){
		"rubbish":         func(_ *Hub, s *served) { _, _ = s.Write([]byte{'x'}) },
		"the daemon ends": func(_ *Hub, s *served) { s.cancel() },
		"interface is gone": func(h *Hub, _ *served) {
			h.DeleteLink(testPod)
			h.Publish()
		},
	} {
		h, src := recordedHub(t, claim.ErrNotSupported)
		s := serve(t, h, capture.Request{Interfaces: []string{"cali1"}})
		<-s.reply
		for range 5 {
			h.Look(look(udp(64)))
		}
		v := h.view.Load()
		src.mu.Lock()
		src.last = func() {
			v.offer(&sight{source: fromResponder, ethernet: true, ifindex: testPod}, nil, make([]byte, 60), 60)
		} // as it ends
		src.mu.Unlock()
		end(h, s)
		p := s.stream(t)
		if n := p.rest(t); n != 6 {
			t.Errorf("%s: %d packets", name, n)
		}
		s.ended(t)
		why := ""
		for _, i := range p.Interfaces() {
			why += capture.ParseEnd(i.Description)
		}
		if want := map[string]string{"interface is gone": capture.Disappeared}[name]; why != want {
			t.Errorf("%s: it ends because %q", name, why)
		}
		src.want(t, []bool{true, false}, []uint32{ownMark, ownMark, 0})
	}
}

// A client that has gone before it is told ends its session.
func TestServeNobody(t *testing.T) {
	h, src := recordedHub(t, claim.ErrNotSupported)
	ours, _ := pair(t)
	if err := h.Serve(t.Context(), ours, &capture.Request{Interfaces: []string{"any"}}, func(*capture.Reply) error { return io.ErrClosedPipe }); err != nil {
		t.Error(err)
	}
	src.want(t, []bool{true, false}, []uint32{ownMark, ownMark, 0})
	if h.view.Load() != nil {
		t.Error("it is left")
	}
}

// TestServeUnread: the daemon's end does not wait for a client that reads nothing.
func TestServeUnread(t *testing.T) {
	h, _ := recordedHub(t, claim.ErrNotSupported)
	s := serve(t, h, capture.Request{Interfaces: []string{"any"}})
	<-s.reply
	k := look(udp(1400))
	for range 2000 {
		h.Look(k)
	}
	time.Sleep(20 * time.Millisecond) // so that it has begun to write, mostly
	began := time.Now()
	s.cancel()
	s.ended(t)
	if d := time.Since(began); d >= streamStall {
		t.Errorf("it took %v", d)
	}
}

// TestLost: what had no room is counted, once, and told with the next packet.
func TestLost(t *testing.T) {
	h := newHub()
	s := join(t, h, capture.Request{Interfaces: []string{"cali1"}, Buffer: 1})
	k := look(udp(60000))
	for range 5 {
		h.Look(k)
	}
	lost := s.rings[fromDatapath].Lost()
	if lost == 0 || lost == 5 {
		t.Fatalf("%d of 5 lost", lost)
	}
	w := newStream(s, h, nil)
	w.buf = pcapfile.AppendSectionHeader(w.buf, &pcapfile.Section{})
	var written []byte
	drain := func() {
		for more := true; more; {
			more = w.fill()
			written, w.buf = append(written, w.buf...), w.buf[:0]
		}
	}
	drain()
	h.Look(k)
	for range 2 {
		h.lookARP(0, testPod, make([]byte, 60), nil, arpd.Answered)
	}
	drain()
	for range 5 { // no packet tells of these
		h.Look(k)
	}
	w.statistics(0)
	w.statistics(0)
	written = append(written, w.buf...)
	r, err := pcapfile.NewReader(bytes.NewReader(written))
	if err != nil {
		t.Fatal(err)
	}
	var told uint64
	packets := 0
	for p := (pcapfile.Packet{}); r.Next(&p) == nil; packets++ {
		if p.Has&pcapfile.HasDropCount != 0 {
			told += p.DropCount
		}
	}
	st := r.Interfaces()[0].Statistics
	all := s.rings[fromDatapath].Lost()
	if told != lost || all <= lost || packets != int(5-lost)+3 || st.OSDrop != all || st.UsrDeliv != uint64(packets) || st.FilterAccept != all+uint64(packets) {
		t.Errorf("%d lost: %d told with %d packets, statistics %+v", lost, told, packets, st)
	}
}

// TestOrder: packets of all sources come in the order of their time.
func TestOrder(t *testing.T) {
	h := newHub()
	s := join(t, h, capture.Request{Interfaces: []string{"any"}})
	h.lookARP(0, testPod, make([]byte, 60), nil, arpd.Answered) // now
	for _, at := range []int64{10, 30} {
		k := look(udp(64))
		k.Received = at
		h.Look(k)
	}
	for _, at := range []int64{20, 40} {
		h.view.Load().offer(&sight{source: fromHost, received: at, ethernet: true, ifindex: testHost}, nil, make([]byte, 60), 60)
	}
	k := look(udp(64))
	k.Out, k.Received, k.Sent = true, 35, 35
	h.Look(k)
	w := newStream(s, h, nil)
	w.buf = pcapfile.AppendSectionHeader(w.buf, &pcapfile.Section{})
	var written []byte
	drain := func() {
		for more := true; more; {
			more = w.fill()
			written, w.buf = append(written, w.buf...), w.buf[:0]
		}
	}
	drain()
	r, err := pcapfile.NewReader(bytes.NewReader(written))
	if err != nil {
		t.Fatal(err)
	}
	var times []int64
	for p := (pcapfile.Packet{}); r.Next(&p) == nil; {
		times = append(times, p.Time)
	}
	if len(times) != 6 || !slices.Equal(times[:5], []int64{10, 20, 30, 35, 40}) {
		t.Errorf("%v", times)
	}
}

// TestAt: when a packet passed.
func TestAt(t *testing.T) {
	for name, c := range map[string]struct {
		e    event
		want int64
	}{
		"it came":              {event{sight: sight{received: 5}, seen: 9}, 5},
		"nobody knows when":    {event{seen: 9}, 9},
		"its wait ended":       {event{sight: sight{received: 5, again: true}, seen: 9}, 9},
		"it left":              {event{sight: sight{received: 5, out: true}, look: forward.Look{Sent: 8}}, 8},
		"it left some time":    {event{sight: sight{received: 5, out: true}, seen: 9}, 9},
		"the host sent it":     {event{sight: sight{source: fromHost, received: 5, out: true}, seen: 9}, 5},
		"it came, others left": {event{sight: sight{received: 5}, look: forward.Look{Sent: 8}}, 5},
	} {
		if got := c.e.at(); got != c.want {
			t.Errorf("%s: %d", name, got)
		}
	}
}

// TestRename: a packet of an interface that was not known as it passed has the
// name that is known as it is written, or the one that it had.
func TestRename(t *testing.T) {
	h := newHub()
	s := join(t, h, capture.Request{Interfaces: []string{"any"}})
	w := newStream(s, h, nil)
	written := func(index int32, name string) string {
		e := event{sight: sight{ifindex: index, ethernet: true}, name: name}
		w.iface(&e)
		return e.name
	}
	if got := written(testPod, ""); got != "cali1" {
		t.Errorf("it is known meanwhile: %q", got)
	}
	if got := written(9, "cali9"); got != "cali9" {
		t.Errorf("%q", got)
	}
	if got := written(9, ""); got != "cali9" {
		t.Errorf("it has gone: %q", got)
	}
	if got := written(1<<30, ""); got != "" {
		t.Errorf("nobody knows it: %q", got)
	}
	if n := len(w.ifaces); n != 3 {
		t.Errorf("%d interfaces", n)
	}
}

// TestHostTap: while somebody captures, frames that neither datapath nor
// responder sees are shown, from one interface alone if that is all that is
// wanted, and with other hosts' if they are asked for.
func TestHostTap(t *testing.T) {
	nstest.Enter(t)
	nstest.NoIPv6()
	index, write := nstest.Tap(t)
	h, src := recordedHub(t, nil)
	h.SetLink(testLink(int(index), "tap"), true)
	begin := func(req capture.Request) *session {
		s, err := newSession(req, 1)
		if err != nil {
			t.Fatal(err)
		}
		rep, err := h.add(s)
		if err != nil || !rep.HostTraffic {
			t.Fatalf("%+v, %v", rep, err)
		}
		return s
	}
	one := begin(capture.Request{Interfaces: []string{"tap"}, Promiscuous: true})
	if h.host.only != int(index) || !h.watched.Load() || !slices.Equal(one.promiscuous, []int32{index}) {
		t.Errorf("it looks at %d, promiscuous %v", h.host.only, one.promiscuous)
	}
	all := begin(capture.Request{Interfaces: []string{"any"}})
	if h.host.only != 0 || len(all.promiscuous) > 0 {
		t.Errorf("for all it looks at %d, promiscuous %v", h.host.only, all.promiscuous)
	}
	write(frame("10.65.1.2"))
	for name, s := range map[string]*session{"one": one, "all": all} {
		for end := time.Now().Add(patience); s.seen()[fromHost] == 0; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s: the frame is not shown", name)
			}
		}
	}
	src.want(t, []bool{true, true}, []uint32{ownMark, ownMark})
	h.remove(all)
	if h.host.only != int(index) {
		t.Errorf("when the other has gone it looks at %d", h.host.only)
	}
	h.remove(one)
	src.want(t, []bool{true, true, false}, []uint32{ownMark, ownMark, 0})
	globbed := begin(capture.Request{Interfaces: []string{"ta*"}})
	looksAt := func() int {
		h.switching.Lock()
		defer h.switching.Unlock()
		return h.host.only
	}
	for name, want := range map[string]int{"tan": 0, "eth9": int(index)} { // one more that is wanted, and one that is not
		h.SetLink(testLink(9, name), true)
		h.Publish()
		for end := time.Now().Add(patience); looksAt() != want; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("with %s it looks at %d", name, looksAt())
			}
		}
	}
	h.remove(globbed)
	src.want(t, []bool{true, true, false, true, false}, []uint32{ownMark, ownMark, 0, ownMark, ownMark, 0})
	if h.host != nil || h.watched.Load() || len(one.promiscuous) > 0 {
		t.Error("the tap is left")
	}
	refused := errors.New("no")
	src.watch = refused
	s, err := newSession(capture.Request{Interfaces: []string{"tap"}}, 1)
	if err != nil {
		t.Fatal(err)
	}
	if rep, err := h.add(s); err != nil || rep.HostTraffic || h.watched.Load() {
		t.Errorf("without its filter: %+v, %v", rep, err)
	}
	h.remove(s)
}
