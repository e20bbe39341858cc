// Package daemon joins the parts of proxyarpd. It follows the kernel's state,
// keeps the ARP responder and the engine up to date with it, and serves the
// control socket.
//
// One goroutine, the owner (owner.go), holds all that changes. Slow work goes
// out to other goroutines as errands (errand.go) and comes back as outcomes
// (outcome.go). What an interface should be is a pure function (want.go).
package daemon

import (
	"cmp"
	"fmt"
	"log/slog"
	"net/netip"
	"path"
	"runtime"
	"slices"
	"strings"

	"proxyarpd/forward/claim"
	"proxyarpd/internal/control"
	"proxyarpd/internal/instance"
	"proxyarpd/internal/metrics"
	"proxyarpd/internal/wire"
)

// UplinkAuto is the glob that stands for the devices of the routes in use.
const UplinkAuto = "auto"

// Config is what `run` was asked to do. Default gives the documented values.
type Config struct {
	Version      string
	Workloads    []string // globs; one that begins with ! excludes, and wins
	Uplinks      []string // so are these; UplinkAuto stands for all
	Transit      bool
	Gateways     []netip.Addr
	Proxy        []netip.Prefix
	AnswerUplink []netip.Prefix // targets on uplinks (RFC 1027)
	MAC          wire.MAC
	Engine       string
	Punt         []netip.Prefix
	KeepMAC      bool
	RPFilter     int    // on workloads: 0, 1 strict, 2 loose
	Control      string // path of the control socket
	BypassPolicy bool
	OnPolicy     string     // PolicyWarn, PolicyLeave: when rules of the host appear
	Metrics      string     // where /metrics is served, host:port; empty: nowhere
	Claim        claim.Mode // how the tc program is attached
	StateDir     string     // where the records of changed MACs and the lock are
	LogFormat    string     // text or json; the caller's to heed
	LogLevel     slog.Level // least of what is logged
	Nice         int        // of the threads that forward, and of the one that answers (setpriority(2))
	Workers      int        // how many threads forward; 0 is auto
	Takeover     bool       // from a daemon that runs, instead of refusing to start
	IPv6         bool       // IPv6 is forwarded and answered; else it is the kernel's
}

// Defaults of `run`.
const (
	DefaultControl  = "/run/proxyarpd.sock"
	DefaultStateDir = instance.DefaultDir
	DefaultNice     = -20
)

// The gateways that Calico gives workloads.
var (
	gatewayV4 = netip.MustParseAddr("169.254.1.1")
	gatewayV6 = netip.MustParseAddr("fe80::ecee:eeff:feee:eeee")
)

// Default is the configuration without flags.
func Default() Config {
	return Config{
		Workloads: []string{"cali*"},
		Uplinks:   []string{UplinkAuto},
		Gateways:  []netip.Addr{gatewayV4, gatewayV6},
		IPv6:      true,
		MAC:       wire.MAC{0xee, 0xee, 0xee, 0xee, 0xee, 0xee},
		Engine:    EngineAuto,
		OnPolicy:  PolicyWarn,
		RPFilter:  1,
		Control:   DefaultControl,
		Claim:     claim.Auto,
		StateDir:  DefaultStateDir,
		Nice:      DefaultNice,
		LogFormat: "text",
	}
}

// MaxWorkers is how many threads may forward.
const MaxWorkers = claim.MaxWorkers

// cpus is how many CPUs the process may use, by its affinity and its cgroup's quota.
// It is asked for once: the daemon raises GOMAXPROCS for its threads.
var cpus = runtime.GOMAXPROCS(0)

// workers is how many threads forward.
func (c *Config) workers() int {
	if !c.forwards() {
		return 0
	}
	return cmp.Or(c.Workers, autoWorkers(cpus))
}

// rooms is for how many threads that forward there is to be room: a reload may want
// more of them.
func (c *Config) rooms(reloads bool) int {
	n := cmp.Or(c.Workers, autoWorkers(cpus))
	if !reloads {
		return n
	}
	const spare = 4
	return max(n, min(max(cpus, spare), MaxWorkers))
}

