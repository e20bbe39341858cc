package netstate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A follower is what a user of the package does: it keeps its own picture from
// events alone. The tests compare that picture with the kernel's, read by
// other code than ours.
type follower struct {
	t       testing.TB
	w       *Watcher
	ipv6    bool
	hold    chan struct{} // apply waits while it can send here
	changed chan struct{}

	mu         sync.Mutex
	links      map[int]Link
	addresses  map[addressListKey][]Address
	rules      []Rule // of IPv4
	rules6     []Rule
	neighbours map[neighbourKey]Neighbour
	netconfs   []Netconf
	sets       map[routeKey][]Route
	synced     int
	incomplete bool // Incomplete said so when the last Synced came
	log        []string
}

func follow(t testing.TB, ns *netns, cfg Config) *follower {
	t.Helper()
	return followWith(t, ns, cfg, func(*Watcher) {})
}

// followWith has the Watcher changed before it runs.
func followWith(t testing.TB, ns *netns, cfg Config, change func(*Watcher)) *follower {
	t.Helper()
	f := &follower{t: t, ipv6: cfg.IPv6, changed: make(chan struct{}, 1), links: map[int]Link{}, addresses: map[addressListKey][]Address{},
		neighbours: map[neighbourKey]Neighbour{}, sets: map[routeKey][]Route{}, hold: make(chan struct{})}
	ns.do(func() (err error) { f.w, err = Open(cfg); return err })
	change(f.w)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.w.Run(ctx, f.apply) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
		f.w.Close()
		if s := f.w.Stats(); s.Malformed != 0 {
			t.Errorf("malformed messages of the kernel: %+v", s)
		}
	})
	f.await("the first sync", func() bool { return f.synced == 1 })
	return f
}

