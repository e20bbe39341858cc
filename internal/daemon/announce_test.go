package daemon

import (
	"fmt"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"proxyarpd/arpd"
	"proxyarpd/internal/netstate"
)

// fakeAnnouncer notes what it is told.
type fakeAnnouncer struct {
	said []string
	full bool
}

func (f *fakeAnnouncer) Hold(a arpd.Announcement) bool {
	if f.full {
		return false
	}
	f.said = append(f.said, fmt.Sprintf("hold %d %v %v", a.Index, a.IP, a.MAC[5]))
	return true
}

func (f *fakeAnnouncer) Release(index int, ip netip.Addr) {
	f.said = append(f.said, fmt.Sprintf("release %d %v", index, ip))
}

func (f *fakeAnnouncer) Forget(int) {}

// heralds is a bench whose workloads' addresses are announced.
func heralds(t *testing.T, edit func(*Config)) (*bench, *fakeAnnouncer) {
	b := newBench(t, func(c *Config) {
		c.AnswerUplink = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
		if edit != nil {
			edit(c)
		}
	})
	f := &fakeAnnouncer{}
	b.herald = newHerald(f)
	return b, f
}

func (f *fakeAnnouncer) want(t *testing.T, what string, all ...string) {
	t.Helper()
	if fmt.Sprint(f.said) != fmt.Sprint(all) {
		t.Errorf("%s: %q, want %q", what, f.said, all)
	}
	f.said = nil
}

func unrouted(prefix string) netstate.Event {
	return netstate.Event{Op: netstate.Set, Routes: &netstate.RouteSet{Table: unix.RT_TABLE_MAIN, Dst: netip.MustParsePrefix(prefix)}}
}

// TestHerald: what is held is the difference that each change makes.
func TestHerald(t *testing.T) {
	b, f := heralds(t, nil)
	b.events(routed("192.0.2.0/24", 2), routed("192.0.2.50/32", 1), routed("198.51.100.1/32", 1), routed("192.0.2.64/28", 1))
	if err := b.begins(nil, pod(1), nic(2), nic(3)); err != nil {
		t.Fatal(err)
	}
	f.want(t, "at the start", "hold 2 192.0.2.50 2")
	b.settle()
	f.want(t, "what else is done says nothing")
	b.events(routed("192.0.2.51/32", 1), routed("192.0.2.52/32", 3), routed("198.51.100.2/32", 1))
	f.want(t, "routes come", "hold 2 192.0.2.51 2")
	b.events(unrouted("192.0.2.51/32"), routed("10.0.0.0/8", 2))
	f.want(t, "a route goes", "release 2 192.0.2.51")
	b.events(routed("192.0.2.50/32", 2))
	f.want(t, "it leads off the host", "release 2 192.0.2.50")
	b.events(routed("192.0.2.50/32", 1))
	f.want(t, "and back", "hold 2 192.0.2.50 2")
	b.events(routed("192.0.2.0/25", 3))
	f.want(t, "its network is another uplink's", "release 2 192.0.2.50", "hold 3 192.0.2.50 3")
	b.events(unrouted("192.0.2.0/25"))
	f.want(t, "and is not", "release 3 192.0.2.50", "hold 2 192.0.2.50 2")
	b.events(set(pod(4)), routed("192.0.2.53/32", 4))
	f.want(t, "a workload comes", "hold 2 192.0.2.53 2")
	b.settle()
	b.events(gone(pod(4)), unrouted("192.0.2.53/32"))
	f.want(t, "and goes", "release 2 192.0.2.53")

	next := *b.cfg
	next.AnswerUplink = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
	b.adopt(&next, &judgement{})
	if len(f.said) != 3 {
		t.Errorf("another --answer-uplink: %q", f.said)
	}
	f.said = nil
	next.AnswerUplink = nil
	b.adopt(&next, &judgement{})
	if len(f.said) != 2 || len(b.herald.hosts) != 0 {
		t.Errorf("none: %q, %v", f.said, b.herald.hosts)
	}
}

