package routetest

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"proxyarpd/forward/route"
)

// World is a random host: what a Builder is told, in lists.
type World struct {
	Family route.Family
	Links  []Link // by index
	Routes []Route
	Rules  []route.Rule // by priority
	Policy route.Policy
}

// Link is an interface with its addresses and neighbours.
type Link struct {
	route.Link
	Addrs []route.Address
	Neigh map[netip.Addr]Neighbour
}

// Neighbour is what a model needs to know of one.
type Neighbour struct {
	MAC   [6]byte
	Valid bool
}

// Route is one route; those to one destination are in the kernel's order.
type Route struct {
	InTable uint32
	Prefix  netip.Prefix
	route.Route
}

// Link gives the interface with that index, or nil.
func (w *World) Link(index int32) *Link {
	for i := range w.Links {
		if w.Links[i].Ifindex == index {
			return &w.Links[i]
		}
	}
	return nil
}

// Known: the Builder was told of the link itself, not of its addresses alone.
func (l *Link) Known() bool { return l.Flags&(route.LinkWorkload|route.LinkUplink) != 0 }

// The worlds are small, so that things meet: a handful of addresses and of
// prefixes that contain them.
var (
	worldPrefixes = parseAll(netip.MustParsePrefix, "0.0.0.0/0", "0.0.0.0/1", "10.0.0.0/8", "10.0.0.0/16", "10.0.0.0/24", "10.0.0.0/25",
		"10.0.0.4/30", "10.0.0.1/32", "10.0.0.2/32", "10.0.1.0/24", "10.0.1.1/32", "10.0.1.2/32", "10.0.2.0/23", "10.0.2.2/32",
		"0.0.0.0/3", "10.0.0.0/11", "10.0.0.0/13", "10.0.0.0/18", "10.0.0.0/21", "10.0.1.0/27",
		"127.0.0.0/8", "192.168.1.0/24", "192.168.1.0/28", "192.168.1.7/32")
	worldAddrs = parseAll(netip.MustParseAddr, "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.5", "10.0.0.255", "10.0.1.1", "10.0.1.2",
		"10.0.1.9", "10.0.2.1", "10.0.2.2", "10.0.3.1", "11.0.0.1", "192.168.1.1", "192.168.1.7", "192.168.1.255", "10.0.200.1", "200.0.0.1",
		"127.0.0.1", "0.0.0.0", "0.0.0.5", "255.255.255.255", "224.0.0.5", "240.0.0.1")
	// unicastAddrs are those that a host or a router may have.
	unicastAddrs = worldAddrs[:15]
	// ownAddrs are those of hosts: none is a broadcast address as well, of which
	// the kernel asks its list of addresses, step the local table.
	ownAddrs = parseAll(netip.MustParseAddr, "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.5", "10.0.1.1", "10.0.1.9", "10.0.3.1", "192.168.1.1", "192.168.1.7")
)

func parseAll[T any](parse func(string) T, all ...string) (out []T) {
	for _, s := range all {
		out = append(out, parse(s))
	}
	return out
}

func pick[T any](rng *rand.Rand, all []T) T { return all[rng.IntN(len(all))] }

func oneIn(rng *rand.Rand, n int) bool { return rng.IntN(n) == 0 }

// New draws one.
func New(rng *rand.Rand) *World {
	w := &World{Policy: route.Policy{Transit: oneIn(rng, 2), Copies: oneIn(rng, 3)}}
	if oneIn(rng, 3) {
		w.Policy.Punt = []netip.Prefix{pick(rng, worldPrefixes[3:])}
	}
	for n := range int32(3 + rng.IntN(3)) {
		w.Links = append(w.Links, newLink(rng, n))
	}
	w.localRoutes()
	tables := []uint32{route.TableMain, route.TableMain, route.TableMain, route.TableDefault, 100, 200}
	for range 3 + rng.IntN(12) {
		table, prefix := pick(rng, tables), pick(rng, worldPrefixes)
		for range 1 + rng.IntN(4)/3 {
			w.Routes = append(w.Routes, w.newRoute(rng, table, prefix))
		}
	}
	slices.SortStableFunc(w.Routes, func(a, b Route) int { return int(b.TOS) - int(a.TOS) }) // the kernel's order
	w.newRules(rng)
	return w
}

