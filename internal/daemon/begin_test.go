package daemon

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/hostpolicy"
)

func TestJudge(t *testing.T) {
	tables := hostpolicy.Finding{Kind: hostpolicy.KindNFTables, What: "inet filter forward", Count: 2}
	tables6 := hostpolicy.Finding{Kind: hostpolicy.KindNFTables, What: "ip6 filter FORWARD", Count: 2, Family: hostpolicy.IPv6}
	nat6 := hostpolicy.Finding{Kind: hostpolicy.KindNFTables, What: "ip6 nat", Count: 2, Family: hostpolicy.IPv6, NAT: true}
	natBoth := hostpolicy.Finding{Kind: hostpolicy.KindNFTables, What: "inet nat", Count: 2, NAT: true}
	ipvs6 := hostpolicy.Finding{Kind: hostpolicy.KindIPVS, What: "IPVS (ipvsadm -L, IPv6)", Count: 1, Family: hostpolicy.IPv6}
	shaped := hostpolicy.Finding{Kind: hostpolicy.KindQdisc, What: "tbf", Interface: "ens2"}
	idle := hostpolicy.Finding{Kind: hostpolicy.KindTC, What: "ingress", Count: 1, Interface: "ens3"}
	ipvs := hostpolicy.Finding{Kind: hostpolicy.KindIPVS, What: "IPVS (ipvsadm -L)", Count: 1}
	onlyReceives := func(name string) (int, bool) { return 3, name == "ens3" }
	for name, c := range map[string]struct {
		edit     func(*Config)
		found    []hostpolicy.Finding
		unknown  error
		err      string // part of it
		left     int
		left6    int
		spared   int
		unseen   bool
		warnings int
	}{
		"nothing":              {},
		"forward hook":         {found: []hostpolicy.Finding{tables}, err: "inet filter forward", spared: 1},
		"bypassed":             {edit: func(c *Config) { c.BypassPolicy = true }, found: []hostpolicy.Finding{tables, idle}, spared: 2, warnings: 1},
		"IPVS":                 {found: []hostpolicy.Finding{ipvs}, err: "IPVS", spared: 1},
		"IPVS, bypassed":       {edit: func(c *Config) { c.BypassPolicy = true }, found: []hostpolicy.Finding{ipvs, tables}, err: "another mode"},
		"shaped":               {found: []hostpolicy.Finding{shaped}, err: "tbf", spared: 1},
		"only receives":        {found: []hostpolicy.Finding{idle, idle}, left: 2},
		"both":                 {found: []hostpolicy.Finding{idle, shaped}, err: "tbf", left: 1, spared: 1},
		"can't tell":           {unknown: errors.New("EPERM"), err: "--bypass-policy forwards all the same"},
		"can't tell, bypassed": {edit: func(c *Config) { c.BypassPolicy = true }, unknown: errors.New("EPERM")},
		"user namespace":       {unknown: hostpolicy.ErrUserNamespace, unseen: true, warnings: 1},
		"all punted": {edit: func(c *Config) {
			c.Punt = prefixList("0.0.0.0/1", "128.0.0.0/1", "::/0")
		},
			found: []hostpolicy.Finding{tables, tables6}},
		"IPv4 punted":            {edit: func(c *Config) { c.Punt = prefixList("0.0.0.0/0") }, found: []hostpolicy.Finding{tables, idle}, left6: 2, warnings: 1},
		"IPv6 punted":            {edit: func(c *Config) { c.Punt = prefixList("::/0") }, found: []hostpolicy.Finding{tables6}},
		"of IPv6":                {found: []hostpolicy.Finding{tables6}, left6: 1, warnings: 1},
		"of IPv6 and IPv4":       {found: []hostpolicy.Finding{tables6, tables}, err: "inet filter forward", left6: 1, spared: 1, warnings: 1},
		"of IPv6, bypassed":      {edit: func(c *Config) { c.BypassPolicy = true }, found: []hostpolicy.Finding{tables6}, spared: 1, warnings: 1},
		"of IPv6, not ours":      {edit: func(c *Config) { c.IPv6 = false }, found: []hostpolicy.Finding{tables6}},
		"NAT of IPv6, bypassed":  {edit: func(c *Config) { c.BypassPolicy, c.Punt = true, prefixList("10.96.0.0/12") }, found: []hostpolicy.Finding{nat6, tables}, left6: 1, spared: 1, warnings: 2},
		"NAT of both, bypassed":  {edit: func(c *Config) { c.BypassPolicy = true }, found: []hostpolicy.Finding{natBoth}, spared: 1, warnings: 2},
		"NAT of IPv6, punted":    {edit: func(c *Config) { c.BypassPolicy, c.Punt = true, prefixList("fd00:96::/112") }, found: []hostpolicy.Finding{nat6, natBoth}, spared: 2, warnings: 1},
		"IPVS of IPv6":           {found: []hostpolicy.Finding{ipvs6}, left6: 1, warnings: 1},
		"IPVS of IPv6, bypassed": {edit: func(c *Config) { c.BypassPolicy = true }, found: []hostpolicy.Finding{ipvs6, tables6}, left6: 1, spared: 1, warnings: 2},
	} {
		cfg := Default()
		if c.edit != nil {
			c.edit(&cfg)
		}
		j := judge(&cfg, c.found, c.unknown, true, onlyReceives)
		if (j.err == nil) != (c.err == "") || j.err != nil && !strings.Contains(j.err.Error(), c.err) {
			t.Errorf("%s: %v, want %q", name, j.err, c.err)
		}
		if len(j.left[3]) != c.left || len(j.left6) != c.left6 || len(j.spared) != c.spared || j.unseen != c.unseen || len(j.warnings) != c.warnings {
			t.Errorf("%s: %+v", name, j)
		}
	}
}

