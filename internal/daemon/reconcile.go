package daemon

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/arpd"
	"proxyarpd/forward"
	"proxyarpd/forward/claim"
	"proxyarpd/internal/netstate"
	"proxyarpd/internal/shortage"
	"proxyarpd/internal/wire"
)

type macAddr = wire.MAC

// Shares of the ring's 4096 slots that one interface may hold: a flood of one
// delays the others by at most that many packets, and never takes the last slot.
const (
	workloadQuota = 1024
	uplinkQuota   = 3072
)

// apply takes one batch of the kernel's events. It runs on the watcher's goroutine.
func (d *Daemon) apply(events []netstate.Event) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	first := false
	for i := range events {
		if events[i].Op == netstate.Synced {
			if first, d.synced = !d.synced, true; !first {
				d.noteReborn()
			}
			continue
		}
		d.note(&events[i])
	}
	if !d.synced {
		return nil // half a picture would close and open ports at random
	}
	if first {
		if err := d.start(); err != nil {
			return err
		}
	}
	if err := d.reconcile(); err != nil {
		return err
	}
	if first {
		return d.started()
	}
	return nil
}

// noteReborn is for when events were lost: an interface whose tc program has
// gone with it is another, though it bears the same index and maybe name.
func (d *Daemon) noteReborn() {
	if d.claim == nil {
		return
	}
	for _, index := range d.claim.Orphans() {
		d.dirty.links[int(index)], d.dirty.gone[int(index)] = true, true
	}
}

// note keeps one event and marks what it touches.
func (d *Daemon) note(e *netstate.Event) {
	del := e.Op == netstate.Delete
	switch {
	case e.Link != nil:
		d.noteLink(e.Link, del)
	case e.Address != nil:
		d.noteAddress(e.Address, del)
	case e.Routes != nil:
		d.noteRoutes(e.Routes)
	case e.Rule != nil:
		d.noteRule(e.Rule, del)
	case e.Netconf != nil:
		d.noteNetconf(e.Netconf)
	case e.Neighbour != nil:
		d.noteNeighbour(e.Neighbour, del)
	}
}

func (d *Daemon) noteLink(l *netstate.Link, del bool) {
	d.dirty.links[l.Index] = true
	if del {
		d.dirty.gone[l.Index] = true
		d.asking.forget(int32(l.Index))
		delete(d.links, l.Index)
		delete(d.addrs, l.Index)
		return
	}
	said := ""
	if old := d.links[l.Index]; old != nil {
		if said = d.leftAlone(old); old.Name != l.Name {
			d.macs.Renamed(l.Index, l.Name)
		}
	}
	d.links[l.Index] = l
	if d.synced { // else start says it
		d.warnLeftAlone(l, said)
	}
	d.builder.SetGroup(int32(l.Index), l.Group)
}

// addressPlace is where the kernel has a new address among those of its link
// (net/ipv4/devinet.c, __inet_insert_ifa).
func addressPlace(list []netstate.Address, a *netstate.Address) int {
	if a.Flags&unix.IFA_F_SECONDARY != 0 {
		return len(list)
	}
	for i := len(list) - 1; i >= 0; i-- {
		if list[i].Flags&unix.IFA_F_SECONDARY == 0 && a.Scope <= list[i].Scope {
			return i + 1
		}
	}
	return 0
}

func (d *Daemon) noteAddress(a *netstate.Address, del bool) {
	d.dirty.addrs[a.Index] = true
	list := d.addrs[a.Index]
	if list == nil {
		list = &addressList{have: map[addressKey]bool{}}
		d.addrs[a.Index] = list
	}
	list.note(a, del)
}

// addressList are the addresses of an interface in the kernel's order. There may
// be tens of thousands (a service proxy's).
type addressList struct {
	all  []netstate.Address
	have map[addressKey]bool
}

type addressKey struct {
	local  netip.Addr
	prefix netip.Prefix
}

