package daemon

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/macs"
	"proxyarpd/internal/shortage"
)

// setMACs gives those of the ports that are to have it the answered MAC, all
// together. mu is held, and let go of meanwhile.
func (d *Daemon) setMACs(indices []int) {
	var changes []macs.Change
	for _, index := range indices {
		if l, p := d.links[index], d.ports[index]; l != nil && p != nil && d.synced && d.wantsMAC(l, p) {
			changes = append(changes, macs.Change{Ifindex: index, Name: l.Name, Current: l.MAC, Want: d.cfg.MAC})
		}
	}
	for i, err := range d.changeMACs(changes) {
		c := &changes[i]
		l, p := d.links[c.Ifindex], d.ports[c.Ifindex]
		switch {
		case l == nil || p == nil || errors.Is(err, unix.ENODEV): // gone, or about to be
		case shortage.Passing(err):
			d.fellShort(l, "the MAC is not set yet", err)
		case err != nil:
			p.macFailed = true
			d.log.Warn("MAC not set; answers give it all the same", "interface", l.Name, "err", err)
		case l.MAC == c.Current:
			changed := *l // the event that says so is under way
			changed.MAC = d.cfg.MAC
			d.links[c.Ifindex] = &changed
		}
	}
}

func (d *Daemon) changeMACs(changes []macs.Change) (errs []error) {
	if len(changes) > 0 {
		_ = d.unlocked(func() error { errs = d.macs.SetAll(changes); return nil })
	}
	return errs
}

// takeOver makes ours what a killed predecessor has changed and we would change
// too, and puts back the rest. mu is held, and let go of meanwhile.
func (d *Daemon) takeOver(ctx context.Context) {
	var changes []macs.Change
	for index, p := range d.ports {
		l := d.links[index]
		if l == nil || p.role != roleWorkload || d.cfg.KeepMAC || l.MAC != d.cfg.MAC {
			continue
		}
		if _, changed := d.macs.Original(index); changed {
			changes = append(changes, macs.Change{Ifindex: index, Name: l.Name, Current: l.MAC, Want: d.cfg.MAC})
		}
	}
	for i, err := range d.changeMACs(changes) {
		if err != nil && !errors.Is(err, unix.ENODEV) {
			d.log.Warn("the MAC that a killed predecessor changed is not taken over", "interface", changes[i].Name, "err", err)
		}
	}
	if err := d.unlocked(func() error { return d.macs.Restore(ctx) }); err != nil {
		d.log.Warn("not all MACs that a killed predecessor changed are back", "err", err)
	}
}

// windDown puts MACs back, and detaches tc programs where nothing depends on them,
// while packets still pass: for many interfaces it takes a while. Frames to either
// MAC are the interface's until the end.
func (d *Daemon) windDown() {
	d.mu.Lock()
	d.ending = true
	for index := range d.ports {
		if _, changed := d.macs.Original(index); changed {
			d.describe(index)
		}
	}
	d.publish()
	var idle []int32 // the kernel drops their packets by itself
	for index, l := range d.links {
		if d.claim != nil && d.ports[index] != nil && !l.Forwards {
			idle = append(idle, int32(index))
		}
	}
	d.mu.Unlock()
	err := d.macs.Close()
	for _, index := range idle {
		err = errors.Join(err, d.claim.Release(index))
	}
	d.mu.Lock()
	d.endErr = err
	d.mu.Unlock()
}
