package soak

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// backlog watches the queues between sender and receiver of a veth, one a CPU for all
// of the machine (net.core.netdev_max_backlog): where others flood, packets are lost
// there, and no daemon can know of it.
type backlog struct {
	quit chan struct{}
	done chan []window
}

func watchBacklog(t testing.TB) *backlog {
	t.Helper()
	if _, err := backlogDrops(); err != nil {
		t.Fatal(err)
	}
	b := &backlog{quit: make(chan struct{}), done: make(chan []window, 1)}
	go func() { b.done <- b.watch(t) }()
	return b
}

func (b *backlog) watch(t testing.TB) (all []window) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	last, err := backlogDrops()
	for at := time.Now(); err == nil; {
		select {
		case <-b.quit:
			return all
		case <-tick.C:
		}
		var now uint64
		if now, err = backlogDrops(); now > last {
			const what = "the kernel's backlog was full"
			all = append(all, window{action: what, why: what, from: at.Add(-underWay), to: time.Now()})
		}
		last, at = now, time.Now()
	}
	t.Errorf("softnet_stat: %v", err)
	return all
}

func (b *backlog) stop() []window {
	close(b.quit)
	return <-b.done
}

// backlogDrops is the second column of /proc/net/softnet_stat, of all CPUs.
func backlogDrops() (sum uint64, err error) {
	b, err := os.ReadFile("/proc/net/softnet_stat")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		var processed, dropped uint64
		if _, err := fmt.Sscanf(line, "%x %x", &processed, &dropped); err != nil {
			return 0, fmt.Errorf("%q: %w", line, err)
		}
		sum += dropped
	}
	return sum, nil
}
