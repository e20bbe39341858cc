package daemon

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"proxyarpd/internal/hostpolicy"
	"proxyarpd/internal/netstate"
	"proxyarpd/internal/printable"
	"proxyarpd/internal/status"
)

// weighRules says what the rules that are known mean, and has it count.
func (o *owner) weighRules() {
	o.weigh()
	if len(o.dirty.links) > 0 && o.phase >= serving {
		o.reconcile()
	}
}

func (o *owner) weigh() {
	g := &o.gate
	found, err := g.results.Combined()
	if errors.Is(err, hostpolicy.ErrUserNamespace) {
		err = nil // the start has said it
	}
	if g.err = err; err != nil && g.said.first("unknown", time.Now()) {
		o.log.Warn("can't tell whether rules of this host are bypassed", "err", err)
	}
	if !o.eng.Forwards() {
		found = nil
	}
	found = o.cfg.concerning(found)
	if err == nil {
		o.judgeAgain(found)
	}
	found = slices.DeleteFunc(found, o.leftAnyway)
	o.noteFindings(found)
	was := *g
	g.left, g.left6 = o.toLeave(found)
	g.egress = map[int]bool{}
	o.markEgress(found)
	for index := range o.ports {
		if said(was.left.of(index)) != said(g.left.of(index)) || said(was.left6.of(index)) != said(g.left6.of(index)) || was.egress[index] != g.egress[index] {
			o.dirty.links[index] = true
		}
	}
}

