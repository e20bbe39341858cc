package arpd

import "time"

// limit is a rate as a token bucket sees it. The zero value allows everything.
type limit struct {
	cost int64 // nanoseconds of credit that one answer takes
	full int64 // credit that may be saved up
}

func newLimit(perSecond, burst int) limit {
	if perSecond <= 0 {
		return limit{}
	}
	cost := max(int64(time.Second)/int64(perSecond), 1)
	return limit{cost: cost, full: cost * int64(max(burst, 1))}
}

// bucket is the state of one interface. Time is its only currency: credit grows
// by a nanosecond each nanosecond, so that nothing is lost to rounding however
// often it is asked.
type bucket struct {
	credit int64
	last   int64
}

func newBucket(l limit, now int64) bucket { return bucket{credit: l.full, last: now} }

// take reports whether one more answer is allowed at time now (nanoseconds of any
// monotonic clock).
func (b *bucket) take(l limit, now int64) bool {
	if l.cost == 0 {
		return true
	}
	if now > b.last {
		b.credit = min(b.credit+(now-b.last), l.full)
		b.last = now
	}
	if b.credit < l.cost {
		return false
	}
	b.credit -= l.cost
	return true
}

// wait is how long until one more is allowed, after take has refused one.
func (b *bucket) wait(l limit) time.Duration { return time.Duration(max(l.cost-b.credit, 0)) }
