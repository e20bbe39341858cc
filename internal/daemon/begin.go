package daemon

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/hostpolicy"
	"proxyarpd/internal/macs"
	"proxyarpd/internal/shortage"
)

// lacks is an error if a capability is missing that the configuration needs: early, and by name, what would fail later in
// the middle of something.
func (cfg *Config) lacks(has func(capability int) bool) error {
	if !has(unix.CAP_NET_RAW) {
		return errors.New("CAP_NET_RAW is missing: packet sockets can't be opened; run as root or with that capability")
	}
	if has(unix.CAP_NET_ADMIN) {
		return nil
	}
	switch {
	case cfg.forwards():
		return errors.New("CAP_NET_ADMIN is missing: neighbours can't be resolved, frames not be claimed; add it, or use --engine none --keep-mac")
	case !cfg.KeepMAC:
		return errors.New("CAP_NET_ADMIN is missing: the MAC of workload interfaces can't be set; add it, or use --keep-mac")
	}
	return nil
}

// begin is called once all of the kernel's state is known, and before anything
// is changed: it has the host looked at.
func (o *owner) begin() {
	o.phase = deciding
	e := &beginErrand{serve: map[int]bool{}, inspect: o.eng.Forwards(), succeed: o.succeed}
	for index, l := range o.links {
		o.warnLeftAlone(l, "")
		if o.roleOf(l) != roleNone {
			e.serve[index] = true
			e.ifs = append(e.ifs, hostpolicy.Interface{Name: l.Name, Index: index})
		}
	}
	o.work.begin = e
}

// take begins to serve, unless the host forbids it. What changed while it was
// looked at has been noted.
func (b begun) take(o *owner) error {
	if o.phase != deciding {
		return nil
	}
	if err := cmp.Or(b.swept, b.refused); err != nil {
		return err
	}
	o.host, o.confAll, o.confAll6 = b.host, b.all, b.all6
	o.builder.SetHost(b.host)
	asked := b.serve
	left := map[int][]string{}
	if b.inspect {
		found, unknown := b.rules.Combined()
		v := judge(o.cfg, found, unknown, o.forwards6(), o.onlyReceives)
		for _, w := range v.warnings {
			o.log.Warn(w.what, w.key, w.value)
		}
		if v.err != nil {
			return v.err
		}
		o.unseen, left = v.unseen, v.left
		o.spare(v.spared)
		o.gate.results, o.gate.accepted, o.gate.respects = b.rules, v.spared, v.left6
		for _, f := range v.left6 {
			o.gate.found = append(o.gate.found, bypassed{f, time.Now()})
		}
	}
	o.phase, o.beginning = serving, true
	o.adoption, o.waits = b.adoption, b.adoption != nil
	for index, l := range o.links {
		o.dirty.links[index] = true
		if r := o.roleOf(l); r == roleNone || !asked[index] || o.dirty.gone[index] {
			continue
		}
		p := o.openPort(l, o.roleOf(l))
		p.rules, p.qdisc = done, l.Qdisc
		if why := left[index]; why != nil {
			p.left = fmt.Errorf("left to the kernel, since no route leads over it and forwarding would bypass %s", strings.Join(why, "; "))
			o.sayFailed(l, p, p.left)
		}
	}
	if b.inspect {
		o.weigh()
	}
	o.reconcile()
	if o.adoption != nil {
		o.disinherit()
	}
	o.work.adopt = o.inherited()
	o.work.device = o.eng.Device().Index != 0
	o.begun()
	return o.failed
}

// inherited are the MACs that a killed predecessor has changed as we would.
func (o *owner) inherited() *adoptErrand {
	e := &adoptErrand{}
	for index, p := range o.ports {
		l := o.links[index]
		if l == nil || p.role != roleWorkload || o.cfg.KeepMAC || l.MAC != o.cfg.MAC {
			continue
		}
		if _, changed := o.macs.Original(index); changed {
			e.changes = append(e.changes, macs.Change{Ifindex: index, Name: l.Name, Current: l.MAC, Want: o.cfg.MAC})
		}
	}
	return e
}

func (adopted) take(*owner) error { return nil }

func (deviceAttached) take(*owner) error { return nil }

// onlyReceives gives the index of an uplink over which no route leads, by name.
func (o *owner) onlyReceives(name string) (index int, ok bool) {
	for index, l := range o.links {
		if l.Name == name && o.roleOf(l) == roleUplink && o.builder.UsedLinks()[int32(index)] == 0 {
			return index, true
		}
	}
	return 0, false
}

