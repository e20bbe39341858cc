package source

import (
	"reflect"
	"sync/atomic"
	"testing"

	"proxyarpd/capture"
	"proxyarpd/capture/pcapfile"
)

// FuzzAncillary: whatever a packet's comments are, its verdict is what the first of them that has one says, a copy of it
// shares nothing, and what is selected bears what was asked for.
func FuzzAncillary(f *testing.F) {
	for _, seed := range []string{"", "text", "verdict=drop reason=NEIGH_FAILED id=7 again=1", "verdict=answer is-at=zz nh=1.2.3 route=10.0.0.0/33 took_ns=-1",
		"verdict=nonsense again=1", "verdict=queue again=1 id=99999999999999999999", "verdict=drop reason=\x1b[2J"} {
		f.Add([]byte(seed), []byte("verdict=forward out=ens1"), []byte{1, 2, 3}, 2, false)
	}
	f.Fuzz(func(t *testing.T, one, two, data []byte, cut int, drops bool) {
		a := &Ancillary{Packet: pcapfile.Packet{Data: data, Comments: [][]byte{one, two}}}
		c := selection{o: Options{Drops: drops}, cut: max(cut, 0)}
		var verdicts atomic.Uint64
		taken := c.take(a, &verdicts)
		want, told := capture.ParseComment(string(one))
		if !told {
			want, told = capture.ParseComment(string(two))
		}
		if told != (a.Verdict != nil) || told && !reflect.DeepEqual(*a.Verdict, want) || (verdicts.Load() == 1) != told {
			t.Fatalf("%q, %q: %+v, want %+v", one, two, a.Verdict, want)
		}
		if taken != (!drops || told && want.Kind == capture.Drop) {
			t.Fatalf("%q, %q: taken: %v", one, two, taken)
		}
		if !taken {
			return
		}
		if cut > 0 && len(a.Data) > cut {
			t.Fatalf("%d bytes of at most %d", len(a.Data), cut)
		}
		own := a.clone()
		if own.Verdict != nil && own.Verdict != &own.verdict || !reflect.DeepEqual(own.Comments, a.Comments) || string(own.Data) != string(a.Data) {
			t.Fatalf("%+v, not %+v", own, a)
		}
		before := string(own.Comments[0]) + string(own.Data)
		for _, b := range [][]byte{one, two, data} {
			for i := range b {
				b[i]++
			}
		}
		if string(own.Comments[0])+string(own.Data) != before {
			t.Fatal("a copy has changed")
		}
	})
}
