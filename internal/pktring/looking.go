package pktring

import "sync/atomic"

// looking counts the rings of a group whose threads look at them before they
// sleep: more of them than there are CPUs to spare would take these from those
// who are to send the next frame.
type looking struct{ n atomic.Int32 }

// begin is false if so many look already; 0 is no limit.
func (l *looking) begin(most int32) bool {
	if l.n.Add(1) <= most || most == 0 {
		return true
	}
	l.n.Add(-1)
	return false
}

func (l *looking) end() { l.n.Add(-1) }
