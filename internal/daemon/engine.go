package daemon

import (
	"proxyarpd/forward"
	"proxyarpd/internal/engine"
	"proxyarpd/internal/engine/afpacket"
	"proxyarpd/internal/engine/none"
)

// openEngine is the one place that asks which engine it is to be.
func (d *Daemon) openEngine() (engine.Engine, error) {
	if d.cfg.Engine == EngineNone {
		return none.Open(d.programs), nil
	}
	return afpacket.Open(d.programs, forward.Options{Resolve: d.resolve, Behind: d.behind, Incomplete: d.incomplete}, d.log)
}
