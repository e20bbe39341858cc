package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/forward/claim"
	"proxyarpd/internal/hostpolicy"
	"proxyarpd/internal/netstate"
	"proxyarpd/internal/shortage"
)

// opener does what takes the kernel's RTNL lock, and may have to wait for it
// while others make interfaces: claims and MACs. Routes and neighbours go on
// being followed meanwhile.
//
// Its first pass is part of the start, which ends if a port can't be opened. It
// is not waited for, since packets pass meanwhile, and news of neighbours have to.
func (d *Daemon) opener(ctx context.Context) error {
	var again retryClock
	for first := true; ; {
		due := false
		select {
		case <-ctx.Done():
			return nil
		case <-d.openNow:
		case <-again.c:
			again.c, due = nil, true
		}
		d.mu.Lock()
		begins := first && d.running
		if begins {
			first = false
			d.takeOver(ctx)
		}
		d.retryShort(due)
		d.openPorts()
		again.arm(d.stillShort())
		err := d.firstRefused(begins)
		d.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

// openPorts empties toOpen. mu is held, but let go of around each request.
func (d *Daemon) openPorts() {
	for len(d.toOpen) > 0 && !d.ending {
		due := slices.Collect(maps.Keys(d.toOpen))
		clear(d.toOpen)
		d.setMACs(due)
		for _, index := range due {
			if l, p := d.links[index], d.ports[index]; l != nil && p != nil && d.claim != nil && d.idle(l, p) {
				d.claimLater(index) // until then the kernel has its packets, or nobody wants them
				continue
			}
			d.openPort(index)
		}
	}
	d.publish()
	d.warnDescriptors()
	d.signalReady()
}

// wantsMAC reports whether an interface is to be given the answered MAC.
func (d *Daemon) wantsMAC(l *netstate.Link, p *port) bool {
	return p.role == roleWorkload && !d.cfg.KeepMAC && !p.macFailed && !d.ending && l.MAC != d.cfg.MAC
}

// openPort claims the originals of an interface, reads its settings, and has the
// ring take its frames if that had to wait.
func (d *Daemon) openPort(index int) {
	l, p := d.links[index], d.ports[index]
	if l == nil || p == nil || !d.synced {
		return
	}
	short := d.attempt(index)
	d.checkNew(l, p)
	if d.loop != nil && !p.checked {
		return // that could not be told; it is asked again
	}
	if d.wantsClaim(index, p) {
		if d.claimHurries(l, p) {
			if !d.claimPortNow(l, p) {
				return
			}
		} else {
			d.claimLater(index)
			if short {
				d.later(index) // until it is claimed
			}
		}
	}
	conf := p.conf
	err := d.unlocked(func() (err error) {
		conf, err = readIfConf(l.Name, conf)
		return err
	})
	// While the lock was not held the interface may have gone, or changed.
	if d.ports[index] != p || d.links[index] == nil {
		if d.ports[index] == nil && d.claim != nil {
			_ = d.claim.Release(int32(index))
		}
		return
	}
	l, p.conf = d.links[index], conf
	if err != nil {
		d.fellShort(l, "not all settings are read yet", err)
	}
	d.describe(index)
	if !p.forwards {
		d.publish() // the tables know it first
	}
	if p.refused {
		p.opened = true // it is answered, with the MAC that goes with that
		return
	}
	if d.loop != nil && !p.forwards {
		if err := d.kernelForwards(l); err != nil {
			d.fail(l, p, err)
			return
		}
		if d.takeFrames(l, p); !p.forwards {
			return
		}
	}
	p.opened, p.failed = true, nil
}

// wantsClaim reports whether the tc program is to be attached to a port.
func (d *Daemon) wantsClaim(index int, p *port) bool {
	return d.claim != nil && d.cfg.Claim != claim.None && !d.ending && !p.unclaimable && !d.claim.Claimed(int32(index)) &&
		(d.loop != nil && !p.refused || p.aliases != [2]macAddr{})
}

// fewPorts are claimed at once: the lock is not held for long.
const fewPorts = 16

// claimHurries reports whether nothing works without the claim: the kernel
// would forward too, or drop what is for the host because of its MAC. Also the
// first one is made at once, to know how. An uplink that only receives has been
// waiting already.
func (d *Daemon) claimHurries(l *netstate.Link, p *port) bool {
	return d.idle(l, p) || len(d.ports) <= fewPorts || d.loop == nil || d.cfg.KeepMAC || d.claimMode() == string(claim.Auto) || d.kernelForwards(l) != nil
}

// claimPortNow attaches the tc program. It is false if the port can't be opened.
func (d *Daemon) claimPortNow(l *netstate.Link, p *port) bool {
	err := d.roomToClaim()
	if err == nil {
		err = d.unlocked(func() error { return d.claim.Claim(int32(l.Index)) })
	}
	switch {
	case err == nil:
		return true
	case errors.Is(err, unix.ENODEV):
		return false // gone; its event is under way
	case shortage.Passing(err) && d.kernelForwards(l) != nil:
		d.fail(l, p, err)
		return false
	case shortage.Passing(err):
		d.fellShort(l, "originals are not claimed yet; the kernel drops them, as its forwarding is 0", err)
		return true
	case d.kernelForwards(l) != nil && !errors.Is(err, claim.ErrNotSupported):
		d.fail(l, p, err)
		return false
	}
	p.unclaimable = true
	d.log.Warn("originals are not claimed; the kernel drops them where its forwarding is 0", "interface", l.Name, "err", err)
	return true
}

// claimLater has claimer attach the tc program to a port that works without.
func (d *Daemon) claimLater(index int) {
	d.toClaim[index] = true
	select {
	case d.claimSoon <- struct{}{}:
	default:
	}
}

// claimer attaches the tc programs that can wait. Each attachment to a TCX
// hook holds the kernel's RTNL lock for an RCU grace period, some 10 ms
// (kernel/bpf/tcx.c, include/net/tcx.h: tcx_entry_sync), so it leaves twice
// that time to others in between.
func (d *Daemon) claimer(ctx context.Context) {
	d.attachRelay(ctx)
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.claimSoon:
		}
		for {
			began := time.Now()
			if !d.claimOne() {
				break
			}
			pause := time.NewTimer(2 * time.Since(began))
			select {
			case <-ctx.Done():
				pause.Stop()
				return
			case <-pause.C:
			}
		}
	}
}

