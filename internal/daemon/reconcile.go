package daemon

import (
	"bytes"
	"cmp"
	"net/netip"
	"slices"

	"proxyarpd/arpd"
	"proxyarpd/forward/route"
	"proxyarpd/internal/netstate"
)

// dirty says what has to be looked at again.
type dirty struct {
	links   map[int]bool
	gone    map[int]bool // interfaces that went; if there is one of that index, it is another
	roles   bool         // which interfaces routes lead over may have changed
	publish bool         // policies of the responder
}

func newDirty() dirty { return dirty{links: map[int]bool{}, gone: map[int]bool{}} }

// hear takes one batch of the kernel's events.
func (o *owner) hear(events []netstate.Event) error {
	for i := range events {
		if events[i].Op == netstate.Synced {
			o.noteSynced()
			continue
		}
		o.note(&events[i])
	}
	if o.phase < serving {
		o.taps.Publish() // they may look already
		return nil       // half a picture would close and open ports at random
	}
	o.reconcile()
	return o.failed
}

// noteSynced is for when all of the kernel's state has been read. The first time
// the daemon begins. Later events were lost: an interface whose tc program has
// gone with it is another, though it bears the same index and maybe name.
func (o *owner) noteSynced() {
	if o.phase == reading {
		o.begin()
		return
	}
	for _, index := range o.eng.Orphans() {
		o.dirty.links[int(index)], o.dirty.gone[int(index)] = true, true
	}
}

// note keeps one event and marks what it touches.
func (o *owner) note(e *netstate.Event) {
	del := e.Op == netstate.Delete
	switch {
	case e.Link != nil:
		o.noteLink(e.Link, del)
	case e.Addresses != nil:
		o.noteAddresses(e.Addresses)
	case e.Routes != nil:
		o.noteRoutes(e.Routes)
	case e.Rules != nil:
		o.builder.SetRules(family(e.Rules.Family), rules(e.Rules))
		o.herald.all = true
	case e.Netconf != nil:
		o.noteNetconf(e.Netconf)
	case e.Neighbour != nil:
		o.noteNeighbour(e.Neighbour, del)
	}
}

func (o *owner) noteLink(l *netstate.Link, del bool) {
	o.dirty.links[l.Index] = true
	if del {
		o.dirty.gone[l.Index] = true
		o.asking.forget(int32(l.Index))
		delete(o.links, l.Index)
		delete(o.discovery.linkLocal, l.Index)
		o.taps.DeleteLink(l.Index)
		return
	}
	said := ""
	if old := o.links[l.Index]; old != nil {
		if said = o.leftAlone(old); old.Name != l.Name {
			o.macs.Renamed(l.Index, l.Name)
		}
		o.herald.carrierLost(old, l)
	}
	o.links[l.Index] = l
	o.taps.SetLink(l, o.ports[l.Index] != nil)
	if o.phase > deciding { // else begin says it
		o.warnLeftAlone(l, said)
	}
	o.builder.SetGroup(int32(l.Index), l.Group)
	if p := o.ports[l.Index]; p != nil {
		p.changed(l)
	}
}

// changed is called when the kernel has told of a port's interface: what failed
// may go well now.
func (p *port) changed(l *netstate.Link) {
	if p.err != nil {
		p.err = nil
		if p.claim == never || p.claim == short {
			p.claim = todo
		}
	}
	if shapingChanged(l, p) {
		p.rules = todo
	}
	if p.mac == done {
		p.mac = todo // somebody may have set another
	}
}

func (o *owner) noteRoutes(set *netstate.RouteSet) {
	o.builder.SetRoutes(set.Table, set.Dst, o.scratch.convert(set))
	o.herald.noteRoutes(o.cfg, set.Dst)
	o.dirty.roles = o.builder.UsedLinksChanged() || o.dirty.roles
}

