package livecapture

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"proxyarpd/arpd"
	"proxyarpd/capture"
	"proxyarpd/forward/route"
	"proxyarpd/internal/netstate"
	"proxyarpd/internal/wire"
)

// TestBadRequests: what is wrong with a request is told, and begins nothing.
func TestBadRequests(t *testing.T) {
	many := slices.Repeat([]string{"x*"}, captureReasons+1)
	for name, c := range map[string]struct {
		req  capture.Request
		want string
	}{
		"no interface":      {capture.Request{}, "no interface"},
		"a bad glob":        {capture.Request{Interfaces: []string{"cali[1"}}, "syntax error in pattern"},
		"a bad reason":      {capture.Request{Interfaces: []string{"any"}, Reasons: []string{"NEIGH_["}}, "syntax error in pattern"},
		"many interfaces":   {capture.Request{Interfaces: many}, "more than 64"},
		"many reasons":      {capture.Request{Interfaces: []string{"any"}, Reasons: many}, "more than 64"},
		"a direction":       {capture.Request{Interfaces: []string{"any"}, Direction: "up"}, `direction "up"`},
		"no such interface": {capture.Request{Interfaces: []string{"cali1", "cali9"}}, "cali9: No such device exists"},
		"one is not up":     {capture.Request{Interfaces: []string{"down"}}, "down: That device is not up"},
		"an expression":     {capture.Request{Interfaces: []string{"any"}, Filter: "udp prot 53"}, ""},
		"no such header":    {capture.Request{Interfaces: []string{"wg0"}, Filter: "ether host 2::1"}, ""},
	} {
		h := newHub()
		h.SetLink(&netstate.Link{Index: 8, Name: "down", Type: unix.ARPHRD_ETHER}, true)
		h.SetLink(&netstate.Link{Index: 9, Name: "wg0", Type: unix.ARPHRD_NONE, Flags: unix.IFF_UP}, true)
		err := h.Serve(t.Context(), nil, &c.req, func(*capture.Reply) error { t.Errorf("%s: begun", name); return errors.New("no") })
		var bad capture.BadExpression
		if err == nil || !strings.Contains(err.Error(), c.want) || errors.As(err, &bad) != (c.req.Filter != "") {
			t.Errorf("%s: %v", name, err)
		}
		if len(h.sessions) > 0 || h.view.Load() != nil {
			t.Errorf("%s: there is a session", name)
		}
	}
}

// A filter that asks for what a link has not got is meaningful again if another
// link is asked for that has it, or may come.
func TestMeaninglessFilter(t *testing.T) {
	for _, c := range []struct {
		names []string
		ok    bool
	}{{[]string{"wg0"}, false}, {[]string{"wg0", "cali1"}, true}, {[]string{"wg0", "cali*"}, true}, {[]string{"wg*"}, true}, {[]string{"any"}, true}} {
		h := newHub()
		h.SetLink(&netstate.Link{Index: 9, Name: "wg0", Type: unix.ARPHRD_NONE, Flags: unix.IFF_UP}, true)
		s, err := newSession(capture.Request{Interfaces: c.names, Filter: "ether host 02:00:00:00:00:01"}, 1)
		if err == nil {
			_, err = h.join(s)
		}
		if (err == nil) != c.ok {
			t.Errorf("%v: %v", c.names, err)
		}
	}
}

// TestJoin: a session is told which interfaces it looks at, in order, and which
// of them are not served.
func TestJoin(t *testing.T) {
	for _, c := range []struct {
		asked, interfaces, foreign []string
	}{
		{[]string{"any"}, []string{"cali1", "cali2", "ens192"}, []string{"cali2", "ens192"}},
		{[]string{"cali*"}, []string{"cali1", "cali2"}, []string{"cali2"}},
		{[]string{"ens192", "cali1"}, []string{"cali1", "ens192"}, []string{"ens192"}},
		{[]string{"cali1"}, []string{"cali1"}, nil},
		{[]string{"x*"}, nil, nil},
	} {
		h := newHub()
		h.SetLink(testLink(9, "cali2"), false)
		s, err := newSession(capture.Request{Interfaces: c.asked}, 1)
		if err != nil {
			t.Fatal(err)
		}
		rep, err := h.join(s)
		if err != nil || !slices.Equal(rep.Interfaces, c.interfaces) || !slices.Equal(rep.Foreign, c.foreign) {
			t.Errorf("%v: %+v, %v", c.asked, rep, err)
		}
	}
}

