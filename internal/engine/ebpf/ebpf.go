// Package ebpf is the engine that decides in userspace and carries in the
// kernel. It is af_packet, package afpacket, with the tables mirrored into the
// memory of its eBPF programs: the ring's filter forwards by them what is a plain
// hit, and the claim sends it on. What is left comes to the ring, and so to the
// same userspace.
package ebpf

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"proxyarpd/forward/claim"
	"proxyarpd/forward/route"
	"proxyarpd/internal/engine"
	"proxyarpd/internal/engine/afpacket"
)

// usedAgain is after what time the kernel is told again of a stale neighbour
// that is in use.
const usedAgain = 2 * time.Second

// Engine implements [engine.Engine].
type Engine struct {
	*afpacket.Engine
	log     *slog.Logger
	carrier *claim.Carrier
	mirror  *mirror
	egress  *egress
	resolve func(ifindex int32, addr netip.Addr)

	newest atomic.Pointer[route.Table] // that follow has not taken yet
	news   chan struct{}
	ended  sync.WaitGroup
}

var _ engine.Engine = (*Engine)(nil)

// Around makes the engine of one that runs already, and has by now programs of
// [claim.Config.Carry]: they carry from the next Publish on. ring is the Engine's
// until Leave.
func Around(ring *afpacket.Engine, resolve func(int32, netip.Addr), log *slog.Logger) (*Engine, error) {
	if err := carries(ring.Programs); err != nil {
		return nil, err
	}
	e := &Engine{Engine: ring, log: log, carrier: ring.Set().Carrier(), resolve: resolve, news: make(chan struct{}, 1)}
	e.mirror = newMirror(e.carrier, monotonic, claim.Grace)
	var err error
	if e.egress, err = newEgress(); err != nil {
		return nil, err
	}
	for _, ifindex := range ring.Set().Claimants() {
		e.mirror.setClaimed(ifindex, true)
	}
	ring.SetWaiting(func(are bool) {
		if err := e.carrier.Waiting(are); err != nil {
			e.mirror.stop()
		}
	})
	e.ended.Go(e.follow)
	e.ended.Go(e.tellUsed)
	return e, nil
}

func carries(p *engine.Programs) error {
	if p.Set() == nil || p.Set().Carrier() == nil || !p.CanClaim() {
		return fmt.Errorf("--engine ebpf: its tc program can't be attached: %w", claim.ErrNotSupported)
	}
	return nil
}

// Leave ends carrying, and gives back the engine whose packets all go through
// userspace. No other method may be called any more.
func (e *Engine) Leave() *afpacket.Engine {
	e.mirror.stop()
	e.Engine.SetWaiting(nil)
	close(e.news)
	_ = e.carrier.Stop()
	e.ended.Wait()
	return e.Engine
}

// follow brings the mirror up to date with the newest table, while the daemon
// makes the next: of a burst of changes it sees what came of it.
func (e *Engine) follow() {
	for range e.news {
		if t := e.newest.Swap(nil); t != nil {
			e.say(errors.Join(e.carrier.KeepPriority(t.Host().NoPriority), e.mirror.publish(t)))
		}
	}
}

// say tells of what ends carrying: all goes through userspace from then on.
func (e *Engine) say(err error) {
	var one familyError
	switch {
	case err == nil || errors.Is(err, errStopped):
	case errors.As(err, &one):
		e.log.Error("all "+one.family.String()+" packets go through userspace from now on", "err", err)
	default:
		e.log.Error("all packets go through userspace from now on", "err", err)
	}
}

// tellUsed tells the kernel which stale neighbours are in use, and the programs
// that there is somebody.
func (e *Engine) tellUsed() {
	for {
		id, err := e.carrier.Used()
		if err != nil {
			return
		}
		if id == 0 {
			if err := e.carrier.Answer(); err != nil {
				e.mirror.stop()
			}
			continue
		}
		if ifindex, next, ok := e.mirror.used(id); ok {
			e.resolve(ifindex, next)
		}
		time.AfterFunc(usedAgain, func() { e.mirror.again(id) })
	}
}

// Publish implements [engine.Engine]. What waits in userspace goes by the new
// table first.
func (e *Engine) Publish(t *route.Table) {
	e.Engine.Publish(t)
	e.newest.Store(t)
	select {
	case e.news <- struct{}{}:
	default: // it will see this one
	}
}

// SetClass implements [engine.Engine]. If the filter can't be told of all
// destinations, userspace has to see all packets.
func (e *Engine) SetClass(p netip.Prefix, c route.Class) error {
	err := e.Engine.SetClass(p, c)
	if err != nil {
		e.mirror.stop()
	}
	return err
}

// SetMark implements [engine.Engine].
func (e *Engine) SetMark(mark uint32) error {
	return errors.Join(e.Engine.SetMark(mark), e.carrier.Mark(mark))
}

// Claim implements [engine.Ports].
func (e *Engine) Claim(ifindex int32) error {
	err := e.Engine.Claim(ifindex)
	if err == nil {
		e.mirror.setClaimed(ifindex, true)
	}
	return err
}

// Release implements [engine.Ports].
func (e *Engine) Release(ifindex int32) error {
	e.mirror.setClaimed(ifindex, false)
	return e.Engine.Release(ifindex)
}

// DeletePort implements [engine.Ports].
func (e *Engine) DeletePort(ifindex int32) error {
	e.mirror.setClaimed(ifindex, false)
	return e.Engine.DeletePort(ifindex)
}

// EgressDrops implements [engine.Engine].
func (e *Engine) EgressDrops() (map[int32]engine.EgressDrops, engine.EgressDrops, error) {
	return e.egress.read(e.Claimed)
}

// Close implements [engine.Engine].
func (e *Engine) Close() error { return e.Leave().Close() }
