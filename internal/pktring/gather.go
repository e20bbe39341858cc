package pktring

import "time"

// gatherer decides whether to let frames gather that come in quick succession:
// many of them in one go cost less than one by one. It goes by the times at
// which the kernel took frames in. A frame that comes alone is never delayed,
// nor are those of a conversation: a reply comes later than closeGap.
type gatherer struct {
	last  int64 // when the last frame came, ns
	share int32 // of frames that came right after another, in 1/gatherOne
	gap   int32 // between those, ns
}

const (
	gatherOne  = 1 << 16
	closeGap   = 3000 // ns: frames so close come from who does not wait for answers
	gatherMost = 50 * time.Microsecond
	gatherMin  = 10 * time.Microsecond // less is not worth a sleep
	gatherWant = 32                    // frames
)

// note says when a frame came, ns of any clock.
func (g *gatherer) note(at int64) {
	gap := at - g.last
	g.last = at
	if gap < 0 { // frames of two CPUs
		gap = -gap
	}
	if gap > closeGap {
		g.share -= g.share / 32
		return
	}
	g.share += (gatherOne - g.share) / 32
	g.gap += (int32(gap) - g.gap) / 16
}

// pause is how long to let frames gather, where so many wait.
func (g *gatherer) pause(waiting int) time.Duration {
	if g.share < gatherOne*3/4 || waiting >= gatherWant {
		return 0
	}
	t := min(time.Duration(gatherWant-waiting)*time.Duration(g.gap), gatherMost)
	if t < gatherMin {
		return 0
	}
	return t
}
