package bench

import (
	"math"
	"slices"
	"time"
)

// Median is the middle value, or the mean of the two in the middle; NaN of nothing.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(values))
	m := len(s) / 2
	if len(s)%2 == 1 {
		return s[m]
	}
	return (s[m-1] + s[m]) / 2
}

// Percentile is the smallest value that at least p percent of all values do not
// exceed (nearest rank); NaN of nothing. It interpolates nothing: the result is
// a value that was measured.
func Percentile(values []float64, p float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(values))
	rank := int(math.Ceil(p / 100 * float64(len(s))))
	return s[min(max(rank, 1), len(s))-1]
}

// Spread is the lowest and the highest value; NaN of nothing.
func Spread(values []float64) [2]float64 {
	if len(values) == 0 {
		return [2]float64{math.NaN(), math.NaN()}
	}
	return [2]float64{slices.Min(values), slices.Max(values)}
}

// Ratio is the median of values to the median of base; NaN where either is
// empty or base is 0.
func Ratio(values, base []float64) float64 {
	b := Median(base)
	if b == 0 {
		return math.NaN()
	}
	return Median(values) / b
}

// microseconds turns durations into what the tables speak.
func microseconds(ds []time.Duration) []float64 {
	us := make([]float64, len(ds))
	for i, d := range ds {
		us[i] = float64(d.Nanoseconds()) / 1e3
	}
	return us
}
