package daemon

import (
	"cmp"
	"context"
	"maps"
	"os"
	"slices"
	"strconv"
	"time"

	"proxyarpd/arpd"
	"proxyarpd/forward"
	"proxyarpd/forward/claim"
	"proxyarpd/forward/route"
	"proxyarpd/internal/engine"
	"proxyarpd/internal/netstate"
	"proxyarpd/internal/printable"
	"proxyarpd/internal/privilege"
	"proxyarpd/internal/status"
)

// What `status -o json` prints.
type (
	Status        = status.Status
	Interface     = status.Interface
	Left          = status.Left
	ARPStatus     = status.ARP
	ForwardStatus = status.Forward
	StallStatus   = status.Stalls
	SuperStatus   = status.Super
	KernelStatus  = status.Kernel
	ControlStatus = status.Control
	Descriptors   = status.Descriptors
	Drop          = status.Drop
)

func superStatus(s forward.Super) SuperStatus {
	st := SuperStatus{Packets: s.Packets, Datagrams: s.Datagrams, Lengths: map[string]uint64{}}
	for class, n := range s.Lengths {
		if n > 0 {
			st.Lengths[strconv.Itoa(2<<class)] = n
		}
	}
	return st
}

// status takes a snapshot, false if ctx has ended before.
func (d *Daemon) status(ctx context.Context) (*Status, bool) {
	arp := d.arp.Stats()
	cfg, running := d.config(), d.engine()
	eng := d.stats(running)
	carried := eng.ARPAnswered
	arp.ByVerdict[arpd.Answered] += carried
	addPoliced(&arp, &eng)
	nd := d.ndStats()
	nd.ByVerdict[arpd.Answered] += eng.NDAnswered
	s := &Status{
		IPv6: cfg.IPv6, ND: d.ndStatus(nd, eng.NDAnswered),
		Version: cfg.Version, PID: os.Getpid(), Engine: cfg.Engine, Workers: cfg.workers(),
		Uptime:    time.Since(d.owner.began).Round(time.Millisecond).Seconds(),
		Workloads: []Interface{}, Uplinks: []Interface{}, Left: []Left{},
		ARP: ARPStatus{Verdicts: arpVerdicts(arp.ByVerdict), Unrouted: arp.Unrouted, Carried: carried},
	}
	if cfg.Metrics != "" {
		s.ARP.Times = answerTimes(&arp.AnswerTimes)
	}
	if !d.owner.ask(ctx, func() { d.owner.status(s, &arp, nd, &eng) }) {
		return nil, false
	}
	d.announceStatus(s)
	d.forwardStatus(&s.Forward, running, &eng)
	s.Forward.Commonest = commonest(s, &arp, nd)
	s.Config = d.reloads.status(cfg)
	s.Process = processStatus()
	d.egressStatus(s)
	s.Control = ControlStatus(d.control.Counters())
	s.Privileges, s.Programs = status.Privileges(privilege.Now()), []uint32{}
	if set := d.programs.Set(); set != nil {
		s.Programs = set.IDs()
	}
	w := d.watch.Stats()
	s.Kernel = KernelStatus{Events: w.Events, Overruns: w.Overruns, Resyncs: w.Resyncs, Malformed: w.Malformed,
		Resolved: d.asked.asked.Load(), Refused: d.asked.refused.Load(), NoneQueued: d.asked.overflow.Load(),
		Learned: d.learn.learned.Load(), Unlearned: arp.Unlearned + d.learn.crowded.Load(), Unwritten: d.learn.failed.Load()}
	for _, req := range d.requesters() {
		s.Kernel.PutBack += (*req).PutBacks()
	}
	return s, true
}

// status fills in what the owner knows.
func (o *owner) status(s *Status, arp, nd *arpd.Stats, eng *engine.Stats) {
	s.Ready, s.NotReady = o.isReady()
	s.NotReady = printable.UTF8(s.NotReady)
	how, _ := o.eng.Claims()
	s.Claim, s.Relay, s.Descriptors = claimMode(how, o.eng.Decides()), o.eng.Device().Name, o.descriptorStatus()
	s.Forward.Missed, s.Gate, s.Conflicts = o.untold, o.gateStatus(), o.conflictStatus()
	byInterface := verdictsByInterface(eng.Places)
	for index, p := range o.ports {
		l := o.links[index]
		if l == nil {
			continue
		}
		i := o.interfaceStatus(l, p, arp.Interfaces[index], byInterface[int32(index)])
		i.IPv6 = o.ipv6Status(l, p, nd.Interfaces[index], o.eng.Carried(int32(l.Index)).AnsweredND)
		if i.Answers == "" && p.policy6 != nil {
			i.Answers = p.policy6.Answer.String()
		}
		if p.role == roleWorkload {
			s.Workloads = append(s.Workloads, i)
		} else {
			s.Uplinks = append(s.Uplinks, i)
		}
	}
	for index, l := range o.links {
		if why := o.leftAlone(l); why != "" {
			s.Left = append(s.Left, Left{Name: l.Name, Index: index, Why: why})
		}
	}
	slices.SortFunc(s.Left, func(a, b Left) int { return cmp.Compare(a.Name, b.Name) })
	byName := func(a, b Interface) int { return cmp.Compare(a.Name, b.Name) }
	slices.SortFunc(s.Workloads, byName)
	slices.SortFunc(s.Uplinks, byName)
}