func said(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// leftAnyway reports whether a finding is bound to an interface that has been left
// to the kernel for it, or is none of ours.
func (o *owner) leftAnyway(f hostpolicy.Finding) bool {
	if f.Interface == "" {
		return false
	}
	for index, l := range o.links {
		if l.Name == f.Interface {
			p := o.ports[index]
			return p == nil || p.left != nil || p.left6 != nil && f.Family == hostpolicy.IPv6
		}
	}
	return true
}

// judgeAgain has interfaces judged that were left for rules which are not there any
// more.
func (o *owner) judgeAgain(found []hostpolicy.Finding) {
	for index, p := range o.ports {
		l := o.links[index]
		if l == nil || p.left == nil && p.left6 == nil || p.rules != done {
			continue
		}
		if !slices.ContainsFunc(found, func(f hostpolicy.Finding) bool { return f.Interface == l.Name }) {
			p.rules = todo
			o.dirty.links[index] = true
		}
	}
}

// isAccepted reports whether --bypass-policy was given when a finding was there.
func (o *owner) isAccepted(f *hostpolicy.Finding) bool {
	return o.cfg.BypassPolicy && slices.ContainsFunc(o.gate.accepted, func(a hostpolicy.Finding) bool { return same(&a, f) })
}

// isRespected reports whether IPv6 is left to the kernel for a finding, whatever is done
// about rules that appear: it was there at the start. A firewall that is loaded anew
// takes its rules away for a moment.
func (o *owner) isRespected(f *hostpolicy.Finding) bool {
	return slices.ContainsFunc(o.gate.respects, func(a hostpolicy.Finding) bool { return same(&a, f) })
}

// toLeave says which packets are the kernel's: of both families, and of IPv6 alone.
func (o *owner) toLeave(found []hostpolicy.Finding) (all, v6 leaving) {
	all.ports, v6.ports = map[int]error{}, map[int]error{}
	forwards6 := o.forwards6()
	for i := range found {
		f := &found[i]
		if o.cfg.LeavesNAT6(f, forwards6) {
			v6.host = cmp.Or(v6.host, fmt.Errorf("IPv6 is left to the kernel, which translates it, and --punt names no destination of IPv6: forwarding would bypass %s", f))
		}
		respects := o.isRespected(f)
		if !respects && (o.cfg.OnPolicy != PolicyLeave || o.isAccepted(f)) {
			continue
		}
		into, what, how := &all, "", ""
		if f.Family == hostpolicy.IPv6 {
			into, what = &v6, "IPv6 is "
		}
		if !respects {
			how = " (--on-policy leave)"
		}
		why := fmt.Errorf("%sleft to the kernel%s: forwarding would bypass %s", what, how, f)
		if f.Interface == "" {
			into.host = cmp.Or(into.host, why)
			continue
		}
		for index, l := range o.links {
			// The way through a queueing discipline is open to us too, and the kernel
			// would have to forward.
			if l.Name == f.Interface && (forwardsAny(l, f.Family) || f.Kind != hostpolicy.KindQdisc) {
				into.ports[index] = why
			}
		}
	}
	return all, v6
}

// forwardsAny reports whether the kernel forwards packets of a family that come in by an
// interface. Of both, it is IPv4 that counts.
func forwardsAny(l *netstate.Link, family hostpolicy.Family) bool {
	if family == hostpolicy.IPv6 {
		return l.Forwards6
	}
	return l.Forwards
}

// markEgress keeps frames to an interface that has egress rules now on the ordinary
// way out. Those of IPv6 alone have no hook there but an interface's.
func (o *owner) markEgress(found []hostpolicy.Finding) {
	for _, f := range found {
		if f.Family == hostpolicy.IPv6 && f.Interface == "" {
			continue
		}
		for index, l := range o.links {
			if l.Name == f.Interface || f.Interface == "" && f.Kind == hostpolicy.KindNFTables {
				o.gate.egress[index] = true
			}
		}
	}
}

// noteFindings notes and logs which rules have come and gone.
func (o *owner) noteFindings(found []hostpolicy.Finding) {
	g, now := &o.gate, time.Now()
	var all []bypassed
	for _, f := range found {
		b := bypassed{f, now}
		if at := slices.IndexFunc(g.found, func(b bypassed) bool { return same(&b.Finding, &f) }); at >= 0 {
			b.since = g.found[at].since
		} else {
			g.changes++
			o.sayFinding(&f, now)
		}
		all = append(all, b)
	}
	for _, b := range g.found {
		if !slices.ContainsFunc(found, func(f hostpolicy.Finding) bool { return same(&b.Finding, &f) }) {
			g.changes++
			if g.said.first("gone "+b.What, now) {
				o.log.Info("rules of this host are gone", "found", b.Finding.String())
			}
		}
	}
	g.found = all
}

func (o *owner) sayFinding(f *hostpolicy.Finding, now time.Time) {
	switch {
	case o.isAccepted(f) || !o.gate.said.first(f.What, now):
	case o.cfg.LeavesNAT6(f, o.forwards6()):
		o.log.Warn("rules of this host have appeared, and IPv6 is left to the kernel, which translates it (--punt names the destinations)", "found", f.String())
	case o.isRespected(f):
		o.log.Warn("rules of this host have appeared again, and IPv6 is left to the kernel for them", "found", f.String())
	case o.cfg.OnPolicy == PolicyLeave:
		o.log.Warn("rules of this host have appeared, and what they concern is left to the kernel", "found", f.String())
	default:
		o.log.Warn("rules of this host have appeared, and do not apply to what is forwarded (--on-policy leave would leave it to the kernel)", "found", f.String())
	}
}

// gated says why packets of an interface are left to the kernel for rules that have
// appeared, nil if they are not.
func (o *owner) gated(l *netstate.Link) error {
	return o.gate.left.of(l.Index)
}

// gated6 says why packets of IPv6 of an interface are left to the kernel for rules of
// the host, nil if they are not.
func (o *owner) gated6(l *netstate.Link) error {
	if p := o.ports[l.Index]; p != nil && p.left6 != nil {
		return p.left6
	}
	return o.gate.left6.of(l.Index)
}

func (o *owner) gateStatus() status.Gate {
	g := &o.gate
	s := status.Gate{State: "clear", Findings: []status.Bypassed{}, Looks: g.looks, Took: g.took.Seconds(), Changes: g.changes}
	for _, b := range g.found {
		all, v6 := o.toLeave([]hostpolicy.Finding{b.Finding})
		s.Findings = append(s.Findings, status.Bypassed{Kind: b.Kind, What: printable.UTF8(b.Finding.String()), Interface: printable.UTF8(b.Interface), Since: b.since,
			IPv6: b.Family == hostpolicy.IPv6 || v6.any() && !all.any(), Left: all.any() || v6.any()})
	}
	switch {
	case !o.eng.Forwards():
		s.State = "off"
	case g.left.any() || g.left6.any():
		s.State = "left"
	case len(g.found) > 0:
		s.State = "bypassed"
	case g.err != nil:
		s.State = "unknown"
	}
	if g.err != nil {
		s.Unknown = printable.UTF8(strings.ReplaceAll(g.err.Error(), "\n", "; "))
	}
	return s
}

// saidOnce limits what is logged again and again, by key.
type saidOnce struct{ at map[string]time.Time }

const (
	saidAgain = time.Minute
	saidMost  = 256 // keys
)

// first reports whether a key was not said in the last minute, and notes that it
// is now.
func (s *saidOnce) first(key string, now time.Time) bool {
	if at, known := s.at[key]; known && now.Sub(at) < saidAgain {
		return false
	}
	if s.at == nil || len(s.at) >= saidMost {
		s.at = map[string]time.Time{}
	}
	s.at[key] = now
	return true
}
