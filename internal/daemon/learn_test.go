package daemon

import (
	"context"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/arpd"
	"proxyarpd/forward/route"
	"proxyarpd/internal/wire"
)

var (
	podMAC      = wire.MAC{2, 0, 0, 0, 0, 1}
	newMAC      = wire.MAC{2, 0, 0, 0, 0, 2}
	gatewayAddr = netip.MustParseAddr("169.254.1.1")
)

// learningTable has interface 7, with a route to 10.65.0.0/24 and what is in
// neighbours, and 8, with one to 10.66.0.0/24; 10.65.0.99 is the host's.
func learningTable(change func(*route.Link), neighbours map[string]*route.Neighbour) *route.Table {
	b := route.NewBuilder(route.Policy{IPv6: true})
	add := func(table uint32, typ route.Type, prefix string, ifindex int32) {
		b.SetRoutes(table, netip.MustParsePrefix(prefix), []route.Route{{Table: table, Type: typ,
			Nexthops: []route.Nexthop{{Ifindex: ifindex, Weight: 1}}}})
	}
	add(route.TableMain, route.TypeUnicast, "10.65.0.0/24", 7)
	add(route.TableMain, route.TypeUnicast, "0.5.0.0/24", 7)
	add(route.TableMain, route.TypeUnicast, "10.66.0.0/24", 8)
	add(route.TableMain, route.TypeBlackhole, "10.67.0.0/24", 0)
	add(route.TableLocal, route.TypeLocal, "10.65.0.99/32", 1)
	add(route.TableLocal, route.TypeBroadcast, "10.65.0.255/32", 7)
	for _, ifindex := range []int32{7, 8} {
		l := route.Link{Ifindex: ifindex, Flags: route.LinkUp | route.LinkEthernet | route.LinkWorkload}
		l.Conf.RPFilter = 1
		if change != nil {
			change(&l)
		}
		b.SetLink(l)
	}
	for ip, n := range neighbours {
		b.SetNeighbour(7, netip.MustParseAddr(ip), n)
	}
	return b.Publish()
}

func asker(ip string) arpd.Asker {
	return arpd.Asker{Index: 7, IP: netip.MustParseAddr(ip), MAC: podMAC, Target: gatewayAddr}
}

