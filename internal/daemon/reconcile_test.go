package daemon

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/forward/claim"
	"proxyarpd/forward/route"
	"proxyarpd/internal/hostpolicy"
	"proxyarpd/internal/netstate"
	"proxyarpd/internal/shortage"
)

// running is a bench whose daemon serves these interfaces, with all done.
func running(t *testing.T, edit func(*Config), links ...*netstate.Link) *bench {
	t.Helper()
	b := newBench(t, edit)
	if err := b.begins(nil, links...); err != nil {
		t.Fatal(err)
	}
	b.settle()
	return b
}

func (b *bench) tableLink(index int32) *route.Link {
	b.t.Helper()
	l := b.proxy.table.Load().Link(index)
	if l == nil {
		b.t.Fatalf("no table has interface %d", index)
	}
	return l
}

// TestTablesFirst: frames are taken once the tables know the interface.
func TestTablesFirst(t *testing.T) {
	b := running(t, nil, pod(1))
	b.events(set(pod(2)), routed("10.65.0.2/32", 2))
	for _, index := range []int32{1, 2} {
		if took, ok := b.fake.took[index]; !ok || took <= b.fake.known[index] {
			t.Errorf("interface %d is told of after %d tables, taken after %d", index, b.fake.known[index], took)
		}
	}
	if b.fake.classes == 0 {
		t.Error("the filter knows no destinations")
	}
}

// TestRenamed: an interface may become a workload's, or stop being one.
func TestRenamed(t *testing.T) {
	b := running(t, nil, pod(1))
	id := b.ports[1].id
	l := pod(1)
	l.Name, l.MAC = "eth7", b.cfg.MAC
	b.events(set(l))
	b.settle()
	if p := b.ports[1]; p.id == id || p.role != roleUplink || p.policy != nil || b.responder.policies[1] != nil || b.fake.ports[1].Workload {
		t.Errorf("%+v", p)
	}
	if b.record[-1] != renamedTo {
		t.Error("the record of its MAC keeps the old name")
	}
}

// TestGoes: nothing stays of an interface that goes.
func TestGoes(t *testing.T) {
	b := running(t, nil, pod(1), pod(2))
	addr := netip.MustParseAddr("10.65.0.1")
	b.events(netstate.Event{Op: netstate.Set, Neighbour: &netstate.Neighbour{Index: 1, IP: addr, State: unix.NUD_REACHABLE, HasMAC: true}})
	if !b.tableLink(1).HasNeighbours() {
		t.Fatal("a neighbour is not followed")
	}
	b.asking.add(hop{1, addr})
	b.egress[1] = true
	b.events(gone(pod(1)))
	if e, ok := b.sent[laneClaim].(releaseErrand); !ok || e.index != 1 {
		t.Errorf("out is %#v", b.sent[laneClaim])
	}
	if _, changed := b.record[1]; changed || b.egress[1] || len(b.asking.hops) != 0 {
		t.Errorf("record %v, egress %v, %d questions", b.record, b.egress, len(b.asking.hops))
	}
	b.settle()
	b.events(set(pod(1)))
	if b.tableLink(1).HasNeighbours() {
		t.Error("another one has its neighbours")
	}
	b.settle()
	// It goes while its claim is out: what that attached is let go of.
	b.events(set(pod(3)))
	b.arrives(laneHost, b.goesWell(b.sent[laneHost]))
	if b.sent[laneClaim] != nil || !b.rested() {
		t.Fatalf("%#v is not put off: a new pod's first packets need the lock", b.sent[laneClaim])
	}
	c := b.sent[laneClaim].(claimErrand)
	b.events(gone(pod(3)))
	b.arrives(laneClaim, b.goesWell(c))
	if e, ok := b.sent[laneClaim].(releaseErrand); !ok || e.index != 3 {
		t.Errorf("out is %#v", b.sent[laneClaim])
	}
}

// TestLookup: a frame that is faster than the event of its interface.
func TestLookup(t *testing.T) {
	b := newBench(t, nil)
	if p, ours := b.lookup(pod(1), arpPolicy); p != nil || !ours {
		t.Error("something is known before the start")
	}
	b = running(t, nil)
	if p, ours := b.lookup(nic(2), arpPolicy); p != nil || ours {
		t.Error("an uplink is answered on")
	}
	if p, ours := b.lookup(pod(1), arpPolicy); p == nil || !ours || p.Answer != b.cfg.MAC || b.ports[1] == nil || b.responder.policies[1] != p {
		t.Errorf("%+v, %t", p, ours)
	}
}