// attachRelay has frames go through the relay from now on.
func (d *Daemon) attachRelay(ctx context.Context) {
	if d.relay == nil {
		return
	}
	err := shortage.Retry(ctx, startPatience, func() error { return d.claim.AttachRelay(d.relay.Ifindex()) }, func(error, time.Duration) {})
	if err != nil {
		d.log.Warn("super-packets that no ring can take are lost where the kernel does not forward", "err", err)
	}
}

// claimOne attaches to one of those that wait, if there is one.
func (d *Daemon) claimOne() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for index := range d.toClaim {
		delete(d.toClaim, index)
		l, p := d.links[index], d.ports[index]
		switch {
		case l == nil || p == nil || !d.synced || d.ending:
			continue
		case d.idle(l, p) && !p.opened && p.failed == nil:
			d.openPort(index)
			d.publish()
			return true
		case !d.wantsClaim(index, p):
			continue
		}
		if d.attempt(index) {
			d.wakeOpener() // it may be the last
		}
		d.claimPortNow(l, p)
		if d.ports[index] == nil {
			_ = d.claim.Release(int32(index)) // it went meanwhile
		}
		return true
	}
	return false
}

// unlocked calls fn without mu.
func (d *Daemon) unlocked(fn func() error) error {
	d.mu.Unlock()
	defer d.mu.Lock()
	return fn()
}

// checkNew asks whether forwarding for an interface would bypass rules that are
// bound to it, which appeared with it or after the start.
func (d *Daemon) checkNew(l *netstate.Link, p *port) {
	if d.loop == nil || p.checked {
		return
	}
	p.checked, p.qdisc = true, l.Qdisc
	if why := d.left[l.Index]; why != nil { // start has asked
		delete(d.left, l.Index)
		d.refuse(l, p, fmt.Errorf("left to the kernel, since no route leads over it and forwarding would bypass %s", strings.Join(why, "; ")))
		return
	}
	if !d.running {
		return // start has asked for all
	}
	var found []hostpolicy.Finding
	err := d.unlocked(func() (err error) {
		ctx, cancel := context.WithTimeout(context.Background(), inspectTimeout)
		defer cancel()
		found, err = hostpolicy.Inspect(ctx, []hostpolicy.Interface{{Name: l.Name, Index: l.Index}})
		return err
	})
	if errors.Is(err, hostpolicy.ErrUserNamespace) {
		err = nil // start has said it
	}
	if shortage.Passing(err) {
		p.checked = false
		d.fail(l, p, err)
		return
	}
	if err != nil && !d.cfg.BypassPolicy {
		d.refuse(l, p, fmt.Errorf("can't tell whether rules of this host would be bypassed: %w", err))
		return
	}
	found = slices.DeleteFunc(found, func(f hostpolicy.Finding) bool {
		return f.Interface != l.Name // it was there, or not there, when the daemon started
	})
	switch {
	case len(found) == 0 && p.refused:
		p.refused, p.failed = false, nil
	case len(found) > 0 && (d.cfg.BypassPolicy || !l.Forwards && onlyShape(found)):
		// The way through a queueing discipline is open to us too, and leaving it to a
		// kernel that does not forward would cut it off.
		for _, f := range found {
			d.spare(f)
		}
		d.log.Warn("packets to it go through its queueing disciplines and programs, those from it don't", "interface", l.Name, "found", found[0].String())
	case len(found) > 0:
		d.refuse(l, p, fmt.Errorf("forwarding would bypass %s", found[0]))
	}
}

// onlyShape reports whether all that was found are queueing disciplines.
func onlyShape(found []hostpolicy.Finding) bool {
	return !slices.ContainsFunc(found, func(f hostpolicy.Finding) bool { return f.Kind != hostpolicy.KindQdisc })
}

// shapingChanged reports whether an interface has got a queueing discipline that
// is a policy, or has lost one, since its rules were looked at.
func shapingChanged(l *netstate.Link, p *port) bool {
	return p.checked && hostpolicy.Shapes(l.Qdisc) != hostpolicy.Shapes(p.qdisc)
}

// refuse leaves a port's packets to the kernel.
func (d *Daemon) refuse(l *netstate.Link, p *port, err error) {
	p.forwards, p.refused = false, true
	d.fail(l, p, err)
	if d.claim != nil && d.ports[l.Index] == p {
		if _, err := d.claim.SetPort(d.claimPort(l, p)); err != nil {
			d.log.Error("interface not given back", "interface", l.Name, "err", err)
		}
	}
}
