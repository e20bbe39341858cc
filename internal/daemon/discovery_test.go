package daemon

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"proxyarpd/forward/claim"
	"proxyarpd/forward/route"
	"proxyarpd/internal/netstate"
)

// TestWantsIPv6: what an interface is for IPv6, by what the kernel has of it there.
func TestWantsIPv6(t *testing.T) {
	type given struct {
		s setting
		l *netstate.Link
		p port
	}
	type wanted struct {
		mtu              int
		taken, nd        bool
		gateways, proxy  int
		answered, claims bool
		flags            route.LinkFlags
	}
	pods := wanted{mtu: 1500, taken: true, nd: true, gateways: 1, answered: true, claims: true}
	nothing := wanted{claims: true}
	for name, c := range map[string]struct {
		edit func(*given)
		want wanted
	}{
		"a workload":                    {func(*given) {}, pods},
		"without IPv6":                  {func(g *given) { g.s.cfg.IPv6 = false }, nothing},
		"disable_ipv6":                  {func(g *given) { g.l.IPv6, g.l.MTU6 = false, 0 }, nothing},
		"another MTU than the device's": {func(g *given) { g.l.MTU6 = 1400 }, wanted{1400, true, true, 1, 0, true, true, 0}},
		"the kernel forwards":           {func(g *given) { g.l.Forwards6 = true }, wanted{1500, false, true, 1, 0, true, true, route.LinkKernelForwards6}},
		"and it is claimed":             {func(g *given) { g.l.Forwards6, g.p.claim = true, done }, wanted{1500, true, true, 1, 0, true, false, route.LinkKernelForwards6}},
		"it forwards IPv4 alone":        {func(g *given) { g.l.Forwards = true }, wanted{1500, true, true, 1, 0, true, true, route.LinkKernelForwards}},
		"engine none":                   {func(g *given) { g.s.forwards = false }, pods},
		"engine none, MAC set":          {func(g *given) { g.s.forwards, g.l.MAC = false, g.s.cfg.MAC }, pods},
		"--proxy":                       {func(g *given) { g.s.cfg.Proxy = prefixList("10.0.0.0/8", "2001:db8::/32") }, wanted{1500, true, true, 1, 1, true, true, 0}},
		"an uplink":                     {func(g *given) { g.p.role = roleUplink }, wanted{1500, true, false, 0, 0, false, true, 0}},
		"an uplink that is answered on": {func(g *given) {
			g.p.role, g.s.cfg.AnswerUplink = roleUplink, prefixList("10.0.0.0/8", "2001:db8::/32")
		}, wanted{1500, true, true, 0, 0, true, true, 0}},
		"for IPv4 alone": {func(g *given) { g.p.role, g.s.cfg.AnswerUplink = roleUplink, prefixList("10.0.0.0/8") }, wanted{1500, true, false, 0, 0, false, true, 0}},
	} {
		cfg := Default()
		l := pod(1)
		l.IPv6, l.MTU6 = true, 1500
		g := given{s: setting{cfg: &cfg, forwards: true, canClaim: true, ports: 1, started: true}, l: l, p: port{role: roleWorkload, rules: done, first: true}}
		c.edit(&g)
		w := g.s.wants(g.l, &g.p, &facts{})
		got := wanted{mtu: w.link.MTU6, taken: w.filter.IPv6, nd: w.filter.ND, answered: w.policy6 != nil, claims: w.claim,
			flags: w.link.Flags & (route.LinkKernelForwards | route.LinkKernelForwards6)}
		if w.policy6 != nil {
			got.gateways, got.proxy = len(w.policy6.Gateways), len(w.policy6.Proxy)
			if slices.ContainsFunc(w.policy6.Gateways, netip.Addr.Is4) || (w.policy6.Uplink != nil) != (g.p.role == roleUplink) {
				t.Errorf("%s: %+v", name, w.policy6)
			}
		}
		if w.policy != nil && slices.ContainsFunc(w.policy.Gateways, netip.Addr.Is6) {
			t.Errorf("%s: ARP for %v", name, w.policy.Gateways)
		}
		if got != c.want {
			t.Errorf("%s:\ngot  %+v\nwant %+v", name, got, c.want)
		}
	}
}

func prefixList(all ...string) (p []netip.Prefix) {
	for _, s := range all {
		p = append(p, netip.MustParsePrefix(s))
	}
	return p
}

// fakeGroups notes memberships.
type fakeGroups struct {
	held  map[string]bool
	again []int
}

func (g *fakeGroups) Hold(index int, ip netip.Addr)    { g.held[fmt.Sprint(index, " ", ip)] = true }
func (g *fakeGroups) Release(index int, ip netip.Addr) { delete(g.held, fmt.Sprint(index, " ", ip)) }
func (g *fakeGroups) Forget(int)                       {}
func (g *fakeGroups) Again(index int)                  { g.again = append(g.again, index) }

