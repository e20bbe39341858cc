package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/arpd"
	"proxyarpd/forward/claim"
	"proxyarpd/forward/route"
	"proxyarpd/internal/engine"
	"proxyarpd/internal/engine/none"
	"proxyarpd/internal/hostpolicy"
	"proxyarpd/internal/macs"
	"proxyarpd/internal/netstate"
)

// fakeEngine remembers what it is told.
type fakeEngine struct {
	none.Engine
	moves       bool // packets
	device      engine.Device
	ports       map[int32]engine.Port
	deleted     []int32
	claims      map[int32]bool
	orphans     []int32
	how         claim.Mode
	attached    int           // claims there are besides
	refuse      error         // of SetPort
	known, took map[int32]int // tables that were published when an interface was told of, and when its frames were taken
	classes     int
	tables      int
	targets     map[claim.NDTarget]bool
}

func (e *fakeEngine) SetNDTarget(t claim.NDTarget, on bool) error {
	if e.targets == nil {
		e.targets = map[claim.NDTarget]bool{}
	}
	if e.targets[t] = on; !on {
		delete(e.targets, t)
	}
	return nil
}

func (e *fakeEngine) Forwards() bool        { return e.moves }
func (e *fakeEngine) Decides() bool         { return true }
func (e *fakeEngine) CanClaim() bool        { return e.how != claim.None }
func (e *fakeEngine) Publish(*route.Table)  { e.tables++ }
func (e *fakeEngine) Device() engine.Device { return e.device }
func (e *fakeEngine) Orphans() []int32      { return e.orphans }

func (e *fakeEngine) SetPort(p engine.Port) (uint32, error) {
	if e.refuse != nil {
		return 0, e.refuse
	}
	e.ports[p.Ifindex] = p
	if _, ok := e.known[p.Ifindex]; !ok {
		e.known[p.Ifindex] = e.tables
	}
	if _, ok := e.took[p.Ifindex]; !ok && p.Forward {
		e.took[p.Ifindex] = e.tables
	}
	return uint32(p.Ifindex) + 1000, nil
}

func (e *fakeEngine) SetClass(netip.Prefix, route.Class) error { e.classes++; return nil }

func (e *fakeEngine) DeletePort(ifindex int32) error {
	delete(e.ports, ifindex)
	e.deleted = append(e.deleted, ifindex)
	return nil
}

func (e *fakeEngine) Claims() (claim.Mode, int) { return e.how, max(len(e.claims), e.attached) }

// fakeRecord is the record of MACs.
type fakeRecord map[int]macs.MAC

// renamedTo stands in the record of an interface that was told to have another name.
var renamedTo = macs.MAC{'r', 'e', 'n'}

func (r fakeRecord) Original(ifindex int) (macs.MAC, bool) { m, ok := r[ifindex]; return m, ok }
func (r fakeRecord) Renamed(ifindex int, _ string)         { r[-ifindex] = renamedTo }
func (r fakeRecord) Forget(ifindex int)                    { delete(r, ifindex) }

type fakeResponder struct{ policies map[int]*arpd.Policy }

func (r *fakeResponder) Publish(all map[int]*arpd.Policy) { r.policies = all }

type fakeCaptures map[int]bool

func (c fakeCaptures) SetLink(l *netstate.Link, served bool) { c[l.Index] = served }
func (c fakeCaptures) DeleteLink(index int)                  { delete(c, index) }
func (c fakeCaptures) Publish()                              {}

// bench is an owner without a kernel, and what it has sent out.
type bench struct {
	*owner
	t         *testing.T
	fake      *fakeEngine
	record    fakeRecord
	responder *fakeResponder
	captures  fakeCaptures
	sent      [lanes]errand // what is out
	said      strings.Builder
	started   int
}