// interfaceStatus is what is told of one; verdicts are those that userspace gave.
func (o *owner) interfaceStatus(l *netstate.Link, p *port, a arpd.InterfaceStats, verdicts forward.Counts) Interface {
	i := Interface{Name: printable.UTF8(l.Name), Index: l.Index, MAC: macAddr(l.MAC).String(), Up: l.Up(), Forwards: p.filter.Forward}
	if p.why != nil {
		i.Error = printable.UTF8(p.why.Error())
	}
	carried := o.eng.Carried(int32(l.Index))
	if p.policy != nil {
		n := carried.Answered
		a.Requests, a.Replies, a.ByVerdict[arpd.Answered] = a.Requests+n, a.Replies+n, a.ByVerdict[arpd.Answered]+n
		i.Answers = p.policy.Answer.String()
		i.ARPRequests, i.ARPReplies, i.ARPUnrouted, i.Unlearned = a.Requests, a.Replies, a.Unrouted, a.Unlearned
		i.ARPVerdicts = arpVerdicts(a.ByVerdict)
	}
	if o.conflicts != nil {
		n := o.conflicts.of(l.Index)
		i.ForeignAnswers, i.AddressTwice, i.UplinkClaims = n.foreign, n.twice, n.uplink
	}
	if o.eng.Decides() {
		c := o.eng.Counters(int32(l.Index))
		i.Carried = carried.Taken()
		i.Received, i.Policed, i.Local = c.Admitted, c.Policed, c.Left[claim.Local]
		verdicts[route.Forward] += carried.Packets
		verdicts[route.DropPktTooSmall] += carried.Small
		verdicts[route.DropNoMem] += carried.NoMem
		verdicts[route.DropRateLimit] += c.Policed
		verdicts[route.Local] += c.Left[claim.Local]
		verdicts[route.IgnoreTagged] += c.Left[claim.Tagged]
		verdicts[route.DropRAGuard] += c.Left[claim.RAGuard]
		for owner, verdict := range engine.PuntedTo {
			verdicts[verdict] += c.Left[owner]
			if n := c.Left[owner]; n > 0 {
				if i.Punts == nil {
					i.Punts = map[string]uint64{}
				}
				i.Punted += n
				i.Punts[verdict.String()] = n
			}
		}
		for v, n := range map[arpd.Verdict]uint64{arpd.DropRateLimit: c.ARPPoliced, arpd.DropSenderRate: c.ARPSender} {
			if n > 0 && i.ARPVerdicts != nil {
				i.ARPVerdicts[v.String()] += n
			}
		}
	}
	if o.eng.Forwards() {
		i.Verdicts, i.Drops = routeVerdicts(&verdicts)
	}
	return i
}

// announceStatus adds what is announced on uplinks.
func (d *Daemon) announceStatus(s *Status) {
	each, refused := d.announcer.Stats()
	s.ARP.Unannounced = refused
	for i := range s.Uplinks {
		if u := &s.Uplinks[i]; u.Answers != "" {
			a := each[u.Index]
			u.Announced = (*status.Announced)(&a)
		}
	}
}

// egressStatus adds what the kernel has dropped behind the engine.
func (d *Daemon) egressStatus(s *Status) {
	each, sum, err := d.engine().EgressDrops()
	if err != nil {
		d.log.Warn("status does not tell what was dropped behind the programs", "err", err)
	}
	if each == nil {
		return
	}
	s.Forward.Egress = (*status.EgressDrops)(&sum)
	for _, all := range [][]Interface{s.Workloads, s.Uplinks} {
		for i := range all {
			if n, ok := each[int32(all[i].Index)]; ok {
				all[i].Egress = (*status.EgressDrops)(&n)
			}
		}
	}
}

// verdictsByInterface sorts what userspace counted by where packets came in.
func verdictsByInterface(places map[forward.Place]uint64) map[int32]forward.Counts {
	m := map[int32]forward.Counts{}
	for p, n := range places {
		c := m[p.Ifindex]
		c[p.Verdict] += n
		m[p.Ifindex] = c
	}
	return m
}

