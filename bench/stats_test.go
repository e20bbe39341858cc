package bench

import (
	"math"
	"testing"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		in   []float64
		want float64
	}{
		{nil, math.NaN()}, {[]float64{7}, 7}, {[]float64{3, 1, 2}, 2}, {[]float64{4, 1, 3, 2}, 2.5}, {[]float64{1, 1, 1000}, 1},
	} {
		if got := Median(c.in); got != c.want && !(math.IsNaN(got) && math.IsNaN(c.want)) {
			t.Errorf("Median(%v) = %v, want %v", c.in, got, c.want)
		}
	}
	in := []float64{3, 1, 2}
	if Median(in); in[0] != 3 {
		t.Error("Median sorts its argument")
	}
}

func TestPercentile(t *testing.T) {
	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[i] = float64(100 - i) // 100 .. 1
	}
	for _, c := range []struct {
		in      []float64
		p, want float64
	}{
		{hundred, 50, 50}, {hundred, 99, 99}, {hundred, 99.1, 100}, {hundred, 100, 100}, {hundred, 0, 1},
		{[]float64{5}, 99, 5}, {[]float64{1, 2}, 50, 1}, {[]float64{1, 2}, 51, 2}, {nil, 50, math.NaN()},
	} {
		if got := Percentile(c.in, c.p); got != c.want && !(math.IsNaN(got) && math.IsNaN(c.want)) {
			t.Errorf("Percentile(%d values, %v) = %v, want %v", len(c.in), c.p, got, c.want)
		}
	}
}

func TestSpreadAndRatio(t *testing.T) {
	if got := Spread([]float64{2, 9, 4}); got != [2]float64{2, 9} {
		t.Errorf("Spread = %v", got)
	}
	if got := Spread(nil); !math.IsNaN(got[0]) || !math.IsNaN(got[1]) {
		t.Errorf("Spread of nothing = %v", got)
	}
	if got := Ratio([]float64{1, 9, 3}, []float64{2, 2, 100}); got != 1.5 {
		t.Errorf("Ratio = %v, want 1.5", got)
	}
	for _, base := range [][]float64{nil, {0}} {
		if got := Ratio([]float64{1}, base); !math.IsNaN(got) {
			t.Errorf("Ratio to %v = %v, want NaN", base, got)
		}
	}
}