func newBench(t *testing.T, edit func(*Config)) *bench {
	t.Helper()
	cfg := Default()
	if edit != nil {
		edit(&cfg)
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, record: fakeRecord{}, responder: &fakeResponder{}, captures: fakeCaptures{},
		fake: &fakeEngine{moves: cfg.Engine != EngineNone, ports: map[int32]engine.Port{}, claims: map[int32]bool{},
			how: claim.TCX, known: map[int32]int{}, took: map[int32]int{}}}
	b.owner = &owner{
		cfg: &cfg, log: slog.New(slog.NewTextHandler(&b.said, nil)), life: t.Context(), eng: b.fake,
		builder: route.NewBuilder(route.Policy{}), proxy: new(proxyRoutes), arp: b.responder, taps: b.captures, macs: b.record,
		asking: new(asking), resolve: func(int32, netip.Addr) {}, links: map[int]*netstate.Link{}, ports: map[int]*port{}, egress: map[int]bool{},
		dirty: newDirty(), ready: readiness{c: make(chan struct{})}, limits: &limits{}, begun: func() { b.started++ },
		batches: make(chan batch), questions: make(chan func()), outcomes: make(chan arrival, lanes),
	}
	b.send = func(l lane, e errand) {
		if b.sent[l] != nil {
			t.Errorf("lane %d: %T is out, and so is %T", l, b.sent[l], e)
		}
		b.sent[l] = e
	}
	return b
}

// events has the owner hear of a batch, and send out what follows.
func (b *bench) events(all ...netstate.Event) error {
	err := b.hear(all)
	b.dispatch()
	return err
}

// arrives gives the outcome of what is out in a lane.
func (b *bench) arrives(l lane, o outcome) error {
	b.t.Helper()
	if b.sent[l] == nil {
		b.t.Fatalf("lane %d: %T, and nothing is out", l, o)
	}
	b.sent[l], b.work.out[l] = nil, false
	err := o.take(b.owner)
	b.dispatch()
	return err
}

// begins has the owner serve the interfaces.
func (b *bench) begins(found []hostpolicy.Finding, links ...*netstate.Link) error {
	b.t.Helper()
	var all []netstate.Event
	for _, l := range links {
		all = append(all, set(l))
	}
	if err := b.events(append(all, netstate.Event{Op: netstate.Synced})...); err != nil {
		b.t.Fatal(err)
	}
	e, ok := b.sent[laneHost].(beginErrand)
	if !ok {
		b.t.Fatalf("out is %T", b.sent[laneHost])
	}
	return b.arrives(laneHost, begun{beginErrand: e, rules: nft(found...)})
}

// settle lets everything that is out go well, until nothing is.
func (b *bench) settle() {
	b.t.Helper()
	for range 1000 {
		idle := true
		for l := range lanes {
			if b.sent[l] != nil {
				idle = false
				if err := b.arrives(l, b.goesWell(b.sent[l])); err != nil {
					b.t.Fatal(err)
				}
			}
		}
		idle = !b.rested() && idle
		if idle {
			return
		}
	}
	b.t.Fatal("there is no end to it")
}

// rested has the time pass for which claims that can wait are put off, if there is
// such a time.
func (b *bench) rested() bool {
	waited := b.work.rest != nil
	b.work.rest = nil
	b.dispatch()
	return waited
}

func (b *bench) goesWell(e errand) outcome {
	switch e := e.(type) {
	case adoptErrand:
		return adopted{}
	case macErrand:
		for _, c := range e.changes {
			b.record[c.Ifindex] = c.Current
		}
		return macsSet{e, make([]error, len(e.changes))}
	case putBackErrand:
		for _, c := range e.changes {
			delete(b.record, c.Ifindex)
		}
		return putBack{}
	case claimErrand:
		b.fake.claims[int32(e.index)] = true
		return claimed{claimErrand: e}
	case releaseErrand:
		delete(b.fake.claims, int32(e.index))
		return released{}
	case rulesErrand:
		return rulesFound{rulesErrand: e}
	case readErrand:
		return settingsRead{e}
	case memberErrand:
		return memberAsked{memberErrand: e}
	case deviceErrand:
		return deviceAttached{}
	case endErrand:
		return ended{}
	}
	b.t.Fatalf("%T", e)
	return nil
}

func (b *bench) is(index int, want life) {
	b.t.Helper()
	switch p := b.ports[index]; {
	case p == nil:
		b.t.Fatalf("interface %d is not served", index)
	case p.state != want:
		b.t.Errorf("interface %d is %s (%v), want %s", index, p.state, p.why, want)
	}
}

