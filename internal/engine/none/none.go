// Package none is the engine that moves nothing: all packets are the kernel's,
// and the daemon answers ARP. Its programs still make frames the host's that go
// to a MAC which an interface does not have (--keep-mac).
package none

import (
	"context"
	"net/netip"

	"proxyarpd/forward"
	"proxyarpd/forward/route"
	"proxyarpd/internal/engine"
)

// Engine implements [engine.Engine].
type Engine struct{ *engine.Programs }

var _ engine.Engine = Engine{}

// Open takes over the programs.
func Open(p *engine.Programs) Engine { return Engine{p} }

// Forwards implements [engine.Engine].
func (Engine) Forwards() bool { return false }

// Workers implements [engine.Engine].
func (Engine) Workers() int { return 0 }

// Beats implements [engine.Engine].
func (Engine) Beats() []uint64 { return nil }

// Run implements [engine.Engine].
func (Engine) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Publish implements [engine.Engine].
func (Engine) Publish(*route.Table) {}

// SetClass implements [engine.Engine].
func (Engine) SetClass(netip.Prefix, route.Class) error { return nil }

// EgressDrops implements [engine.Engine].
func (Engine) EgressDrops() (map[int32]engine.EgressDrops, engine.EgressDrops, error) {
	return nil, engine.EgressDrops{}, nil
}

// SetTap implements [engine.Engine].
func (Engine) SetTap(forward.Tap) {}

// SetMark implements [engine.Engine].
func (Engine) SetMark(uint32) error { return nil }

// Stats implements [engine.Engine]: what the programs counted, for another engine
// may have run before.
func (e Engine) Stats() engine.Stats { return e.Programs.Stats() }

// Device implements [engine.Engine].
func (Engine) Device() engine.Device { return engine.Device{} }

// AttachDevice implements [engine.Engine].
func (Engine) AttachDevice() error { return nil }