func (f *follower) apply(events []Event) error {
	select {
	case <-f.hold: // a test holds us
		<-f.hold
	default:
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, ev := range events {
		f.event(ev)
		if ev.Op == Synced {
			f.incomplete = f.w.Incomplete()
		}
	}
	select {
	case f.changed <- struct{}{}:
	default:
	}
	return nil
}

func (f *follower) event(ev Event) {
	set := ev.Op == Set
	switch {
	case ev.Op == Synced:
		f.synced++
	case ev.Link != nil:
		f.log = append(f.log, fmt.Sprint(ev.Op, " link ", ev.Link.Name))
		if f.links[ev.Link.Index] = *ev.Link; !set {
			delete(f.links, ev.Link.Index)
		}
	case ev.Addresses != nil:
		f.log = append(f.log, fmt.Sprint(ev.Op, " addresses ", ev.Addresses.Index, " ", len(ev.Addresses.Addresses)))
		k := addressListKey{ev.Addresses.Index, ev.Addresses.Family}
		if f.addresses[k] = ev.Addresses.Addresses; len(f.addresses[k]) == 0 {
			delete(f.addresses, k)
		}
	case ev.Rules != nil:
		f.log = append(f.log, fmt.Sprint(ev.Op, " rules ", len(ev.Rules.Rules)))
		if ev.Rules.Family == IPv6 {
			f.rules6 = ev.Rules.Rules
		} else {
			f.rules = ev.Rules.Rules
		}
	case ev.Routes != nil:
		k := keyOf(ev.Routes.Table, ev.Routes.Dst)
		f.log = append(f.log, fmt.Sprint(ev.Op, " routes ", ev.Routes.Dst))
		if f.sets[k] = ev.Routes.Routes; !set {
			delete(f.sets, k)
		}
	case ev.Netconf != nil:
		f.netconfs = append(f.netconfs, *ev.Netconf)
	case ev.Neighbour != nil:
		f.log = append(f.log, fmt.Sprint(ev.Op, " neighbour ", ev.Neighbour.IP))
		if f.neighbours[ev.Neighbour.key()] = *ev.Neighbour; !set {
			delete(f.neighbours, ev.Neighbour.key())
		}
	}
}

// await waits for a condition on the picture.
func (f *follower) await(what string, ok func() bool) {
	f.t.Helper()
	f.awaitOr(what, ok, func() string { return strings.Join(f.log, "\n") })
}

func (f *follower) awaitOr(what string, ok func() bool, explain func() string) {
	f.t.Helper()
	end := time.After(deadline)
	for {
		f.mu.Lock()
		good := ok()
		f.mu.Unlock()
		if good {
			return
		}
		select {
		case <-f.changed:
		case <-end:
			f.mu.Lock()
			defer f.mu.Unlock()
			f.t.Fatalf("no %s; stats %+v\n%s", what, f.w.Stats(), explain())
		}
	}
}

// link returns the link of a name.
func (f *follower) link(name string) (Link, bool) {
	for _, l := range f.links {
		if l.Name == name {
			return l, true
		}
	}
	return Link{}, false
}

// holdBack makes the next apply wait for the function returned. It ends only
// when apply has been called, so cause an event first.
func (f *follower) holdBack() (release func()) {
	f.hold <- struct{}{}
	release = sync.OnceFunc(func() { f.hold <- struct{}{} })
	f.t.Cleanup(release)
	return release
}

// awaitKernel waits until the picture is the kernel's. That is read again
// after every batch of events, as some changes come late (linkwatch).
func (f *follower) awaitKernel(ns *netns) {
	f.t.Helper()
	var want []string
	f.awaitOr("agreement with the kernel", func() bool {
		ns.do(func() (err error) { want, err = kernelPicture(f.ipv6); return err })
		slices.Sort(want)
		return slices.Equal(f.picture(), want)
	}, func() string { return difference(f.picture(), want) })
}

func difference(got, want []string) string {
	var b strings.Builder
	for _, s := range got {
		if !slices.Contains(want, s) {
			fmt.Fprintln(&b, "only here:  ", s)
		}
	}
	for _, s := range want {
		if !slices.Contains(got, s) {
			fmt.Fprintln(&b, "only kernel:", s)
		}
	}
	return b.String()
}

// picture is one line a link, address, route and rule, and a permanent
// neighbour: the states of others move in silence.
func (f *follower) picture() []string {
	var out []string
	for l := range maps.Values(f.links) {
		out = append(out, fmt.Sprintf("link %d %s %x up=%v mtu=%d master=%d kind=%s", l.Index, l.Name, l.MAC, l.Up(), l.MTU, l.Master, l.Kind))
		if f.ipv6 {
			out = append(out, link6Line(l.Name, l.IPv6, l.Forwards6, l.MTU6))
		}
	}
	for _, list := range f.addresses {
		for i, a := range list {
			out = append(out, addressLine(i, a.Index, a.Local, a.Prefix.Bits(), a.Flags))
		}
	}
	for _, rs := range f.sets {
		for i, r := range rs {
			out = append(out, routeLine(i, r))
		}
	}
	for i, r := range f.rules {
		out = append(out, fmt.Sprintf("rule %d #%d %d table=%d iif=%s mark=%#x", IPv4, i, r.Priority, r.Table, r.IIF, r.Mark))
	}
	for i, r := range f.rules6 {
		out = append(out, fmt.Sprintf("rule %d #%d %d table=%d iif=%s mark=%#x", IPv6, i, r.Priority, r.Table, r.IIF, r.Mark))
	}
	for n := range maps.Values(f.neighbours) {
		if n.State == unix.NUD_PERMANENT {
			out = append(out, fmt.Sprintf("neigh %d %s %x", n.Index, n.IP, n.MAC))
		}
	}
	slices.Sort(out)
	return out
}

func addressLine(place, index int, local netip.Addr, bits int, flags uint32) string {
	if local.Is6() { // the library leaves out the flags that are not in struct ifaddrmsg
		return fmt.Sprintf("addr %d #%d %s/%d flags=%#x", index, place, local, bits, flags&0xff)
	}
	return fmt.Sprintf("addr %d #%d %s/%d secondary=%v", index, place, local, bits, flags&unix.IFA_F_SECONDARY != 0)
}

func routeLine(place int, r Route) string {
	var hops []string
	for _, nh := range r.Nexthops {
		gw := ""
		if nh.Gateway.IsValid() {
			gw = nh.Gateway.String()
		}
		hops = append(hops, fmt.Sprintf("%d via %s flags=%#x weight=%d", nh.Index, gw, nh.Flags, nh.Weight))
	}
	src := ""
	if r.PrefSrc.IsValid() {
		src = r.PrefSrc.String()
	}
	return fmt.Sprintf("route %d %s #%d type=%d proto=%d scope=%d tos=%d prio=%d src=%s mtu=%d %v",
		r.Table, r.Dst, place, r.Type, r.Protocol, r.Scope, r.TOS, r.Priority, src, r.MTU, hops)
}

func link6Line(name string, has, forwards bool, mtu int) string {
	return fmt.Sprintf("link %s ipv6=%v forwards=%v mtu6=%d", name, has, forwards, mtu)
}

// kernelPicture is picture as vishvananda/netlink reads the current namespace.
func kernelPicture(ipv6 bool) ([]string, error) {
	var out []string
	links, err := netlink.LinkList()
	if err != nil {
		return nil, err
	}
	for _, l := range links {
		a := l.Attrs()
		var mac [6]byte
		copy(mac[:], a.HardwareAddr)
		kind := l.Type()
		if kind == "device" {
			kind = ""
		}
		out = append(out, fmt.Sprintf("link %d %s %x up=%v mtu=%d master=%d kind=%s", a.Index, a.Name, mac, a.Flags&net.FlagUp != 0, a.MTU, a.MasterIndex, kind))
		if ipv6 {
			out = append(out, kernelLink6(a.Name))
		}
	}
	families := []int{netlink.FAMILY_V4}
	if ipv6 {
		families = append(families, netlink.FAMILY_V6)
	}
	for _, family := range families {
		for _, read := range []func(family int) ([]string, error){kernelAddresses, kernelRoutes, kernelRules, kernelNeighbours} {
			lines, err := read(family)
			if err != nil {
				return nil, err
			}
			out = append(out, lines...)
		}
	}
	return out, nil
}

// kernelLink6 reads what /proc/sys has of a link.
func kernelLink6(name string) string {
	value := func(key string) int {
		b, err := os.ReadFile("/proc/sys/net/ipv6/conf/" + key)
		n, convErr := strconv.Atoi(strings.TrimSpace(string(b)))
		if err != nil || convErr != nil {
			return -1
		}
		return n
	}
	if value(name+"/disable_ipv6") != 0 {
		return link6Line(name, false, false, 0)
	}
	return link6Line(name, true, value("all/forwarding") == 1 || value(name+"/force_forwarding") == 1, value(name+"/mtu"))
}

func kernelAddresses(family int) ([]string, error) {
	addrs, err := netlink.AddrList(nil, family)
	if err != nil {
		return nil, err
	}
	var out []string
	places := map[int]int{}
	for _, a := range addrs {
		ones, _ := a.Mask.Size()
		out = append(out, addressLine(places[a.LinkIndex], a.LinkIndex, addrFrom(a.IP), ones, uint32(a.Flags)))
		places[a.LinkIndex]++
	}
	return out, nil
}

func kernelRoutes(family int) ([]string, error) {
	routes, err := netlink.RouteListFiltered(family, &netlink.Route{}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, err
	}
	var out []string
	places, seen := map[string]int{}, map[string]bool{}
	for _, k := range routes {
		r := Route{Table: uint32(k.Table), Type: RouteType(k.Type), Protocol: Protocol(k.Protocol), Scope: Scope(k.Scope),
			TOS: uint8(k.Tos), Priority: uint32(k.Priority), MTU: uint32(k.MTU)}
		r.PrefSrc = addrFrom(k.Src)
		for _, nh := range k.MultiPath {
			r.Nexthops = append(r.Nexthops, Nexthop{Index: nh.LinkIndex, Gateway: addrFrom(nh.Gw), Flags: uint32(nh.Flags), Weight: nh.Hops + 1})
		}
		if len(k.MultiPath) == 0 && (k.LinkIndex != 0 || k.Gw != nil) && !rejects(r.Type) {
			r.Nexthops = []Nexthop{{Index: k.LinkIndex, Gateway: addrFrom(k.Gw), Flags: uint32(k.Flags) & nexthopFlags, Weight: 1}}
		}
		dst := "0.0.0.0/0"
		if family == netlink.FAMILY_V6 {
			dst = "::/0"
		}
		if k.Dst != nil {
			dst = k.Dst.String()
		}
		if r.Dst = netip.MustParsePrefix(dst); ofLink(&r) {
			continue
		}
		key := fmt.Sprint(k.Table, " ", dst)
		if whole := routeLine(-1, r); family == netlink.FAMILY_V6 && seen[whole] {
			continue // there may be two that are the same
		} else {
			seen[whole] = true
		}
		line := routeLine(places[key], r)
		out = append(out, line)
		places[key]++
	}
	return out, nil
}

func kernelRules(family int) ([]string, error) {
	rules, err := netlink.RuleList(family)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(rules, func(a, b netlink.Rule) int { return cmp.Compare(max(a.Priority, 0), max(b.Priority, 0)) })
	var out []string
	for i, r := range rules {
		out = append(out, fmt.Sprintf("rule %d #%d %d table=%d iif=%s mark=%#x", family, i, max(r.Priority, 0), r.Table, r.IifName, r.Mark))
	}
	return out, nil
}

func kernelNeighbours(family int) ([]string, error) {
	neighs, err := netlink.NeighList(0, family)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, n := range neighs {
		if n.State == unix.NUD_PERMANENT {
			out = append(out, fmt.Sprintf("neigh %d %s %x", n.LinkIndex, addrFrom(n.IP), []byte(n.HardwareAddr)))
		}
	}
	return out, nil
}
