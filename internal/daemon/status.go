package daemon

import (
	"cmp"
	"context"
	"os"
	"slices"
	"time"

	"proxyarpd/arpd"
	"proxyarpd/forward/claim"
	"proxyarpd/forward/route"
	"proxyarpd/internal/engine"
	"proxyarpd/internal/netstate"
	"proxyarpd/internal/printable"
)

// Status is what `status -o json` prints.
type Status struct {
	Version   string        `json:"version"`
	PID       int           `json:"pid"`
	Engine    string        `json:"engine"`
	Claim     string        `json:"claim"` // tcx, clsact, none
	Ready     bool          `json:"ready"`
	NotReady  string        `json:"not_ready,omitempty"` // why
	Uptime    float64       `json:"uptime_seconds"`
	Workloads []Interface   `json:"workloads"`
	Uplinks   []Interface   `json:"uplinks"`
	Left      []Left        `json:"left"`  // interfaces that are not served, though one might expect it
	Relay     string        `json:"relay"` // device for what no ring can take; empty: none
	ARP       ARPStatus     `json:"arp"`
	Forward   ForwardStatus `json:"forward"`
	Kernel    KernelStatus  `json:"kernel"`

	Descriptors Descriptors   `json:"descriptors"`
	Control     ControlStatus `json:"control"`
}

// ControlStatus counts the clients of the control socket that were not served.
type ControlStatus struct {
	Evicted uint64 `json:"evicted"` // were idle, and others came
	Refused uint64 `json:"refused"` // may not ask, or all places were taken
}

// Interface is one port. Answers is the MAC that ARP replies give there, empty
// on uplinks.
type Interface struct {
	Name        string            `json:"name"`
	Index       int               `json:"index"`
	MAC         string            `json:"mac"`
	Up          bool              `json:"up"`
	Answers     string            `json:"answers,omitempty"`
	Forwards    bool              `json:"forwards"`
	Error       string            `json:"error,omitempty"`
	ARPRequests uint64            `json:"arp_requests"`
	ARPReplies  uint64            `json:"arp_replies"`
	ARPUnrouted uint64            `json:"arp_unrouted"`         // answered, though the sender is not routed to here
	Unlearned   uint64            `json:"neighbours_unlearned"` // who asked and was left out: too many, too fast
	ARPVerdicts map[string]uint64 `json:"arp_verdicts,omitempty"`
	Received    uint64            `json:"received"`        // frames given to the ring
	Carried     uint64            `json:"carried"`         // frames that the programs of --engine ebpf took: beside received, not of it
	Policed     uint64            `json:"policed"`         // frames refused: share of the ring in use
	Local       uint64            `json:"local"`           // left to the kernel: for the host
	Punted      uint64            `json:"punted"`          // left to the kernel for another reason
	Punts       map[string]uint64 `json:"punts,omitempty"` // those by reason
}

// Left is an interface whose packets are left to the kernel.
type Left struct {
	Name  string `json:"name"`
	Index int    `json:"index"`
	Why   string `json:"why"`
}

// ARPStatus counts ARP frames by verdict.
type ARPStatus struct {
	Verdicts map[string]uint64 `json:"verdicts"`
	Unrouted uint64            `json:"unrouted"` // as Interface.ARPUnrouted
	Carried  uint64            `json:"carried"`  // requests that the program of --engine ebpf answered
}

// ForwardStatus counts packets of the datapath.
type ForwardStatus struct {
	PacketsIn  uint64            `json:"packets_in"`
	PacketsOut uint64            `json:"packets_out"`
	BytesOut   uint64            `json:"bytes_out"`
	Verdicts   map[string]uint64 `json:"verdicts"` // forward, queue, originate, local, punt, ignores
	Drops      map[string]uint64 `json:"drops"`    // by reason
	Routes     int               `json:"routes"`
	Carried    uint64            `json:"carried"` // of packets_out, sent on in the kernel by --engine ebpf
	Rebuilt    uint64            `json:"rings_rebuilt"`
	Returned   uint64            `json:"returned"` // of packets_in, given back to the kernel
	Missed     int               `json:"missed"`   // destinations that the ring's filter could not be told of
}

// KernelStatus is how well the kernel's state is followed.
type KernelStatus struct {
	Events     uint64 `json:"events"`
	Overruns   uint64 `json:"overruns"`
	Resyncs    uint64 `json:"resyncs"`
	Malformed  uint64 `json:"malformed"`
	Resolved   uint64 `json:"neighbours_asked"`
	Refused    uint64 `json:"neighbours_refused"`
	NoneQueued uint64 `json:"neighbours_overflow"`
	Learned    uint64 `json:"neighbours_learned"`   // entries made or changed because their address asked
	Unlearned  uint64 `json:"neighbours_unlearned"` // askers left out: too many, too fast
	Unwritten  uint64 `json:"neighbours_unwritten"` // askers whose entry the kernel did not take
	PutBack    uint64 `json:"neighbours_put_back"`  // entries that others had made theirs at the same time
}

// status takes a snapshot, false if ctx has ended before.
func (d *Daemon) status(ctx context.Context) (*Status, bool) {
	arp := d.arp.Stats()
	carried := d.eng.Stats().ARPAnswered
	arp.ByVerdict[arpd.Answered] += carried
	s := &Status{
		Version: d.cfg.Version, PID: os.Getpid(), Engine: d.cfg.Engine,
		Uptime:    time.Since(d.owner.began).Round(time.Millisecond).Seconds(),
		Workloads: []Interface{}, Uplinks: []Interface{}, Left: []Left{},
		ARP: ARPStatus{Verdicts: arpVerdicts(arp.ByVerdict), Unrouted: arp.Unrouted, Carried: carried},
	}
	if !d.owner.ask(ctx, func() { d.owner.status(s, &arp) }) {
		return nil, false
	}
	s.Forward = d.forwardStatus(s.Forward)
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
	s.Forward.Missed = o.untold
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
			s.Left = append(s.Left, Left{l.Name, index, why})
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

func arpVerdicts(c arpd.Counts) map[string]uint64 {
	m := map[string]uint64{}
	for v, n := range c {
		if n > 0 {
			m[arpd.Verdict(v).String()] = n
		}
	}
	return m
}

// forwardStatus adds what the engine counted.
func (d *Daemon) forwardStatus(f ForwardStatus) ForwardStatus {
	f.Verdicts, f.Drops = map[string]uint64{}, map[string]uint64{}
	if !d.eng.Forwards() {
		return f
	}
	s := d.eng.Stats()
	f.PacketsIn, f.PacketsOut, f.BytesOut = s.PacketsIn, s.PacketsOut, s.BytesOut
	if t := d.proxy.table.Load(); t != nil {
		_, f.Routes = t.Size()
	}
	f.Rebuilt, f.Returned, f.Carried = s.Rebuilt, s.Returned, s.Carried
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
