package daemon

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"sync/atomic"
)

// hop is a neighbour that the datapath needs, or uses though it is stale.
type hop struct {
	ifindex int32
	addr    netip.Addr
}

// hopBacklog bounds the questions that wait for the kernel. One that finds no
// room is asked again by the datapath after a second.
const hopBacklog = 1024

type hopStats struct {
	asked, refused, overflow atomic.Uint64
}

// resolve is called on the datapath.
func (d *Daemon) resolve(ifindex int32, addr netip.Addr) {
	select {
	case d.hops <- hop{ifindex, addr}:
	default:
		d.asked.overflow.Add(1)
	}
}

// behind is asked about a packet that has no way, or a target that is not to be
// proxied: on the datapath, and by the responder.
func (d *Daemon) behind() bool { return !d.caughtUp.Load() || d.watch.Behind() }

// incomplete reports whether what is known of the kernel's state is being read
// anew.
func (d *Daemon) incomplete() bool { return !d.caughtUp.Load() || d.watch.Incomplete() }

// resolveHops has the kernel resolve what the datapath asks for, without
// traffic of ours (NTF_USE): its ARP, its timers, its neighbour table.
func (d *Daemon) resolveHops(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case h := <-d.hops:
			if l := d.loop.Table().Link(h.ifindex); l == nil {
				continue // gone meanwhile
			} else if n := l.Neighbour(h.addr); n != nil && n.Fixed {
				continue // others resolve it
			}
			d.asked.asked.Add(1)
			if err := d.req.UseNeighbour(int(h.ifindex), h.addr); err != nil && !errors.Is(err, os.ErrClosed) {
				d.asked.refused.Add(1)
				d.log.Debug("neighbour not resolved", "err", err)
			}
		}
	}
}