func (b *bench) takes(index int32, want bool) {
	b.t.Helper()
	if got := b.fake.ports[index].Forward; got != want {
		b.t.Errorf("frames of interface %d are taken: %t", index, got)
	}
}

func set(l *netstate.Link) netstate.Event { return netstate.Event{Op: netstate.Set, Link: l} }
func gone(l *netstate.Link) netstate.Event {
	return netstate.Event{Op: netstate.Delete, Link: l}
}

// pod is a workload's interface as Calico's plugin leaves it, but for its MAC.
func pod(index int) *netstate.Link {
	return &netstate.Link{Index: index, Name: fmt.Sprintf("cali%d", index), Type: unix.ARPHRD_ETHER, AddrLen: 6, Kind: "veth", MTU: 1500,
		MAC: [6]byte{2, 0, 0, 0, 0, byte(index)}, Qdisc: "noqueue", OperState: 6,
		Flags: unix.IFF_UP | unix.IFF_LOWER_UP | unix.IFF_RUNNING | unix.IFF_BROADCAST}
}

func nic(index int) *netstate.Link {
	l := pod(index)
	l.Name, l.Kind, l.Qdisc = fmt.Sprintf("ens%d", index), "", "fq_codel"
	return l
}

// routed has a route lead over an interface.
func routed(prefix string, index int) netstate.Event {
	dst := netip.MustParsePrefix(prefix)
	return netstate.Event{Op: netstate.Set, Routes: &netstate.RouteSet{Table: unix.RT_TABLE_MAIN, Dst: dst, Routes: []netstate.Route{{
		Table: unix.RT_TABLE_MAIN, Dst: dst, Type: unix.RTN_UNICAST, Nexthops: []netstate.Nexthop{{Index: index, Weight: 1}}}}}}
}

// TestOwnerBegins: nothing is told or changed before the host has been looked at;
// then a host whose kernel does not forward has its frames taken at once, and
// the rest follows.
func TestOwnerBegins(t *testing.T) {
	b := newBench(t, nil)
	b.fake.device = engine.Device{Index: 9, Name: "proxyarpd0"}
	if err := b.events(set(pod(1)), set(nic(2)), set(nic(9)), routed("0.0.0.0/0", 2), netstate.Event{Op: netstate.Synced}); err != nil {
		t.Fatal(err)
	}
	if b.started != 0 || b.fake.tables != 0 || len(b.fake.ports) != 0 || len(b.ports) != 0 || b.responder.policies != nil {
		t.Fatal("something is told before it may be")
	}
	e := b.sent[laneHost].(beginErrand)
	if !e.inspect || len(e.serve) != 2 || !e.serve[1] || !e.serve[2] {
		t.Fatalf("%+v", e)
	}
	if ok, why := b.isReady(); ok || why == "" {
		t.Errorf("ready: %v %q", ok, why)
	}
	// An interface that comes meanwhile is served too, and asked about by itself.
	b.events(set(pod(3)))
	if err := b.arrives(laneHost, begun{beginErrand: e}); err != nil {
		t.Fatal(err)
	}
	if b.started != 1 || b.fake.tables == 0 || len(b.responder.policies) != 2 || len(b.ports) != 3 {
		t.Fatalf("%d tables, policies %v, %d ports", b.fake.tables, b.responder.policies, len(b.ports))
	}
	for _, index := range []int{1, 2, 3} {
		b.is(index, early)
		b.takes(int32(index), true)
	}
	if b.ports[1].rules != done || b.ports[3].rules != underWay {
		t.Errorf("rules: %s, %s", b.ports[1].rules, b.ports[3].rules)
	}
	if _, first := b.sent[laneMAC].(adoptErrand); !first {
		t.Errorf("MACs begin with %T", b.sent[laneMAC])
	}
	if _, first := b.sent[laneClaim].(deviceErrand); !first {
		t.Errorf("claims begin with %T", b.sent[laneClaim])
	}
	ready := b.awaitReady()
	b.settle()
	for _, index := range []int{1, 2, 3} {
		b.is(index, open)
	}
	if len(b.fake.claims) != 3 || b.beginning {
		t.Errorf("claims %v, beginning %t", b.fake.claims, b.beginning)
	}
	select {
	case <-ready:
	default:
		t.Error("nobody is told that all is ready")
	}
	if p := b.responder.policies[1]; p.Answer != b.cfg.MAC || p.Own != b.cfg.MAC || !slices.Equal(p.Alias, []macAddr{{2, 0, 0, 0, 0, 1}}) {
		t.Errorf("%+v", p)
	}
	if b.captures[1] != true || b.captures[9] != false {
		t.Errorf("captures: %v", b.captures)
	}
}

