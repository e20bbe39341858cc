package daemon

import (
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"proxyarpd/arpd"
	"proxyarpd/forward/claim"
	"proxyarpd/forward/route"
	"proxyarpd/internal/engine"
	"proxyarpd/internal/hostpolicy"
	"proxyarpd/internal/netstate"
	"proxyarpd/internal/wire"
)

type macAddr = wire.MAC

// Shares of the ring's 4096 slots that one interface may hold: a flood of one
// delays the others by at most that many packets, and never takes the last slot.
const (
	workloadQuota = 1024
	uplinkQuota   = 3072
)

// fewPorts that are there when the daemon starts are claimed at once: the lock is
// not held for long. Those that come later are new pods', which have better use for
// it.
const fewPorts = 16

// setting is what counts for all interfaces alike.
type setting struct {
	cfg      *Config
	forwards bool    // the engine
	canClaim bool    // it has tc programs
	modeless bool    // how programs are attached is not known yet
	ports    int     // how many there are
	started  bool    // frames may be taken
	waits    bool    // but of no further interface: a predecessor reads them
	ending   bool    // MACs go back
	unseen   bool    // there may be tc programs that can't be seen
	all      devConf // settings of "all"
	all6     devConf6
}

// facts are those of one interface that neither its link nor its port holds.
type facts struct {
	gated    error     // rules that have appeared: its packets are the kernel's
	gated6   error     // rules: its packets of IPv6 are
	idle     bool      // no route leads over it
	egress   bool      // it has egress rules that are to apply
	changed  bool      // its MAC was changed
	original macAddr   // the one it had before
	uplinks  []macAddr // of the host's other uplinks, in order; of an uplink that is answered on
}

// want is what an interface should be, and what jobs that takes.
type want struct {
	role     role
	answer   macAddr // of ARP
	device   macAddr // that the interface is to have
	forwards bool    // its packets are to be moved
	take     bool    // its frames may be taken now
	filter   engine.Port
	link     route.Link
	policy   *arpd.Policy
	policy6  *arpd.Policy // of neighbour discovery

	rules, mac, member, read bool // jobs that are due or under way
	claim, hurry             bool // so is this one; hurry: nothing works without it
	impossible               error
	left                     error // its packets are the kernel's: why
	left6                    error // those of IPv6 are
}

// wants says what a port should be. It is a function of what it is given.
func (s *setting) wants(l *netstate.Link, p *port, f *facts) *want {
	w := &want{role: p.role}
	workload := p.role == roleWorkload
	w.member = workload && s.cfg.KeepMAC && s.canClaim && !takesAll[l.Kind] && !takesOwn[l.Kind]
	w.answer = s.cfg.MAC
	if workload && s.answersOwn(l, p) {
		w.answer = l.MAC
	}
	if w.left = p.left; w.left == nil && s.forwards {
		w.left = f.gated
	}
	w.forwards = s.forwards && w.left == nil
	if s.forwards && s.serves6(l) {
		w.left6 = f.gated6
	}
	attached := p.claim == done
	switch w.device = l.MAC; {
	case !s.cfg.KeepMAC:
		w.device = s.cfg.MAC
	case f.changed: // before --keep-mac was given
		w.device = f.original
	}
	w.mac = workload && s.started && p.mac != never && !s.ending && l.MAC != w.device
	aliases := s.aliases(l, p, f, w)
	w.rules = s.forwards && s.started && (p.rules.pending() || p.rules == short)
	w.read = s.started && p.read.pending()
	claimable := s.canClaim && p.claim != never
	w.policy = s.answers(l, w, f, aliases, netip.Addr.Is4, w.forwards || l.Forwards)
	if s.serves6(l) {
		w.policy6 = s.answers(l, w, f, aliases, netip.Addr.Is6, w.forwards && w.left6 == nil || l.Forwards6)
	}
	// The claim has the kernel not answer solicitations for a gateway.
	w.claim = claimable && s.started && !s.ending && !attached && !w.rules && (w.forwards || aliases != [2]macAddr{} || workload && w.policy6 != nil)
	w.hurry = !f.idle && (s.ports <= fewPorts && p.first || !s.forwards && aliases != [2]macAddr{} || s.cfg.KeepMAC || s.modeless || l.Forwards || l.Forwards6)
	kernelToo := l.Forwards && !attached // would forward what we forward
	if w.forwards && kernelToo && !claimable {
		w.impossible = fmt.Errorf("no tc program can take packets from the kernel, and it forwards them too: set net.ipv4.conf.%s.forwarding=0, or use --engine none", l.Name)
	}
	w.take = w.forwards && s.started && !kernelToo && !p.leaving && (p.err == nil && !s.waits || p.filter.Forward)

	w.filter = s.filter(l, p, aliases)
	w.filter.IPv6 = s.serves6(l) && w.left6 == nil && (!l.Forwards6 || attached) // once the others are taken
	w.filter.ND = w.policy6 != nil
	w.link = s.link(l, p, f, aliases)
	if w.left != nil {
		w.link.Flags |= route.LinkLeft
	}
	if w.left6 != nil {
		w.link.MTU6 = 0
	}
	if workload && settled(l) {
		w.filter.Answer = w.answer // else replies pass by the queue
	}
	return w
}