func TestJudgeNew(t *testing.T) {
	program := hostpolicy.Finding{Kind: hostpolicy.KindTC, What: "ingress", Interface: "cali1"}
	shape := hostpolicy.Finding{Kind: hostpolicy.KindQdisc, What: "tbf", Interface: "cali1"}
	for name, c := range map[string]struct {
		forwards bool
		found    []hostpolicy.Finding
		unknown  error
		left     bool
	}{
		"nothing":            {},
		"program":            {found: []hostpolicy.Finding{program}, left: true},
		"shaped":             {found: []hostpolicy.Finding{shape}},
		"shaped, kernel's":   {forwards: true, found: []hostpolicy.Finding{shape}, left: true},
		"shaped and program": {found: []hostpolicy.Finding{shape, program}, left: true},
		"can't be told":      {unknown: errors.New("EPERM"), left: true},
	} {
		if err := judgeNew(c.forwards, c.found, c.unknown); (err != nil) != c.left {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPuntsAll(t *testing.T) {
	for _, c := range []struct {
		punt string
		v4   bool
		v6   bool
	}{
		{"", false, false}, {"0.0.0.0/0", true, false}, {"0.0.0.0/1", false, false}, {"0.0.0.0/1 128.0.0.0/1", true, false},
		{"10.0.0.0/8", false, false}, {"::/0", false, true}, {"0.0.0.0/1 8000::/1", false, false}, {"::/1 8000::/1", false, true},
	} {
		all := prefixList(strings.Fields(c.punt)...)
		if v4, v6 := puntsAll(all, netip.Addr.Is4), puntsAll(all, netip.Addr.Is6); v4 != c.v4 || v6 != c.v6 {
			t.Errorf("%s: %t %t", c.punt, v4, v6)
		}
	}
}

func TestLacks(t *testing.T) {
	for name, c := range map[string]struct {
		have []int
		edit func(*Config)
		want string
	}{
		"all":              {have: []int{unix.CAP_NET_RAW, unix.CAP_NET_ADMIN}},
		"no raw":           {have: []int{unix.CAP_NET_ADMIN}, want: "CAP_NET_RAW"},
		"no admin":         {have: []int{unix.CAP_NET_RAW}, want: "--engine none --keep-mac"},
		"no admin, none":   {have: []int{unix.CAP_NET_RAW}, edit: func(c *Config) { c.Engine = EngineNone }, want: "--keep-mac"},
		"no admin, enough": {have: []int{unix.CAP_NET_RAW}, edit: func(c *Config) { c.Engine, c.KeepMAC = EngineNone, true }},
	} {
		cfg := Default()
		if c.edit != nil {
			c.edit(&cfg)
		}
		err := cfg.lacks(func(capability int) bool { return slices.Contains(c.have, capability) })
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