func (l *addressList) note(a *netstate.Address, del bool) {
	key := addressKey{a.Local, a.Prefix}
	if !l.have[key] {
		if !del {
			l.have[key] = true
			l.all = slices.Insert(l.all, addressPlace(l.all, a), *a)
		}
		return
	}
	at := slices.IndexFunc(l.all, func(o netstate.Address) bool { return o.Local == a.Local && o.Prefix == a.Prefix })
	if del {
		delete(l.have, key)
		l.all = slices.Delete(l.all, at, at+1)
	} else {
		l.all[at] = *a
	}
}

func (d *Daemon) noteRoutes(set *netstate.RouteSet) {
	if !set.Dst.Addr().Is4() {
		return
	}
	d.builder.SetRoutes(set.Table, set.Dst, d.scratch.convert(set))
	d.dirty.roles = d.builder.UsedLinksChanged() || d.dirty.roles
}

func (d *Daemon) noteRule(r *netstate.Rule, del bool) {
	d.dirty.rules = true
	d.rules = slices.DeleteFunc(d.rules, func(o netstate.Rule) bool { return o == *r })
	if !del {
		d.rules = append(d.rules, *r)
	}
}

// reconcile brings ports, maps and tables up to date with what was noted.
func (d *Daemon) reconcile() error {
	if d.dirty.rules {
		all := make([]forward.Rule, 0, len(d.rules))
		for i := range d.rules {
			all = append(all, rule(&d.rules[i]))
		}
		d.builder.SetRules(all)
	}
	if d.dirty.roles {
		d.notIdle()
	}
	for index := range d.dirty.addrs {
		if d.links[index] == nil {
			continue // gone, and they with it
		}
		d.builder.SetAddresses(int32(index), d.addresses(index))
	}
	if len(d.dirty.links) > 0 {
		d.taps.linksChanged()
	}
	for index := range d.dirty.links {
		d.describe(index)
	}
	d.publish()
	for index := range d.dirty.links {
		d.admit(index)
	}
	d.publish()
	links := len(d.dirty.links) > 0 // routes alone make nothing ready, and may be many
	d.dirty = newDirty()
	if links {
		d.signalReady()
	}
	return nil
}

// notIdle looks again at uplinks that a route leads over now: they were left to
// the claimer's leisure.
func (d *Daemon) notIdle() {
	for index, l := range d.links {
		if p := d.ports[index]; p != nil && !p.opened && p.failed == nil && !d.idle(l, p) {
			d.dirty.links[index] = true
		}
	}
}

// describe makes, changes or closes the port of one interface, as far as that
// comes before the new tables are published.
func (d *Daemon) describe(index int) {
	l := d.links[index]
	if l == nil || d.dirty.gone[index] {
		d.closePort(index)
		d.forget(index)
	}
	if l == nil {
		return
	}
	r := d.roleOf(l)
	p := d.ports[index]
	if p != nil && p.role != r {
		d.closePort(index)
		p = nil
	}
	if r == roleNone {
		return
	}
	if p == nil {
		p = &port{role: r, conf: kernelConf}
		d.ports[index] = p
		d.log.Debug("interface", "name", l.Name, "index", index, "role", r)
	}
	if r == roleWorkload {
		p.aliases = d.aliases(l, p)
		d.setPolicy(l, p)
	}
	if d.claim != nil {
		// The slot first: frames are counted by it from the first on.
		slot, err := d.claim.SetPort(d.claimPort(l, p))
		if err != nil {
			d.fail(l, p, err)
			return
		}
		p.slot = slot
	}
	d.builder.SetLink(d.link(l, p)) // with engine none too: --rp-filter gates answers
}

// forget lets go of what is known of an interface that has gone. If there is
// another of the same index, that is known already.
func (d *Daemon) forget(index int) {
	if d.macs != nil {
		d.macs.Forget(index)
	}
	delete(d.left, index)
	if d.links[index] == nil {
		d.builder.ForgetLink(int32(index))
	}
}