// judgement is what the rules of the host mean to the daemon.
type judgement struct {
	err      error              // it must not start
	rules    hostpolicy.Results // by which; empty: they have not been looked at
	left     map[int][]string   // uplinks that only receive, with rules of their own, which are left to the kernel
	spared   []hostpolicy.Finding
	left6    []hostpolicy.Finding // of IPv6 alone, which is left to the kernel
	unseen   bool                 // there may be tc programs that can't be seen
	warnings []warning
}

type warning struct {
	what, key string
	value     any
}

// judge refuses to pass by the host's own rules. An uplink that only receives is
// no reason: one that has rules of its own is left to the kernel. Nor are rules of
// IPv6 alone: IPv6 is left to the kernel, and IPv4 forwarded. unknown says why
// found is not all, forwards6 that the kernel forwards IPv6.
func judge(cfg *Config, found []hostpolicy.Finding, unknown error, forwards6 bool, onlyReceives func(name string) (int, bool)) (j judgement) {
	j.left = map[int][]string{}
	if errors.Is(unknown, hostpolicy.ErrUserNamespace) {
		j.warnings = append(j.warnings, warning{"packets to all interfaces take the ordinary way, for the tc programs that may be there", "err", unknown})
		j.unseen, unknown = true, nil
	}
	if unknown != nil && !cfg.BypassPolicy {
		j.err = fmt.Errorf("can't tell whether rules of this host would be bypassed: %w (--bypass-policy forwards all the same)", unknown)
		return j
	}
	found = cfg.concerning(found)
	for _, f := range found {
		if f.Kind == hostpolicy.KindIPVS && f.Family != hostpolicy.IPv6 && cfg.BypassPolicy {
			j.err = fmt.Errorf("%s: conntrack does not tell which flows IPVS translates, so their replies can't be left to the kernel: have kube-proxy use another mode (iptables, nftables), or use --engine none", f)
			return j
		}
	}
	var all, v6 []string
	for _, f := range found {
		if cfg.LeavesNAT6(&f, forwards6) {
			if v6 = append(v6, f.String()); f.Family == hostpolicy.IPv6 {
				j.left6 = append(j.left6, f)
				continue
			}
		}
		// Of IPVS it is not known either which flows of IPv6 it translates.
		if f.Family == hostpolicy.IPv6 && (!cfg.BypassPolicy || f.Kind == hostpolicy.KindIPVS) {
			j.left6, v6 = append(j.left6, f), append(v6, f.String())
			continue
		}
		if f.Interface != "" && !cfg.BypassPolicy {
			if index, ok := onlyReceives(f.Interface); ok {
				j.left[index] = append(j.left[index], f.String())
				continue
			}
		}
		all = append(all, f.String())
		j.spared = append(j.spared, f)
	}
	if len(v6) > 0 {
		j.warnings = append(j.warnings, warning{"IPv6 is left to the kernel, for forwarding would bypass its rules; IPv4 is forwarded (--bypass-policy forwards IPv6 all the same, with --punt for destinations that are translated; --ipv6=false leaves it to the kernel for good)", "found", strings.Join(v6, "; ")})
	}
	switch {
	case len(all) == 0:
	case cfg.BypassPolicy:
		j.warnings = append(j.warnings, warning{"rules of this host do not apply to what is forwarded", "bypassed", strings.Join(all, "; ")})
	default:
		j.err = fmt.Errorf("forwarding would bypass %s: use --engine none to answer ARP only, or --bypass-policy to forward all the same, with --punt for destinations that the kernel is to handle",
			strings.Join(all, "; "))
	}
	return j
}

// LeavesNAT6 reports whether IPv6 is left to the kernel, which forwards it, because rules
// translate it and no destination of IPv6 is: what --punt names for IPv4 alone, as a
// range of services, would not be translated.
func (c *Config) LeavesNAT6(f *hostpolicy.Finding, forwards6 bool) bool {
	return f.NAT && f.Family != hostpolicy.IPv4 && c.IPv6 && forwards6 && len(of(netip.Addr.Is6, c.Punt)) == 0
}

// forwards6 reports whether the kernel forwards IPv6 that comes in by an interface that
// is served.
func (o *owner) forwards6() bool {
	for _, l := range o.links {
		if l.Forwards6 && o.roleOf(l) != roleNone {
			return true
		}
	}
	return false
}

