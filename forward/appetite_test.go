package forward

import "testing"

// TestAppetite: more is taken at a time while that has many frames joined, and is
// tried now and then.
func TestAppetite(t *testing.T) {
	// joined is how many of so many frames leave with others where as many flows
	// take turns.
	joined := func(taken, flows int) int { return max(0, taken-flows) }
	for _, tt := range []struct{ flows, waiting, least, most int }{
		{1, 4096, BatchSize, BatchSize},
		{32, 4096, BatchSize, BatchSize},
		{200, 4096, BatchSize, BatchSize}, // which only a trial shows
		{1000, 4096, BatchUsual, BatchUsual},
		{1000, 300, BatchUsual, BatchUsual}, // a trial that finds less than it wants
		{1, 10, BatchUsual, BatchUsual},
	} {
		a := appetite{most: BatchUsual}
		frames, batches := 0, 0
		for range 100 * tryAfter {
			taken := min(a.most, tt.waiting)
			frames += taken
			batches++
			a.learn(taken, joined(taken, tt.flows))
			if a.most < BatchUsual || a.most > BatchSize {
				t.Fatalf("takes %d", a.most)
			}
		}
		mean := frames / batches
		if want := min(tt.least, tt.waiting); mean < want*9/10 || mean > min(tt.most, tt.waiting)*11/10 {
			t.Errorf("%d flows, %d waiting: %d frames a batch, want about %d", tt.flows, tt.waiting, mean, want)
		}
	}
}