func newLink(rng *rand.Rand, n int32) Link {
	index := 2 + 3*n
	l := Link{Neigh: map[netip.Addr]Neighbour{}, Link: route.Link{Ifindex: index, Name: string(rune('a' + n)), MAC: [6]byte{2, 0, 0, 0, 0, byte(index)},
		MTU: pick(rng, []int{1500, 1500, 600, 68, 70000}), Slot: uint32(index)}}
	switch l.Flags = route.LinkWorkload; rng.IntN(7) {
	case 0, 1, 2:
		l.Flags = route.LinkUplink
	case 3:
		l.Flags = 0 // an interface that only lends its address
	}
	if !oneIn(rng, 8) {
		l.Flags |= route.LinkUp
	}
	if !oneIn(rng, 5) {
		l.Flags |= route.LinkEthernet
	}
	for _, f := range []route.LinkFlags{route.LinkKernelForwards, route.LinkLeft, route.LinkReceiveOnly} {
		if oneIn(rng, 2) && (f == route.LinkKernelForwards || oneIn(rng, 8)) {
			l.Flags |= f
		}
	}
	if oneIn(rng, 3) {
		l.Aliases[rng.IntN(2)] = [6]byte{0xee, 0xee, 0xee, 0xee, 0xee, 0xee}
	}
	l.Conf = route.LinkConf{RPFilter: uint8(rng.IntN(3)), SendRedirects: oneIn(rng, 2), SharedMedia: oneIn(rng, 2),
		AcceptSourceRoute: oneIn(rng, 2), AcceptLocal: oneIn(rng, 4), RouteLocalnet: oneIn(rng, 4)}
	for range rng.IntN(3) {
		a := route.Address{Local: pick(rng, ownAddrs), Secondary: oneIn(rng, 4), Scope: pick(rng, []uint8{0, 0, 0, 253, 254})}
		a.Prefix, _ = a.Local.Prefix(pick(rng, []int{32, 24, 24, 28, 16}))
		if !slices.ContainsFunc(l.Addrs, func(o route.Address) bool { return o.Local == a.Local }) {
			l.Addrs = append(l.Addrs, a)
		}
	}
	for _, a := range unicastAddrs {
		if rng.IntN(3) != 0 {
			l.Neigh[a] = Neighbour{MAC: [6]byte{4, 0, 0, 0, byte(index), a.As4()[3]}, Valid: !oneIn(rng, 5)}
		}
	}
	return l
}

// localRoutes are those that the kernel makes itself for addresses.
func (w *World) localRoutes() {
	const kernel = 2                      // RTPROT_KERNEL
	const scopeLink, scopeHost = 253, 254 // RT_SCOPE_*
	for i := range w.Links {
		l := &w.Links[i]
		for _, a := range l.Addrs {
			nh := []route.Nexthop{{Ifindex: l.Ifindex, Weight: 1}}
			host, _ := a.Local.Prefix(32)
			w.Routes = append(w.Routes, Route{route.TableLocal, host,
				route.Route{Table: route.TableLocal, Type: route.TypeLocal, Protocol: kernel, Scope: scopeHost, Source: a.Local, Nexthops: nh}})
			if a.Prefix.Bits() < 31 {
				last := a.Prefix.Addr().As4()
				binary.BigEndian.PutUint32(last[:], binary.BigEndian.Uint32(last[:])|(1<<(32-a.Prefix.Bits())-1))
				w.Routes = append(w.Routes, Route{route.TableLocal, netip.PrefixFrom(netip.AddrFrom4(last), 32),
					route.Route{Table: route.TableLocal, Type: route.TypeBroadcast, Protocol: kernel, Scope: scopeLink, Source: a.Local, Nexthops: nh}})
			}
		}
	}
}

