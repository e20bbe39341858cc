package forward

// appetite is how many frames the loop takes at a time. The more of a flow are
// taken together, the more of them leave as one; but many frames of different
// flows only fall out of the CPU's cache before they are sent. So it takes more
// while that has many of them joined, and now and then tries whether it would.
type appetite struct {
	most    int
	batches int // full ones since more were last tried
}

// tryAfter is after how many full batches more are tried.
const tryAfter = 256

// learn is told of a batch: how many frames were taken, and how many of them
// left as part of an earlier one.
func (a *appetite) learn(taken, joined int) {
	switch {
	case taken < BatchUsual: // nothing more was there
	case joined*2 >= taken:
		a.most = min(2*a.most, BatchSize)
	case a.most > BatchUsual:
		a.most = BatchUsual
	default:
		if a.batches++; a.batches == tryAfter {
			a.batches, a.most = 0, BatchSize
		}
	}
}