// TestHeraldUplink: an address is held while the uplink can carry it, and anew when its
// carrier has been away or its MAC is another one.
func TestHeraldUplink(t *testing.T) {
	b, f := heralds(t, nil)
	b.events(routed("192.0.2.0/24", 2), routed("192.0.2.50/32", 1))
	up := nic(2)
	if err := b.begins(nil, pod(1), up); err != nil {
		t.Fatal(err)
	}
	b.settle()
	f.want(t, "at the start", "hold 2 192.0.2.50 2")
	down := *up
	down.Flags &^= unix.IFF_RUNNING | unix.IFF_LOWER_UP
	down.CarrierChanges++
	b.events(set(&down))
	f.want(t, "the carrier is lost", "release 2 192.0.2.50")
	back := *up
	back.CarrierChanges = 2
	b.events(set(&back))
	f.want(t, "and returns", "hold 2 192.0.2.50 2")
	again := back
	again.CarrierChanges = 4
	b.events(set(&again))
	f.want(t, "before anybody looked", "release 2 192.0.2.50", "hold 2 192.0.2.50 2")
	other := again
	other.MAC[5] = 77
	b.events(set(&other))
	f.want(t, "another MAC", "hold 2 192.0.2.50 77")
	b.events(set(&other))
	f.want(t, "no news")
	b.events(gone(&other))
	f.want(t, "the uplink goes", "release 2 192.0.2.50")
	f.full = true
	b.events(set(&other))
	f.full = false
	b.events(routed("192.0.2.50/32", 1), routed("192.0.2.0/24", 2), routed("0.0.0.0/0", 2))
	f.want(t, "there was no room, and is now", "hold 2 192.0.2.50 77")
}

// TestHeraldUnforwarded: what nobody forwards is not announced.
func TestHeraldUnforwarded(t *testing.T) {
	b, f := heralds(t, func(c *Config) { c.Engine = EngineNone })
	b.events(routed("192.0.2.0/24", 2), routed("192.0.2.50/32", 1))
	if err := b.begins(nil, pod(1), nic(2)); err != nil {
		t.Fatal(err)
	}
	b.settle()
	f.want(t, "the kernel does not forward")
	if p := b.responder.policies[2]; p == nil || !p.Uplink.Unforwarded {
		t.Errorf("%+v", p)
	}
	on := nic(2)
	on.Forwards = true
	b.events(set(on))
	f.want(t, "it does now", "hold 2 192.0.2.50 2")
}

// TestUplinkPolicies: each uplink that resolves addresses has a policy, and knows the MACs
// of the others.
func TestUplinkPolicies(t *testing.T) {
	b, _ := heralds(t, nil)
	noARP, tun := nic(4), nic(5)
	noARP.Flags |= unix.IFF_NOARP
	tun.Type, tun.AddrLen = unix.ARPHRD_NONE, 0
	if err := b.begins(nil, pod(1), nic(2), nic(3), noARP, tun); err != nil {
		t.Fatal(err)
	}
	others := func(index int) (all []byte) {
		for _, m := range b.responder.policies[index].Uplink.Others {
			all = append(all, m[5])
		}
		return all
	}
	if len(b.responder.policies) != 3 || b.responder.policies[1].Uplink != nil || string(others(2)) != "\x03" || string(others(3)) != "\x02" {
		t.Errorf("%+v", b.responder.policies)
	}
	for _, index := range []int32{1, 2, 3, 4, 5} {
		if got := b.fake.ports[index].ARP; got != (index <= 3) {
			t.Errorf("ARP frames of %d go to the responder: %t", index, got)
		}
	}
	port := nic(6)
	port.Master = 99
	b.events(set(nic(7)), set(port), gone(nic(3)))
	if len(b.responder.policies) != 3 || string(others(2)) != "\x07" || string(others(7)) != "\x02" {
		t.Errorf("%+v", b.responder.policies)
	}
	if p, ours := b.lookup(nic(8), arpPolicy); p == nil || !ours || p.Uplink == nil {
		t.Errorf("one that comes by its first frame: %+v, %t", p, ours)
	}
	if p, ours := b.lookup(tun, arpPolicy); p != nil || ours {
		t.Errorf("one without ARP: %+v, %t", p, ours)
	}
	without := newBench(t, nil)
	if err := without.begins(nil, pod(1), nic(2)); err != nil {
		t.Fatal(err)
	}
	if _, ours := without.lookup(nic(2), arpPolicy); ours || len(without.responder.policies) != 1 || without.fake.ports[2].ARP {
		t.Error("an uplink is answered on without --answer-uplink")
	}
}
