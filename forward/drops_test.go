package forward_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"proxyarpd/forward"
	"proxyarpd/forward/memconn"
	"proxyarpd/forward/route"
	"proxyarpd/internal/wire"
)

// keeper is a Recorder that keeps all.
type keeper struct {
	seen []looked
	at   []int64
}

func (k *keeper) Record(l *forward.Look, now int64) {
	k.seen = append(k.seen, looked{*l, bytes.Clone(l.Buf)})
	k.at = append(k.at, now)
}

// newRecorded is a loop whose drops are kept.
func newRecorded(t testing.TB, r forward.Recorder) (*forward.Loop, *memconn.Conn, *route.Builder) {
	t.Helper()
	p := memconn.New()
	l := forward.NewLoop(p, forward.Options{Recorder: func(int) forward.Recorder { return r }})
	b := forward.TestBuilder(route.Policy{})
	l.Publish(b.Publish())
	return l, p, b
}

// TestRecorder: a drop is told of where it came in, as it came, or where it was to
// leave, whether somebody captures or not.
func TestRecorder(t *testing.T) { synctest.Test(t, testRecorder) }

func testRecorder(t *testing.T) {
	for _, captured := range []bool{false, true} {
		for name, c := range map[string]struct {
			dst  string
			fail bool // to send
			want route.Verdict
			icmp uint8 // type
			out  bool
		}{
			"unreachable":  {"10.71.0.1", false, route.DropRouteUnreachable, 3, false},
			"no neighbour": {"10.67.0.1", false, route.DropNeighFailed, 3, false},
			"not sent":     {"10.65.1.9", true, route.DropQdisc, 0, true},
		} {
			k := &keeper{}
			l, p, b := newRecorded(t, k)
			if captured {
				l.SetTap(&recorder{})
			}
			if c.fail {
				p.Fail = func(int32) route.Verdict { return route.DropQdisc }
			}
			frame := forward.Packet("10.65.0.1", c.dst, 18)
			p.Inject(forward.IfPod1, bytes.Clone(frame))
			p.Inject(forward.IfPod1, forward.Packet("10.65.0.1", "10.65.1.9", 18))
			before := time.Now().UnixNano()
			once(t, l)
			b.SetNeighbour(forward.IfUplink, netip.MustParseAddr("192.168.1.77"), &route.Neighbour{Failed: true})
			l.Publish(b.Publish())
			l.Age(200 * time.Millisecond)
			once(t, l)
			wanted := 1
			if c.fail {
				wanted = 2
			}
			if len(k.seen) != wanted {
				t.Fatalf("%s: %+v", name, k.seen)
			}
			got := k.seen[0]
			if got.Verdict != c.want || got.ICMPType != c.icmp || got.Out != c.out || got.From == nil || got.From.Name != "cali1" || k.at[0] < before {
				t.Errorf("%s: %+v", name, got.Look)
			}
			if !c.out && (got.Ifindex != forward.IfPod1 || !bytes.Equal(got.frame, frame)) {
				t.Errorf("%s: %+v\n%x\n%x", name, got.Look, got.frame, frame)
			}
			if c.out && (got.Ifindex != forward.IfUplink || got.To.Name != "ens192" || wire.IPv4(got.frame[forward.VnetLen+wire.EthernetLen:]).TTL() != 63) {
				t.Errorf("%s: %+v", name, got.Look)
			}
		}
	}
}

// TestRecorderComplete: of packets of all kinds each drop that is counted is told
// of, and where packets came in adds up with how they ended.
func TestRecorderComplete(t *testing.T) { synctest.Test(t, testRecorderComplete) }

func testRecorderComplete(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	k := &keeper{}
	l, p, b := newRecorded(t, k)
	p.Fail = func(int32) route.Verdict {
		return [...]route.Verdict{route.Forward, route.Forward, route.Forward, route.DropQdisc, route.DropIfDown}[rng.IntN(5)]
	}
	links := []int32{forward.IfPod1, forward.IfPod2, forward.IfUplink, 99}
	for round := range 200 {
		for range rng.IntN(40) {
			dst := fmt.Sprintf("10.%d.%d.%d", 64+rng.IntN(10), rng.IntN(3), rng.IntN(200))
			src := fmt.Sprintf("10.65.%d.%d", rng.IntN(2), 1+rng.IntN(2))
			frame := forward.Packet(src, dst, rng.IntN(1700), forward.TTL(byte(rng.IntN(3))*30))
			if rng.IntN(10) == 0 {
				frame[forward.VnetLen+rng.IntN(34)] ^= 1 << rng.IntN(8)
			}
			p.Inject(links[rng.IntN(len(links))], frame)
		}
		once(t, l)
		if round%20 == 19 {
			b.SetNeighbour(forward.IfUplink, netip.MustParseAddr("192.168.1.77"), &route.Neighbour{Failed: round%40 == 19, Valid: round%40 != 19})
			l.Publish(b.Publish())
			l.Age(time.Duration(rng.IntN(5)) * time.Second)
		}
	}
	told := forward.Counts{}
	for _, s := range k.seen {
		told[s.Verdict]++
	}
	s := l.Counters().Read()
	places := forward.Counts{}
	for at, n := range s.Places {
		places[at.Verdict] += n
	}
	kinds := 0
	for v := range route.NumVerdicts {
		want := s.ByVerdict[v]
		if places[v] != want {
			t.Errorf("%s: %d by place, %d counted", v, places[v], want)
		}
		if v.Kind() != route.KindDrop {
			want = 0
		}
		if told[v] != want {
			t.Errorf("%s: told of %d times, counted %d times", v, told[v], want)
		}
		kinds += int(min(told[v], 1))
	}
	if kinds < 8 {
		t.Errorf("only %d kinds of drops: %v", kinds, told)
	}
	if n := s.Places[forward.Place{Ifindex: forward.IfPod1, Verdict: route.Forward}]; n == 0 || n == s.ByVerdict[route.Forward] {
		t.Errorf("%d forwarded from the first pod", n)
	}
}

// TestRecorderNoAllocations: a flood of drops takes no memory.
func TestRecorderNoAllocations(t *testing.T) {
	n := 0
	l, p, _ := newRecorded(t, counted{&n})
	p.Discard = true
	fresh := make([][]byte, 64)
	for i := range fresh {
		fresh[i] = forward.Packet("10.65.0.1", "10.70.0.1", 18)
	}
	f := forward.NewTestBatch(fresh, forward.IfPod1)
	if a := testing.AllocsPerRun(100, func() {
		f.Reset()
		l.Process(f)
	}); a != 0 || n == 0 {
		t.Errorf("%v allocations a batch, %d told of", a, n)
	}
}

type counted struct{ n *int }

func (c counted) Record(*forward.Look, int64) { *c.n++ }