// reconcile brings ports, maps and tables up to date with what was noted.
func (o *owner) reconcile() {
	if o.dirty.roles || o.uplinksDirty() { // one that was left to leisure may be in use
		for index, p := range o.ports {
			if p.role == roleUplink {
				o.dirty.links[index] = true
			}
		}
	}
	links := o.dirty.links
	for index := range links {
		o.describe(index)
	}
	if len(links) > 0 {
		o.taps.Publish()
	}
	o.publish()
	for index := range links {
		o.admit(index)
	}
	o.publish()
	o.announce()
	o.dirty = newDirty()
	if len(links) > 0 { // routes alone make nothing ready, and may be many
		o.judgeBeginning()
		o.armRetry()
		o.signalReady()
	}
}

// look reconciles what an errand has changed of ports.
func (o *owner) look(indices ...int) {
	for _, index := range indices {
		o.dirty.links[index] = true
	}
	if o.phase >= serving {
		o.reconcile()
	}
}

// uplinksDirty reports whether an uplink has come, gone or changed. Where they are
// answered on, each knows the MACs of the others.
func (o *owner) uplinksDirty() bool {
	if len(o.cfg.AnswerUplink) == 0 {
		return false
	}
	for index := range o.dirty.links {
		l, p := o.links[index], o.ports[index]
		if p != nil && p.role == roleUplink || l != nil && o.roleOf(l) == roleUplink {
			return true
		}
	}
	return false
}

// find gives the port that a ref names, and its link; both nil if it has gone.
func (o *owner) find(r ref) (*netstate.Link, *port) {
	l, p := o.links[r.index], o.ports[r.index]
	if l == nil || p == nil || p.id != r.id {
		return nil, nil
	}
	return l, p
}

// setting is what counts for all interfaces now.
func (o *owner) setting() *setting {
	how, _ := o.eng.Claims()
	return &setting{cfg: o.cfg, forwards: o.eng.Forwards(), canClaim: o.eng.CanClaim(), modeless: how == "" || how == "auto",
		ports: len(o.ports), started: o.phase >= serving, waits: o.waits, ending: o.phase >= ending, unseen: o.unseen, all: o.confAll, all6: o.confAll6}
}

// wants says what a port should be.
func (o *owner) wants(l *netstate.Link, p *port) *want {
	f := facts{idle: o.idle(p), egress: o.egress[l.Index] || o.gate.egress[l.Index], gated: o.gated(l), gated6: o.gated6(l)}
	if o.macs != nil {
		f.original, f.changed = o.macs.Original(l.Index)
	}
	if p.role == roleUplink && len(o.cfg.AnswerUplink) > 0 {
		f.uplinks = o.uplinkMACs(l)
	}
	return o.setting().wants(l, p, &f)
}

// uplinkMACs are those of the uplinks, without that of one of them.
func (o *owner) uplinkMACs(but *netstate.Link) (all []macAddr) {
	for _, l := range o.links { // the port of some may not be open yet
		if l.MAC != but.MAC && resolves(l) && o.roleOf(l) == roleUplink {
			all = append(all, l.MAC)
		}
	}
	slices.SortFunc(all, func(a, b macAddr) int { return bytes.Compare(a[:], b[:]) })
	return slices.Compact(all)
}

// describe makes, changes or closes the port of one interface, as far as that
// comes before the new tables are published.
func (o *owner) describe(index int) {
	l := o.links[index]
	if l == nil || o.dirty.gone[index] {
		o.closePort(index)
		o.forget(index)
	}
	if l == nil {
		return
	}
	r := o.roleOf(l)
	p := o.ports[index]
	if p != nil && p.role != r {
		o.closePort(index)
		p = nil
	}
	if p == nil && r != roleNone {
		p = o.openPort(l, r)
	}
	if p == nil {
		return
	}
	w := o.wants(l, p)
	// The slot first: frames are counted by it from the first on.
	if !o.tellFilter(l, p, w, p.filter.Forward && w.take, p.filter.IPv6) {
		return
	}
	w.link.Slot = p.slot
	o.builder.SetLink(w.link) // with engine none too: --rp-filter gates answers
	if !samePolicy(w.policy, p.policy) {
		p.policy = w.policy
		if p.policy != nil {
			p.policy.Routes = o.proxy
		}
		o.dirty.publish = true
		o.herald.all = o.herald.all || r == roleUplink
	}
	if !samePolicy(w.policy6, p.policy6) {
		o.setPolicy6(p, w.policy6)
		o.herald.all = o.herald.all || r == roleUplink
	}
	if is := (toldLeft{w.left != nil, w.left6 != nil}); is != p.toldLeft {
		p.toldLeft, o.herald.all = is, true
	}
}