func (w *World) newRoute(rng *rand.Rand, table uint32, prefix netip.Prefix) Route {
	r := route.Route{Table: table, Type: route.TypeUnicast, Protocol: 3, Metric: rng.Uint32N(3), Scope: pick(rng, []uint8{0, 0, 253})}
	if oneIn(rng, 6) {
		r.TOS = pick(rng, []uint8{4, 8, 16, 0x18, 0x48}) // the last matches nothing
	}
	if oneIn(rng, 6) {
		r.Type = pick(rng, []route.Type{route.TypeBlackhole, route.TypeUnreachable, route.TypeProhibit, route.TypeThrow})
		return Route{table, prefix, r}
	}
	if oneIn(rng, 4) {
		r.MTU = pick(rng, []int{68, 600, 1500})
	}
	if oneIn(rng, 4) {
		r.Source = pick(rng, unicastAddrs)
	}
	for range 1 + rng.IntN(5)/4 {
		nh := route.Nexthop{Ifindex: pick(rng, w.Links).Ifindex, Weight: 1 + rng.IntN(3)}
		if oneIn(rng, 2) {
			nh.Gateway = pick(rng, unicastAddrs)
		}
		nh.Encap = oneIn(rng, 20)
		if oneIn(rng, 20) {
			nh.Ifindex = 1 // lo
		}
		r.Nexthops = append(r.Nexthops, nh)
	}
	if oneIn(rng, 12) {
		r.Nexthops = nil // all dead
	}
	return Route{table, prefix, r}
}

// newRules draws its rules.
func (w *World) newRules(rng *rand.Rand) {
	w.Rules = []route.Rule{
		{Priority: 0, Action: route.RuleToTable, Table: route.TableLocal, SuppressPrefixLen: -1},
		{Priority: 32766, Action: route.RuleToTable, Table: route.TableMain, SuppressPrefixLen: -1},
		{Priority: 32767, Action: route.RuleToTable, Table: route.TableDefault, SuppressPrefixLen: -1},
	}
	if oneIn(rng, 2) {
		return
	}
	for range 1 + rng.IntN(5) {
		r := route.Rule{Priority: rng.Uint32N(8), Action: route.RuleToTable, Table: pick(rng, []uint32{100, 200, route.TableMain, 300}), SuppressPrefixLen: -1,
			Invert: oneIn(rng, 4), Never: oneIn(rng, 8), Undecided: oneIn(rng, 8)}
		switch rng.IntN(8) {
		case 0:
			r.Action = pick(rng, []route.RuleAction{route.RuleBlackhole, route.RuleUnreachable, route.RuleProhibit, route.RuleNop})
		case 1:
			r.Action, r.Goto = route.RuleGoto, pick(rng, []uint32{r.Priority + 1, r.Priority + 2, 32766, 40})
		}
		if oneIn(rng, 3) {
			r.From = pick(rng, worldPrefixes)
		}
		if oneIn(rng, 3) {
			r.To = pick(rng, worldPrefixes)
		}
		if oneIn(rng, 4) {
			r.IIF = pick(rng, []string{"a", "b", "c", "lo", "none"})
		}
		if oneIn(rng, 4) {
			r.TOS = pick(rng, []uint8{4, 8, 16})
		}
		if oneIn(rng, 4) {
			r.SuppressPrefixLen = pick(rng, []int{0, 8, 24})
		}
		w.Rules = append(w.Rules, r)
	}
	if oneIn(rng, 8) {
		w.Rules = w.Rules[1:] // without the local table
	}
	slices.SortStableFunc(w.Rules, func(a, b route.Rule) int { return int(a.Priority) - int(b.Priority) })
}

// Build makes its table.
func (w *World) Build() *route.Table { return w.Builder().Publish() }

// Builder tells a Builder of the world.
func (w *World) Builder() *route.Builder {
	b := route.NewBuilder(w.Policy)
	for i := range w.Links {
		l := &w.Links[i]
		if l.Known() {
			b.SetLink(l.Link)
		}
		b.SetAddresses(w.Family, l.Ifindex, l.Addrs)
		for a, n := range l.Neigh {
			b.SetNeighbour(l.Ifindex, a, &route.Neighbour{MAC: n.MAC, Valid: n.Valid})
		}
	}
	for i := range w.Routes {
		table, prefix := w.Routes[i].InTable, w.Routes[i].Prefix
		var all []route.Route
		for _, r := range w.Routes {
			if r.InTable == table && r.Prefix == prefix {
				all = append(all, r.Route)
			}
		}
		b.SetRoutes(table, prefix, all)
	}
	b.SetRules(w.Family, w.Rules)
	return b
}