// autoWorkers is how many threads forward where nobody says: one for four CPUs, up to
// four. Where there are fewer than eight, a second one takes the CPU from senders and
// receivers, whose work in the kernel costs more than the forwarding does.
func autoWorkers(cpus int) int { return min(max(cpus/4, 1), 4) }

// ConfigError says that a value can't be, and why. Key is the name of the flag, and of the file's key.
type ConfigError struct{ Key, Why string }

func (e *ConfigError) Error() string { return "--" + e.Key + " " + e.Why }

func badConfig(key, format string, args ...any) error {
	return &ConfigError{Key: key, Why: fmt.Sprintf(format, args...)}
}

// Validate checks what the fields' types don't, and says what auto means. Its errors are ConfigErrors.
func (c *Config) Validate() error {
	if c.Engine == EngineAuto {
		c.Engine = EngineAFPacket
	}
	if c.forwards() && !slices.Contains(Forwarders(), c.Engine) {
		return badConfig("engine", "%q: want auto, %s or none", c.Engine, strings.Join(Forwarders(), ", "))
	}
	switch c.Claim {
	case claim.Auto, claim.TCX, claim.Clsact, claim.None:
	default:
		return badConfig("claim", "%q: want auto, tcx, clsact or none", c.Claim)
	}
	if c.Engine == EngineEBPF && c.Claim == claim.None {
		return badConfig("claim", "none: --engine ebpf forwards by its tc program; use --engine af_packet")
	}
	if err := c.validateInterfaces(); err != nil {
		return err
	}
	if err := c.validateAddresses(); err != nil {
		return err
	}
	if c.RPFilter < 0 || c.RPFilter > 2 {
		return badConfig("rp-filter", "%d: want 0, 1 or 2", c.RPFilter)
	}
	if c.OnPolicy != PolicyWarn && c.OnPolicy != PolicyLeave {
		return badConfig("on-policy", "%q: want warn or leave", c.OnPolicy)
	}
	if c.MAC.IsZero() || c.MAC.IsMulticast() {
		return badConfig("mac", "%s: want an address that an interface can have, neither zero nor a group's", c.MAC)
	}
	if c.Nice < -20 || c.Nice > 19 {
		return badConfig("nice", "%d: want a number from -20, the most CPU time, to 19", c.Nice)
	}
	if c.Workers < 0 || c.Workers > MaxWorkers {
		return badConfig("workers", "%d: want a number from 1 to %d, or auto", c.Workers, MaxWorkers)
	}
	if c.Metrics != "" {
		if _, err := metrics.Address(c.Metrics); err != nil {
			return badConfig("metrics", "%q: %v", c.Metrics, err)
		}
	}
	if c.StateDir == "" {
		return badConfig("state-dir", "is empty: name a directory")
	}
	if c.Control == "" || len(c.Control) > control.MaxPath {
		return badConfig("control", "%q: a socket's path has 1 to %d bytes", c.Control, control.MaxPath)
	}
	return nil
}

func (c *Config) validateInterfaces() error {
	if len(c.Workloads) == 0 {
		return badConfig("workload", "is empty: no interface would be answered")
	}
	if len(c.Uplinks) == 0 {
		return badConfig("uplink", "is empty: name a glob, or auto")
	}
	for _, role := range []struct {
		key   string
		globs []string
	}{{"workload", c.Workloads}, {"uplink", c.Uplinks}} {
		if err := validateGlobs(role.key, role.globs); err != nil {
			return err
		}
	}
	if slices.Contains(c.Uplinks, UplinkAuto) && slices.ContainsFunc(c.Uplinks, func(g string) bool { return g != UplinkAuto && !excludes(g) }) {
		return badConfig("uplink", "auto stands alone, or with exclusions: leave it out, or the others")
	}
	return nil
}

