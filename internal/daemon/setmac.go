package daemon

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/macs"
)

// macSetter sets MACs of interfaces that keep their neighbours: the kernel
// forgets all of them then (neigh_changeaddr in net/core/neighbour.c), and a
// workload that answers no ARP request would be lost until it asks again.
// macs.Keeper takes care of the permanent ones, which it records.
type macSetter struct {
	*macs.Kernel
	d *Daemon
}

// SetMAC implements macs.Netlink.
func (s macSetter) SetMAC(ifindex int, mac macs.MAC) error {
	d := s.d
	began := time.Now()
	var put func()
	if d.hasNeighbours(ifindex) {
		put = d.keepNeighbours(ifindex)
	}
	if err := s.Kernel.SetMAC(ifindex, mac); err != nil {
		return err
	}
	if put != nil {
		put()
	}
	d.learn.again(ifindex, began) // what was learnt in between
	return nil
}

// hasNeighbours is false if none is known on an interface: most are new when
// they get their MAC.
func (d *Daemon) hasNeighbours(ifindex int) bool {
	t := d.proxy.table.Load()
	if t == nil {
		return true
	}
	l := t.Link(int32(ifindex))
	return l == nil || l.HasNeighbours()
}

// keepNeighbours reads the neighbours of an interface, and gives what makes them
// again.
func (d *Daemon) keepNeighbours(ifindex int) (put func()) {
	all, err := d.macReq.Neighbours(ifindex)
	if err != nil {
		d.log.Debug("neighbours not kept", "err", err)
	}
	return func() {
		for _, n := range all {
			if n.State&unix.NUD_PERMANENT != 0 {
				continue // the keeper's
			}
			err := d.macReq.RestoreNeighbour(n)
			if errors.Is(err, unix.ENODEV) {
				return
			}
			if err != nil {
				d.log.Debug("neighbour not put back", "err", err)
			}
		}
	}
}
