package daemon

import (
	"cmp"
	"context"
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
	cfg, eng := d.config(), d.engine()
	carried := d.stats(eng).ARPAnswered
	arp.ByVerdict[arpd.Answered] += carried
	s := &Status{
		Version: cfg.Version, PID: os.Getpid(), Engine: cfg.Engine, Workers: cfg.workers(),
		Uptime:    time.Since(d.owner.began).Round(time.Millisecond).Seconds(),
		Workloads: []Interface{}, Uplinks: []Interface{}, Left: []Left{},
		ARP: ARPStatus{Verdicts: arpVerdicts(arp.ByVerdict), Unrouted: arp.Unrouted, Carried: carried},
	}
	if cfg.Metrics != "" {
		s.ARP.Times = answerTimes(&arp.AnswerTimes)
	}
	if !d.owner.ask(ctx, func() { d.owner.status(s, &arp) }) {
		return nil, false
	}
	s.Forward = d.forwardStatus(s.Forward)
	s.Config = d.reloads.status(cfg)
	d.egressStatus(s)
	s.Control = ControlStatus(d.control.Counters())
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
func (o *owner) status(s *Status, arp *arpd.Stats) {
	s.Ready, s.NotReady = o.isReady()
	s.NotReady = printable.UTF8(s.NotReady)
	how, _ := o.eng.Claims()
	s.Claim, s.Relay, s.Descriptors = claimMode(how, o.eng.Decides()), o.eng.Device().Name, o.descriptorStatus()
	s.Forward.Missed, s.Gate, s.Conflicts = o.untold, o.gateStatus(), o.conflictStatus()
	for index, p := range o.ports {
		l := o.links[index]
		if l == nil {
			continue
		}
		i := o.interfaceStatus(l, p, arp.Interfaces[index])
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

func (o *owner) interfaceStatus(l *netstate.Link, p *port, a arpd.InterfaceStats) Interface {
	i := Interface{Name: printable.UTF8(l.Name), Index: l.Index, MAC: macAddr(l.MAC).String(), Up: l.Up(), Forwards: p.filter.Forward}
	if p.why != nil {
		i.Error = printable.UTF8(p.why.Error())
	}
	if p.policy != nil {
		n := o.eng.Carried(int32(l.Index)).Answered
		a.Requests, a.Replies, a.ByVerdict[arpd.Answered] = a.Requests+n, a.Replies+n, a.ByVerdict[arpd.Answered]+n
		i.Answers = p.policy.Answer.String()
		i.ARPRequests, i.ARPReplies, i.ARPUnrouted, i.Unlearned = a.Requests, a.Replies, a.Unrouted, a.Unlearned
		i.ARPVerdicts = arpVerdicts(a.ByVerdict)
	}
	if o.conflicts != nil {
		n := o.conflicts.of(l.Index)
		i.ForeignAnswers, i.AddressTwice = n.foreign, n.twice
	}
	if o.eng.Decides() {
		c := o.eng.Counters(int32(l.Index))
		carried := o.eng.Carried(int32(l.Index))
		i.Carried = carried.Taken()
		i.Received, i.Policed, i.Local = c.Admitted, c.Policed, c.Left[claim.Local]
		for owner, verdict := range engine.PuntedTo {
			if n := c.Left[owner]; n > 0 {
				if i.Punts == nil {
					i.Punts = map[string]uint64{}
				}
				i.Punted += n
				i.Punts[verdict.String()] = n
			}
		}
		if c.ARPPoliced > 0 && i.ARPVerdicts != nil {
			i.ARPVerdicts[arpd.DropRateLimit.String()] += c.ARPPoliced
		}
	}
	return i
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

// forwardStatus adds what the engine counted.
func (d *Daemon) forwardStatus(f ForwardStatus) ForwardStatus {
	f.Verdicts, f.Drops = map[string]uint64{}, map[string]uint64{}
	eng := d.engine()
	s := d.stats(eng)
	if !eng.Forwards() && s.PacketsIn == 0 {
		return f
	}
	f.PacketsIn, f.PacketsOut, f.BytesOut, f.ByWorker = s.PacketsIn, s.PacketsOut, s.BytesOut, s.ByWorker
	if t := d.proxy.table.Load(); t != nil {
		_, f.Routes = t.Size()
	}
	f.Stalls = stallStatus(eng.Stalls(), time.Now())
	f.Rebuilt, f.Returned, f.Nice, f.Super, f.Carried = s.Rebuilt, s.Returned, s.Nice, superStatus(s.Super), s.Carried
	for v := range route.NumVerdicts {
		switch n := s.ByVerdict[v]; {
		case n == 0:
		case v.Kind() == route.KindDrop:
			f.Drops[v.String()] = n
		default:
			f.Verdicts[v.String()] = n
		}
	}
	return f
}
