package daemon

import (
	"proxyarpd/internal/engine"
	"proxyarpd/internal/hostpolicy"
	"proxyarpd/internal/macs"
	"proxyarpd/internal/netstate"
)

// wouldServe are the interfaces that would be served by another configuration,
// and by name the indices of those uplinks that no route leads over.
func (o *owner) wouldServe(cfg *Config) (ifs []hostpolicy.Interface, receive map[string]int) {
	receive = map[string]int{}
	for index, l := range o.links {
		r := o.roleBy(l, cfg)
		if r == roleNone {
			continue
		}
		ifs = append(ifs, hostpolicy.Interface{Name: l.Name, Index: index})
		if r == roleUplink && o.builder.UsedLinks()[int32(index)] == 0 {
			receive[l.Name] = index
		}
	}
	return ifs, receive
}

// leave has no frame taken any more of the interfaces that another configuration
// does not serve as this one does, and names them.
func (o *owner) leave(next *Config) (indices []int32) {
	for index, p := range o.ports {
		l := o.links[index]
		if l == nil || o.roleBy(l, next) == p.role && next.forwards() == o.cfg.forwards() {
			continue
		}
		p.leaving = true
		o.dirty.links[index] = true
		indices = append(indices, int32(index))
	}
	o.reconcile()
	return indices
}

// stay undoes leave.
func (o *owner) stay() {
	for index, p := range o.ports {
		if p.leaving {
			p.leaving = false
			o.dirty.links[index] = true
		}
	}
	o.reconcile()
}

// change has another engine be told of all from now on.
func (o *owner) change(eng engine.Engine) {
	if eng == o.eng {
		return
	}
	if device := eng.Device().Index; device != 0 && device != o.eng.Device().Index {
		o.work.device = true
		o.dirty.links[device] = true
	}
	o.eng = eng
	if t := o.proxy.table.Load(); t != nil {
		eng.Publish(t)
	}
}

// adopt takes another configuration. What it means to each interface is found out
// anew.
func (o *owner) adopt(next *Config, j *judgement) {
	was := o.cfg
	o.cfg = next
	o.builder.SetPolicy(next.policy(o.eng))
	for _, w := range j.warnings {
		o.log.Warn(w.what, w.key, w.value)
	}
	o.unseen = o.unseen || j.unseen
	o.spare(j.spared)
	if next.BypassPolicy != was.BypassPolicy {
		o.gate.accepted = j.spared
	}
	if next.BypassPolicy != was.BypassPolicy || next.forwards() && !was.forwards() {
		o.gate.respects = j.left6
		o.gate.results.Replace(&j.rules, hostpolicy.All)
	}
	for index, l := range o.links {
		o.dirty.links[index] = true
		if p := o.ports[index]; p != nil {
			o.reopen(l, p, was)
		}
	}
	o.dirty.publish, o.herald.rescan = true, true
	o.weighRules()
	o.reconcile()
}

// reopen has a port that was opened by another configuration be looked at anew.
func (o *owner) reopen(l *netstate.Link, p *port, was *Config) {
	p.leaving = false
	if r := o.roleOf(l); r != p.role {
		o.putBackMAC(l, p)
		return // describe closes it
	}
	p.again()
	if p.mac == done || p.mac == never {
		p.mac = todo
	}
	if was.MAC != o.cfg.MAC || was.KeepMAC != o.cfg.KeepMAC {
		if p.policy != nil && p.policy.Answer != o.cfg.MAC {
			p.former = p.policy.Answer // pods have it in their neighbour tables
		}
		if p.member != underWay {
			p.member, p.ownMAC = todo, false
		}
	}
	if was.BypassPolicy != o.cfg.BypassPolicy || was.forwards() != o.cfg.forwards() {
		if p.left, p.left6 = nil, nil; p.rules != underWay {
			p.rules = todo
		}
	}
	if was.Engine != o.cfg.Engine && p.read == done {
		o.work.again = append(o.work.again, p.ref) // --engine ebpf asks for more
	}
}

// putBackMAC has a workload interface that is one no more get the MAC that it had.
func (o *owner) putBackMAC(l *netstate.Link, p *port) {
	original, changed := o.macs.Original(l.Index)
	if p.role != roleWorkload || !changed {
		return
	}
	o.work.putBack = append(o.work.putBack, macs.Change{Ifindex: l.Index, Name: l.Name, Current: l.MAC, Want: original})
}