// TestOwnerIPv6: the responder of neighbour discovery, groups and targets follow the
// interfaces and the gateways.
func TestOwnerIPv6(t *testing.T) {
	nd, groups := new(fakeResponder), &fakeGroups{held: map[string]bool{}}
	b := newBench(t, nil)
	b.discovery = discovery{to: nd, groups: groups, linkLocal: map[int]netstate.AddressState{}}
	l := pod(1)
	l.IPv6, l.MTU6 = true, 1500
	none := pod(2)
	none.Index, none.Name = 2, "cali2"
	if err := b.begins(nil, l, none); err != nil {
		t.Fatal(err)
	}
	b.settle()
	if len(nd.policies) != 1 || nd.policies[1] == nil || len(b.responder.policies) != 2 {
		t.Fatalf("policies %v, of ARP %v", nd.policies, b.responder.policies)
	}
	if p := nd.policies[1]; !slices.Equal(p.Gateways, []netip.Addr{gatewayV6}) || p.Routes == nil || p.Answer != b.cfg.MAC {
		t.Errorf("%+v", p)
	}
	if !b.fake.targets[claim.NDTarget{Addr: gatewayV6}] || len(b.fake.targets) != 1 || !groups.held["1 "+gatewayV6.String()] || len(groups.held) != 1 {
		t.Errorf("targets %v, groups %v", b.fake.targets, groups.held)
	}
	if f := b.fake.ports[1]; !f.IPv6 || !f.ND || b.fake.ports[2].IPv6 || b.fake.ports[2].ND {
		t.Errorf("%+v, %+v", f, b.fake.ports[2])
	}
	// A link-local address, with which memberships are joined anew.
	why := func(want string) {
		t.Helper()
		if got := b.ipv6Why(b.links[1]); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	address := func(flags uint32) netstate.Event {
		return netstate.Event{Op: netstate.Set, Addresses: &netstate.AddressSet{Index: 1, Family: netstate.IPv6,
			Addresses: []netstate.Address{{Index: 1, Local: gatewayV6, Prefix: netip.MustParsePrefix("fe80::/64"), Flags: flags}}}}
	}
	why("it has no link-local address: neighbours can't be resolved")
	tun := *b.links[1]
	if tun.Type = unix.ARPHRD_NONE; b.ipv6Why(&tun) != "" {
		t.Errorf("where there are no neighbours: %q", b.ipv6Why(&tun))
	}
	b.events(address(unix.IFA_F_TENTATIVE))
	why("its link-local address is tentative: neighbours can't be resolved until duplicate address detection is over")
	b.events(address(unix.IFA_F_TENTATIVE | unix.IFA_F_OPTIMISTIC))
	why("")
	b.events(address(0))
	why("")
	if !slices.Equal(groups.again, []int{1}) {
		t.Errorf("joined again on %v", groups.again)
	}
	// Another gateway.
	b.reload(func(c *Config) { c.Gateways = []netip.Addr{gatewayV4, netip.MustParseAddr("fe80::1")} })
	b.settle()
	if !b.fake.targets[claim.NDTarget{Addr: netip.MustParseAddr("fe80::1")}] || b.fake.targets[claim.NDTarget{Addr: gatewayV6}] || !groups.held["1 fe80::1"] || len(groups.held) != 1 {
		t.Errorf("targets %v, groups %v", b.fake.targets, groups.held)
	}
	// IPv6 ends, and the interface.
	off := *l
	off.IPv6, off.MTU6 = false, 0
	b.events(netstate.Event{Op: netstate.Set, Link: &off})
	why("not served: disable_ipv6 is 1, and the kernel has no IPv6 there")
	if len(nd.policies) != 0 || len(groups.held) != 0 || b.fake.ports[1].IPv6 || !b.fake.ports[1].Forward {
		t.Errorf("policies %v, groups %v, %+v", nd.policies, groups.held, b.fake.ports[1])
	}
	b.events(netstate.Event{Op: netstate.Set, Link: l})
	if len(nd.policies) != 1 || !b.fake.ports[1].IPv6 {
		t.Errorf("policies %v, %+v", nd.policies, b.fake.ports[1])
	}
	b.events(netstate.Event{Op: netstate.Delete, Link: l})
	if len(nd.policies) != 0 || len(groups.held) != 0 {
		t.Errorf("policies %v, groups %v", nd.policies, groups.held)
	}
}

// TestBitmap reads what the kernel writes for a set of numbers.
func TestBitmap(t *testing.T) {
	dir := t.TempDir() + "/"
	s := sysctls{root: dir}
	missing := [8]uint32{1}
	for text, want := range map[string][8]uint32{
		"0-1,3-127\n": route.DefaultHostConf6.ICMPRateMask,
		"\n":          {},
		"2\n":         {1 << 2},
		"31-33,255\n": {1 << 31, 3, 7: 1 << 31},
		"x\n":         missing,
		"0-256\n":     missing,
	} {
		if err := os.WriteFile(dir+"mask", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := s.bitmap("mask", [8]uint32{9}, missing); got != want {
			t.Errorf("%q: %x, want %x", text, got, want)
		}
	}
	if got := s.bitmap("none", [8]uint32{9}, missing); got != missing || s.short != nil {
		t.Errorf("%x, %v", got, s.short)
	}
}