func validateGlobs(key string, globs []string) error {
	for _, g := range globs {
		pattern := strings.TrimPrefix(g, exclusion)
		if _, err := path.Match(pattern, ""); err != nil || pattern == "" {
			return badConfig(key, "%q is not a glob: want a name, or a pattern such as cali* or !cali-x*", g)
		}
	}
	if !slices.ContainsFunc(globs, func(g string) bool { return !excludes(g) }) {
		return badConfig(key, "%s only excludes: also name what it is taken from, such as %s", globs[0], map[string]string{"workload": "cali*", "uplink": UplinkAuto}[key])
	}
	return nil
}

// validateAddresses checks addresses and prefixes, and completes the gateways: each
// family of which none is named has its default.
func (c *Config) validateAddresses() error {
	c.Gateways = slices.Clone(c.Gateways)
	if !slices.ContainsFunc(c.Gateways, netip.Addr.Is4) {
		c.Gateways = slices.Insert(c.Gateways, 0, gatewayV4)
	}
	switch {
	case !c.IPv6: // it may be the default
		c.Gateways = slices.DeleteFunc(c.Gateways, func(a netip.Addr) bool { return a == gatewayV6 })
	case !slices.ContainsFunc(c.Gateways, netip.Addr.Is6):
		c.Gateways = append(c.Gateways, gatewayV6)
	}
	for _, a := range c.Gateways {
		switch {
		case !a.IsValid() || a.Is4In6() || a.Zone() != "":
			return badConfig("gateway", "%s: want an IPv4 or IPv6 address without a zone", a)
		case a.IsMulticast() || a.IsUnspecified() || a.IsLoopback():
			return badConfig("gateway", "%s: want an address that an interface can have", a)
		case a.Is6() && !c.IPv6:
			return badConfig("gateway", "%s: --ipv6=false leaves IPv6 to the kernel", a)
		}
	}
	for _, list := range []struct {
		key      string
		prefixes []netip.Prefix
	}{{"proxy", c.Proxy}, {"answer-uplink", c.AnswerUplink}, {"punt", c.Punt}} {
		if err := c.validatePrefixes(list.key, list.prefixes); err != nil {
			return err
		}
	}
	return nil
}

func (c *Config) validatePrefixes(key string, prefixes []netip.Prefix) error {
	for _, p := range prefixes {
		switch {
		case !p.IsValid() || p.Addr().Is4In6():
			return badConfig(key, "%s: want an IPv4 or IPv6 prefix", p)
		case p.Masked() != p:
			return badConfig(key, "%s has host bits: write %s, or %s/%d", p, p.Masked(), p.Addr(), p.Addr().BitLen())
		case p.Addr().Is6() && !c.IPv6:
			return badConfig(key, "%s: --ipv6=false leaves IPv6 to the kernel", p)
		}
	}
	return nil
}

// gateways are those of one family.
func (c *Config) gateways(is func(netip.Addr) bool) (all []netip.Addr) {
	for _, a := range c.Gateways {
		if is(a) {
			all = append(all, a)
		}
	}
	return all
}

// of are the prefixes of one family.
func of(is func(netip.Addr) bool, prefixes []netip.Prefix) (all []netip.Prefix) {
	for _, p := range prefixes {
		if is(p.Addr()) {
			all = append(all, p)
		}
	}
	return all
}

// exclusion begins a glob whose interfaces are left out, wherever it stands among
// the others.
const exclusion = "!"

func excludes(glob string) bool { return strings.HasPrefix(glob, exclusion) }

// matches reports whether a name is meant by globs, or excluded by one.
func matches(globs []string, name string) (meant, excluded bool) {
	for _, g := range globs {
		if ok, _ := path.Match(strings.TrimPrefix(g, exclusion), name); !ok {
			continue
		}
		if excludes(g) {
			return false, true
		}
		meant = true
	}
	return meant, false
}

// meansWorkload reports whether interfaces of that name lead to workloads.
func (c *Config) meansWorkload(name string) bool {
	meant, _ := matches(c.Workloads, name)
	return meant
}

func (c *Config) meansUplink(name string) bool {
	meant, excluded := matches(c.Uplinks, name)
	return meant || !excluded && slices.Contains(c.Uplinks, UplinkAuto)
}
