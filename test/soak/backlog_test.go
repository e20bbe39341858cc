package soak

import (
	"testing"
	"time"

	"proxyarpd/internal/nstest"
)

// backlog watches the queues between sender and receiver of a veth, one a CPU for all
// of the machine: where others flood, packets are lost there, and no daemon can know of
// it.
type backlog struct {
	quit chan struct{}
	done chan []window
}

func watchBacklog(t testing.TB) *backlog {
	t.Helper()
	b := &backlog{quit: make(chan struct{}), done: make(chan []window, 1)}
	last := nstest.BacklogDrops(t)
	go b.watch(t, last)
	return b
}

func (b *backlog) watch(t testing.TB, last uint64) {
	defer close(b.done)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var all []window
	for at := time.Now(); ; {
		select {
		case <-b.quit:
			b.done <- all
			return
		case <-tick.C:
		}
		now := nstest.BacklogDrops(t)
		if now > last {
			const what = "the kernel's backlog was full"
			all = append(all, window{action: what, why: what, from: at.Add(-underWay), to: time.Now()})
		}
		last, at = now, time.Now()
	}
}

func (b *backlog) stop() []window {
	close(b.quit)
	return <-b.done
}
