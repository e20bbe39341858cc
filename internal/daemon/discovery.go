package daemon

import (
	"context"
	"errors"
	"net/netip"
	"slices"

	"proxyarpd/arpd"
	"proxyarpd/arpd/ndp"
	"proxyarpd/forward/claim"
	"proxyarpd/internal/netstate"
	"proxyarpd/internal/printable"
	"proxyarpd/internal/status"
	"proxyarpd/internal/wire"
)

// groups is what the owner asks of the memberships in solicited-node groups. Nothing
// of it waits.
type groups interface {
	Hold(index int, target netip.Addr)
	Release(index int, target netip.Addr)
	Forget(index int)
	Again(index int)
}

// discovery is the part of the owner that concerns neighbour discovery, and what the
// kernel's IPv6 is on each interface.
type discovery struct {
	to     policies // nil: IPv6 is left to the kernel
	groups groups
	// targets are the gateways that the claims have the kernel not answer for.
	targets []netip.Addr
	// linkLocal is what the link-local addresses of interfaces are good for.
	linkLocal map[int]netstate.AddressState
}

// openND opens the responder to neighbour solicitations, as openARP that to requests.
func (d *Daemon) openND() error {
	if !d.config().IPv6 {
		return nil
	}
	o := arpd.Options{Lookup: d.lookup6, Behind: d.behind, Neighbours: d.learn, Recorder: d.taps.NewNDRecorder(), Timed: d.config().Metrics != "", Logger: d.log,
		RatePerSecond: arpPerSecond, Burst: arpBurst, SenderPerSecond: arpSenderPerSecond, SenderBurst: arpSenderBurst}
	if d.programs.Decides() {
		o.Filter = d.programs.AttachND
	} else {
		d.log.Warn("no eBPF: the kernel answers neighbour solicitations for gateways that are its own addresses, too, and without the router flag unless it forwards")
	}
	if d.heir != nil && d.heir.nd >= 0 {
		o.Handed = &arpd.Handed{FD: d.heir.takeND()}
	}
	o.Unrouted, o.Claimed = d.conflicts.tell, d.heardNDClaim
	if d.groups == nil {
		d.groups = ndp.NewGroups(d.log)
	}
	var err error
	d.nd, err = ndp.Open(o)
	return err
}

// heardNDClaim takes a claim of an address by neighbour discovery: of a gateway's on a
// workload's interface, or on an uplink of one of --answer-uplink.
func (d *Daemon) heardNDClaim(c arpd.Claim) {
	if slices.Contains(d.config().Gateways, c.IP) {
		d.heardClaim(c)
		return
	}
	d.tellClaim(c)
}

// lookup6 is lookup for neighbour discovery.
func (d *Daemon) lookup6(ifindex int) (policy *arpd.Policy, ours bool) {
	return d.lookupBy(ifindex, ndPolicy)
}

// serves6 reports whether IPv6 is answered and forwarded on an interface that is
// served: it has IPv6 at all. The kernel has no IPv6 routes over others, so nothing
// leads there.
func (s *setting) serves6(l *netstate.Link) bool { return s.cfg.IPv6 && l.IPv6 }

// noteAddresses follows the addresses of an interface.
func (o *owner) noteAddresses(set *netstate.AddressSet) {
	o.builder.SetAddresses(family(set.Family), int32(set.Index), addresses(set))
	if set.Family != netstate.IPv6 || o.discovery.to == nil {
		return
	}
	had := o.discovery.linkLocal[set.Index]
	has := linkLocalOf(set)
	if has == netstate.AddressMissing {
		delete(o.discovery.linkLocal, set.Index)
	} else {
		o.discovery.linkLocal[set.Index] = has
	}
	if had == netstate.AddressMissing && has != had {
		// The kernel forgets memberships where IPv6 ends, which it says by this alone.
		o.discovery.groups.Again(set.Index)
	}
}

// linkLocalOf is the state of the best of an interface's link-local addresses.
func linkLocalOf(set *netstate.AddressSet) (best netstate.AddressState) {
	for i := range set.Addresses {
		if a := &set.Addresses[i]; a.Local.IsLinkLocalUnicast() {
			best = max(best, netstate.AddressStateOf(a.Flags))
		}
	}
	return best
}

// setPolicy6 has another policy of neighbour discovery count for a port.
func (o *owner) setPolicy6(p *port, policy *arpd.Policy) {
	if o.discovery.to == nil || p.policy6 == nil && policy == nil {
		return
	}
	was := listensTo(p.policy6)
	if p.policy6 = policy; policy != nil {
		policy.Routes = o.proxy
	}
	o.dirty.publish = true
	now := listensTo(policy)
	for _, target := range was {
		if !slices.Contains(now, target) {
			o.discovery.groups.Release(p.index, target)
		}
	}
	for _, target := range now {
		if !slices.Contains(was, target) {
			o.discovery.groups.Hold(p.index, target)
		}
	}
}

// listensTo are the targets on a workload's interface whose groups are joined: gateways,
// and the addresses that --proxy names alone. Those of a prefix are too many.
func listensTo(p *arpd.Policy) (targets []netip.Addr) {
	if p == nil {
		return nil
	}
	targets = slices.Clone(p.Gateways)
	for _, prefix := range p.Proxy {
		if prefix.IsSingleIP() {
			targets = append(targets, prefix.Addr())
		}
	}
	return targets
}

