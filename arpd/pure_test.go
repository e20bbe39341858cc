package arpd

import (
	"testing"
	"time"

	"golang.org/x/net/bpf"

	"proxyarpd/internal/wire"
)

func TestVerdictNames(t *testing.T) {
	seen := map[string]Verdict{}
	for v := range NumVerdicts {
		name := v.String()
		if name == "" {
			t.Fatalf("verdict %d has no name", v)
		}
		if other, ok := seen[name]; ok {
			t.Errorf("verdicts %d and %d are both %q", v, other, name)
		}
		seen[name] = v
		if v.Kind().String() == "" {
			t.Errorf("%v has no kind", v)
		}
		if (v.Kind() == KindDrop) != (v == NotSpecified || v >= DropTooSmall) {
			t.Errorf("%v is of kind %v", v, v.Kind())
		}
	}
	if got := Verdict(200).String(); got != "PARP_NOT_SPECIFIED" {
		t.Errorf("unknown verdict is %q", got)
	}
}

// The filter's one extension is unknown to the VM of x/net/bpf: each packet type
// is put in its place.
func TestFilter(t *testing.T) {
	for pkttype, want := range []int{
		0: snapLen, // PACKET_HOST
		1: snapLen, // PACKET_BROADCAST
		2: snapLen, // PACKET_MULTICAST
		3: snapLen, // PACKET_OTHERHOST
		4: 0,       // PACKET_OUTGOING
		5: snapLen, // PACKET_LOOPBACK
	} {
		prog := filter()
		if prog[0] != (bpf.LoadExtension{Num: bpf.ExtType}) {
			t.Fatalf("first instruction is %v", prog[0])
		}
		prog[0] = bpf.LoadConstant{Dst: bpf.RegA, Val: uint32(pkttype)}
		vm, err := bpf.NewVM(prog)
		if err != nil {
			t.Fatal(err)
		}
		frame := make([]byte, 3000)
		for _, n := range []int{0, 1, ReplyLen, 60, 3000} {
			got, err := vm.Run(frame[:n])
			if err != nil || got != min(want, n) && got != want {
				t.Errorf("packet type %d, %d bytes: %d, %v, want %d", pkttype, n, got, err, want)
			}
		}
	}
	if _, err := bpf.Assemble(filter()); err != nil {
		t.Fatal(err)
	}
}

func TestBucket(t *testing.T) {
	const second = int64(time.Second)
	l := newLimit(100, 10)
	b := newBucket(l, 0)
	count := func(now int64, tries int) (n int) {
		for range tries {
			if b.take(l, now) {
				n++
			}
		}
		return n
	}
	for _, c := range []struct {
		at   int64
		want int
	}{
		{0, 10},                        // the burst
		{0, 0},                         // no more at the same instant
		{second / 100, 1},              // one each 10 ms
		{second / 100, 0},              //
		{second/100 - 1, 0},            // a clock that stands or goes back gives none
		{second/100 + second/200, 0},   // half
		{second/100 + 2*second/200, 1}, // two halves
		{3600 * second, 10},            // never more than the burst
	} {
		if got := count(c.at, 1000); got != c.want {
			t.Errorf("at %d ns: %d answers, want %d", c.at, got, c.want)
		}
	}
	// In steps of 1 ns nothing is lost to rounding.
	b = bucket{}
	n := 0
	for now := range 10 * second / 1000 {
		if b.take(l, now) {
			n++
		}
	}
	if n != 0 {
		t.Errorf("%d answers in 9.99 ms", n)
	}
	if !b.take(l, second/100) {
		t.Error("none after 10 ms")
	}
	if unlimited := newLimit(-1, 0); !b.take(unlimited, 0) {
		t.Error("no limit, yet refused")
	}
	if fast := newLimit(2_000_000_000, 1); fast.cost != 1 {
		t.Errorf("cost of a rate above the clock's: %d", fast.cost)
	}
}

func TestTagged(t *testing.T) {
	p := testPolicy()
	to := func(m wire.MAC) []byte { return who(gatewayIP).with(func(r *request) { r.dst = m }).bytes() }
	for _, c := range []struct {
		name string
		f    frame
		want bool
	}{
		{"plain", frame{data: to(wire.Broadcast)}, false},
		{"tag in auxdata", frame{data: to(wire.Broadcast), vlan: true}, true},
		{"broadcast, marked", frame{data: to(wire.Broadcast), otherhost: true}, true},
		{"to the device, marked", frame{data: to(deviceMAC), otherhost: true}, true},
		{"to the answered MAC, marked: --keep-mac", frame{data: to(answerMAC), otherhost: true}, false},
		{"to another", frame{data: to(otherMAC), otherhost: true}, false},
		{"too short to say", frame{data: []byte{1}, otherhost: true}, false},
	} {
		var q question
		if v := q.read(c.f, p); (v == IgnoreVLAN) != c.want {
			t.Errorf("%s: %v", c.name, v)
		}
	}
}
