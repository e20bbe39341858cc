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

// nanoseconds returns the time of a stamp. One that an int64 can't hold, before
// 1677 or after 2262, becomes the first or the last that it can.
func (c clock) nanoseconds(ticks uint64) int64 {
	if c.perSecond == 1e9 && c.offset == 0 && ticks <= math.MaxInt64 {
		return int64(ticks)
	}
	seconds, rest := ticks/c.perSecond, ticks%c.perSecond
	// rest < perSecond, so that the quotient is less than 1e9.
	hi, lo := bits.Mul64(rest, 1e9)
	fraction, _ := bits.Div64(hi, lo, c.perSecond)
	return saturatedTime(seconds, c.offset, int64(fraction))
}

// saturatedTime returns (seconds+offset)*1e9 + fraction, for 0 <= fraction < 1e9,
// without overflow.
func saturatedTime(seconds uint64, offset, fraction int64) int64 {
	const most = math.MaxInt64 / 1_000_000_000 // s; either way from 1970
	sum, carry := bits.Add64(seconds, uint64(offset), 0)
	if offset < 0 {
		carry-- // uint64(offset) is offset + 1<<64
	}
	switch whole := int64(sum); {
	case carry == 0 && sum < most:
		return whole*1e9 + fraction
	case carry == math.MaxUint64 && whole < 0 && whole >= -most:
		return whole*1e9 + fraction
	case carry == math.MaxUint64:
		return math.MinInt64
	}
	return math.MaxInt64
}