// String lists what there is, for a failed test.
func (w *World) String() string {
	var b strings.Builder
	for i := range w.Links {
		l := &w.Links[i]
		fmt.Fprintf(&b, "%d: %s flags %b mtu %d %+v %+v\n", l.Ifindex, l.Name, l.Flags, l.MTU, l.Conf, l.Addrs)
	}
	for _, r := range w.Routes {
		fmt.Fprintf(&b, "table %d %v type %d tos %d mtu %d src %v scope %d %+v\n", r.InTable, r.Prefix, r.Type, r.TOS, r.MTU, r.Source, r.Scope, r.Nexthops)
	}
	for _, r := range w.Rules {
		fmt.Fprintf(&b, "rule %+v\n", r)
	}
	return b.String() + fmt.Sprintf("%+v", w.Policy)
}

// Probes are addresses that lie in, beside and between the prefixes of a world.
func (w *World) Probes(rng *rand.Rand) []netip.Addr {
	all := slices.Clone(worldAddrs)
	if w.Family == route.IPv6 {
		for i := range all {
			all[i] = To6(all[i])
		}
		all = append(all, special6...)
	}
	around := func(p netip.Prefix) {
		first := p.Masked().Addr()
		b := first.AsSlice()
		for i := p.Bits(); i < len(b)*8; i++ {
			b[i/8] |= 0x80 >> (i % 8)
		}
		last, _ := netip.AddrFromSlice(b)
		all = append(all, first, last)
		if a := last.Next(); a.IsValid() {
			all = append(all, a)
		}
		if a := first.Prev(); a.IsValid() {
			all = append(all, a)
		}
	}
	for _, r := range w.Routes {
		around(r.Prefix)
	}
	for _, r := range w.Rules {
		if r.To.IsValid() {
			around(r.To)
		}
	}
	for _, p := range w.Policy.Punt {
		around(p)
	}
	some := netip.AddrFrom4([4]byte{byte(rng.Uint32()), byte(rng.Uint32()), 0, 1})
	if w.Family == route.IPv6 {
		some = To6(some)
	}
	return append(all, some)
}

// Change changes something, in the world and in its builder alike.
func (w *World) Change(rng *rand.Rand, b *route.Builder) {
	switch rng.IntN(5) {
	case 0:
		l := &w.Links[rng.IntN(len(w.Links))]
		l.Flags ^= pick(rng, []route.LinkFlags{route.LinkLeft, route.LinkReceiveOnly, route.LinkWorkload, route.LinkUplink, route.LinkUp, route.LinkKernelForwards})
		if l.Known() {
			b.SetLink(l.Link)
		} else {
			b.DeleteLink(l.Ifindex)
		}
	case 1:
		if w.newRules(rng); w.Family == route.IPv6 {
			w.rules6()
		}
		b.SetRules(w.Family, w.Rules)
	case 2:
		if len(w.Routes) > 0 {
			gone := pick(rng, w.Routes)
			w.Routes = slices.DeleteFunc(w.Routes, func(r Route) bool { return r.InTable == gone.InTable && r.Prefix == gone.Prefix })
			b.SetRoutes(gone.InTable, gone.Prefix, nil)
		}
	default:
		r := w.newRoute(rng, pick(rng, []uint32{route.TableMain, route.TableMain, route.TableDefault, route.TableLocal, 100, 200}), pick(rng, worldPrefixes))
		if r.TOS = 0; w.Family == route.IPv6 {
			r = w.route6(rng, r)
		}
		w.Routes = slices.DeleteFunc(w.Routes, func(o Route) bool { return o.InTable == r.InTable && o.Prefix == r.Prefix })
		w.Routes = append(w.Routes, r)
		b.SetRoutes(r.InTable, r.Prefix, []route.Route{r.Route})
	}
}
