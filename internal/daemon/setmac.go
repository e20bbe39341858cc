package daemon

import (
	"proxyarpd/internal/macs"
	"proxyarpd/internal/netstate"
)

// newKernel has macs told by req, with what the daemon knows of neighbours.
func (d *Daemon) newKernel(req *netstate.Requester) *macs.Kernel {
	return &macs.Kernel{Requester: req, Bare: d.bare, Flushed: d.learn.again,
		Lost: func(err error) { d.log.Debug("neighbour not kept", "err", err) }}
}

// bare reports whether an interface is known to have no neighbours.
func (d *Daemon) bare(ifindex int) bool {
	t := d.proxy.table.Load()
	if t == nil {
		return false
	}
	l := t.Link(int32(ifindex))
	return l != nil && !l.HasNeighbours()
}
