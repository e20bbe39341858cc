package bench

import (
	"math"
	"testing"
)

func TestHistogram(t *testing.T) {
	h := make(Histogram, buckets)
	if got := h.Percentile(50); !math.IsNaN(got) {
		t.Errorf("of nothing: %v", got)
	}
	h[0], h[9], h[buckets-1] = 50, 49, 1
	for _, c := range []struct{ p, want float64 }{{0, 0.256}, {50, 0.256}, {50.1, 2.56}, {99, 2.56}, {99.1, math.Inf(1)}, {100, math.Inf(1)}} {
		if got := h.Percentile(c.p); got != c.want {
			t.Errorf("p%v = %v, want %v", c.p, got, c.want)
		}
	}
}
