package daemon

import (
	"proxyarpd/forward"
	"proxyarpd/internal/engine"
	"proxyarpd/internal/engine/afpacket"
	"proxyarpd/internal/engine/ebpf"
	"proxyarpd/internal/engine/none"
)

// Engines by name. This file is the one place that asks which engine it is to be.
const (
	EngineAuto     = "auto"
	EngineAFPacket = "af_packet"
	EngineEBPF     = "ebpf"
	EngineNone     = "none"
)

// Forwarders lists the engines that forward: what --engine takes besides auto and none, and bench compares.
func Forwarders() []string { return []string{EngineAFPacket, EngineEBPF} }

// forwards reports whether the engine that is configured moves packets.
func (c *Config) forwards() bool { return c.Engine != EngineNone }

// openEngine makes the engine. The programs are its own from then on.
func (d *Daemon) openEngine() (engine.Engine, error) {
	if !d.cfg.forwards() {
		return none.Open(d.programs), nil
	}
	c := afpacket.Config{
		Forward: forward.Options{Resolve: d.resolve, Behind: d.behind, Incomplete: d.incomplete, Recorder: d.taps.NewRecorder}, Nice: d.cfg.Nice, Workers: d.cfg.workers()}
	if d.cfg.Engine == EngineEBPF {
		e, err := ebpf.Open(d.programs, c, d.log)
		if err != nil {
			return nil, err
		}
		return e, nil
	}
	e, err := afpacket.Open(d.programs, c, d.log)
	if err != nil {
		return nil, err // and no interface that holds a nil pointer
	}
	return e, nil
}