// TestOwnerKernelForwards: what the kernel forwards is taken once its originals
// are claimed, and not before; if they can't be, that is the end of the start,
// but of nothing that comes later.
func TestOwnerKernelForwards(t *testing.T) {
	forwards := func(l *netstate.Link) *netstate.Link { l.Forwards = true; return l }
	b := newBench(t, nil)
	if err := b.begins(nil, forwards(pod(1))); err != nil {
		t.Fatal(err)
	}
	b.takes(1, false)
	b.is(1, described)
	b.settle()
	b.takes(1, true)
	b.is(1, open)

	// Forwarding is turned on for one that has not been claimed.
	b.events(set(pod(2)))
	b.takes(2, true)
	if c, ok := b.sent[laneClaim].(claimErrand); !ok || c.index != 2 {
		if _, rules := b.sent[laneHost].(rulesErrand); !rules {
			t.Fatalf("%T and %T are out", b.sent[laneClaim], b.sent[laneHost])
		}
	}
	b.events(set(forwards(pod(2))))
	b.takes(2, false)
	b.settle()
	b.takes(2, true)

	// It fails: the interface is the kernel's, and is tried again at its next news.
	b.events(set(forwards(pod(3))))
	b.arrives(laneHost, b.goesWell(b.sent[laneHost]))
	c := b.sent[laneClaim].(claimErrand)
	if err := b.arrives(laneClaim, claimed{claimErrand: c, err: errors.New("no luck")}); err != nil {
		t.Fatal(err)
	}
	b.settle()
	b.is(3, failed)
	b.takes(3, false)
	if ok, why := b.isReady(); ok || !strings.Contains(why, "cali3: no luck") {
		t.Errorf("ready: %t %q", ok, why)
	}
	b.events(set(forwards(pod(3))))
	b.settle()
	b.is(3, open)
	b.takes(3, true)

	// At the start it is an error.
	b = newBench(t, nil)
	if err := b.begins(nil, forwards(pod(1))); err != nil {
		t.Fatal(err)
	}
	b.arrives(laneClaim, claimed{claimErrand: b.sent[laneClaim].(claimErrand), err: errors.New("no luck")})
	if err := b.failed; err == nil || !strings.Contains(err.Error(), "cali1: no luck") {
		t.Errorf("the start goes on: %v", err)
	}

	// So it is where there are no tc programs; for an uplink that only receives not.
	b = newBench(t, func(c *Config) { c.Claim = claim.None })
	b.fake.how = claim.None
	err := b.begins(nil, forwards(nic(2)))
	if err != nil {
		t.Errorf("an uplink without routes: %v", err)
	}
	b.is(2, failed)
	b.takes(2, false)
	b = newBench(t, func(c *Config) { c.Claim = claim.None })
	b.fake.how = claim.None
	if err := b.begins(nil, forwards(pod(1))); err == nil || !strings.Contains(err.Error(), "net.ipv4.conf.cali1.forwarding=0") {
		t.Errorf("the start goes on: %v", err)
	}
}