// TestMACs: one that somebody sets is set again; one that can't be is left.
func TestMACs(t *testing.T) {
	b := newBench(t, nil)
	if err := b.begins(nil, pod(1)); err != nil {
		t.Fatal(err)
	}
	has := pod(1)
	has.MAC = b.cfg.MAC
	b.events(set(has)) // somebody else was faster
	b.settle()
	b.is(1, open)
	b.events(set(pod(1)))
	if e, ok := b.sent[laneMAC].(macErrand); !ok || len(e.changes) != 1 {
		t.Fatalf("out is %#v", b.sent[laneMAC])
	}
	b.settle()
	b.events(set(pod(1)))
	e, ok := b.sent[laneMAC].(macErrand)
	if !ok {
		t.Fatal("somebody has set another, and nobody sets it again")
	}
	b.arrives(laneMAC, macsSet{e, []error{unix.EOPNOTSUPP}})
	b.settle()
	if p := b.ports[1]; p.mac != never || p.state != open || p.policy.Answer != b.cfg.MAC {
		t.Errorf("%s, %s", p.mac, p.state)
	}
}

// TestKeepMACAsked: a device that can't be asked for frames to --mac answers its own.
func TestKeepMACAsked(t *testing.T) {
	b := newBench(t, func(c *Config) { c.KeepMAC = true })
	l := pod(1)
	l.Kind = ""
	if err := b.begins(nil, l); err != nil {
		t.Fatal(err)
	}
	e, ok := b.sent[laneHost].(memberErrand)
	if !ok {
		t.Fatalf("out is %T", b.sent[laneHost])
	}
	b.arrives(laneHost, memberAsked{e, unix.EOPNOTSUPP})
	b.settle()
	if got := b.responder.policies[1].Answer; got != l.MAC {
		t.Errorf("answers %v", got)
	}
}

// TestSpared: frames to an interface with rules that can still apply take the
// ordinary way out.
func TestSpared(t *testing.T) {
	found := []hostpolicy.Finding{{Kind: hostpolicy.KindTC, What: "tcx/egress", Count: 1, Interface: "cali1"}}
	bypass := func(c *Config) { c.BypassPolicy = true }
	b := newBench(t, bypass)
	if err := b.begins(found, pod(1), pod(2)); err != nil {
		t.Fatal(err)
	}
	b.settle()
	if b.tableLink(1).Flags&route.LinkBypass != 0 || b.tableLink(2).Flags&route.LinkBypass == 0 {
		t.Error("at the start")
	}
	b.events(set(pod(3)))
	b.arrives(laneHost, rulesFound{rulesErrand: b.sent[laneHost].(rulesErrand), found: []hostpolicy.Finding{{Kind: hostpolicy.KindTC, Count: 1, Interface: "cali3"}}})
	b.settle()
	b.is(3, open)
	if b.tableLink(3).Flags&route.LinkBypass != 0 {
		t.Error("on a new interface")
	}
	// Programs may be there that nobody sees.
	b = newBench(t, nil)
	b.events(set(pod(1)), netstate.Event{Op: netstate.Synced})
	if err := b.arrives(laneHost, begun{beginErrand: b.sent[laneHost].(beginErrand), rules: hostpolicy.Results{3: {Err: hostpolicy.ErrUserNamespace}}}); err != nil {
		t.Fatal(err)
	}
	if b.tableLink(1).Flags&route.LinkBypass != 0 {
		t.Error("in a user namespace")
	}
}