// concerning are those findings that concern what is forwarded: not of a family that is
// left to the kernel, or all destinations of which are. One that is for both families
// then concerns the other alone.
func (c *Config) concerning(found []hostpolicy.Finding) (all []hostpolicy.Finding) {
	v4, v6 := !puntsAll(c.Punt, netip.Addr.Is4), c.IPv6 && !puntsAll(c.Punt, netip.Addr.Is6)
	for _, f := range found {
		switch {
		case f.Family == hostpolicy.AnyFamily && v4 && !v6:
			f.Family = hostpolicy.IPv4
		case f.Family == hostpolicy.AnyFamily && v6 && !v4:
			f.Family = hostpolicy.IPv6
		}
		if v4 && f.Family != hostpolicy.IPv6 || v6 && f.Family != hostpolicy.IPv4 {
			all = append(all, f)
		}
	}
	return all
}

// puntsAll reports whether every destination of a family is left to the kernel.
func puntsAll(punt []netip.Prefix, family func(netip.Addr) bool) bool {
	halves := 0
	for _, p := range of(family, punt) {
		switch p.Bits() {
		case 0:
			return true
		case 1:
			halves++
		}
	}
	return halves == 2
}

// spare keeps frames to an interface with a shaping qdisc, a tc program or
// netdev hooks on the ordinary way out, so that what can still apply does.
func (o *owner) spare(found []hostpolicy.Finding) {
	for _, f := range found {
		for index, l := range o.links {
			if l.Name == f.Interface || (f.Interface == "" && f.Kind == hostpolicy.KindNFTables) {
				o.egress[index] = true
				o.dirty.links[index] = true
			}
		}
	}
}

// take applies what was found to the ports that were asked about.
func (r rulesFound) take(o *owner) error {
	var again []int
	for _, ref := range r.refs {
		l, p := o.find(ref)
		if p == nil {
			continue
		}
		again = append(again, ref.index)
		if shortage.Passing(r.err) {
			p.rules = short
			o.fail(l, p, r.err)
			continue
		}
		p.rules = done
		own := slices.DeleteFunc(slices.Clone(r.found), func(f hostpolicy.Finding) bool {
			return f.Interface != l.Name // it was there, or not there, when the daemon started
		})
		if own = o.cfg.concerning(own); o.cfg.BypassPolicy {
			p.left, p.left6 = nil, nil
		} else {
			both, v6 := split(own)
			p.left, p.left6 = judgeNew(l.Forwards, both, r.err), judgeNew(l.Forwards6, v6, nil)
			if p.left6 != nil {
				own = both
			}
		}
		switch {
		case p.left != nil:
			o.sayFailed(l, p, p.left)
		case len(own) > 0:
			o.spare(own)
			o.log.Warn("packets to it go through its queueing disciplines and programs, those from it don't", "interface", l.Name, "found", own[0].String())
		}
		if p.left == nil && p.left6 != nil {
			o.log.Warn("IPv6 of the interface is left to the kernel", "interface", l.Name, "err", p.left6)
		}
	}
	o.look(again...)
	return o.failed
}

// split tells findings of IPv6 alone from all others.
func split(found []hostpolicy.Finding) (others, v6 []hostpolicy.Finding) {
	for _, f := range found {
		if f.Family == hostpolicy.IPv6 {
			v6 = append(v6, f)
		} else {
			others = append(others, f)
		}
	}
	return others, v6
}

// judgeNew says why packets of an interface that came after the start, or whose rules
// have changed, are to be left to the kernel; nil if they are not. forwards says that
// the kernel would forward them.
func judgeNew(forwards bool, found []hostpolicy.Finding, unknown error) error {
	switch {
	case unknown != nil:
		return fmt.Errorf("can't tell whether rules of this host would be bypassed: %w", unknown)
	case len(found) > 0 && (forwards || !onlyShape(found)):
		return fmt.Errorf("forwarding would bypass %s", found[0])
	}
	// The way through a queueing discipline is open to us too, and leaving it to a
	// kernel that does not forward would cut it off.
	return nil
}

// onlyShape reports whether all that was found are queueing disciplines.
func onlyShape(found []hostpolicy.Finding) bool {
	return !slices.ContainsFunc(found, func(f hostpolicy.Finding) bool { return f.Kind != hostpolicy.KindQdisc })
}

// judgeBeginning ends the daemon if an interface that was there at the start
// can't be forwarded for, until all that were have been tried.
func (o *owner) judgeBeginning() {
	if !o.beginning {
		return
	}
	waits := false
	for index, p := range o.ports {
		l := o.links[index]
		if !p.first || l == nil {
			continue
		}
		switch {
		case p.state == failed && !o.idle(p) && !shortage.Passing(p.why):
			o.failed = fmt.Errorf("%s: %w", l.Name, p.why)
			return
		case p.state == described || p.state == early:
			waits = true
		}
	}
	o.beginning = waits
}
