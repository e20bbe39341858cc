package daemon

import (
	"context"
	"maps"
	"os"
	"os/signal"
	"slices"
	"time"

	"golang.org/x/sys/unix"

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

// followSettings reads settings until ctx ends: in turn, and all on SIGHUP.
func (d *Daemon) followSettings(ctx context.Context) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, unix.SIGHUP)
	defer signal.Stop(hangup)
	tick := time.NewTicker(settingsTick)
	defer tick.Stop()
	for last := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			last = d.readSettings(last, settingsShare)
		case <-hangup:
			began := time.Now()
			d.readSettings(0, -1)
			d.log.Info("settings read again", "took", time.Since(began))
		}
	}
}

// readSettings reads those of n workload interfaces behind last in the order of
// their indices, -1: of all, and gives the index of the last. The lock is not
// held meanwhile.
func (d *Daemon) readSettings(last, n int) (next int) {
	d.mu.Lock()
	due, next := d.dueSettings(last, n)
	knownHost, knownAll := d.host, d.confAll
	known := make(map[int]ifConf, len(due))
	for index := range due {
		known[index] = d.ports[index].conf
	}
	d.mu.Unlock()

	host := readHostConf(knownHost)
	all, _ := readDevConf("all", knownAll)
	read := make(map[int]ifConf, len(due))
	for index, name := range due {
		conf, err := readIfConf(name, known[index])
		if read[index] = conf; err != nil {
			next = last // they are due again
		}
	}

	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.synced {
		return next
	}
	d.host = host
	d.builder.SetHost(host)
	d.setAll(all)
	for index, c := range read {
		// The name may have become another interface's meanwhile.
		if l, p := d.links[index], d.ports[index]; l != nil && p != nil && l.Name == due[index] && p.opened && p.conf != c {
			p.conf = c
			d.builder.SetLink(d.link(l, p))
		}
	}
	d.publish()
	return next
}

// dueSettings are the names of the interfaces to be read, by index.
func (d *Daemon) dueSettings(last, n int) (due map[int]string, next int) {
	due = map[int]string{}
	var workloads []int
	for index, p := range d.ports {
		switch l := d.links[index]; {
		case l == nil:
		case p.role == roleWorkload && n >= 0:
			workloads = append(workloads, index)
		default:
			due[index] = l.Name
		}
	}
	slices.Sort(workloads)
	at, _ := slices.BinarySearch(workloads, last+1)
	for i := range min(max(n, 0), len(workloads)) {
		last = workloads[(at+i)%len(workloads)]
		due[last] = d.links[last].Name
	}
	return due, last
}

// setAll takes the settings of "all".
func (d *Daemon) setAll(all devConf) {
	if d.confAll == all {
		return
	}
	d.confAll = all
	for index := range maps.Keys(d.ports) {
		if l := d.links[index]; l != nil {
			d.builder.SetLink(d.link(l, d.ports[index]))
		}
	}
}

// noteNetconf follows a setting that the kernel tells of.
func (d *Daemon) noteNetconf(n *netstate.Netconf) {
	if n.Index == netstate.AllLinks {
		if n.RPFilter {
			all, _ := readDevConf("all", d.confAll)
			d.setAll(all)
		}
		return
	}
	l, p := d.links[n.Index], d.ports[n.Index]
	if l == nil || p == nil {
		return
	}
	if n.RPFilter && p.opened && p.role == roleUplink { // for workloads --rp-filter counts
		p.conf, _ = readIfConf(l.Name, p.conf) // uplinks are read again at the next tick
	}
	d.dirty.links[n.Index] = true
}