func (d *Daemon) claimPort(l *netstate.Link, p *port) claim.Port {
	c := claim.Port{Ifindex: int32(l.Index), Forward: p.forwards, Workload: p.role == roleWorkload,
		Anywhere: p.role == roleWorkload || d.cfg.Transit, KernelForwards: l.Forwards,
		Quota: uplinkQuota, Aliases: p.aliases}
	if layerOf(l) == ethernet {
		c.L2Len = wire.EthernetLen
	}
	if c.Workload {
		c.Quota = workloadQuota
	}
	return c
}

// admit lets frames of an interface in, now that the tables know it. Where the
// kernel does not forward this needs no lock of the kernel's and is done at
// once, so that a new pod's first packet finds its way; the rest is the
// opener's.
func (d *Daemon) admit(index int) {
	l, p := d.links[index], d.ports[index]
	if l == nil || p == nil {
		return
	}
	if shapingChanged(l, p) {
		p.checked, p.opened = false, false
	}
	switch {
	case d.loop == nil || p.refused:
	case p.forwards && d.kernelForwards(l) != nil:
		// Somebody has turned forwarding on: claimed at once, or not ours.
		p.forwards, p.opened = false, false
		d.describe(index)
	case !p.forwards && p.failed == nil && d.left[index] == nil && d.kernelForwards(l) == nil:
		d.takeFrames(l, p)
	}
	if !p.opened || d.wantsMAC(l, p) {
		d.toOpen[index] = true
		select {
		case d.openNow <- struct{}{}:
		default:
		}
	}
}

func (d *Daemon) takeFrames(l *netstate.Link, p *port) {
	p.forwards = true
	if d.claim == nil {
		return
	}
	if _, err := d.claim.SetPort(d.claimPort(l, p)); err != nil {
		p.forwards = false
		d.fail(l, p, err)
	}
}

// fail leaves an interface to the kernel and says why.
func (d *Daemon) fail(l *netstate.Link, p *port, err error) {
	if p.failed == nil || p.failed.Error() != err.Error() {
		d.log.Error("interface is not forwarded for", "interface", l.Name, "err", err)
	}
	p.failed = err
	if shortage.Passing(err) {
		d.later(l.Index)
	}
}

func (d *Daemon) closePort(index int) {
	p := d.ports[index]
	if p == nil {
		return
	}
	delete(d.ports, index)
	d.freed(index)
	d.builder.DeleteLink(int32(index))
	d.dirty.publish = true
	if d.claim != nil {
		if err := d.claim.DeletePort(int32(index)); err != nil {
			d.log.Error("interface not let go", "index", index, "err", err)
		}
	}
}

// aliases are the further MACs that mean a workload interface: the one that is
// answered, if the device does not have it, and the one it had before.
func (d *Daemon) aliases(l *netstate.Link, p *port) (a [2]macAddr) {
	if answer := d.answer(l, p); answer != macAddr(l.MAC) || d.ending {
		a[0] = answer
	}
	if d.macs != nil {
		if orig, ok := d.macs.Original(l.Index); ok && (orig != l.MAC || d.ending) {
			a[1] = orig
		}
	}
	return a
}

// answer is the MAC that ARP replies give on an interface.
func (d *Daemon) answer(l *netstate.Link, p *port) macAddr {
	if d.answersOwn(l, p) {
		return l.MAC
	}
	return d.cfg.MAC
}

func (d *Daemon) setPolicy(l *netstate.Link, p *port) {
	pol := &arpd.Policy{
		Index: l.Index, Name: l.Name, Own: l.MAC, Answer: d.answer(l, p),
		Settled: settled(l), Gateways: d.cfg.Gateways, Proxy: d.cfg.Proxy, Routes: &d.proxy,
	}
	if p.aliases[1] != (macAddr{}) {
		pol.Alias = []macAddr{p.aliases[1]}
	}
	if old := p.policy; old != nil && old.Name == pol.Name && old.Settled == pol.Settled && old.Own == pol.Own && old.Answer == pol.Answer && slices.Equal(old.Alias, pol.Alias) {
		return
	}
	p.policy = pol
	d.dirty.publish = true
}

