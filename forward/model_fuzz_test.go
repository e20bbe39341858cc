package forward

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"proxyarpd/forward/route"
	"proxyarpd/internal/nstest"
)

// noon is a time of day for IP timestamps.
func noon() uint32 { return 12 * 3600 * 1000 }

// compare has step decide about a frame and says in what the model disagrees,
// or nothing, and what came of it.
func (w world) compare(t *route.Table, f Frame) (string, route.Verdict) {
	if f.isIPv6() {
		return "", route.NotSpecified // for the other model
	}
	want := w.decide(f, noon())
	f.Buf = bytes.Clone(f.Buf)
	r := result{clock: noon}
	step(t, &f, &r)
	var why []string
	for i := range want {
		wrong := want[i].differs(&f, &r)
		if wrong == "" {
			return "", r.Verdict
		}
		why = append(why, wrong)
	}
	return strings.Join(why, "; or "), r.Verdict
}

// differs says in what a result is not the outcome.
func (o *outcome) differs(f *Frame, r *result) string {
	if r.Verdict != o.verdict || r.ICMP != o.icmp {
		return fmt.Sprintf("%v, ICMP %v; want %v, %v", r.Verdict, r.ICMP, o.verdict, o.icmp)
	}
	if r.Verdict != route.Forward && r.Verdict != route.Queue {
		return ""
	}
	switch {
	case r.Out.Ifindex != o.out || r.Next != o.next:
		return fmt.Sprintf("by %d to %v; want %d, %v", r.Out.Ifindex, r.Next, o.out, o.next)
	case r.MTU != o.mtu || r.Fragment != o.fragment:
		return fmt.Sprintf("MTU %d, in pieces %v; want %d, %v", r.MTU, r.Fragment, o.mtu, o.fragment)
	case r.Redirect != o.redirect && !o.anyAnswer:
		return fmt.Sprintf("redirect %v; want %v", r.Redirect, o.redirect)
	case o.anyAnswer:
		return ""
	case r.relink != (!f.Ethernet || !r.Out.Ethernet()):
		return fmt.Sprintf("relink %v", r.relink)
	}
	got, want := bytes.Clone(f.Buf), bytes.Clone(o.buf)
	sum := VnetLen + f.l2len() + 10
	if len(got) > sum+2 {
		header := got[sum-10:]
		if length := int(header[0]&15) * 4; !o.stale && onesSum(header[:length]) != 0xffff {
			return fmt.Sprintf("checksum of % x", header[:length])
		}
		copy(got[sum:], want[sum:sum+2]) // zero has two forms
	}
	if !bytes.Equal(got, want) {
		return fmt.Sprintf("% x\nleaves; want\n% x", got, want)
	}
	return ""
}

// framesPerWorld are tried before another world is drawn.
const framesPerWorld = 50

// TestStepModel holds step against the model in 200000 random cases.
func TestStepModel(t *testing.T) {
	cases := nstest.Rounds(200_000)
	if testing.Short() {
		cases = 20_000
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	counts := map[route.Verdict]int{}
	for range cases / framesPerWorld {
		drawn := rng.Uint64()
		w := newWorld(rand.New(rand.NewPCG(drawn, 1)))
		table := w.Build()
		for range framesPerWorld {
			data := make([]byte, 48)
			for i := range data {
				data[i] = byte(rng.Uint32())
			}
			f := w.newFrame(data)
			why, v := w.compare(table, f)
			if why != "" {
				t.Fatalf("world %d, data %x\n%v\non %d: % x\n%s", drawn, data, w, f.Ifindex, f.Buf, why)
			}
			counts[v]++
		}
	}
	t.Log(counts)
	for v := route.Forward; v < route.NumVerdicts; v++ {
		if decidedByStep(v) && counts[v] == 0 {
			t.Errorf("never came to %v", v)
		}
	}
}

// decidedByStep: the others come of sending, of queues or of ICMP errors.
func decidedByStep(v route.Verdict) bool {
	switch v {
	case route.DropUnhandledProto, route.DropIPInAddrErrors, route.DropRAGuard: // of IPv6
		return false
	case route.Originate, route.PuntFlow, route.PuntUpper, route.PuntGSO, route.PuntStalled, route.DropLocalLate, route.DropStalled, route.DropNeighFailed, route.DropNeighQueueFull, route.DropFullRing, route.DropNoMem, route.DropQdisc, route.DropPacketSockError:
		return false
	}
	return true
}

// FuzzStepModel draws a world from the seed and a frame from the data.
func FuzzStepModel(f *testing.F) {
	for seed := range uint64(8) {
		f.Add(seed, bytes.Repeat([]byte{byte(seed * 37), 3, byte(seed), 0, 17}, 10))
	}
	f.Fuzz(func(t *testing.T, seed uint64, data []byte) {
		w := newWorld(rand.New(rand.NewPCG(seed, 1)))
		frame := w.newFrame(data)
		if why, _ := w.compare(w.Build(), frame); why != "" {
			t.Fatalf("%v\non %d: % x\n%s", w, frame.Ifindex, frame.Buf, why)
		}
	})
}