func TestMostSessions(t *testing.T) {
	h := newHub()
	var all []*session
	for range Sessions {
		all = append(all, join(t, h, capture.Request{Interfaces: []string{"any"}, Buffer: 1}))
	}
	s, err := newSession(capture.Request{Interfaces: []string{"any"}, Buffer: 1}, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.join(s); err == nil || !strings.Contains(err.Error(), "8 captures are under way") {
		t.Errorf("one more: %v", err)
	}
	if n := h.part(all[3]); n != Sessions-1 {
		t.Errorf("%d are left", n)
	}
	if _, err := h.join(s); err != nil {
		t.Errorf("in its place: %v", err)
	}
}

// seen is how many packets a session has got of each source since the last call.
func (s *session) seen() (n [sources]int) {
	for i, r := range s.rings {
		for e, _ := r.Peek(); e != nil; e, _ = r.Peek() {
			n[wroteBy(i)]++
			r.Next()
		}
	}
	return n
}

// TestSelects: which verdicts a session is shown.
func TestSelects(t *testing.T) {
	for name, c := range map[string]struct {
		req                                            capture.Request
		forwards, neigh, ttl, queue, arp, arpDrop, own bool
	}{
		"all":            {capture.Request{}, true, true, true, true, true, true, true},
		"drops":          {capture.Request{Drops: true}, false, true, true, false, false, true, false},
		"a reason":       {capture.Request{Reasons: []string{route.DropNeighFailed.String()}}, false, true, false, false, false, false, false},
		"a glob":         {capture.Request{Reasons: []string{"NEIGH_*"}}, false, true, false, false, false, false, false},
		"a kind":         {capture.Request{Reasons: []string{"forward", "answer"}}, true, false, false, false, true, false, false},
		"drops, a kind":  {capture.Request{Drops: true, Reasons: []string{"forward"}}, false, false, false, false, false, false, false},
		"an ARP verdict": {capture.Request{Reasons: []string{arpd.DropRateLimit.String()}}, false, false, false, false, false, true, false},
	} {
		h := newHub()
		c.req.Interfaces = []string{"any"}
		s := join(t, h, c.req)
		datapath := func(v route.Verdict) bool {
			k := look(udp(64))
			k.Verdict, k.To = v, nil
			h.Look(k)
			return s.seen()[fromDatapath] > 0
		}
		responder := func(v arpd.Verdict) bool {
			h.lookARP(0, testPod, make([]byte, 60), nil, v)
			return s.seen()[fromResponder] > 0
		}
		own := func() bool { // a frame about which nothing is decided
			h.view.Load().offer(&sight{source: fromHost, ethernet: true, ifindex: testHost}, nil, make([]byte, 60), 60)
			return s.seen()[fromHost] > 0
		}
		for what, pair := range map[string][2]bool{
			"forward": {datapath(route.Forward), c.forwards}, "neighbour": {datapath(route.DropNeighFailed), c.neigh},
			"TTL": {datapath(route.DropTTLExpired), c.ttl}, "queue": {datapath(route.Queue), c.queue},
			"ARP": {responder(arpd.Answered), c.arp}, "ARP drop": {responder(arpd.DropRateLimit), c.arpDrop}, "foreign": {own(), c.own},
		} {
			if pair[0] != pair[1] {
				t.Errorf("%s: %s is shown: %v", name, what, pair[0])
			}
		}
	}
}

// TestMatches: direction, interface, filter, and the length by which a filter
// judges: of a cooked capture that of the packet behind the header.
func TestMatches(t *testing.T) {
	frame := udp(100)
	for _, c := range []struct {
		req  capture.Request
		out  bool
		want bool
	}{
		{capture.Request{Interfaces: []string{"cali1"}}, false, true},
		{capture.Request{Interfaces: []string{"cali1"}, Direction: "in"}, false, true},
		{capture.Request{Interfaces: []string{"cali1"}, Direction: "in"}, true, false},
		{capture.Request{Interfaces: []string{"cali1"}, Direction: "out"}, false, false},
		{capture.Request{Interfaces: []string{"cali1"}, Direction: "out"}, true, true},
		{capture.Request{Interfaces: []string{"ens192"}}, false, false},
		{capture.Request{Interfaces: []string{"cali?"}}, false, true},
		{capture.Request{Interfaces: []string{"cali1"}, Filter: "port 53"}, false, true},
		{capture.Request{Interfaces: []string{"cali1"}, Filter: "port 54"}, false, false},
		{capture.Request{Interfaces: []string{"cali1"}, Filter: "len > 113"}, false, true},
		{capture.Request{Interfaces: []string{"cali1"}, Filter: "len > 114"}, false, false},
		{capture.Request{Interfaces: []string{"any"}, Filter: "len > 99"}, false, true},
		{capture.Request{Interfaces: []string{"any"}, Filter: "len > 100"}, false, false},
		{capture.Request{Interfaces: []string{"cali1"}, Filter: "inbound"}, false, true},
		{capture.Request{Interfaces: []string{"cali1"}, Filter: "inbound"}, true, false},
	} {
		h := newHub()
		s := join(t, h, c.req)
		k := look(frame)
		k.Out = c.out
		if got := h.Wants(k); got != c.want {
			t.Errorf("%+v, out %v: wanted %v", c.req, c.out, got)
		}
		if h.Look(k); s.seen()[fromDatapath] > 0 != c.want {
			t.Errorf("%+v, out %v: shown %v", c.req, c.out, !c.want)
		}
	}
	if newHub().Wants(look(frame)) {
		t.Error("wanted by nobody")
	}
}

// TestTagged: a VLAN tag that the kernel took out of a frame is in it again.
func TestTagged(t *testing.T) {
	for _, c := range []struct {
		tpid uint16
		snap int
		want string
	}{
		{0, 18, "\x81\x00\x00\x05\x08\x00"}, {unix.ETH_P_8021AD, 18, "\x88\xa8\x00\x05\x08\x00"}, {0, 14, "\x81\x00"},
	} {
		h := newHub()
		s := join(t, h, capture.Request{Interfaces: []string{"cali1"}, Filter: "vlan 5", Snap: c.snap})
		k := look(udp(64))
		k.Tagged, k.TCI, k.TPID = true, 5, c.tpid
		h.Look(k)
		e, data := s.rings[fromDatapath].Peek()
		if e == nil || e.length != wire.EthernetLen+64+4 || string(data[12:]) != c.want && len(data) != c.snap {
			t.Fatalf("%+v: %+v, % x", c, e, data)
		}
		if !strings.HasPrefix(c.want, string(data[12:])) && string(data[12:]) != c.want {
			t.Errorf("%+v: % x", c, data)
		}
		k.TCI = 6
		if h.Look(k); s.seen()[fromDatapath] != 1 {
			t.Errorf("%+v: another VLAN is shown", c)
		}
	}
}

// TestWaits: the end of a packet's wait is told as one of a packet that was told
// of, to who was told, and not at all where the packet is seen leaving.
func TestWaits(t *testing.T) {
	h := newHub()
	early := join(t, h, capture.Request{Interfaces: []string{"cali1"}})
	drops := join(t, h, capture.Request{Interfaces: []string{"cali1"}, Drops: true})
	both := join(t, h, capture.Request{Interfaces: []string{"any"}})
	in := join(t, h, capture.Request{Interfaces: []string{"any"}, Direction: "in"})
	k := look(udp(64))
	k.ID, k.Verdict = h.ID(), route.Queue
	h.Look(k)
	late := join(t, h, capture.Request{Interfaces: []string{"cali1"}})
	all := map[string]*session{"early": early, "drops": drops, "both": both, "in": in, "late": late}
	for name, want := range map[string]int{"early": 1, "drops": 0, "both": 1, "in": 1, "late": 0} {
		if n := all[name].seen()[fromDatapath]; n != want {
			t.Errorf("%s: %d packets as it begins to wait", name, n)
		}
	}
	again := func(v route.Verdict) map[string]string {
		k.Again, k.Verdict = true, v
		h.Look(k)
		got := map[string]string{}
		for name, s := range all {
			e, _ := s.rings[fromDatapath].Peek()
			switch {
			case e == nil:
				got[name] = "-"
			case e.again:
				got[name] = "again"
			default:
				got[name] = "new"
			}
			s.seen()
		}
		return got
	}
	for v, want := range map[route.Verdict]map[string]string{
		route.Forward:         {"early": "again", "drops": "-", "both": "-", "in": "again", "late": "new"},
		route.DropNeighFailed: {"early": "again", "drops": "new", "both": "again", "in": "again", "late": "new"},
	} {
		got := again(v)
		for name := range want {
			if got[name] != want[name] {
				t.Errorf("%v, %s: %s, want %s", v, name, got[name], want[name])
			}
		}
	}
}

// TestARP: a request is told of with its answer, and the reply as a packet of
// its own; a frame that the host's tap shows is not shown twice. So is a solicitation,
// by a ring of its own.
func TestARP(t *testing.T) { testLookFrame(t, fromResponder, (*Hub).lookARP) }

func TestND(t *testing.T) { testLookFrame(t, fromND, (*Hub).lookND) }

func testLookFrame(t *testing.T, from source, look func(h *Hub, id uint64, ifindex int, frame, reply []byte, v arpd.Verdict) uint64) {
	h := newHub()
	link := testLink(testPod, "cali1")
	link.MAC = wire.MAC{2, 0, 0, 0, 0, 7}
	h.SetLink(link, true)
	s := join(t, h, capture.Request{Interfaces: []string{"cali1"}})
	frame := make([]byte, 60)
	copy(frame, "\xff\xff\xff\xff\xff\xff")
	reply := make([]byte, 60)
	copy(reply[6:], "\x02abcde") // the Ethernet source
	if id := look(h, 0, testPod, frame, reply, arpd.Answered); id == 0 {
		t.Error("no id")
	}
	ring := s.rings[from]
	request, _ := ring.Peek()
	if request == nil || request.out || request.again || !request.known || !request.arp || request.pktType != unix.PACKET_BROADCAST || string(request.answer[:]) != "\x02abcde" || request.name != "cali1" || request.mac != link.MAC {
		t.Errorf("the request: %+v", request)
	}
	id := request.id
	ring.Next()
	if answer, _ := ring.Peek(); answer == nil || !answer.out || answer.again || answer.id != id {
		t.Errorf("the reply: %+v", answer)
	}
	s.seen()
	if got := look(h, id, testPod, frame, reply, arpd.Answered); got != id {
		t.Errorf("after its wait it is %d, was %d", got, id)
	}
	if request, _ := ring.Peek(); request == nil || !request.again || request.id != id {
		t.Errorf("after its wait: %+v", request)
	}
	ring.Next()
	if answer, _ := ring.Peek(); answer == nil || !answer.out || answer.again || answer.id != id {
		t.Errorf("the reply after its wait: %+v", answer)
	}
	s.seen()
	for _, v := range []arpd.Verdict{arpd.IgnoreVLAN, arpd.IgnoreNotWorkload, arpd.IgnoreOtherhost, arpd.DropRateLimit} {
		for _, watched := range []bool{false, true} {
			h.watched.Store(watched)
			look(h, 0, testPod, frame, nil, v)
			if n := s.seen()[from]; (n == 1) != (!watched || v == arpd.DropRateLimit) {
				t.Errorf("%v, with the host's traffic %v: %d packets", v, watched, n)
			}
		}
	}
	h.part(s)
	if id := look(h, 0, testPod, frame, reply, arpd.Answered); id != 0 {
		t.Errorf("while nobody looks: id %d", id)
	}
}

func TestPacketType(t *testing.T) {
	own := wire.MAC{2, 0, 0, 0, 0, 7}
	for dst, want := range map[wire.MAC]uint8{
		own: unix.PACKET_HOST, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}: unix.PACKET_BROADCAST,
		{1, 0, 0x5e, 0, 0, 1}: unix.PACKET_MULTICAST, {2, 0, 0, 0, 0, 8}: unix.PACKET_OTHERHOST,
	} {
		frame := make([]byte, 60)
		copy(frame, dst[:])
		if got := packetType(frame, own); got != want {
			t.Errorf("%v: %d, want %d", dst, got, want)
		}
	}
	if got := packetType(make([]byte, 5), own); got != unix.PACKET_HOST {
		t.Errorf("a short frame: %d", got)
	}
}

// TestWakes: who sleeps is woken by the first packet, who rests only when much
// waits, and once.
func TestWakes(t *testing.T) {
	h := newHub()
	s := join(t, h, capture.Request{Interfaces: []string{"any"}})
	k := look(udp(64))
	woken := func() bool {
		select {
		case <-s.wake:
			return true
		default:
			return false
		}
	}
	if h.Look(k); woken() {
		t.Error("who is awake is woken")
	}
	s.reader.Store(resting)
	if h.Look(k); woken() || s.reader.Load() != resting {
		t.Error("who rests is woken by one packet")
	}
	s.reader.Store(asleep)
	if h.Look(k); !woken() || s.reader.Load() != awake {
		t.Error("who sleeps is not woken")
	}
	if h.Look(k); woken() {
		t.Error("it is woken twice")
	}
	s.reader.Store(resting)
	for range capturePackets(fromDatapath, captureBuffer) / 2 {
		h.Look(k)
	}
	if !woken() {
		t.Error("who rests is not woken when half of its room is full")
	}
}
