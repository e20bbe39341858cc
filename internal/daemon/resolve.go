package daemon

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/netstate"
)

// hop is a neighbour that the datapath needs, or uses though it is stale.
type hop struct {
	ifindex int32
	addr    netip.Addr
}

// hopBacklog bounds the questions that wait for the kernel. One that finds no
// room is asked again by the datapath after a second.
const hopBacklog = 1024

// maxAsking bounds the questions whose answer is awaited. Of more, one whose
// entry goes meanwhile is asked again by the datapath alone, after a second.
const maxAsking = 8192

type hopStats struct {
	asked, refused, overflow atomic.Uint64
}

// asking are the neighbours that the kernel has been asked for and has not told
// of yet. For any goroutine.
type asking struct {
	mu   sync.Mutex
	hops map[hop]*question
}

type question struct{ gone bool } // the entry was removed before it was resolved

// add notes a question, nil if there are too many.
func (a *asking) add(h hop) *question {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.hops == nil {
		a.hops = make(map[hop]*question)
	}
	q := a.hops[h]
	if q == nil && len(a.hops) < maxAsking {
		q = new(question)
		a.hops[h] = q
	}
	return q
}

// answered takes news of an entry, and reports whether it is one that was asked
// for and has been removed since.
func (a *asking) answered(h hop, gone bool) (again bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	q := a.hops[h]
	if q == nil {
		return false
	}
	q.gone = q.gone || gone
	delete(a.hops, h)
	return gone
}

// forget is for an interface that has gone.
func (a *asking) forget(ifindex int32) {
	a.mu.Lock()
	defer a.mu.Unlock()
	maps.DeleteFunc(a.hops, func(h hop, _ *question) bool { return h.ifindex == ifindex })
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
			if l := d.proxy.table.Load().Link(h.ifindex); l == nil {
				continue // gone meanwhile
			} else if n := l.Neighbour(h.addr); n != nil && n.Fixed {
				continue // others resolve it
			}
			d.asked.asked.Add(1)
			q := d.asking.add(h)
			if err := d.req.UseNeighbour(int(h.ifindex), h.addr); err != nil {
				if !errors.Is(err, os.ErrClosed) {
					d.asked.refused.Add(1)
					d.log.Debug("neighbour not resolved", "err", err)
				}
				continue
			}
			d.noteSilent(ctx, h, q)
		}
	}
}

// noteSilent looks whether the kernel has made an entry that needs no resolution,
// of which it does not tell: to a broadcast address, or of a device whose
// neighbours are all one (net/ipv4/arp.c, arp_constructor).
func (d *Daemon) noteSilent(ctx context.Context, h hop, q *question) {
	n, err := d.req.Neighbour(int(h.ifindex), h.addr)
	if err != nil || q == nil || n.State&(unix.NUD_NOARP|unix.NUD_PERMANENT) == 0 {
		return
	}
	d.owner.ask(ctx, func() {
		if d.asking.answered(h, false); !q.gone {
			d.owner.builder.SetNeighbour(h.ifindex, h.addr, neighbour(&n))
			d.owner.publish()
		}
	})
}

// noteNeighbour follows an entry of the kernel's.
func (o *owner) noteNeighbour(n *netstate.Neighbour, del bool) {
	h := hop{int32(n.Index), n.IP}
	if del {
		o.builder.DeleteNeighbour(h.ifindex, h.addr)
		if o.asking.answered(h, true) {
			o.resolve(h.ifindex, h.addr) // who flushes it does not mean that nobody needs it
		}
		return
	}
	o.builder.SetNeighbour(h.ifindex, h.addr, neighbour(n))
	if n.State.Valid() || n.State&unix.NUD_FAILED != 0 {
		o.asking.answered(h, false)
	}
}
