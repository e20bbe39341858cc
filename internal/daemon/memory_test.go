package daemon

import (
	"testing"
	"time"
)

// TestReturner: memory goes back when a burst is over, and not again and again.
func TestReturner(t *testing.T) {
	const mb = 1 << 20
	var r returner
	now := time.Unix(1000, 0)
	ask := func(what string, held, allocated uint64, want bool) {
		t.Helper()
		now = now.Add(memoryTick)
		m := memory{objects: held / 2, free: held / 4, unused: held / 4, allocated: allocated}
		if got := r.due(m, now); got != want {
			t.Errorf("%s: due %t", what, got)
		}
		if want {
			r.done(memory{objects: 8 * mb, allocated: allocated}, now)
		}
	}
	ask("a start", 12*mb, 20*mb, false)
	ask("after it", 12*mb, 20*mb, true)
	ask("in a burst", 100*mb, 300*mb, false)
	ask("it is over, and the last time was a moment ago", 100*mb, 300*mb, false)
	now = now.Add(memoryPause)
	ask("it is over", 100*mb, 300*mb, true)
	now = now.Add(memoryPause)
	ask("little came on top", 9*mb, 300*mb+mb/2, false)
	ask("nothing new", 8*mb, 300*mb+mb/2, false)
}

func TestReadMemory(t *testing.T) {
	m := readMemory()
	if m.objects == 0 || m.held() < m.objects || m.allocated < m.objects || m.goroutines == 0 {
		t.Errorf("%+v", m)
	}
	if r := residentMemory(); r < 1<<20 {
		t.Errorf("%d bytes are resident", r)
	}
}