// publish6 hands the policies of neighbour discovery to its responder, and says which
// solicitations are its alone.
func (o *owner) publish6() {
	if o.discovery.to == nil {
		return
	}
	all := make(map[int]*arpd.Policy, len(o.ports))
	for index, p := range o.ports {
		if p.policy6 != nil {
			all[index] = p.policy6
		}
	}
	o.discovery.to.Publish(all)
	gateways := o.cfg.gateways(netip.Addr.Is6)
	if slices.Equal(gateways, o.discovery.targets) {
		return
	}
	for _, a := range o.discovery.targets {
		if !slices.Contains(gateways, a) {
			o.setTarget(a, false)
		}
	}
	for _, a := range gateways {
		o.setTarget(a, true)
	}
	o.discovery.targets = gateways
}

func (o *owner) setTarget(a netip.Addr, on bool) {
	if err := o.eng.SetNDTarget(claim.NDTarget{Addr: a}, on); err != nil {
		o.log.Error("the kernel answers neighbour solicitations for a gateway, too", "gateway", a, "err", err)
	}
}

// ownND has the calling thread answer solicitations instead of the kernel.
func (d *Daemon) ownND() (disown func()) {
	disown, err := d.programs.OwnND()
	if err != nil {
		d.log.Warn("the kernel answers neighbour solicitations for gateways that are its own addresses, too", "err", err)
		return func() {}
	}
	return disown
}

// runGroups joins groups until ctx ends.
func (d *Daemon) runGroups(ctx context.Context) error {
	if d.groups == nil {
		return nil
	}
	return d.groups.Run(ctx)
}

// announcing is the announcer, with the memberships that answers for what is announced
// take.
type announcing struct {
	*arpd.Announcer
	groups groups // nil: IPv6 is left to the kernel
}

func (a announcing) Hold(what arpd.Announcement) bool {
	ok := a.Announcer.Hold(what)
	if ok && what.IP.Is6() && a.groups != nil {
		a.groups.Hold(what.Index, what.IP)
	}
	return ok
}

func (a announcing) Release(index int, ip netip.Addr) {
	a.Announcer.Release(index, ip)
	if ip.Is6() && a.groups != nil {
		a.groups.Release(index, ip)
	}
}

func (a announcing) Forget(index int) {
	a.Announcer.Forget(index)
	if a.groups != nil {
		a.groups.Forget(index)
	}
}

// ipv6Why says why IPv6 is not served on an interface that is served, or what it
// lacks; "" if it is.
func (o *owner) ipv6Why(l *netstate.Link) string {
	switch {
	case !o.cfg.IPv6:
		return ""
	case o.eng.Forwards() && l.IPv6 && o.gated6(l) != nil:
		return o.gated6(l).Error()
	case !l.IPv6 && l.MTU < wire.IPv6MinMTU:
		return "not served: its MTU is less than 1280, and the kernel has no IPv6 there"
	case !l.IPv6:
		return "not served: disable_ipv6 is 1, and the kernel has no IPv6 there"
	case o.discovery.linkLocal[l.Index] == netstate.AddressUsable || !l.Up() || !resolves(l):
		return ""
	case o.discovery.linkLocal[l.Index] == netstate.AddressFailed:
		return "duplicate address detection of its link-local address has failed: neighbours can't be resolved"
	case o.discovery.linkLocal[l.Index] == netstate.AddressTentative:
		return "its link-local address is tentative: neighbours can't be resolved until duplicate address detection is over"
	}
	return "it has no link-local address: neighbours can't be resolved"
}

// responders are those that there are.
func (d *Daemon) responders() []*arpd.Responder {
	if d.nd == nil {
		return []*arpd.Responder{d.arp}
	}
	return []*arpd.Responder{d.arp, d.nd}
}

// setMark marks what the responders send.
func (d *Daemon) setMark(mark uint32) error {
	var errs []error
	for _, r := range d.responders() {
		errs = append(errs, r.SetMark(mark))
	}
	return errors.Join(errs...)
}

// refilter attaches the programs' filters to the responders' sockets.
func (d *Daemon) refilter() error {
	err := d.arp.Refilter(d.programs.AttachARP)
	if d.nd != nil {
		err = errors.Join(err, d.nd.Refilter(d.programs.AttachND))
	}
	return err
}

// ndStats are the counters of neighbour discovery, all 0 where IPv6 is left to the
// kernel.
func (d *Daemon) ndStats() *arpd.Stats {
	if d.nd == nil {
		return new(arpd.Stats)
	}
	s := d.nd.Stats()
	return &s
}

// ndStatus is what is told of neighbour discovery; carried are those of the answers that a
// program gave.
func (d *Daemon) ndStatus(s *arpd.Stats, carried uint64) status.ND {
	n := status.ND{Verdicts: arpVerdicts(s.ByVerdict), Unrouted: s.Unrouted, Defended: s.Defended, Carried: carried}
	if d.groups != nil {
		g := d.groups.Stats()
		n.Groups, n.Joined = g.Groups, g.Joined
	}
	if d.nd != nil && d.config().Metrics != "" {
		n.Times = answerTimes(&s.AnswerTimes)
	}
	return n
}

// ipv6Status is what is told of an interface's IPv6; a program gave n answers beside those
// that s counts.
func (o *owner) ipv6Status(l *netstate.Link, p *port, s arpd.InterfaceStats, n uint64) *status.IPv6 {
	if !o.cfg.IPv6 {
		return nil
	}
	i := &status.IPv6{Forwards: p.filter.IPv6, Why: printable.UTF8(o.ipv6Why(l))}
	if p.policy6 != nil {
		i.Answers = p.policy6.Answer.String()
		s.Requests, s.Replies, s.ByVerdict[arpd.Answered] = s.Requests+n, s.Replies+n, s.ByVerdict[arpd.Answered]+n
		i.Solicitations, i.Advertisements, i.Unrouted, i.Defended, i.Verdicts = s.Requests, s.Replies, s.Unrouted, s.Defended, arpVerdicts(s.ByVerdict)
	}
	return i
}
