package livecapture

import (
	"encoding/binary"
	"io"
	"slices"
	"sync"
	"testing"
	"time"
	"unsafe"

	"proxyarpd/arpd"
	"proxyarpd/capture"
	"proxyarpd/capture/pcapfile"
	"proxyarpd/forward"
	"proxyarpd/forward/route"
)

// dropped is a drop as the datapath tells of it; its number is in the IP ID.
func dropped(n int, v route.Verdict) *forward.Look {
	k := look(udp(300))
	binary.BigEndian.PutUint16(k.Buf[forward.VnetLen+14+4:], uint16(n))
	k.ID, k.Verdict, k.Received = 0, v, int64(n)*1e9
	return k
}

func number(e *keptEvent) int { return int(binary.BigEndian.Uint16(e.data[14+4:])) }

// lastOf asks for the last drops, as a client does.
func lastOf(t *testing.T, h *Hub, req capture.Request) ([]*keptEvent, *capture.Recorder) {
	t.Helper()
	if req.LastDrops == 0 {
		req.LastDrops = 1 << 20
	}
	if req.Interfaces == nil {
		req.Interfaces = []string{"any"}
	}
	s, err := newSession(req, 1)
	if err != nil {
		t.Fatal(err)
	}
	return h.lastDrops(s)
}

// TestRecorderLast: the last drops are kept, as many as there is room for, and the
// newest of those that are selected given.
func TestRecorderLast(t *testing.T) {
	h := newHub()
	r := h.Recorder(0)
	if all, is := lastOf(t, h, capture.Request{}); len(all) != 0 || is.Kept != 0 || is.Recorded != 0 {
		t.Errorf("before anything: %d, %+v", len(all), is)
	}
	for n := 1; n <= keptDatapath+50; n++ {
		v := route.DropIPRPFilter
		if n%2 == 0 {
			v = route.DropIPInNoRoutes
		}
		r.Record(dropped(n, v), int64(n)*1e9+5)
	}
	all, is := lastOf(t, h, capture.Request{})
	if len(all) != keptDatapath || is.Kept != keptDatapath || is.Recorded != keptDatapath+50 || number(all[0]) != 51 || number(all[len(all)-1]) != keptDatapath+50 {
		t.Fatalf("%d kept, %+v", len(all), is)
	}
	e := all[0]
	if len(e.data) != keptBytes || e.length != 314 || e.at() != 51e9 || e.name != "cali1" {
		t.Errorf("%+v", e)
	}
	all, _ = lastOf(t, h, capture.Request{LastDrops: 3, Reasons: []string{"IP_RPFILTER"}, Filter: "udp"})
	if len(all) != 3 || number(all[0]) != keptDatapath+45 || number(all[2]) != keptDatapath+49 {
		t.Errorf("the last three of one reason: %d", len(all))
	}
	for _, none := range []capture.Request{{Filter: "tcp"}, {Interfaces: []string{"ens*"}}, {Direction: "out"}, {Reasons: []string{"QDISC_DROP"}}} {
		if all, _ := lastOf(t, h, none); len(all) != 0 {
			t.Errorf("%+v: %d", none, len(all))
		}
	}
}

// TestRecorderHoldsNoTable: what is kept is copied, so that no table and no link of
// one lives longer for it; and it is small.
func TestRecorderHoldsNoTable(t *testing.T) {
	if size := unsafe.Sizeof(keptDrop{}); size > 512 {
		t.Errorf("a drop takes %d bytes", size)
	}
	h := newHub()
	r := h.newRecorder(fromDatapath)
	k := dropped(1, route.DropNeighFailed)
	k.To.MTU = 1400
	r.Record(k, 2e9)
	k.From.Name, k.To.Name, k.To.MTU, k.Buf[20] = "x", "y", 7, 99
	all, _ := lastOf(t, h, capture.Request{})
	var v capture.Verdict
	all[0].describe(&v, all[0].data)
	if v.Kind != capture.Drop || v.Reason != "NEIGH_FAILED" || v.Out != "ens192" || v.MTU != 1400 || v.ID == 0 || v.Took != time.Second || all[0].name != "cali1" || all[0].data[10] == 99 {
		t.Errorf("%+v", v)
	}
}

// TestRecorderNames: an interface that has gone keeps its name; one of the
// responder's gets it when it is asked for.
func TestRecorderNames(t *testing.T) {
	h := newHub()
	r := h.NewARPRecorder()
	frame := udp(28)[forward.VnetLen:]
	r(0, testPod, 5, frame, arpd.DropLocalnet)
	for _, gone := range []bool{false, true} {
		if gone {
			h.DeleteLink(testPod)
		}
		all, is := lastOf(t, h, capture.Request{Interfaces: []string{"cali1"}})
		if len(all) != 1 || is.Recorded != 1 || all[0].name != "cali1" || !all[0].arp {
			t.Fatalf("gone %t: %d, %+v", gone, len(all), is)
		}
	}
}