// answers says what is answered on an interface of one family of addresses, nil if
// nothing is. forwarded says that somebody forwards what comes in by it.
func (s *setting) answers(l *netstate.Link, w *want, f *facts, aliases [2]macAddr, family func(netip.Addr) bool, forwarded bool) *arpd.Policy {
	p := &arpd.Policy{Index: l.Index, Name: l.Name, Own: l.MAC, Settled: settled(l)}
	switch targets := of(family, s.cfg.AnswerUplink); {
	case w.role == roleWorkload:
		p.Answer, p.Gateways, p.Proxy = w.answer, s.cfg.gateways(family), of(family, s.cfg.Proxy)
		for _, alias := range aliases {
			if alias != w.answer && !alias.IsZero() {
				p.Alias = append(p.Alias, alias)
			}
		}
		return p
	case w.role == roleUplink && len(targets) > 0 && resolves(l):
		p.Answer = l.MAC
		p.Uplink = &arpd.Uplink{Targets: targets, Others: f.uplinks, Unforwarded: !forwarded}
		return p
	}
	return nil
}

// resolves reports whether addresses are resolved on a link, by ARP or neighbour
// discovery.
func resolves(l *netstate.Link) bool { return layerOf(l) == ethernet && l.Flags&unix.IFF_NOARP == 0 }

// waits reports whether something is yet to come before a port is open. A claim
// that can wait does not, nor what is short and can be done without. The kernel
// tells of a new MAC before it is recorded that it is ours.
func (w *want) waits(p *port) bool {
	return w.rules || w.mac && p.mac == todo || p.mac == underWay || w.member && p.member.pending() || w.read ||
		w.claim && w.hurry && p.claim.pending()
}

// answersOwn reports whether an interface has to answer its own MAC with
// --keep-mac.
func (s *setting) answersOwn(l *netstate.Link, p *port) bool {
	switch {
	case !s.cfg.KeepMAC:
		return false
	case !s.canClaim:
		return true // nobody makes frames to another MAC than the device's PACKET_HOST
	case takesAll[l.Kind]:
		return false
	case takesOwn[l.Kind]:
		return true
	}
	return p.member != done || p.ownMAC
}

// aliases are the further MACs that mean a workload interface: the one that is
// answered, the one that was answered before a reload, the one that the device has
// and is about to lose, and the one it had before - the first two of those that it
// does not have, or not for long. Where there is room, and a claim to make frames to
// it ours, the answered one is among them though the device has it: somebody may give
// the device another, and pods go on sending to this one before that is known here.
func (s *setting) aliases(l *netstate.Link, p *port, f *facts, w *want) (a [2]macAddr) {
	if p.role != roleWorkload {
		return a
	}
	if s.ending {
		if a[0] = w.answer; f.changed {
			a[1] = f.original
		}
		return a
	}
	losing := w.mac
	has := func(m macAddr) bool { return m == l.MAC && !losing }
	var found []macAddr
	for _, c := range [...]struct {
		mac   macAddr
		means bool
	}{{w.answer, true}, {p.former, true}, {l.MAC, losing}, {f.original, f.changed}} {
		if c.means && !c.mac.IsZero() && !has(c.mac) && !slices.Contains(found, c.mac) {
			found = append(found, c.mac)
		}
	}
	if w.forwards && s.canClaim && p.claim != never && w.answer == s.cfg.MAC && !slices.Contains(found, w.answer) {
		found = append(found, w.answer)
	}
	copy(a[:], found)
	return a
}

