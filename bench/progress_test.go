package bench

import (
	"os"
	"strings"
	"testing"
	"time"
)

func TestProgress(t *testing.T) {
	var p progress
	s := &step{rounds: 2, contestants: []contestant{&kernel{}, &dropper{}}, turn: time.Second}
	p.plan(s)
	p.plan(s)
	whole := 8 * (time.Second + overhead)
	if p.left() != whole {
		t.Errorf("%v left of %v", p.left(), whole)
	}
	p.skip(s)
	if p.left() != whole/2 || !strings.HasPrefix(p.String(), "  0 %, 5s left") {
		t.Errorf("half is skipped: %s", p.String())
	}
	p.done = whole / 4
	if p.left() != whole/4 || !strings.HasPrefix(p.String(), " 50 %, 3s left") {
		t.Errorf("half is done: %s", p.String())
	}
	// What has been done took twice as long as thought, so the rest will.
	p.all, p.done, p.began = 60*time.Second, 20*time.Second, time.Now().Add(-40*time.Second)
	if left := p.left().Round(time.Second); left != 80*time.Second {
		t.Errorf("%v left, want 80 s", left)
	}
}

// The main table takes about a minute, the whole run for the report, with trials of a second, less than 25.
func TestDuration(t *testing.T) {
	plan := func(o Options) time.Duration {
		o.Rounds, o.Engines = 3, []string{"af_packet", "ebpf"}
		r := &run{Options: o, report: &Report{}}
		for _, w := range works() {
			if o.Quick && !w.quick {
				continue
			}
			for _, s := range w.plan(r) {
				if s.rounds == 0 {
					s.rounds = o.Rounds
				}
				r.progress.plan(s)
			}
		}
		return r.progress.all
	}
	if d := plan(Options{Quick: true, Trial: DefaultTrial[1]}); d > 100*time.Second {
		t.Errorf("--quick takes %v", d)
	}
	if d := plan(Options{Trial: time.Second}); d > 25*time.Minute {
		t.Errorf("make bench-report takes %v", d)
	}
}

// docs/BENCH.md explains each work.
func TestWorksDocumented(t *testing.T) {
	text, err := os.ReadFile("../docs/BENCH.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range works() {
		if !strings.Contains(string(text), "\n| `"+w.name+"` |") {
			t.Errorf("work %s is not documented", w.name)
		}
		if w.how == "" {
			t.Errorf("work %s does not say how it is done", w.name)
		}
	}
}