// TestRecorderUnseen: what others dropped is told of beside it.
func TestRecorderUnseen(t *testing.T) {
	h := New(Config{Sources: droppers{counts: map[string]uint64{"IP_RPFILTER": 3, "FULL_RING": 7}}})
	r := h.Recorder(0)
	for n := range 3 {
		r.Record(dropped(n, route.DropIPRPFilter), 1)
	}
	if _, is := lastOf(t, h, capture.Request{}); len(is.Unseen) != 1 || is.Unseen["FULL_RING"] != 7 {
		t.Errorf("%+v", is)
	}
}

type droppers struct {
	nothing
	counts map[string]uint64
}

func (d droppers) Drops() map[string]uint64 { return d.counts }

// TestRecorderReaders: readers do not stop the writer, and see whole drops.
func TestRecorderReaders(t *testing.T) {
	h := newHub()
	r := h.newRecorder(fromDatapath)
	stop := make(chan struct{})
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				events, _ := h.lastDrops(mustSession(t))
				for _, e := range events {
					if int64(number(e))*1e9 != e.received {
						t.Errorf("drop %d of %d", number(e), e.received)
						return
					}
				}
			}
		})
	}
	k := dropped(0, route.DropIPRPFilter)
	const drops = 20000
	for n := range drops {
		n %= 1 << 16
		binary.BigEndian.PutUint16(k.Buf[forward.VnetLen+14+4:], uint16(n))
		k.Received = int64(n) * 1e9
		r.Record(k, k.Received)
	}
	close(stop)
	all.Wait()
	if n := r.counts[route.DropIPRPFilter].Load(); n != drops {
		t.Errorf("%d counted", n)
	}
	if n := r.missed.Load(); n > drops/100 {
		t.Errorf("%d missed", n)
	}
}

func mustSession(t *testing.T) *session {
	s, err := newSession(capture.Request{Interfaces: []string{"any"}, LastDrops: 1000}, 1)
	if err != nil {
		t.Error(err)
	}
	return s
}

func TestRecorderNoAllocations(t *testing.T) {
	h := newHub()
	r := h.newRecorder(fromDatapath)
	k := dropped(1, route.DropIPRPFilter)
	if n := testing.AllocsPerRun(1000, func() { r.Record(k, 1) }); n != 0 {
		t.Errorf("%v allocations a drop", n)
	}
	frame := k.Buf[forward.VnetLen:]
	if n := testing.AllocsPerRun(1000, func() { r.recordFrame(0, 7, 0, frame, arpd.DropLocalnet) }); n != 0 {
		t.Errorf("%v allocations a frame", n)
	}
}

// TestServeLast: the client gets a stream that ends by itself.
func TestServeLast(t *testing.T) {
	h, _ := recordedHub(t, nil)
	r := h.Recorder(0)
	for n := 1; n <= 5; n++ {
		r.Record(dropped(n, route.DropIPRPFilter), int64(n)*1e9)
	}
	c := serve(t, h, capture.Request{Interfaces: []string{"any"}, LastDrops: 4})
	rep := <-c.reply
	if rep.Recorder == nil || rep.Recorder.Kept != 5 || !slices.Equal(rep.Interfaces, []string{"cali1"}) {
		t.Errorf("%+v", rep)
	}
	in, err := pcapfile.NewReader(c)
	if err != nil {
		t.Fatal(err)
	}
	packets := 0
	for {
		var p pcapfile.Packet
		if err := in.Next(&p); err != nil {
			if err != io.EOF {
				t.Error(err)
			}
			break
		}
		v, ok := capture.ParseComment(string(p.Comments[0]))
		if !ok || v.Reason != "IP_RPFILTER" || len(p.Data) != keptBytes || p.Len != 314 {
			t.Errorf("%s: %+v", p.Comments, v)
		}
		packets++
	}
	c.ended(t)
	if last := in.Interfaces()[0].Statistics; packets != 4 || last == nil || last.Has&pcapfile.HasEndTime == 0 {
		t.Errorf("%d packets, %+v", packets, last)
	}
}

// BenchmarkRecord is what a drop costs the datapath beside being counted.
func BenchmarkRecord(b *testing.B) {
	h := newHub()
	r := h.newRecorder(fromDatapath)
	k := dropped(1, route.DropIPRPFilter)
	for b.Loop() {
		r.Record(k, 1)
	}
}

// The loops of another datapath go on with the recorders of the last one.
func TestRecordersGoOn(t *testing.T) {
	h := New(Config{})
	others := len(h.records)
	a, b := h.Recorder(0), h.Recorder(1)
	if a == b || h.Recorder(0) != a || h.Recorder(1) != b || h.Recorder(2) == b {
		t.Error("a loop has another's recorder, or none that was there")
	}
	if n := len(h.records) - others; n != 3 {
		t.Errorf("%d recorders", n)
	}
}