// TestOwnerUplinkLater: the claim of an uplink that only receives can wait, and
// does not any more when a route leads over it.
func TestOwnerUplinkLater(t *testing.T) {
	b := newBench(t, nil)
	l := nic(2)
	l.Forwards = true
	if err := b.begins(nil, l); err != nil {
		t.Fatal(err)
	}
	if b.sent[laneClaim] != nil || !b.rested() {
		t.Fatalf("%#v is not put off", b.sent[laneClaim])
	}
	c, ok := b.sent[laneClaim].(claimErrand)
	if !ok || !c.later {
		t.Fatalf("out is %#v", b.sent[laneClaim])
	}
	used := nic(4)
	used.Forwards = true
	b.events(set(nic(3)), set(used)) // two that have to wait behind it
	for b.sent[laneHost] != nil {
		b.arrives(laneHost, b.goesWell(b.sent[laneHost]))
	}
	b.arrives(laneClaim, claimed{claimErrand: c, took: 1 << 40})
	if b.sent[laneClaim] != nil {
		t.Fatalf("%#v does not leave the kernel's lock to others", b.sent[laneClaim])
	}
	b.events(routed("0.0.0.0/0", 4))
	if c, ok := b.sent[laneClaim].(claimErrand); !ok || c.index != 4 || c.later {
		t.Fatalf("out is %#v", b.sent[laneClaim])
	}
}

// TestOwnerIncarnations: an index that is another interface's by the time an
// errand is done.
func TestOwnerIncarnations(t *testing.T) {
	b := newBench(t, nil)
	if err := b.begins(nil, pod(1)); err != nil {
		t.Fatal(err)
	}
	b.arrives(laneMAC, adopted{})
	mac := b.sent[laneMAC].(macErrand)
	c := b.sent[laneClaim].(claimErrand)
	other := pod(1)
	other.Name = "cali99"
	b.events(gone(pod(1)), set(other))
	if len(b.fake.deleted) != 1 || b.ports[1].claim == done {
		t.Fatalf("deleted %v, claim %s", b.fake.deleted, b.ports[1].claim)
	}
	// The MAC of the one that has gone: not this one's.
	b.arrives(laneMAC, macsSet{mac, []error{nil}})
	if b.ports[1].mac == done || b.links[1].MAC == b.cfg.MAC {
		t.Error("another interface's MAC is taken for this one's")
	}
	b.arrives(laneClaim, claimed{claimErrand: c})
	if _, ok := b.sent[laneClaim].(releaseErrand); !ok || b.ports[1].claim == done {
		t.Fatalf("out is %#v, claim %s", b.sent[laneClaim], b.ports[1].claim)
	}
	b.settle()
	b.is(1, open)
	if !b.fake.claims[1] {
		t.Error("not claimed in the end")
	}
	// It goes for good while its claim is out.
	b.events(set(pod(5)))
	b.arrives(laneHost, b.goesWell(b.sent[laneHost]))
	b.rested()
	c = b.sent[laneClaim].(claimErrand)
	b.events(gone(pod(5)))
	b.arrives(laneClaim, claimed{claimErrand: c})
	b.settle()
	if b.ports[5] != nil || b.fake.claims[5] || b.captures[5] || b.responder.policies[5] != nil || b.responder.policies[1] == nil {
		t.Error("something is left of it")
	}
}

// TestOwnerReborn: interfaces whose program has gone are others, though no event
// says so.
func TestOwnerReborn(t *testing.T) {
	b := newBench(t, nil)
	if err := b.begins(nil, pod(1), pod(2)); err != nil {
		t.Fatal(err)
	}
	b.settle()
	b.fake.orphans = []int32{1}
	delete(b.fake.claims, 1)
	id, other := b.ports[1].id, b.ports[2].id
	b.events(netstate.Event{Op: netstate.Synced})
	b.settle()
	if b.ports[1].id == id || b.ports[2].id != other || !b.fake.claims[1] {
		t.Errorf("ids %d, %d; claims %v", b.ports[1].id, b.ports[2].id, b.fake.claims)
	}
}

