// Package daemon joins the parts of proxyarpd: it follows the kernel's state,
// keeps the ARP responder and the datapath up to date with it, and answers the
// control socket.
package daemon

import (
	"errors"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"

	"proxyarpd/forward/claim"
	"proxyarpd/internal/control"
	"proxyarpd/internal/instance"
	"proxyarpd/internal/wire"
)

// Engines by name.
const (
	EngineAuto     = "auto"
	EngineAFPacket = "af_packet"
	EngineNone     = "none"
)

// Forwarders lists the engines that forward: what --engine takes besides auto and none, and bench compares.
func Forwarders() []string { return []string{EngineAFPacket} }

// UplinkAuto is the glob that stands for the devices of the routes in use.
const UplinkAuto = "auto"

// Config is what `run` was asked to do. Default gives the documented values.
type Config struct {
	Version      string
	Workloads    []string // globs
	Uplinks      []string // globs, or UplinkAuto alone
	Transit      bool
	Gateways     []netip.Addr
	Proxy        []netip.Prefix
	MAC          wire.MAC
	Engine       string
	Punt         []netip.Prefix
	KeepMAC      bool
	RPFilter     int    // on workloads: 0, 1 strict, 2 loose
	Control      string // path of the control socket
	BypassPolicy bool
	Claim        claim.Mode // how the tc program is attached
	StateDir     string     // where the records of changed MACs and the lock are
}

// Defaults of `run`.
const (
	DefaultControl  = "/run/proxyarpd.sock"
	DefaultStateDir = instance.DefaultDir
)

// Default is the configuration without flags.
func Default() Config {
	return Config{
		Workloads: []string{"cali*"},
		Uplinks:   []string{UplinkAuto},
		Gateways:  []netip.Addr{netip.MustParseAddr("169.254.1.1")},
		MAC:       wire.MAC{0xee, 0xee, 0xee, 0xee, 0xee, 0xee},
		Engine:    EngineAuto,
		RPFilter:  1,
		Control:   DefaultControl,
		Claim:     claim.Auto,
		StateDir:  DefaultStateDir,
	}
}

// Validate checks what the flags' types don't, and says what auto means.
func (c *Config) Validate() error {
	if c.Engine == EngineAuto {
		c.Engine = EngineAFPacket
	}
	if c.Engine != EngineNone && !slices.Contains(Forwarders(), c.Engine) {
		return fmt.Errorf("--engine %q: want auto, %s or none", c.Engine, strings.Join(Forwarders(), ", "))
	}
	switch c.Claim {
	case claim.Auto, claim.TCX, claim.Clsact, claim.None:
	default:
		return fmt.Errorf("--claim %q: want auto, tcx, clsact or none", c.Claim)
	}
	if len(c.Workloads) == 0 {
		return errors.New("--workload: no interface would be answered")
	}
	for _, g := range slices.Concat(c.Workloads, c.Uplinks) {
		if _, err := path.Match(g, ""); err != nil || g == "" {
			return fmt.Errorf("--workload or --uplink %q is not a glob", g)
		}
	}
	if slices.Contains(c.Uplinks, UplinkAuto) && len(c.Uplinks) > 1 {
		return errors.New("--uplink auto stands alone")
	}
	for _, a := range c.Gateways {
		if !a.Is4() {
			return fmt.Errorf("--gateway %s is not an IPv4 address", a)
		}
	}
	for _, p := range slices.Concat(c.Proxy, c.Punt) {
		if !p.IsValid() || !p.Addr().Is4() || p.Masked() != p {
			return fmt.Errorf("--proxy or --punt %s is not an IPv4 prefix without host bits", p)
		}
	}
	if c.RPFilter < 0 || c.RPFilter > 2 {
		return fmt.Errorf("--rp-filter %d: want 0, 1 or 2", c.RPFilter)
	}
	if c.MAC.IsZero() || c.MAC.IsMulticast() {
		return fmt.Errorf("--mac %s can't be an interface's address", c.MAC)
	}
	if c.StateDir == "" {
		return errors.New("--state-dir: no directory")
	}
	if c.Control == "" || len(c.Control) > control.MaxPath {
		return fmt.Errorf("--control %q: a socket's path has 1 to %d bytes", c.Control, control.MaxPath)
	}
	return nil
}

func matches(globs []string, name string) bool {
	for _, g := range globs {
		if ok, _ := path.Match(g, name); ok {
			return true
		}
	}
	return false
}
