package daemon

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"proxyarpd/internal/netstate"
	"proxyarpd/internal/wire"
)

// reload has a bench take another configuration, as transition does.
func (b *bench) reload(edit func(*Config)) (left []int32) {
	b.t.Helper()
	next := *b.cfg
	edit(&next)
	if err := next.Validate(); err != nil {
		b.t.Fatal(err)
	}
	left = b.leave(&next)
	b.fake.moves = next.forwards()
	b.adopt(&next, &judgement{})
	b.dispatch()
	b.settle()
	slices.Sort(left)
	return left
}

// What is meant and what is excluded does not depend on the order.
func TestExclusions(t *testing.T) {
	c := Default()
	c.Workloads, c.Uplinks = []string{"!cali-x*", "cali*", "tap?"}, []string{UplinkAuto, "!docker*"}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"cali1": true, "cali-x": false, "cali-x1": false, "tap1": true, "tap12": false, "eth0": false} {
		if got := c.meansWorkload(name); got != want {
			t.Errorf("workload %s: %t", name, got)
		}
	}
	for name, want := range map[string]bool{"eth0": true, "docker0": false, "xdocker": true} {
		if got := c.meansUplink(name); got != want {
			t.Errorf("uplink %s: %t", name, got)
		}
	}
	for _, c := range []Config{{Workloads: []string{"!a"}, Uplinks: []string{"a"}}, {Workloads: []string{"a"}, Uplinks: []string{"!a"}},
		{Workloads: []string{"!"}, Uplinks: []string{"a"}}, {Workloads: []string{"a", "![", ""}, Uplinks: []string{"a"}}} {
		if err := c.validateInterfaces(); err == nil {
			t.Errorf("%v, %v is fine", c.Workloads, c.Uplinks)
		}
	}
}

// Each key is looked at, and one that is fixed is refused by name.
func TestChanges(t *testing.T) {
	a, b := Default(), Default()
	b.Proxy, b.Punt = []netip.Prefix{}, nil
	if changes, err := a.changesTo(&b); err != nil || len(changes) > 0 {
		t.Errorf("none: %v, %v", changes, err)
	}
	b.Punt, b.RPFilter = []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12")}, 2
	changes, err := a.changesTo(&b)
	var said []string
	for _, c := range changes {
		said = append(said, c.String())
	}
	if want := []string{"rp-filter: 1 -> 2", "punt: none -> 10.96.0.0/12"}; err != nil || !slices.Equal(said, want) {
		t.Errorf("%q, %v", said, err)
	}
	b.Control = "/run/other.sock"
	if _, err := a.changesTo(&b); err == nil || !strings.HasPrefix(err.Error(), "control can't change") || !strings.Contains(err.Error(), "restart") {
		t.Error(err)
	}
}

// TestReloadAnswers: gateways and MAC reach the responder; a MAC that was answered
// before goes on being ours.
func TestReloadAnswers(t *testing.T) {
	b := newBench(t, nil)
	if err := b.begins(nil, pod(1)); err != nil {
		t.Fatal(err)
	}
	b.settle()
	told := func() { // of the MAC, by the kernel
		l := *b.links[1]
		b.events(set(&l))
		b.settle()
	}
	other := netip.MustParseAddr("10.0.0.1")
	b.reload(func(c *Config) { c.Gateways = append(slices.Clone(c.Gateways), other) })
	if p := b.responder.policies[1]; !slices.Contains(p.Gateways, other) {
		t.Errorf("gateways %v", p.Gateways)
	}
	before, mac := b.cfg.MAC, wire.MAC{2, 0, 0x5e, 0, 0x53, 7}
	b.reload(func(c *Config) { c.MAC = mac })
	told()
	p := b.responder.policies[1]
	if p.Answer != mac || p.Own != mac || !slices.Contains(p.Alias, before) || b.links[1].MAC != mac {
		t.Errorf("%+v", p)
	}
	if f := b.fake.ports[1]; !slices.Contains(f.Aliases[:], before) {
		t.Errorf("frames to the former MAC are not ours: %v", f.Aliases)
	}
	b.is(1, open)
}

// TestReloadRoles: an interface that is served no more is let go of, has its MAC
// back, and can be served again.
func TestReloadRoles(t *testing.T) {
	b := newBench(t, nil)
	if err := b.begins(nil, pod(1), pod(2), nic(3)); err != nil {
		t.Fatal(err)
	}
	b.events(routed("0.0.0.0/0", 3))
	b.settle()
	if left := b.reload(func(c *Config) { c.Workloads = []string{"cali*", "!cali2"}; c.Uplinks = []string{"eth*"} }); !slices.Equal(left, []int32{2, 3}) {
		t.Errorf("left are %v", left)
	}
	if len(b.ports) != 1 || len(b.responder.policies) != 1 || !slices.Contains(b.fake.deleted, 2) || !slices.Contains(b.fake.deleted, 3) {
		t.Errorf("ports %v, let go of %v", b.ports, b.fake.deleted)
	}
	if got := b.record[2]; got != (netstate.Link{}).MAC {
		t.Errorf("the MAC of 2 is not put back: %v", got)
	}
	b.takes(1, true)
	b.reload(func(c *Config) { c.Workloads, c.Uplinks = []string{"cali*"}, []string{UplinkAuto} })
	for _, index := range []int{1, 2, 3} {
		b.is(index, open)
		b.takes(int32(index), true)
	}
}

// TestReloadEngines: with none the kernel has all packets, and requests go on being
// answered.
func TestReloadEngines(t *testing.T) {
	b := newBench(t, nil)
	if err := b.begins(nil, pod(1), nic(2)); err != nil {
		t.Fatal(err)
	}
	b.settle()
	if left := b.reload(func(c *Config) { c.Engine = EngineNone }); !slices.Equal(left, []int32{1, 2}) {
		t.Errorf("left are %v", left)
	}
	b.takes(1, false)
	if len(b.responder.policies) != 1 || b.ports[2] != nil {
		t.Errorf("%v, %v", b.responder.policies, b.ports)
	}
	b.is(1, open)
	b.reload(func(c *Config) { c.Engine = EngineAFPacket })
	for _, index := range []int32{1, 2} {
		b.is(int(index), open)
		b.takes(index, true)
	}
}
