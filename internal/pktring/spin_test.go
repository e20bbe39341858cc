package pktring

import (
	"testing"
	"time"
)

const µs = time.Microsecond

// What a spinner chooses, by the gaps that it has seen.
func TestSpinTime(t *testing.T) {
	many := func(n int, gap time.Duration) (gaps []time.Duration) {
		for range n {
			gaps = append(gaps, gap)
		}
		return gaps
	}
	for _, tt := range []struct {
		name string
		gaps []time.Duration // in turn
		want time.Duration
	}{
		{"idle, a packet now and then", many(1, time.Second), 0},
		{"within bursts, and long between them", append(many(24, 3*µs), 450*µs), 4 * µs},
		{"a conversation", many(1, 11*µs), 16 * µs},
		{"a question each millisecond, answered", []time.Duration{11 * µs, time.Millisecond}, 16 * µs},
		{"a conversation with a slow partner", many(1, 29*µs), 32 * µs},
		{"mostly beyond what is worth it", append(many(9, time.Millisecond), 29*µs), 0},
	} {
		s := newSpinner(32 * µs)
		for range 20 * remembered / len(tt.gaps) {
			for _, g := range tt.gaps {
				s.note(g)
			}
		}
		if s.limit != tt.want {
			t.Errorf("%s: spins for %v, want %v; counts %v", tt.name, s.limit, tt.want, s.counts)
		}
	}
}

// It changes its mind within few gaps, and never exceeds what it may.
func TestSpinnerLearns(t *testing.T) {
	s := newSpinner(16 * µs)
	for _, phase := range []struct{ gap, want time.Duration }{{time.Second, 0}, {9 * µs, 16 * µs}, {time.Second, 0}, {µs, 2 * µs}, {20 * µs, 0}} {
		for range 4 * remembered {
			s.note(phase.gap)
			if s.limit > 16*µs {
				t.Fatalf("spins for %v", s.limit)
			}
		}
		if s.limit != phase.want {
			t.Errorf("gaps of %v: spins for %v, want %v", phase.gap, s.limit, phase.want)
		}
	}
	if none := newSpinner(0); none.limit != 0 {
		t.Error("spins though it must not")
	} else if none.note(µs); none.limit != 0 {
		t.Error("spins though it must not")
	}
}

// Frames gather where they come in quick succession, and only then.
func TestGather(t *testing.T) {
	for _, tt := range []struct {
		name    string
		gaps    []int64 // ns, in turn
		waiting int
		want    time.Duration
	}{
		{"one after the other", []int64{1000}, 2, 30 * µs},
		{"out of order, from two CPUs", []int64{1500, -500}, 2, 30 * µs},
		{"no longer than that", []int64{2900}, 2, gatherMost},
		{"bursts", []int64{2500, 2500, 2500, 2500, 2500, 2500, 2500, 2500, 2500, 2500, 2500, 2500, 1e6}, 3, gatherMost},
		{"enough already", []int64{1000}, gatherWant, 0},
		{"nearly enough", []int64{1000}, gatherWant - 3, 0},
		{"a conversation", []int64{8000}, 2, 0},
		{"two at a time", []int64{1000, 50000}, 2, 0},
	} {
		var g gatherer
		at := int64(1e18)
		for range 20 {
			for range 32 / len(tt.gaps) {
				for _, d := range tt.gaps {
					at += d
					g.note(at)
				}
			}
		}
		if got := g.pause(tt.waiting); got < tt.want-2*µs || got > tt.want {
			t.Errorf("%s: %v, want %v; share %d, gap %d", tt.name, got, tt.want, g.share, g.gap)
		}
	}
}