// TestLeftAtStart: an uplink that only receives and has rules of its own is left;
// what a killed predecessor changed is taken over; what it left can't be removed.
func TestLeftAtStart(t *testing.T) {
	b := newBench(t, nil)
	has := pod(1)
	has.MAC = b.cfg.MAC
	b.record[1] = [6]byte{2, 0, 0, 0, 0, 9}
	if err := b.begins([]hostpolicy.Finding{{Kind: hostpolicy.KindQdisc, What: "tbf", Interface: "ens2"}}, has, nic(2), pod(3)); err != nil {
		t.Fatal(err)
	}
	b.is(2, left)
	if e, ok := b.sent[laneMAC].(adoptErrand); !ok || len(e.changes) != 1 || e.changes[0].Ifindex != 1 {
		t.Errorf("%#v", b.sent[laneMAC])
	}
	b = newBench(t, nil)
	b.events(set(pod(1)), netstate.Event{Op: netstate.Synced})
	wrong := errors.New("a filter stays")
	if err := b.arrives(laneHost, begun{beginErrand: b.sent[laneHost].(beginErrand), swept: wrong}); !errors.Is(err, wrong) {
		t.Errorf("the start goes on: %v", err)
	}
}

// TestEndsBusy: nothing new begins at the end, though it has been waiting.
func TestEndsBusy(t *testing.T) {
	b := newBench(t, nil)
	b.fake.device.Index = 9
	if err := b.begins(nil, pod(1)); err != nil {
		t.Fatal(err)
	}
	b.end()
	b.arrives(laneClaim, deviceAttached{})
	if b.sent[laneClaim] != nil {
		t.Errorf("out is %#v", b.sent[laneClaim])
	}
}

// TestFreed: what is short is tried again at once when something has gone.
func TestFreed(t *testing.T) {
	b := newBench(t, nil)
	if err := b.begins(nil, pod(1), pod(2)); err != nil {
		t.Fatal(err)
	}
	c := b.sent[laneClaim].(claimErrand)
	b.arrives(laneClaim, claimed{claimErrand: c, err: unix.EMFILE})
	b.settle()
	b.retry.c, b.retry.pause = nil, shortage.Backoff{First: time.Hour, Most: time.Hour}
	other := 3 - c.index
	b.events(gone(pod(other)))
	select {
	case <-b.retry.c:
	case <-time.After(10 * time.Second):
		t.Error("it waits for the clock")
	}
}

// TestSettings: what was read is followed; what could not be read is due again.
func TestSettings(t *testing.T) {
	b := running(t, nil, pod(1), nic(2), pod(3))
	b.readInTurn()
	b.dispatch()
	r := b.sent[laneHost].(readErrand)
	if !r.host || !r.all || len(r.ifs) != 3 || r.last != 3 {
		t.Fatalf("%+v", r)
	}
	r.knownAll.rpFilter = 2
	r.knownHost.DefaultTTL = 77
	at := slices.IndexFunc(r.ifs, func(i readInterface) bool { return i.index == 2 })
	r.ifs[at].known.dev.acceptLocal = true
	r.ifs[(at+1)%3].err = unix.EMFILE
	b.arrives(laneHost, settingsRead{r})
	if l := b.tableLink(2); !l.Conf.AcceptLocal || l.Conf.RPFilter != 2 || b.proxy.table.Load().Host().DefaultTTL != 77 || b.last != 0 {
		t.Errorf("%+v, last %d", l.Conf, b.last)
	}
	// The name is another interface's by then.
	b.readAll()
	b.dispatch()
	r = b.sent[laneHost].(readErrand)
	other := nic(2)
	other.Name = "ens99"
	b.events(set(other))
	at = slices.IndexFunc(r.ifs, func(i readInterface) bool { return i.index == 2 })
	r.ifs[at].known.dev.routeLocalnet = true
	b.arrives(laneHost, settingsRead{r})
	if b.tableLink(2).Conf.RouteLocalnet || !strings.Contains(b.said.String(), "settings read again") {
		t.Errorf("%+v\n%s", b.tableLink(2).Conf, b.said.String())
	}
	// The kernel tells of rp_filter: of "all", and of an uplink.
	b.events(netstate.Event{Op: netstate.Set, Netconf: &netstate.Netconf{Index: netstate.AllLinks, RPFilter: true}},
		netstate.Event{Op: netstate.Set, Netconf: &netstate.Netconf{Index: 2, RPFilter: true}}, netstate.Event{Op: netstate.Set, Netconf: &netstate.Netconf{Index: 1, RPFilter: true}})
	if r, ok := b.sent[laneHost].(readErrand); !ok || !r.all || r.host || len(r.ifs) != 1 || r.ifs[0].index != 2 {
		t.Errorf("%#v", b.sent[laneHost])
	}
}

