package daemon

import (
	"context"
	"net/netip"

	"proxyarpd/forward/claim"
	"proxyarpd/internal/engine"
	"proxyarpd/internal/netstate"
)

// halt has the owner change nothing for a while: no errand is out, and what the kernel
// tells waits. It answers questions.
type halt struct {
	stands chan struct{} // closed when nothing is under way any more
	over   chan struct{} // closed when the owner is to go on
}

func newHalt() *halt { return &halt{stands: make(chan struct{}), over: make(chan struct{})} }

// await waits until the owner stands still; false: ctx ends before.
func (h *halt) await(ctx context.Context) bool {
	select {
	case <-h.stands:
		return true
	case <-ctx.Done():
		return false
	}
}

func (h *halt) end() { close(h.over) }

// stand is for when nothing is out any more: it returns when the owner is to go on.
// gone says that ctx has ended meanwhile.
func (o *owner) stand(ctx context.Context) (gone bool) {
	h := o.halt
	close(h.stands)
	o.stands = true
	defer func() { o.halt, o.stands = nil, false }()
	for {
		select {
		case ask := <-o.questions:
			ask()
		case <-h.over:
			return false
		case <-ctx.Done():
			return true
		}
	}
}

// lookAgain has the owner look at all that another process may have changed.
func (o *owner) lookAgain() {
	for index, l := range o.links {
		o.dirty.links[index] = true
		if p := o.ports[index]; p != nil {
			o.reopen(l, p, o.cfg)
		}
	}
	for _, index := range o.eng.Orphans() {
		o.dirty.links[int(index)], o.dirty.gone[int(index)] = true, true
	}
	o.dirty.publish = true
	o.reconcile()
}

// adoption is what the programs of a predecessor know when its successor's owner begins.
type adoption struct {
	ports   map[int]engine.Port // by interface
	claimed map[int]bool        // interfaces whose program is attached
	classes map[netip.Prefix]bool
}

func newAdoption(set *claim.Set) *adoption {
	a := &adoption{ports: map[int]engine.Port{}, claimed: map[int]bool{}, classes: map[netip.Prefix]bool{}}
	if set == nil {
		return a
	}
	for _, p := range set.Ports() {
		a.ports[int(p.Ifindex)] = p
	}
	for _, index := range set.Claimants() {
		a.claimed[int(index)] = true
	}
	for _, prefix := range set.Classes() {
		a.classes[prefix] = true
	}
	return a
}

// inherit has a port be what the predecessor has made of it: its frames are taken, and
// go on being.
func (o *owner) inherit(l *netstate.Link, p *port) error {
	f, ok := o.adoption.ports[l.Index]
	if !ok {
		return nil
	}
	delete(o.adoption.ports, l.Index)
	slot, err := o.eng.SetPort(f)
	if err != nil {
		return err
	}
	p.slot, p.filter = slot, f
	if o.adoption.claimed[l.Index] {
		p.claim = done
	}
	if p.role != roleWorkload {
		return nil
	}
	original, _ := o.macs.Original(l.Index)
	for _, mac := range f.Aliases {
		if mac != o.cfg.MAC && mac != l.MAC && mac != original {
			p.former = mac // none of the others: it was answered before a reload
		}
	}
	if o.wants(l, p).member {
		// The device takes frames to --mac as long as the predecessor lives.
		p.member = done
		o.work.member = append(o.work.member, p.ref)
	}
	return nil
}

// disinherit has the programs forget what the successor does not know.
func (o *owner) disinherit() {
	for index := range o.adoption.ports {
		if err := o.eng.DeletePort(int32(index)); err != nil {
			o.log.Error("interface not let go", "index", index, "err", err)
		}
	}
	for prefix := range o.adoption.classes {
		if err := o.eng.SetClass(prefix, 0); err != nil {
			o.log.Error("the ring's filter knows a destination that there is not", "destination", prefix, "err", err)
		}
	}
	o.adoption = nil
}
