package bench

import (
	"fmt"
	"time"
)

// overhead is what every turn takes besides its measurement: the contestant starts, the pods reach each other, nothing
// comes any more, the contestant stops.
const overhead = 250 * time.Millisecond

// cost is about what a contestant's turn takes.
func (s *step) cost(c contestant) time.Duration {
	if _, alone := c.(*dropper); alone && s.alone > 0 {
		return s.alone + overhead
	}
	return s.turn + overhead
}

func (s *step) total() (all time.Duration) {
	for _, c := range s.contestants {
		all += s.cost(c) * time.Duration(s.rounds)
	}
	return all
}

// progress knows how much there is to do and how long it has taken so far.
type progress struct {
	all, done time.Duration // by the steps' own estimates
	began     time.Time
}

func (p *progress) plan(s *step) {
	if p.began.IsZero() {
		p.began = time.Now()
	}
	p.all += s.total()
}

// skip leaves out a step that won't be done.
func (p *progress) skip(s *step) { p.all -= s.total() }

// left is about how long it will take, judging by how well the estimates were met.
func (p *progress) left() time.Duration {
	rest := p.all - p.done
	if p.done > 10*time.Second {
		rest = time.Duration(float64(rest) * float64(time.Since(p.began)) / float64(p.done))
	}
	return max(rest, 0)
}

// String is how a line of progress begins.
func (p *progress) String() string {
	share := 0
	if p.all > 0 {
		share = int(100 * p.done / p.all)
	}
	return fmt.Sprintf("%3d %%, %s left:", share, p.left().Round(time.Second))
}