// filter describes a port to the ring's filter. Forward is the caller's.
func (s *setting) filter(l *netstate.Link, p *port, aliases [2]macAddr) engine.Port {
	workload := p.role == roleWorkload
	c := engine.Port{Ifindex: int32(l.Index), Workload: workload, Anywhere: workload || s.cfg.Transit,
		KernelForwards: l.Forwards, KernelForwards6: l.Forwards6, Quota: uplinkQuota, Aliases: aliases}
	if layerOf(l) == ethernet {
		c.L2Len = wire.EthernetLen
	}
	c.ARP = workload || len(of(netip.Addr.Is4, s.cfg.AnswerUplink)) > 0 && resolves(l)
	if workload {
		c.Quota = workloadQuota
	}
	return c
}

// link describes a port to the datapath.
func (s *setting) link(l *netstate.Link, p *port, f *facts, aliases [2]macAddr) route.Link {
	d := route.Link{Ifindex: int32(l.Index), Name: l.Name, MAC: l.MAC, MTU: l.MTU, Slot: p.slot,
		Aliases: aliases, Conf: s.linkConf(p), Conf6: s.linkConf6(p)}
	if s.serves6(l) {
		d.MTU6 = l.MTU6
	}
	bypass := (l.Qdisc == "noqueue" || !settled(l)) && !f.egress && !s.unseen
	for _, f := range [...]struct {
		flag route.LinkFlags
		on   bool
	}{
		// Carrier, not IFF_RUNNING, for which the kernel's linkwatch takes its time:
		// routes lead here already, and what passes by the qdisc gets through.
		{route.LinkUp, l.Up() && l.Flags&unix.IFF_LOWER_UP != 0},
		{route.LinkWorkload, p.role == roleWorkload},
		{route.LinkUplink, p.role == roleUplink},
		{route.LinkEthernet, layerOf(l) == ethernet},
		{route.LinkBypass, bypass},
		{route.LinkNoARP, l.Flags&unix.IFF_NOARP != 0},
		{route.LinkKernelForwards, l.Forwards},
		{route.LinkKernelForwards6, l.Forwards6},
		{route.LinkReceiveOnly, l.Multipoint},
		{route.LinkNoOffload, l.Type == unix.ARPHRD_PPP},
		{route.LinkUnsettled, !settled(l)},
		{route.LinkSorts, l.Kind != "veth" || !bypass}, // a veth's other end forgets it: ____dev_forward_skb in net/core/dev.c
		// Its own end would do what offloads leave to it; the other one gets it undone.
		{route.LinkPeer, l.Kind == "veth" && l.ParentForeign && p.role == roleWorkload && p.conf.offloads},
	} {
		if f.on {
			d.Flags |= f.flag
		}
	}
	return d
}

// settled reports whether the interface has the queueing discipline that it is
// to keep. One that has just come up has noop, which loses in silence what it
// is given, until the kernel's linkwatch has replaced it (net/sched/sch_generic.c).
func settled(l *netstate.Link) bool {
	return l.Running() && l.Qdisc != "noop" && l.Qdisc != ""
}

// shapingChanged reports whether an interface has got a queueing discipline that
// is a policy, or has lost one, since its rules were looked at.
func shapingChanged(l *netstate.Link, p *port) bool {
	return p.rules == done && hostpolicy.Shapes(l.Qdisc) != hostpolicy.Shapes(p.qdisc)
}

// samePolicy reports whether a responder that has a would do the same with b.
func samePolicy(a, b *arpd.Policy) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Name == b.Name && sameUplink(a.Uplink, b.Uplink) && a.Settled == b.Settled && a.Own == b.Own && a.Answer == b.Answer && slices.Equal(a.Alias, b.Alias) &&
		slices.Equal(a.Gateways, b.Gateways) && slices.Equal(a.Proxy, b.Proxy)
}

func sameUplink(a, b *arpd.Uplink) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Unforwarded == b.Unforwarded && slices.Equal(a.Targets, b.Targets) && slices.Equal(a.Others, b.Others)
}

// jobs are the tasks for which a job is to be given out now.
func (w *want) jobs(p *port) (due []job) {
	for _, j := range [...]struct {
		wanted bool
		task   task
		kind   job
	}{
		{w.mac, p.mac, jobMAC}, {w.member, p.member, jobMember}, {w.rules, p.rules, jobRules}, {w.read, p.read, jobRead},
		{w.claim && w.hurry, p.claim, jobClaim}, {w.claim && !w.hurry, p.claim, jobClaimLater},
	} {
		if j.wanted && j.task == todo {
			due = append(due, j.kind)
		}
	}
	return due
}

// claimMode is the word for how programs are attached.
func claimMode(how claim.Mode, decides bool) string {
	switch {
	case !decides:
		return string(claim.None)
	case how == "":
		return string(claim.Auto)
	}
	return string(how)
}
