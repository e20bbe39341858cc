package ebpf

import (
	"errors"
	"fmt"
	"sync"

	"github.com/vishvananda/netlink"

	"proxyarpd/internal/engine"
)

// egress follows the kernel's counters of what devices and queueing disciplines
// drop: behind the programs nothing else tells of it.
type egress struct {
	mu   sync.Mutex
	base map[int32]engine.EgressDrops // what there was when it began
	last map[int32]engine.EgressDrops // since then, by interface
	gone engine.EgressDrops           // of interfaces that have left
}

func newEgress() (*egress, error) {
	base, err := readEgress()
	return &egress{base: base, last: map[int32]engine.EgressDrops{}}, err
}

// readEgress reads those counters of all interfaces.
func readEgress() (map[int32]engine.EgressDrops, error) {
	links, err := netlink.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("counters of interfaces: %w", err)
	}
	all := make(map[int32]engine.EgressDrops, len(links))
	for _, l := range links {
		if a := l.Attrs(); a.Statistics != nil {
			all[int32(a.Index)] = engine.EgressDrops{Device: a.Statistics.TxDropped}
		}
	}
	qdiscs, err := netlink.QdiscList(nil)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("counters of queueing disciplines: %w", err)
	}
	for _, q := range qdiscs {
		a := q.Attrs()
		if a.Parent == netlink.HANDLE_ROOT && a.Statistics != nil && a.Statistics.Queue != nil { // which counts for those below it
			d := all[int32(a.LinkIndex)]
			d.Qdisc += uint64(a.Statistics.Queue.Drops)
			all[int32(a.LinkIndex)] = d
		}
	}
	return all, nil
}

// update brings last up to date: of interfaces that serves names. A counter that
// has begun anew, as a queueing discipline's that was replaced, goes on from
// what it was.
func (g *egress) update(now map[int32]engine.EgressDrops, serves func(ifindex int32) bool) {
	for ifindex, was := range g.last {
		if _, there := now[ifindex]; !there {
			g.gone.Add(was)
			delete(g.last, ifindex)
		}
	}
	for ifindex, is := range now {
		base := g.base[ifindex]
		if serves(ifindex) {
			d := g.last[ifindex]
			d.Device += since(is.Device, base.Device)
			d.Qdisc += since(is.Qdisc, base.Qdisc)
			g.last[ifindex] = d
		}
	}
	g.base = now
}

// since is by how much a counter has grown.
func since(is, was uint64) uint64 {
	if is < was {
		return is
	}
	return is - was
}

// read gives what has been dropped on each interface, and on all, those that have
// left included.
func (g *egress) read(serves func(ifindex int32) bool) (each map[int32]engine.EgressDrops, sum engine.EgressDrops, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now, err := readEgress()
	if err != nil {
		return nil, sum, err
	}
	g.update(now, serves)
	each, sum = make(map[int32]engine.EgressDrops, len(g.last)), g.gone
	for ifindex, d := range g.last {
		each[ifindex] = d
		sum.Add(d)
	}
	return each, sum, nil
}