func (o *owner) openPort(l *netstate.Link, r role) *port {
	o.ids++
	p := &port{ref: ref{l.Index, o.ids}, role: r, conf: kernelConf, first: o.beginning}
	o.ports[l.Index] = p
	o.herald.all = true
	if o.adoption != nil {
		if err := o.inherit(l, p); err != nil {
			o.fail(l, p, err)
		}
	}
	o.taps.SetLink(l, true)
	o.log.Debug("interface", "interface", l.Name, "index", l.Index, "role", r)
	if r == roleWorkload && o.cfg.KeepMAC && o.eng.CanClaim() && takesOwn[l.Kind] {
		o.log.Warn("--keep-mac: answers give the interface's own MAC, for it takes frames to no other", "interface", l.Name, "mac", macAddr(l.MAC))
	}
	return p
}

func (o *owner) closePort(index int) {
	p := o.ports[index]
	if p == nil {
		return
	}
	delete(o.ports, index)
	if l := o.links[index]; l != nil {
		o.taps.SetLink(l, false)
	}
	o.builder.DeleteLink(int32(index))
	o.setPolicy6(p, nil)
	if o.discovery.groups != nil {
		o.discovery.groups.Forget(index)
	}
	o.herald.gone(index)
	if o.conflicts != nil {
		o.conflicts.forget(index)
	}
	o.dirty.publish = true
	if err := o.eng.DeletePort(int32(index)); err != nil {
		o.log.Error("interface not let go", "index", index, "err", err)
	}
	if p.claim == done || p.claim == underWay {
		o.work.release = append(o.work.release, index)
	}
	o.retry.freed = true // what it had
}

// forget lets go of what is known of an interface that has gone. If there is
// another of the same index, that is known already.
func (o *owner) forget(index int) {
	o.macs.Forget(index)
	delete(o.egress, index)
	if o.links[index] == nil {
		o.builder.ForgetLink(int32(index))
	}
}

// tellFilter tells the ring's filter of a port, and whether its frames are taken, and
// those of IPv6 with them. It is false if that failed.
func (o *owner) tellFilter(l *netstate.Link, p *port, w *want, take, take6 bool) bool {
	f := w.filter
	f.Forward = take
	f.IPv6 = f.IPv6 && take && take6
	if f == p.filter {
		return true
	}
	slot, err := o.eng.SetPort(f)
	if err != nil {
		o.fail(l, p, err)
		return false
	}
	p.slot, p.filter = slot, f
	return true
}

// admit lets frames of an interface in, now that the tables know it. Where the
// kernel does not forward this needs no lock of the kernel's and is done at
// once, so that a new pod's first packet finds its way; the rest are errands.
func (o *owner) admit(index int) {
	l, p := o.links[index], o.ports[index]
	if l == nil || p == nil {
		return
	}
	w := o.wants(l, p)
	o.tellFilter(l, p, w, w.take, true)
	for _, j := range w.jobs(p) {
		o.work.add(j, p)
	}
	if w.claim && w.hurry {
		o.work.hurry(p)
	}
	p.state, p.why = p.life(w), p.failure(w)
	switch p.state {
	case open:
		p.first = false
		if p.said != "" {
			p.said = ""
			o.log.Info("interface is forwarded for again", "interface", l.Name)
		}
	case left:
		p.first = false
	case failed:
		o.sayFailed(l, p, p.why)
	}
}