// TestLessons is when the neighbour table learns from who asks, and when not.
func TestLessons(t *testing.T) {
	neighbours := map[string]*route.Neighbour{
		"10.65.0.10": {MAC: podMAC, Valid: true},
		"10.65.0.11": {MAC: podMAC, Valid: true, Stale: true},
		"10.65.0.12": {MAC: newMAC, Valid: true},
		"10.65.0.13": {MAC: newMAC, Valid: true, Stale: true},
		"10.65.0.14": {Failed: true},
		"10.65.0.15": {MAC: podMAC}, // was once, and is being resolved
		"10.65.0.16": {MAC: newMAC, Valid: true, Fixed: true},
		"10.65.0.17": {Fixed: true}, // managed, and not resolved
		"10.66.0.18": {MAC: podMAC, Valid: true},
	}
	rp := func(mode uint8) func(*route.Link) { return func(l *route.Link) { l.Conf.RPFilter = mode } }
	for _, c := range []struct {
		name  string
		link  func(*route.Link)
		asker arpd.Asker
		want  lesson
	}{
		{"no entry", nil, asker("10.65.0.2"), lessonNew},
		{"in 0/8", nil, asker("0.5.0.2"), lessonNew},
		{"reachable, the same", nil, asker("10.65.0.10"), lessonKnown},
		{"stale, the same", nil, asker("10.65.0.11"), lessonKnown},
		{"reachable, another MAC", nil, asker("10.65.0.12"), lessonNew},
		{"stale, another MAC", nil, asker("10.65.0.13"), lessonNew},
		{"failed", nil, asker("10.65.0.14"), lessonNew},
		{"incomplete", nil, asker("10.65.0.15"), lessonNew},
		{"somebody's", nil, asker("10.65.0.16"), lessonKnown},
		{"somebody's, without a MAC", nil, asker("10.65.0.17"), lessonKnown},
		{"not of this interface", nil, arpd.Asker{Index: 8, IP: netip.MustParseAddr("10.66.0.18"), MAC: podMAC, Target: gatewayAddr}, lessonNew},
		{"routed to another interface", nil, asker("10.66.0.2"), lessonRefused},
		{"routed nowhere", nil, asker("10.68.0.2"), lessonRefused},
		{"blackholed", nil, asker("10.67.0.2"), lessonRefused},
		{"routed to another interface, rp_filter 0", rp(0), asker("10.66.0.2"), lessonNew},
		{"routed nowhere, rp_filter 0", rp(0), asker("10.68.0.2"), lessonNew},
		{"routed to another interface, rp_filter 2 without an address", rp(2), asker("10.66.0.2"), lessonRefused},
		{"the host's", nil, asker("10.65.0.99"), lessonRefused},
		{"the host's, rp_filter 0", rp(0), asker("10.65.0.99"), lessonRefused},
		{"the host's, accept_local", func(l *route.Link) { l.Conf.AcceptLocal = true }, asker("10.65.0.99"), lessonRefused},
		{"the host's, accept_local and rp_filter 0", func(l *route.Link) { l.Conf = route.LinkConf{AcceptLocal: true} }, asker("10.65.0.99"), lessonRefused},
		{"broadcast address, rp_filter 0", rp(0), asker("10.65.0.255"), lessonRefused},
		{"link-local: the eBPF programs go by that (knows6)", nil, asker("fe80::2"), lessonRefused},
		{"link-local, rp_filter 0", rp(0), asker("fe80::2"), lessonRefused},
		{"device without ARP", func(l *route.Link) { l.Flags |= route.LinkNoARP }, asker("10.65.0.2"), lessonRefused},
		{"unknown interface", nil, arpd.Asker{Index: 9, IP: netip.MustParseAddr("10.65.0.2"), MAC: podMAC, Target: gatewayAddr}, lessonRefused},
		{"for a target that is routed", nil, arpd.Asker{Index: 7, IP: netip.MustParseAddr("10.65.0.2"), MAC: podMAC, Target: netip.MustParseAddr("10.66.0.2")}, lessonNew},
	} {
		if got := lessonOf(learningTable(c.link, neighbours), c.asker); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
	if got := lessonOf(nil, asker("10.65.0.2")); got != lessonRefused {
		t.Errorf("before there is a table: %d", got)
	}
	table := learningTable(nil, neighbours)
	if n := testing.AllocsPerRun(100, func() { lessonOf(table, asker("10.65.0.2")); lessonOf(table, asker("10.65.0.10")) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// testLearner writes to a channel, and is behind as long as told.
type testLearner struct {
	*learner
	table  atomic.Pointer[route.Table]
	late   atomic.Bool
	writes chan netip.Addr
	err    error
}

func newTestLearner(t *testing.T) *testLearner {
	l := &testLearner{writes: make(chan netip.Addr, learnBacklog)}
	l.learner = &learner{table: &l.table, behind: l.late.Load, log: slog.New(slog.DiscardHandler), queue: make(chan arpd.Asker, learnBacklog), lost: make(chan forgotten, 1),
		write: func(_ int, ip netip.Addr, _ [6]byte) (bool, error) {
			l.writes <- ip
			return l.err == nil, l.err
		}}
	l.table.Store(learningTable(nil, nil))
	return l
}

func (l *testLearner) start(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); l.run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
}

func (l *testLearner) next(t *testing.T) netip.Addr {
	t.Helper()
	select {
	case ip := <-l.writes:
		return ip
	case <-time.After(10 * time.Second):
		t.Fatal("nothing is written")
		return netip.Addr{}
	}
}

// TestLearnerWaitsForRoutes: who asks before the news of its route has come is
// learnt when it comes, and does not keep others waiting.
func TestLearnerWaitsForRoutes(t *testing.T) {
	l := newTestLearner(t)
	early, its := asker("10.68.0.2"), asker("10.65.0.2")
	if l.Lacks(early) {
		t.Fatal("is let in without a route")
	}
	l.late.Store(true)
	if !l.Lacks(early) || !l.Lacks(its) {
		t.Fatal("is refused though news is under way")
	}
	l.Learn(early)
	l.Learn(its)
	l.start(t)
	if got := l.next(t); got != its.IP {
		t.Errorf("%v is learnt first", got)
	}
	l.table.Store(learningTable(func(link *route.Link) { link.Conf.RPFilter = 0 }, nil))
	if got := l.next(t); got != early.IP {
		t.Errorf("%v is learnt next", got)
	}
}

// TestLearnerHoldsFew: what waits is bounded, an interface's part of it too.
func TestLearnerHoldsFew(t *testing.T) {
	l := newTestLearner(t)
	l.late.Store(true)
	var held []heldAsker
	now := time.Now().Add(time.Hour) // never too old
	for range 3 * learnShare {
		held = l.take(held, heldAsker{asker("10.68.0.2"), now})
	}
	if len(held) != learnShare || l.crowded.Load() != 2*learnShare {
		t.Errorf("%d held, %d left out", len(held), l.crowded.Load())
	}
	for i := range learnHeld {
		a := asker("10.68.0.2")
		a.Index = 100 + i
		held = l.take(held, heldAsker{a, now})
	}
	if len(held) != learnHeld {
		t.Errorf("%d held, want %d", len(held), learnHeld)
	}
	if held = l.take(held[:1], heldAsker{asker("10.68.0.3"), time.Now().Add(-learnWait)}); len(held) != 1 {
		t.Error("is held beyond its time")
	}
	l.late.Store(false)
	if held = l.take(nil, heldAsker{asker("10.68.0.3"), now}); len(held) != 0 {
		t.Error("is held though there is no news")
	}
	if n := len(l.writes); n != 0 {
		t.Errorf("%d written", n)
	}
	for range learnBacklog {
		l.Learn(asker("10.65.0.2"))
	}
	if l.Learn(asker("10.65.0.2")) {
		t.Error("the queue has no end")
	}
}

// TestLearnerAgain: what was learnt on an interface since its neighbours were
// read is learnt anew when the kernel has forgotten them, in its order, and no other.
func TestLearnerAgain(t *testing.T) {
	l := newTestLearner(t)
	l.table.Store(learningTable(func(link *route.Link) { link.Conf.RPFilter = 0 }, nil))
	ask := func(index int, ip string) arpd.Asker {
		a := asker(ip)
		a.Index = index
		return a
	}
	for range learnBacklog - 2 { // old, and pushed out
		l.learn(asker("10.65.0.2"))
		<-l.writes
	}
	since := time.Now()
	l.start(t)
	for _, a := range []arpd.Asker{ask(7, "10.65.0.3"), ask(8, "10.66.0.4"), ask(7, "10.65.0.5"), ask(7, "10.65.0.6")} {
		if !l.Lacks(a) || !l.Learn(a) {
			t.Fatal(a)
		}
		l.next(t)
	}
	l.again(7, since)
	for _, want := range []string{"10.65.0.3", "10.65.0.5", "10.65.0.6"} {
		if got := l.next(t); got.String() != want {
			t.Errorf("%v is learnt again, want %s", got, want)
		}
	}
	l.again(9, since)
	l.Learn(asker("10.65.0.7"))
	if got := l.next(t); got.String() != "10.65.0.7" {
		t.Errorf("%v is learnt again, want none", got)
	}
}

// TestLearnerDenied: without CAP_NET_ADMIN it is tried once.
func TestLearnerDenied(t *testing.T) {
	l := newTestLearner(t)
	l.err = unix.ENODEV
	l.learn(asker("10.65.0.2"))
	if l.failed.Load() != 1 || !l.Lacks(asker("10.65.0.2")) {
		t.Error("one interface that is gone stops all")
	}
	l.err = unix.EPERM
	l.learn(asker("10.65.0.2"))
	if l.Lacks(asker("10.65.0.2")) || l.failed.Load() != 1 {
		t.Error("asks for more than it may do")
	}
}