// TestOwnerShortage: what lacks something for a moment is tried again, when the
// clock says so or something has gone; where the kernel forwards its frames are
// the kernel's meanwhile.
func TestOwnerShortage(t *testing.T) {
	b := newBench(t, nil)
	on := pod(2)
	on.Forwards = true
	if err := b.begins(nil, pod(1), on, pod(3)); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		c := b.sent[laneClaim].(claimErrand)
		b.arrives(laneClaim, claimed{claimErrand: c, err: unix.EMFILE})
	}
	b.settle()
	b.is(1, open)
	b.takes(1, true)
	b.is(2, failed)
	b.takes(2, false)
	if b.failed != nil || b.retry.c == nil {
		t.Fatalf("failed %v, clock %v", b.failed, b.retry.c)
	}
	if n := strings.Count(b.said.String(), "originals are not claimed yet"); n != 1 {
		t.Errorf("said %d times", n)
	}
	b.retry.c = nil
	b.tryAgain()
	b.dispatch()
	b.settle()
	for _, index := range []int{1, 2, 3} {
		b.is(index, open)
		b.takes(int32(index), true)
	}
	if b.retry.c != nil || !strings.Contains(b.said.String(), "nothing is short any more") {
		t.Errorf("clock %v; %s", b.retry.c, b.said.String())
	}
	// The longer it lasts, the longer is the time between attempts.
	hurried := pod(5)
	hurried.Forwards = true // its claim can't wait
	b.events(set(hurried))
	b.arrives(laneHost, b.goesWell(b.sent[laneHost]))
	for i := range 4 {
		b.arrives(laneClaim, claimed{claimErrand: b.sent[laneClaim].(claimErrand), err: unix.EMFILE})
		for b.sent[laneHost] != nil || b.sent[laneMAC] != nil {
			for _, l := range []lane{laneHost, laneMAC} {
				if b.sent[l] != nil {
					b.arrives(l, b.goesWell(b.sent[l]))
				}
			}
		}
		before := b.retry.pause
		if next := before.Next(); next != firstRetry<<(i+1) || b.retry.c == nil {
			t.Errorf("attempt %d: the next but one after %v, clock %v", i, next, b.retry.c)
		}
		b.retry.c = nil
		b.tryAgain()
		b.dispatch()
	}
	b.settle()
	// MACs, settings, rules.
	b.events(set(pod(4)))
	b.arrives(laneHost, rulesFound{rulesErrand: b.sent[laneHost].(rulesErrand), err: unix.ENFILE})
	r := b.sent[laneHost].(readErrand)
	r.ifs[0].err = unix.EMFILE
	b.arrives(laneHost, settingsRead{r})
	m := b.sent[laneMAC].(macErrand)
	b.arrives(laneMAC, macsSet{m, []error{unix.ENOMEM}})
	b.takes(4, true) // early, and not given back
	p := b.ports[4]
	if p.rules != short || p.read != short || p.mac != short || p.claim != todo {
		t.Errorf("%+v", p)
	}
	b.events(gone(pod(1))) // something is free
	<-b.retry.c
	b.retry.c = nil
	b.tryAgain()
	b.dispatch()
	b.settle()
	b.is(4, open)
}

// TestOwnerPolicy: an interface that came with rules of its own is left to the
// kernel, and served when they are gone.
func TestOwnerPolicy(t *testing.T) {
	b := newBench(t, nil)
	if err := b.begins(nil, pod(1)); err != nil {
		t.Fatal(err)
	}
	b.settle()
	b.events(set(pod(2)), set(pod(3)))
	r := b.sent[laneHost].(rulesErrand)
	if len(r.ifs) != 2 {
		t.Fatalf("%+v", r)
	}
	b.arrives(laneHost, rulesFound{rulesErrand: r, found: []hostpolicy.Finding{
		{Kind: hostpolicy.KindTC, What: "tcx/ingress on cali2", Count: 1, Interface: "cali2"}, {Kind: hostpolicy.KindNFTables, What: "table"}}})
	b.settle()
	b.is(2, left)
	b.takes(2, false)
	b.is(3, open)
	if b.responder.policies[2] == nil {
		t.Error("it is not answered")
	}
	if ok, _ := b.isReady(); ok {
		t.Error("ready, and one is left")
	}
	// Its queueing discipline changes: it is looked at again, and nothing found.
	l := pod(2)
	l.Qdisc = "tbf"
	b.events(set(l))
	if _, ok := b.sent[laneHost].(rulesErrand); !ok {
		t.Fatalf("out is %T", b.sent[laneHost])
	}
	b.settle()
	b.is(2, open)
	b.takes(2, true)
}

