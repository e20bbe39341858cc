package daemon

import (
	"fmt"
	"log/slog"

	"golang.org/x/sys/unix"

	"proxyarpd/forward/claim"
	"proxyarpd/internal/control"
	"proxyarpd/internal/descriptors"
	"proxyarpd/internal/engine"
	"proxyarpd/internal/livecapture"
)

// spareDescriptors are for what comes and goes: clients of the control socket,
// captures, and what is open for the length of a question to the kernel.
const spareDescriptors = control.Clients + 2*livecapture.Sessions + 8

// fewest are those with which nothing goes on but slowly: a claim or two, a client, and a file.
const fewest = 4

// enoughDescriptors is an error if the daemon, which has made all else that it needs for its whole life, could not even
// say why it does not get on.
func enoughDescriptors() error {
	base, limit := descriptors.Open()+control.Descriptors, descriptors.Limit()
	if limit-base >= fewest {
		return nil
	}
	return fmt.Errorf("the limit of %d descriptors is too low, raise it (ulimit -n, LimitNOFILE): %d are the least, %d are wanted, and one an interface",
		limit, base+fewest, base+spareDescriptors)
}

// enoughForIPv6 is with how many descriptors IPv6 is served, which takes some ten more, and
// as many again where programs carry it: with fewer, IPv4 has them.
func (c *Config) enoughForIPv6() int {
	if c.Engine == EngineEBPF {
		return 80
	}
	return 64
}

// spare leaves out what the limit of descriptors is too low for.
func (c *Config) spare(log *slog.Logger) {
	if limit, enough := descriptors.Limit(), c.enoughForIPv6(); c.IPv6 && limit < enough {
		log.Warn("IPv6 is left to the kernel: the limit of descriptors is too low, raise it (ulimit -n, LimitNOFILE)", "needed", enough, "limit", limit)
		c.IPv6 = false
	}
}

// plenty is how many descriptors a process may have at least to keep those that only a
// successor asks for.
const plenty = 256

// canBeSucceeded reports whether the daemon keeps what run --takeover takes over.
func canBeSucceeded() bool { return descriptors.Limit() >= plenty }

// limits are the descriptors of the process.
type limits struct {
	base int // open when the daemon had started, without claims: one an interface where the kernel has TCX
}

// ofClaims is how many descriptors the claims would have with all interfaces
// served.
func (o *owner) ofClaims() (need int) {
	if !o.eng.CanClaim() {
		return 0
	}
	how, have := o.eng.Claims()
	if how == claim.Clsact {
		return have
	}
	for _, p := range o.ports {
		if o.eng.Forwards() && p.left == nil || p.filter.Aliases != [2]macAddr{} {
			need++
		}
	}
	return max(have, need)
}

// descriptors is for `status`.
func (o *owner) descriptorStatus() Descriptors {
	return Descriptors{InUse: descriptors.Open(), Limit: descriptors.Limit(), Needed: o.limits.base + spareDescriptors + o.ofClaims()}
}

// roomToClaim is an error if one more claim would take of the descriptors that
// all else needs: then nobody could ask why. Of few, claims take half.
func (l *limits) roomToClaim(eng engine.Engine) error {
	limit := descriptors.Limit()
	how, have := eng.Claims()
	if free := limit - l.base; how == claim.Clsact || have < max(free-spareDescriptors, free/2) {
		return nil
	}
	return fmt.Errorf("the limit of %d descriptors leaves none to further interfaces, raise it (ulimit -n, LimitNOFILE): %w", limit, unix.EMFILE)
}

// warnDescriptors says once, and again if it gets worse by half, that the limit
// may be met.
func (o *owner) warnDescriptors() {
	s := o.descriptorStatus()
	if s.Needed <= s.Limit || 2*s.Needed < 3*o.warned {
		return
	}
	o.warned = s.Needed
	o.log.Warn("descriptors may run out: raise the limit (ulimit -n, LimitNOFILE)", "needed", s.Needed, "limit", s.Limit, "in_use", s.InUse)
}
