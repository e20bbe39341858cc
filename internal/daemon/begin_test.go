package daemon

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/hostpolicy"
	"proxyarpd/internal/netstate"
)

func TestJudge(t *testing.T) {
	tables := hostpolicy.Finding{Kind: hostpolicy.KindNFTables, What: "inet filter forward", Count: 2}
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
			found: []hostpolicy.Finding{tables}},
	} {
		cfg := Default()
		if c.edit != nil {
			c.edit(&cfg)
		}
		j := judge(&cfg, c.found, c.unknown, onlyReceives)
		if (j.err == nil) != (c.err == "") || j.err != nil && !strings.Contains(j.err.Error(), c.err) {
			t.Errorf("%s: %v, want %q", name, j.err, c.err)
		}
		if len(j.left[3]) != c.left || len(j.spared) != c.spared || j.unseen != c.unseen || len(j.warnings) != c.warnings {
			t.Errorf("%s: %+v", name, j)
		}
	}
}

func TestJudgeNew(t *testing.T) {
	l := &netstate.Link{Name: "cali1"}
	on := &netstate.Link{Name: "cali1", Forwards: true}
	program := hostpolicy.Finding{Kind: hostpolicy.KindTC, What: "ingress", Interface: "cali1"}
	shape := hostpolicy.Finding{Kind: hostpolicy.KindQdisc, What: "tbf", Interface: "cali1"}
	for name, c := range map[string]struct {
		link    *netstate.Link
		bypass  bool
		found   []hostpolicy.Finding
		unknown error
		left    bool
	}{
		"nothing":                {link: l},
		"program":                {link: l, found: []hostpolicy.Finding{program}, left: true},
		"program, bypassed":      {link: l, bypass: true, found: []hostpolicy.Finding{program}},
		"shaped":                 {link: l, found: []hostpolicy.Finding{shape}},
		"shaped, kernel's":       {link: on, found: []hostpolicy.Finding{shape}, left: true},
		"shaped and program":     {link: l, found: []hostpolicy.Finding{shape, program}, left: true},
		"can't be told":          {link: l, unknown: errors.New("EPERM"), left: true},
		"can't be told, no care": {link: l, bypass: true, unknown: errors.New("EPERM")},
	} {
		cfg := Default()
		cfg.BypassPolicy = c.bypass
		if err := judgeNew(&cfg, c.link, c.found, c.unknown); (err != nil) != c.left {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPuntsAll(t *testing.T) {
	for _, c := range []struct {
		punt string
		ipv6 bool
		want bool
	}{
		{"", false, false}, {"0.0.0.0/0", false, true}, {"0.0.0.0/1", false, false}, {"0.0.0.0/1 128.0.0.0/1", false, true}, {"10.0.0.0/8", false, false},
		{"0.0.0.0/0", true, false}, {"::/0", true, false}, {"0.0.0.0/0 ::/0", true, true}, {"0.0.0.0/1 ::/1", true, false}, {"0.0.0.0/0 ::/1 8000::/1", true, true},
	} {
		var all []netip.Prefix
		for _, s := range strings.Fields(c.punt) {
			all = append(all, netip.MustParsePrefix(s))
		}
		if got := (&Config{Punt: all, IPv6: c.ipv6}).puntsAll(); got != c.want {
			t.Errorf("%s: %t", c.punt, got)
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