// TestOwnerEnds: MACs go back while packets pass, then the kernel has its frames.
func TestOwnerEnds(t *testing.T) {
	b := newBench(t, nil)
	on := pod(2)
	on.Forwards = true
	if err := b.begins(nil, pod(1), on); err != nil {
		t.Fatal(err)
	}
	b.settle()
	b.end()
	b.dispatch()
	e, ok := b.sent[laneMAC].(endErrand)
	if !ok || !slices.Equal(e.release, []int32{1}) {
		t.Fatalf("out is %#v", b.sent[laneMAC])
	}
	b.takes(1, true)
	if a := b.fake.ports[1].Aliases; a != [2]macAddr{b.cfg.MAC, {2, 0, 0, 0, 0, 1}} {
		t.Errorf("frames to %v are the interface's", a)
	}
	b.events(set(pod(7))) // nobody is given a MAC any more
	if b.sent[laneClaim] != nil || len(b.work.mac) > 0 {
		t.Error("something begins at the end")
	}
	wrong := errors.New("one did not go back")
	b.arrives(laneMAC, ended{wrong})
	if b.phase != over || b.endErr != wrong {
		t.Errorf("phase %d, %v", b.phase, b.endErr)
	}
	b.giveBack()
	b.takes(1, false)
	b.takes(2, false)
	b.takes(7, false)
}

// TestOwnerRun: the loop, by its channels.
func TestOwnerRun(t *testing.T) {
	b := newBench(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	b.send = func(l lane, e errand) { // on the owner's goroutine, which has room for the outcome of each lane
		if begin, ok := e.(beginErrand); ok {
			b.outcomes <- arrival{l, begun{beginErrand: begin}}
			return
		}
		b.outcomes <- arrival{l, b.goesWell(e)}
	}
	told, over := make(chan struct{}), make(chan error)
	go func() { over <- b.run(ctx, told) }()
	l := pod(1)
	l.MAC = b.cfg.MAC // no record is written
	if err := b.tell(ctx, []netstate.Event{set(l), {Op: netstate.Synced}}); err != nil {
		t.Fatal(err)
	}
	c := make(chan (<-chan struct{}), 1)
	if !b.ask(ctx, func() { c <- b.awaitReady() }) {
		t.Fatal("nobody answers")
	}
	<-<-c
	close(told)
	if err := <-over; err != nil {
		t.Error(err)
	}
	cancel()
	if b.ask(ctx, func() {}) || b.tell(ctx, nil) == nil {
		t.Error("somebody answers after the end")
	}
	b.takes(1, false) // run has returned
}

// TestPutOff: claims that can wait do so while interfaces come, but not for ever.
func TestPutOff(t *testing.T) {
	var q queue
	q.later = make([]ref, 1)
	if q.putOff(); q.rest == nil {
		t.Error("the first is not put off")
	}
	q.later, q.rest = make([]ref, 2), nil
	if q.putOff(); q.rest == nil {
		t.Error("another one has come, and nothing is put off")
	}
	q.rest, q.since = nil, time.Now().Add(-claimPatience)
	if q.putOff(); q.rest != nil {
		t.Error("put off for ever")
	}
}

// How programs are attached is known from the first claim on: what made the others
// of many urgent is gone then, and they leave the lock to those who need it.
func TestUrgentUntilKnown(t *testing.T) {
	b := newBench(t, nil)
	b.fake.how = claim.Auto
	var pods []*netstate.Link
	for i := range fewPorts + 4 {
		pods = append(pods, pod(i+1))
	}
	if err := b.begins(nil, pods...); err != nil {
		t.Fatal(err)
	}
	device, _ := b.sent[laneClaim].(claimErrand)
	if device.index == 0 || device.later {
		t.Fatalf("out is %#v, want a claim that is waited for", b.sent[laneClaim])
	}
	b.fake.how = claim.TCX
	if err := b.arrives(laneClaim, claimed{claimErrand: device}); err != nil {
		t.Fatal(err)
	}
	if e := b.sent[laneClaim]; e != nil || len(b.work.later) != len(pods)-1 || len(b.work.claim) != 0 {
		t.Errorf("out is %#v, %d wait and %d are urgent", e, len(b.work.later), len(b.work.claim))
	}
}
