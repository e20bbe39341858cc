package daemon

import (
	"fmt"

	"golang.org/x/sys/unix"

	"proxyarpd/forward/claim"
	"proxyarpd/internal/control"
	"proxyarpd/internal/descriptors"
	"proxyarpd/internal/livecapture"
)

// Descriptors is how many files the process may have open: what it has, what it
// may have, and what it needs at most with the interfaces that there are.
type Descriptors struct {
	InUse  int `json:"in_use"`
	Limit  int `json:"limit"`
	Needed int `json:"needed"`
}

// spareDescriptors are for what comes and goes: clients of the control socket,
// captures, and what is open for the length of a question to the kernel.
const spareDescriptors = control.Clients + 2*livecapture.Sessions + 8

// enoughDescriptors is an error if the daemon, which has made all else that it needs for its whole life, could not even
// say why it does not get on.
func enoughDescriptors() error {
	base, limit := descriptors.Open()+control.Descriptors, descriptors.Limit()
	if limit-base >= descriptors.Few {
		return nil
	}
	return fmt.Errorf("the limit of %d descriptors is too low, raise it (ulimit -n, LimitNOFILE): %d are the least, %d are wanted, and one an interface",
		limit, base+descriptors.Few, base+spareDescriptors)
}

// descriptorNeeds are those of the process, without claims: one an interface where
// the kernel has TCX.
type descriptorNeeds struct {
	base   int // open when the daemon had started
	warned int // the need that was warned of
}

// ofClaims is how many descriptors the claims have, or would have with all
// interfaces served. mu is held.
func (d *Daemon) ofClaims() (have, need int) {
	if d.claim == nil || d.cfg.Claim == claim.None {
		return 0, 0
	}
	have = d.claim.Links()
	if d.claim.Mode() == claim.Clsact {
		return have, have
	}
	for _, p := range d.ports {
		if d.loop != nil && !p.refused || p.aliases != [2]macAddr{} {
			need++
		}
	}
	return have, max(have, need)
}

// descriptorStatus is for `status`. mu is held.
func (d *Daemon) descriptorStatus() Descriptors {
	_, need := d.ofClaims()
	return Descriptors{InUse: descriptors.Open(), Limit: descriptors.Limit(), Needed: d.fds.base + spareDescriptors + need}
}

// roomToClaim is an error if one more claim would take of the descriptors that
// all else needs: then nobody could ask why. Of few, claims take half.
func (d *Daemon) roomToClaim() error {
	limit := descriptors.Limit()
	if free := limit - d.fds.base; d.claim.Mode() == claim.Clsact || d.claim.Links() < max(free-spareDescriptors, free/2) {
		return nil
	}
	return fmt.Errorf("the limit of %d descriptors leaves none to further interfaces, raise it (ulimit -n, LimitNOFILE): %w", limit, unix.EMFILE)
}

// warnDescriptors says once, and again if it gets worse by half, that the limit
// may be met.
func (d *Daemon) warnDescriptors() {
	s := d.descriptorStatus()
	if s.Needed <= s.Limit || 2*s.Needed < 3*d.fds.warned {
		return
	}
	d.fds.warned = s.Needed
	d.log.Warn("descriptors may run out: raise the limit (ulimit -n, LimitNOFILE)", "needed", s.Needed, "limit", s.Limit, "in use", s.InUse)
}
