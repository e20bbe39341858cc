package daemon

import (
	"slices"
	"time"

	"proxyarpd/internal/netstate"
)

// The kernel tells of a change of forwarding and rp_filter; all other settings
// are read again and again: those of the host, of "all" interfaces and of
// uplinks at each tick, those of workload interfaces some at a time. Each
// interface takes some 10 files.
const (
	settingsTick  = 5 * time.Second
	settingsShare = 32 // workload interfaces a tick
)

// readInTurn has settings read that are due at a tick.
func (o *owner) readInTurn() { o.turn(settingsShare, time.Time{}) }

// readAll has all settings read.
func (o *owner) readAll() { o.turn(-1, time.Now()) }

// turn has the settings of n workload interfaces read behind the last one, -1: of
// all.
func (o *owner) turn(n int, hangup time.Time) {
	if o.phase != serving {
		return
	}
	if t := o.work.turn; t != nil && !t.hangup.IsZero() {
		return // all are about to be read
	}
	due, last := dueSettings(o.ports, o.last, n)
	o.work.turn = &readErrand{host: true, all: true, ifs: o.toRead(due), last: last, hangup: hangup}
}

// dueSettings are the ports whose settings are to be read: all uplinks, and n
// workload interfaces behind last in the order of their indices, -1: all. next is
// the index of the last of those.
func dueSettings(ports map[int]*port, last, n int) (due []ref, next int) {
	var workloads []int
	for index, p := range ports {
		if p.role == roleWorkload && n >= 0 {
			workloads = append(workloads, index)
		} else {
			due = append(due, p.ref)
		}
	}
	slices.Sort(workloads)
	at, _ := slices.BinarySearch(workloads, last+1)
	for i := range min(max(n, 0), len(workloads)) {
		last = workloads[(at+i)%len(workloads)]
		due = append(due, ports[last].ref)
	}
	return due, last
}

// take follows what was read.
func (r settingsRead) take(o *owner) error {
	if r.host {
		o.host = r.knownHost
		o.builder.SetHost(o.host)
	}
	var again []int
	if r.all && (o.confAll != r.knownAll || o.confAll6 != r.knownAll6) {
		o.confAll, o.confAll6 = r.knownAll, r.knownAll6
		for index := range o.ports {
			again = append(again, index)
		}
	}
	whole := true
	for _, i := range r.ifs {
		l, p := o.find(i.ref)
		if p == nil || l.Name != i.name {
			continue // the name may have become another interface's meanwhile
		}
		opening := p.read != done
		if i.err == nil {
			p.read = done
		} else if whole = false; opening {
			p.read = short
			o.fellShort(l, "not all settings are read yet", i.err)
		}
		if opening || p.conf != i.known {
			p.conf = i.known
			again = append(again, i.index)
		}
	}
	if r.last != 0 && whole { // else they are due again
		o.last = r.last
	}
	if !r.hangup.IsZero() {
		o.log.Info("settings read again", "took", time.Since(r.hangup))
	}
	o.look(again...)
	return o.failed
}

// noteNetconf follows a setting that the kernel tells of. Uplinks have the
// rp_filter that they are given; for workloads --rp-filter counts.
func (o *owner) noteNetconf(n *netstate.Netconf) {
	if n.Index == netstate.AllLinks {
		if n.RPFilter {
			o.work.allConf = true
		}
		return
	}
	p := o.ports[n.Index]
	if p == nil {
		return
	}
	if n.RPFilter && p.role == roleUplink {
		o.work.again = append(o.work.again, p.ref)
	}
	o.dirty.links[n.Index] = true
}