// routeVerdicts are counts that are not 0 by name, drops apart.
func routeVerdicts(c *forward.Counts) (verdicts, drops map[string]uint64) {
	verdicts, drops = map[string]uint64{}, map[string]uint64{}
	for v, n := range c {
		switch v := route.Verdict(v); {
		case n == 0:
		case v.Kind() == route.KindDrop:
			drops[v.String()] = n
		default:
			verdicts[v.String()] = n
		}
	}
	return verdicts, drops
}

// mostCommon is how many of the commonest drops are told of.
const mostCommon = 10

// commonest finds the drops that were most frequent. What no interface that is
// there has counted is counted without one.
func commonest(s *Status, arp, nd *arpd.Stats) []status.Drop {
	all := []status.Drop{}
	packets, frames, messages := maps.Clone(s.Forward.Drops), arpDrops(arp), arpDrops(nd)
	take := func(rest, verdicts map[string]uint64, of status.Drop) {
		for reason, n := range verdicts {
			if total, isDrop := rest[reason]; isDrop && n > 0 {
				rest[reason] = total - min(n, total)
				of.Reason, of.Count = reason, n
				all = append(all, of)
			}
		}
	}
	for _, i := range slices.Concat(s.Workloads, s.Uplinks) {
		take(packets, i.Drops, status.Drop{Interface: i.Name})
		take(frames, i.ARPVerdicts, status.Drop{Interface: i.Name, ARP: true})
		if i.IPv6 != nil {
			take(messages, i.IPv6.Verdicts, status.Drop{Interface: i.Name, ND: true})
		}
	}
	take(packets, maps.Clone(packets), status.Drop{})
	take(frames, maps.Clone(frames), status.Drop{ARP: true})
	take(messages, maps.Clone(messages), status.Drop{ND: true})
	slices.SortFunc(all, func(a, b status.Drop) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Interface, b.Interface))
	})
	return all[:min(len(all), mostCommon)]
}

func answerTimes(t *arpd.AnswerTimes) *status.Histogram {
	h := &status.Histogram{Counts: t.Counts[:], Sum: t.Sum.Seconds()}
	for _, b := range arpd.AnswerTimeBounds {
		h.Bounds = append(h.Bounds, b.Seconds())
	}
	return h
}

func arpVerdicts(c arpd.Counts) map[string]uint64 {
	m := map[string]uint64{}
	for v, n := range c {
		if n > 0 {
			m[arpd.Verdict(v).String()] = n
		}
	}
	return m
}

func stallStatus(s claim.Stalls, now time.Time) StallStatus {
	if s.Count == 0 {
		return StallStatus{}
	}
	ended := s.Ended
	if s.Now {
		ended = now
	}
	return StallStatus{Count: s.Count, Now: s.Now, Ago: now.Sub(s.Began).Round(time.Millisecond).Seconds(),
		Lasts: ended.Sub(s.Began).Round(time.Millisecond).Seconds()}
}

// addPoliced adds what the filter of the responder's socket refused.
func addPoliced(arp *arpd.Stats, eng *engine.Stats) {
	arp.ByVerdict[arpd.DropRateLimit] += eng.ARPPoliced
	arp.ByVerdict[arpd.DropSenderRate] += eng.ARPSender
}

// drops are all that were counted, by reason.
func (d *Daemon) drops() map[string]uint64 {
	arp, s := d.arp.Stats(), d.stats(d.engine())
	addPoliced(&arp, &s)
	_, all := routeVerdicts(&s.ByVerdict)
	for _, r := range []*arpd.Stats{&arp, d.ndStats()} {
		for reason, n := range arpDrops(r) {
			all[reason] += n
		}
	}
	return all
}

// arpDrops are the responder's by reason, those that are not 0.
func arpDrops(arp *arpd.Stats) map[string]uint64 {
	drops := map[string]uint64{}
	for v, n := range arp.ByVerdict {
		if v := arpd.Verdict(v); n > 0 && v.Kind() == arpd.KindDrop {
			drops[v.String()] = n
		}
	}
	return drops
}

// forwardStatus adds what the engine counted.
func (d *Daemon) forwardStatus(f *ForwardStatus, eng engine.Engine, s *engine.Stats) {
	f.Verdicts, f.Drops = routeVerdicts(&s.ByVerdict)
	if !eng.Forwards() && s.PacketsIn == 0 {
		return
	}
	f.PacketsIn, f.PacketsOut, f.BytesOut, f.ByWorker = s.PacketsIn, s.PacketsOut, s.BytesOut, s.ByWorker
	if t := d.proxy.table.Load(); t != nil {
		f.Links, f.Routes = t.Size()
	}
	f.Stalls = stallStatus(eng.Stalls(), time.Now())
	f.InRing, f.Waiting = s.InRing, s.Waiting
	f.Rebuilt, f.Returned, f.Nice, f.Super, f.Carried = s.Rebuilt, s.Returned, s.Nice, superStatus(s.Super), s.Carried
}
