package afpacket

import (
	"time"

	"proxyarpd/forward"
	"proxyarpd/forward/route"
)

// Where the kernel forwards, too, the ring's filter leaves to it what is ours
// while nobody reads the ring: the daemon was stopped, or got no CPU. Who comes
// back finds old frames in the ring, and the kernel ahead of them.
const (
	// lateAfter is how old a frame may be that is still sent then.
	lateAfter = 50 * time.Millisecond
	// The kernel keeps the traffic until the ring is empty, and for firstHold in
	// any case: a daemon that gets too little CPU would else change hands many
	// times a second, and each time reorder. If the next stall follows within
	// forgiven, it is holdFactor times as long, up to lastHold.
	firstHold  = 250 * time.Millisecond
	lastHold   = 64 * time.Second
	holdFactor = 8
	forgiven   = time.Minute
)

// stall is what a Conn knows of them.
type stall struct {
	on    bool // one is under way
	hold  time.Duration
	until time.Time // the kernel keeps the traffic at least until then
	ended time.Time // the last one
}

// begin notes a stall that was found.
func (s *stall) begin(now time.Time) {
	if s.hold = min(s.hold*holdFactor, lastHold); s.hold == 0 || now.Sub(s.ended) > forgiven {
		s.hold = firstHold
	}
	s.on, s.until = true, now.Add(s.hold)
}

// stalled reports whether the kernel has the traffic.
func (c *Conn) stalled() bool { return c.cfg.Window != nil && c.cfg.Window.Stalled() }

// standBack ends a stall that is over, and else says how long Recv may wait.
func (c *Conn) standBack(wait time.Duration) time.Duration {
	if !c.stalled() {
		return wait
	}
	now := time.Now()
	if !c.stall.on {
		c.stall.begin(now)
	}
	left := c.stall.until.Sub(now)
	switch {
	case left > 0:
	case c.sock.Ready() || c.waits():
		return wait
	default:
		c.cfg.Window.Resync(func() bool { return !c.sock.Ready() && !c.waits() })
		c.cfg.Window.Resume()
		c.stall.on, c.stall.ended = false, now
		return wait
	}
	if wait < 0 || wait > left {
		wait = left
	}
	return wait
}

// late is the time, ns since 1970, before which a frame must have been received to
// be dropped: 0 unless the kernel has the traffic.
func (c *Conn) late() int64 {
	if !c.stalled() {
		return 0
	}
	return time.Now().Add(-lateAfter).UnixNano()
}

// sendYoung sends what was not received before late, in order.
func (c *Conn) sendYoung(out []forward.Out, late int64) {
	old := func(o *forward.Out) bool { return o.Received != 0 && o.Received < late }
	for first := 0; first < len(out); {
		last := first
		for last < len(out) && !old(&out[last]) {
			last++
		}
		c.send(out[first:last])
		for ; last < len(out) && old(&out[last]); last++ {
			out[last].Err = route.DropStalled
		}
		first = last
	}
}