// TestReadyDown: an interface that is down keeps nobody waiting.
func TestReadyDown(t *testing.T) {
	b := running(t, nil, pod(1))
	l := pod(2)
	l.Flags &^= unix.IFF_UP
	b.events(set(l))
	if ok, why := b.isReady(); !ok {
		t.Error(why)
	}
	b.events(set(pod(2)))
	if ok, _ := b.isReady(); ok {
		t.Error("ready before the new one is open")
	}
}

// TestFlushedNeighbour: one that is asked for and goes before it is known is asked
// for again; one that has failed is not.
func TestFlushedNeighbour(t *testing.T) {
	b := running(t, nil, pod(1))
	var again []netip.Addr
	b.resolve = func(_ int32, addr netip.Addr) { again = append(again, addr) }
	one, other := netip.MustParseAddr("10.65.0.1"), netip.MustParseAddr("10.65.0.2")
	entry := func(ip netip.Addr, state netstate.NeighState) *netstate.Neighbour {
		return &netstate.Neighbour{Index: 1, IP: ip, State: state}
	}
	b.asking.add(hop{1, one})
	b.asking.add(hop{1, other})
	b.events(netstate.Event{Op: netstate.Set, Neighbour: entry(other, unix.NUD_FAILED)})
	b.events(netstate.Event{Op: netstate.Delete, Neighbour: entry(one, 0)}, netstate.Event{Op: netstate.Delete, Neighbour: entry(other, 0)})
	if !slices.Equal(again, []netip.Addr{one}) {
		t.Errorf("asked again for %v", again)
	}
}

// TestWarnDescriptors: said once, and again when it is much worse.
func TestWarnDescriptors(t *testing.T) {
	b := newBench(t, nil)
	b.limits.base = 1 << 31
	b.warnDescriptors()
	b.warnDescriptors()
	b.limits.base = 1 << 32
	b.warnDescriptors()
	if n := strings.Count(b.said.String(), "descriptors may run out"); n != 2 {
		t.Errorf("said %d times", n)
	}
}

// TestPutBackAtStart: with --keep-mac the MACs that a killed predecessor has changed
// are put back first, and the ports whose jobs were behind that wait for nothing
// any more.
func TestPutBackAtStart(t *testing.T) {
	b := newBench(t, func(c *Config) { c.KeepMAC = true })
	has, original := pod(1), macAddr{2, 0, 0, 0, 0, 9}
	has.MAC = macAddr{0xee, 0xee, 0xee, 0xee, 0xee, 0xee}
	b.record[1] = original
	if err := b.begins(nil, has, pod(2)); err != nil {
		t.Fatal(err)
	}
	if b.ports[1].mac != underWay {
		t.Fatalf("no job is due: %v", b.ports[1].mac)
	}
	for range 20 { // all else
		for l := range lanes {
			if e := b.sent[l]; e != nil && l != laneMAC {
				b.arrives(l, b.goesWell(e))
			}
		}
		b.rested()
	}
	back := *has
	back.MAC = original
	b.events(set(&back))
	b.arrives(laneMAC, adopted{})
	b.dispatch()
	b.is(1, open)
	b.is(2, open)
}

// TestManyAtStart: of many interfaces that need nothing but a claim the first alone
// is waited for.
func TestManyAtStart(t *testing.T) {
	b := newBench(t, nil)
	b.fake.how = claim.Auto
	var all []*netstate.Link
	for index := 1; index <= 2*fewPorts; index++ {
		l := pod(index)
		l.MAC = b.cfg.MAC
		all = append(all, l)
	}
	if err := b.begins(nil, all...); err != nil {
		t.Fatal(err)
	}
	for range 3 * len(all) { // all else
		for l := range lanes {
			if e := b.sent[l]; e != nil && l != laneClaim {
				b.arrives(l, b.goesWell(e))
			}
		}
	}
	first := b.sent[laneClaim].(claimErrand)
	b.fake.how = claim.TCX
	b.arrives(laneClaim, b.goesWell(first))
	if b.sent[laneClaim] != nil {
		t.Errorf("%#v does not wait", b.sent[laneClaim])
	}
	for _, l := range all {
		b.is(l.Index, open)
	}
}
