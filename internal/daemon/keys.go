package daemon

import (
	"fmt"
	"log/slog"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"proxyarpd/internal/wire"
)

// key is a key of the configuration: the name of a flag of run.
type key struct {
	name string
	of   func(*Config) any
	// fixed says why it can't change while the daemon runs; "": it can.
	fixed string
}

// keys are all there are, in the order of the help.
var keys = []key{
	{"workload", func(c *Config) any { return c.Workloads }, ""},
	{"uplink", func(c *Config) any { return c.Uplinks }, ""},
	{"gateway", func(c *Config) any { return c.Gateways }, ""},
	{"proxy", func(c *Config) any { return c.Proxy }, ""},
	{"answer-uplink", func(c *Config) any { return c.AnswerUplink }, ""},
	{"mac", func(c *Config) any { return c.MAC }, ""},
	{"keep-mac", func(c *Config) any { return c.KeepMAC }, ""},
	{"ipv6", func(c *Config) any { return c.IPv6 }, "the kernel's state is followed, and the eBPF maps have room, for it or not from the start on"},
	{"engine", func(c *Config) any { return c.Engine }, ""},
	{"transit", func(c *Config) any { return c.Transit }, ""},
	{"rp-filter", func(c *Config) any { return c.RPFilter }, ""},
	{"punt", func(c *Config) any { return c.Punt }, ""},
	{"bypass-policy", func(c *Config) any { return c.BypassPolicy }, ""},
	{"on-policy", func(c *Config) any { return c.OnPolicy }, ""},
	{"claim", func(c *Config) any { return c.Claim }, "it is how programs were attached to the interfaces at the start"},
	{"workers", func(c *Config) any { return orAuto(c.Workers) }, ""},
	{"nice", func(c *Config) any { return c.Nice }, ""},
	{"control", func(c *Config) any { return c.Control }, "who speaks to the daemon knows that path"},
	{"metrics", func(c *Config) any { return c.Metrics }, ""},
	{"state-dir", func(c *Config) any { return c.StateDir }, "the lock and the record of changed MACs are there"},
	{"takeover", func(c *Config) any { return c.Takeover }, ""},
	{"log-format", func(c *Config) any { return c.LogFormat }, "lines of two formats would be in one log"},
	{"log-level", func(c *Config) any { return c.LogLevel }, ""},
}

// Keys are the names of all keys.
func Keys() (names []string) {
	for _, k := range keys {
		names = append(names, k.name)
	}
	return names
}

// values are those of a key, as one writes them.
func (k *key) values(c *Config) []string {
	switch v := k.of(c).(type) {
	case []string:
		return slices.Clone(v)
	case []netip.Addr:
		return texts(v)
	case []netip.Prefix:
		return texts(v)
	case slog.Level:
		return []string{strings.ToLower(v.String())}
	case wire.MAC:
		return []string{v.String()}
	default:
		return []string{fmt.Sprint(v)}
	}
}

// orAuto is how one writes a number that is found where nobody says one.
func orAuto(n int) any {
	if n == 0 {
		return EngineAuto
	}
	return n
}

func texts[T fmt.Stringer](all []T) []string {
	out := make([]string, len(all))
	for i, v := range all {
		out[i] = v.String()
	}
	return out
}

// values are all that a configuration says, by key.
func (c *Config) values() map[string][]string {
	all := make(map[string][]string, len(keys))
	for i := range keys {
		all[keys[i].name] = keys[i].values(c)
	}
	return all
}

// Change is a key whose value is another one now.
type Change struct {
	Key  string   `json:"key"`
	From []string `json:"from"`
	To   []string `json:"to"`
}

// String is the change on one line.
func (c Change) String() string {
	show := func(values []string) string {
		const most = 8
		if len(values) > most {
			return fmt.Sprintf("%s and %d more", strings.Join(values[:most], ", "), len(values)-most)
		}
		if s := strings.Join(values, ", "); s != "" {
			return s
		}
		return "none"
	}
	return fmt.Sprintf("%s: %s -> %s", c.Key, show(c.From), show(c.To))
}

// changesTo are the keys that differ in another configuration. The error is one
// of those that can't change.
func (c *Config) changesTo(next *Config) (changes []Change, err error) {
	for i := range keys {
		k := &keys[i]
		if now, then := k.of(c), k.of(next); reflect.DeepEqual(now, then) || isEmpty(now) && isEmpty(then) {
			continue
		}
		if k.fixed != "" {
			return nil, fmt.Errorf("%s can't change while the daemon runs, for %s: restart the daemon", k.name, k.fixed)
		}
		changes = append(changes, Change{k.name, k.values(c), k.values(next)})
	}
	return changes, nil
}

func isEmpty(v any) bool {
	r := reflect.ValueOf(v)
	return r.Kind() == reflect.Slice && r.Len() == 0
}