// fail notes that something has failed for an interface, which is left to the
// kernel until that goes well.
func (o *owner) fail(l *netstate.Link, p *port, err error) {
	p.err = err
	o.sayFailed(l, p, err)
}

func (o *owner) sayFailed(l *netstate.Link, p *port, err error) {
	if said := err.Error(); p.said != said {
		p.said = said
		o.log.Error("interface is not forwarded for", "interface", l.Name, "err", err)
	}
}

// publish hands new snapshots to responder and datapath.
func (o *owner) publish() {
	if o.stands { // the maps are another process's
		return
	}
	if o.builder.Dirty() {
		t := o.builder.Publish()
		o.proxy.table.Store(t)
		o.eng.Publish(t)
	}
	o.tellClasses()
	if !o.dirty.publish {
		return
	}
	o.dirty.publish = false
	all := make(map[int]*arpd.Policy, len(o.ports))
	for index, p := range o.ports {
		if p.policy != nil {
			all[index] = p.policy
		}
	}
	o.arp.Publish(all)
	o.publish6()
}

// tellClasses brings what the ring's filter knows of destinations up to date. One
// that it can't be told of is taken like any other, and given back.
func (o *owner) tellClasses() {
	if !o.eng.Forwards() || !o.eng.Decides() || o.phase < serving {
		return
	}
	var first error
	untold := 0
	o.builder.UpdateClasses(func(p netip.Prefix, c route.Class) {
		if o.adoption != nil {
			delete(o.adoption.classes, p)
		}
		if err := o.eng.SetClass(p, c); err != nil {
			first = cmp.Or(first, err)
			untold++
		}
	})
	if o.untold += untold; first != nil {
		o.log.Error("the ring's filter does not know all destinations", "missed", untold, "err", first)
	}
}

// lookup answers the responder about an interface whose event has not come
// yet: the frame was faster. Everything that the workload needs is in place
// before its first answer leaves. ours is false if it is none to answer on.
func (o *owner) lookup(l *netstate.Link, of func(*port) *arpd.Policy) (policy *arpd.Policy, ours bool) {
	if o.phase < serving || o.stands {
		return nil, true
	}
	if r := o.roleOf(l); r != roleWorkload && (r != roleUplink || len(o.cfg.AnswerUplink) == 0) {
		return nil, false
	}
	if o.links[l.Index] == nil {
		o.noteLink(l, false)
		o.reconcile()
	}
	if p := o.ports[l.Index]; p != nil {
		return of(p), of(p) != nil || p.role == roleWorkload // an uplink without ARP has none
	}
	return nil, true
}

// end begins to put back what was changed, while packets still pass. Frames to
// the old and to the new MAC are the interface's until the end.
func (o *owner) end() {
	if o.phase < serving {
		o.phase = over
		return
	}
	o.phase = ending
	e := &endErrand{}
	for index := range o.ports {
		if original, changed := o.macs.Original(index); changed && o.links[index] != nil {
			o.describe(index)
			e.moved = append(e.moved, o.moves(index, original, false))
		}
	}
	o.publish()
	for index, l := range o.links { // the kernel drops their packets by itself
		if p := o.ports[index]; p != nil && p.claim == done && !l.Forwards && !l.Forwards6 {
			e.release = append(e.release, int32(index))
		}
	}
	o.work.end = e
}

func (e ended) take(o *owner) error {
	o.endErr = e.err
	o.phase = over
	return nil
}

// giveBack has the ring's filter take no more frames.
func (o *owner) giveBack() {
	o.phase = over
	if o.others != nil && o.others.Load() {
		return
	}
	for index, p := range o.ports {
		l := o.links[index]
		if l == nil || !p.filter.Forward {
			continue
		}
		f := p.filter
		f.Forward, f.IPv6 = false, false
		if _, err := o.eng.SetPort(f); err != nil {
			o.log.Error("interface not given back", "interface", l.Name, "err", err)
			continue
		}
		p.filter = f
	}
}
