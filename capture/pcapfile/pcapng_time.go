package pcapfile

import (
	"math"
	"math/bits"
)

// clock turns an interface's time stamps into nanoseconds since 1970.
type clock struct {
	perSecond uint64 // ticks; never 0
	offset    int64  // seconds to add
}

const resolutionBinary = 0x80

// ticksPerSecond returns what an if_tsresol means, and false for one that does
// not fit into 64 bits.
func ticksPerSecond(resolution uint8) (uint64, bool) {
	n := resolution &^ resolutionBinary
	if resolution&resolutionBinary != 0 {
		return 1 << n, n <= 63
	}
	if n > 19 {
		return 0, false
	}
	v := uint64(1)
	for range n {
		v *= 10
	}
	return v, true
}

// stamp returns the time of a stamp; what 64 bits can't hold wraps, as in libpcap.
func (c clock) stamp(ticks uint64) Stamp {
	if c.perSecond == 1e9 {
		return Stamp{int64(ticks/1e9 + uint64(c.offset)), int64(ticks % 1e9)}
	}
	seconds, rest := ticks/c.perSecond, ticks%c.perSecond
	// rest < perSecond, so that the quotient is less than 1e9.
	hi, lo := bits.Mul64(rest, 1e9)
	fraction, _ := bits.Div64(hi, lo, c.perSecond)
	return Stamp{int64(seconds + uint64(c.offset)), int64(fraction)}
}

// nanoseconds returns what an int64 can hold of the time of a stamp: one before
// 1677 or after 2262 becomes the first or the last that it can.
func (c clock) nanoseconds(ticks uint64) int64 {
	s := c.stamp(ticks)
	_, carry := bits.Add64(ticks/c.perSecond, uint64(c.offset), 0)
	if c.offset < 0 {
		carry-- // uint64(offset) is offset + 1<<64
	}
	const most = math.MaxInt64 / 1_000_000_000 // s; either way from 1970
	switch {
	case carry == 0 && s.Seconds >= 0 && s.Seconds < most, carry == math.MaxUint64 && s.Seconds < 0 && s.Seconds >= -most:
		return s.Seconds*1e9 + s.Nanoseconds
	case carry == math.MaxUint64:
		return math.MinInt64
	}
	return math.MaxInt64
}