// publish hands new snapshots to responder and datapath.
func (d *Daemon) publish() {
	if d.builder.Dirty() {
		t := d.builder.Publish()
		d.proxy.table.Store(t)
		if d.loop != nil {
			d.loop.Publish(t)
		}
	}
	d.tellClasses()
	if !d.dirty.publish {
		return
	}
	d.dirty.publish = false
	d.arp.Publish(d.policies())
}

// policies are what the responder is to answer by.
func (d *Daemon) policies() map[int]*arpd.Policy {
	all := make(map[int]*arpd.Policy, len(d.ports))
	for index, p := range d.ports {
		if p.policy != nil {
			all[index] = p.policy
		}
	}
	return all
}

// tellClasses brings what the ring's filter knows of destinations up to date. One
// that it can't be told of is taken like any other, and given back.
func (d *Daemon) tellClasses() {
	if d.claim == nil || d.loop == nil || !d.synced {
		return
	}
	var first error
	untold := 0
	d.builder.UpdateClasses(func(p netip.Prefix, c forward.Class) {
		if err := d.claim.SetClass(p, claim.Class(c)); err != nil {
			first = cmp.Or(first, err)
			untold++
		}
	})
	if d.untold += untold; first != nil {
		d.log.Error("the ring's filter does not know all destinations", "missed", untold, "err", first)
	}
}

// lookup answers the responder about an interface whose event has not come
// yet: the frame was faster. Everything that the workload needs is in place
// before its first answer leaves.
func (d *Daemon) lookup(ifindex int) (*arpd.Policy, bool) {
	l, err := d.req.LinkByIndex(ifindex)
	if err != nil {
		return nil, true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.synced {
		return nil, true
	}
	if d.roleOf(l) != roleWorkload {
		return nil, false
	}
	if d.links[ifindex] == nil {
		d.noteLink(l, false)
		_ = d.reconcile()
	}
	if p := d.ports[ifindex]; p != nil && p.policy != nil {
		return p.policy, true
	}
	return nil, true
}

// isReady: every workload interface that is up is answered and, unless the
// engine is none, forwarded for.
func (d *Daemon) isReady() (bool, string) {
	if !d.synced {
		return false, "reading the kernel's state"
	}
	for index, l := range d.links {
		if d.roleOf(l) != roleWorkload || !l.Up() {
			continue
		}
		p := d.ports[index]
		switch {
		case p == nil || p.policy == nil:
			return false, l.Name + " is not answered"
		case p.failed != nil:
			return false, fmt.Sprintf("%s: %v", l.Name, p.failed)
		case !p.opened || (d.loop != nil && !p.forwards):
			return false, l.Name + " is not forwarded for yet"
		}
	}
	return true, ""
}

// signalReady wakes those who wait for readiness; what is ready may stop being
// so when an interface appears.
func (d *Daemon) signalReady() {
	ok, _ := d.isReady()
	if !ok {
		return
	}
	if !d.announced {
		d.announced = true
		d.log.Info("ready", "workloads", d.countRole(roleWorkload), "uplinks", d.countRole(roleUplink),
			"after", time.Since(d.began).Round(time.Millisecond))
	}
	close(d.ready)
	d.ready = make(chan struct{})
}

// waitReady gives a channel that is closed when the daemon is ready, at once
// if it is now.
func (d *Daemon) waitReady() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if ok, _ := d.isReady(); ok {
		c := make(chan struct{})
		close(c)
		return c
	}
	return d.ready
}

func (d *Daemon) countRole(r role) (n int) {
	for _, p := range d.ports {
		if p.role == r {
			n++
		}
	}
	return n
}
