package bench

import (
	"math"
	"time"
)

// A Histogram of times has buckets of equal width; the last one holds all that is longer.
const (
	bucketShift  = 8 // 256 ns a bucket
	buckets      = 1 << 18
	bucketWidth  = time.Duration(1 << bucketShift)
	longestTimed = buckets * bucketWidth // 67 ms
)

// Histogram counts times by bucket.
type Histogram []uint64

// Percentile is the upper edge of the bucket that holds the time which at least p percent of all do not exceed: at most
// 256 ns too much. It is infinite where that is the bucket of all times beyond 67 ms, and NaN of nothing.
func (h Histogram) Percentile(p float64) float64 {
	var total uint64
	for _, n := range h {
		total += n
	}
	if total == 0 {
		return math.NaN()
	}
	rank := max(1, uint64(math.Ceil(p/100*float64(total))))
	var seen uint64
	for i, n := range h {
		if seen += n; seen >= rank {
			if i == len(h)-1 {
				return math.Inf(1)
			}
			return float64((time.Duration(i+1) * bucketWidth).Nanoseconds()) / 1e3
		}
	}
	return math.Inf(1)
}
