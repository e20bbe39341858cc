package route

import (
	"maps"
	"net/netip"
	"slices"
)

// Builder keeps the mutable state from which Tables are made. It belongs to
// one goroutine; Tables that it has published stay as they were.
type Builder struct {
	policy Policy
	links  map[int32]*linkState
	fibs   map[tableKey]*fibState
	pool   routePool
	chain  []Route // scratch
	rules  [families][]Rule
	routes int
	host   HostConf
	used   map[int32]int    // routes that lead to an interface
	via6   int              // next hops of IPv4 routes that are IPv6 gateways
	groups map[int32]uint32 // of interfaces

	usedChanged bool // interfaces came to used, or went

	classes      classSet
	touched      []touched          // since classes were brought up to date
	touchedLinks map[int32]struct{} // so were all routes over these
	touchedAll   bool

	linksDirty, rulesDirty bool
	table                  *Table
}

type linkState struct {
	link       Link
	wanted     bool // SetLink named it; neighbours are kept in any case
	addresses  [families][]Address
	neighbours neighbours
	dirty      bool
	built      *Link
}

// tableKey names a table: each family has its own of a number.
type tableKey struct {
	family Family
	number uint32
}

type fibState struct {
	fib       fib
	published *fib // nil: it has changed since
}

// Well-known tables (include/uapi/linux/rtnetlink.h).
const (
	TableDefault = 253
	TableMain    = 254
	TableLocal   = 255
)

// Policy is what the operator decided about forwarding.
type Policy struct {
	// Transit allows forwarding from uplink to uplink.
	Transit bool
	// Copies says that the kernel keeps the originals of all frames: what is
	// for the host itself, or in Punt, is then in good hands. Else the Conn
	// takes frames from the kernel, and knows of those itself.
	Copies bool
	Punt   []netip.Prefix
	// IPv6 says that IPv6 is forwarded; else all of it is the kernel's.
	IPv6 bool
}

// NewBuilder starts with nothing but the kernel's default rules.
func NewBuilder(p Policy) *Builder {
	b := &Builder{policy: p, links: map[int32]*linkState{}, fibs: map[tableKey]*fibState{},
		used: map[int32]int{}, groups: map[int32]uint32{}, host: DefaultHostConf, touchedLinks: map[int32]struct{}{}}
	rules := []Rule{
		{Priority: 0, Action: RuleToTable, Table: TableLocal, SuppressPrefixLen: -1},
		{Priority: 32766, Action: RuleToTable, Table: TableMain, SuppressPrefixLen: -1},
		{Priority: 32767, Action: RuleToTable, Table: TableDefault, SuppressPrefixLen: -1},
	}
	b.SetRules(IPv4, rules)
	b.SetRules(IPv6, rules[:defaultRules[IPv6]])
	return b
}

// SetPolicy says what the operator has decided since.
func (b *Builder) SetPolicy(p Policy) {
	if b.policy.IPv6 != p.IPv6 {
		b.linksDirty = true // other neighbours count
	}
	b.policy = p
	b.rulesDirty, b.touchedAll = true, true
}

func (b *Builder) state(ifindex int32) *linkState {
	s := b.links[ifindex]
	if s == nil {
		s = new(linkState)
		b.links[ifindex] = s
	}
	return s
}

// SetLink adds or changes an interface; its neighbours stay.
func (b *Builder) SetLink(l Link) {
	s := b.state(l.Ifindex)
	l.neighbours = neighbourTable{}
	if s.wanted && sameLink(s.link, l) {
		return
	}
	if !s.wanted || s.link.classFlags() != l.classFlags() || (s.link.MTU6 == 0) != (l.MTU6 == 0) {
		b.touchLink(l.Ifindex)
	}
	s.link, s.wanted, s.dirty, b.linksDirty = l, true, true, true
}

// classFlags are the flags that the class of routes over a link depends on.
func (l *Link) classFlags() LinkFlags {
	return l.Flags & (LinkWorkload | LinkUplink | LinkLeft | LinkReceiveOnly)
}

// touchLink says that routes over an interface lead elsewhere now.
func (b *Builder) touchLink(ifindex int32) {
	if b.used[ifindex] > 0 && !b.touchedAll { // most are older than their routes
		b.touchedLinks[ifindex] = struct{}{}
	}
}

// touchRoutes touches the routes over all touched links, by one walk: a thousand
// interfaces may have come at once. A route that has come or gone since then is
// touched already.
func (b *Builder) touchRoutes() {
	if len(b.touchedLinks) == 0 {
		return
	}
	leads := func(nh Nexthop) bool { _, ok := b.touchedLinks[nh.Ifindex]; return ok }
	for key, s := range b.fibs {
		all := everythings[key.family]
		s.fib.within(all, func(p netip.Prefix, r *Route) {
			for ; r != nil; r = r.next {
				if slices.ContainsFunc(r.Nexthops, leads) {
					b.touch(key.number, p)
					return
				}
			}
		})
		b.touch(key.number, all)
	}
	clear(b.touchedLinks)
}

// touch says that the routes to a prefix are others now. A list that is nearly
// as long as the tables is not worth keeping.
func (b *Builder) touch(table uint32, p netip.Prefix) {
	switch {
	case b.touchedAll:
	case len(b.touched) > 4096+b.routes/4:
		b.touched, b.touchedAll = nil, true
	default:
		b.touched = append(b.touched, touched{table, p})
	}
}

// UpdateClasses calls set for each prefix whose class is another than at the last
// call, by the table that Publish gave last; 0 is for one that is to be
// forgotten. A consumer that has all of it looks a destination up by the longest
// prefix; what has none is ToElsewhere.
func (b *Builder) UpdateClasses(set func(netip.Prefix, Class)) {
	if b.table == nil {
		return
	}
	b.touchRoutes()
	if b.classes.have != nil && len(b.touched) == 0 && !b.touchedAll {
		return
	}
	b.classes.update(b.table, b.touched, b.touchedAll, set)
	b.touched, b.touchedAll = b.touched[:0], false
}

// sameLink compares all but the neighbours, which SetLink leaves alone.
func sameLink(a, b Link) bool {
	return a.Ifindex == b.Ifindex && a.Name == b.Name && a.Flags == b.Flags && a.MAC == b.MAC &&
		a.Aliases == b.Aliases && a.MTU == b.MTU && a.MTU6 == b.MTU6 && a.Slot == b.Slot && a.Conf == b.Conf && a.Conf6 == b.Conf6
}

// SetAddresses says what addresses of a family an interface has, in the kernel's
// order. An interface need not be forwarded for to lend its address to packets that the
// host makes itself.
func (b *Builder) SetAddresses(family Family, ifindex int32, all []Address) {
	s := b.state(ifindex)
	if slices.Equal(s.addresses[family], all) {
		return
	}
	s.addresses[family], s.dirty, b.linksDirty = slices.Clone(all), true, true
}

// SetGroup says what group an interface is in (`ip link set DEV group N`),
// whether it is forwarded for or not. An interface without one is in group 0.
func (b *Builder) SetGroup(ifindex int32, group uint32) {
	switch {
	case b.groups[ifindex] == group:
		return
	case group == 0:
		delete(b.groups, ifindex)
	default:
		b.groups[ifindex] = group
	}
	b.rulesDirty, b.touchedAll = true, true
}

// SetHost says what the host's settings are.
func (b *Builder) SetHost(c HostConf) {
	if b.host != c {
		b.host, b.rulesDirty = c, true
	}
}

// DeleteLink takes an interface out of the tables. Its neighbours stay, for
// SetLink may name it again.
func (b *Builder) DeleteLink(ifindex int32) {
	if s := b.links[ifindex]; s != nil && s.wanted {
		s.wanted, b.linksDirty = false, true
		b.touchLink(ifindex)
	}
}

// ForgetLink is for an interface that is gone.
func (b *Builder) ForgetLink(ifindex int32) {
	b.DeleteLink(ifindex)
	b.SetGroup(ifindex, 0)
	if b.links[ifindex] != nil {
		delete(b.links, ifindex)
		b.linksDirty = true // its addresses
	}
}

// SetNeighbour adds or changes a neighbour.
func (b *Builder) SetNeighbour(ifindex int32, addr netip.Addr, n *Neighbour) {
	s := b.state(ifindex)
	if old := s.neighbours.get(addr); old != nil {
		// That one has failed again is news to the packets that wait for it.
		if !n.Failed && old.MAC == n.MAC && old.Valid == n.Valid && old.Stale == n.Stale && !old.Failed && old.Fixed == n.Fixed {
			return
		}
		n.touched.Store(old.touched.Load())
	}
	s.neighbours.set(addr, n)
	s.dirty = true
	b.linksDirty = b.linksDirty || s.wanted && b.nexthop(addr)
}

// DeleteNeighbour forgets a neighbour.
func (b *Builder) DeleteNeighbour(ifindex int32, addr netip.Addr) {
	if s := b.links[ifindex]; s != nil && s.neighbours.get(addr) != nil {
		s.neighbours.delete(addr)
		s.dirty = true
		b.linksDirty = b.linksDirty || s.wanted && b.nexthop(addr)
	}
}

// nexthop reports whether a neighbour may be a next hop: where IPv6 is left to the
// kernel, an IPv6 one only of routes by IPv6 gateways, which few hosts have.
func (b *Builder) nexthop(addr netip.Addr) bool { return addr.Is4() || b.policy.IPv6 || b.via6 > 0 }

// UsedLinks are the interfaces that unicast routes lead to. The map is the builder's: read it, don't keep it.
func (b *Builder) UsedLinks() map[int32]int { return b.used }

// UsedLinksChanged reports whether interfaces have come to UsedLinks, or gone,
// since it was last asked.
func (b *Builder) UsedLinksChanged() bool {
	changed := b.usedChanged
	b.usedChanged = false
	return changed
}

func (b *Builder) use(r *Route, n int, family Family) {
	for ; r != nil; r = r.next {
		for _, nh := range r.Nexthops {
			if family == IPv4 && nh.Gateway.Is6() {
				b.via6 += n
				b.linksDirty = true // their neighbours count, or don't any more
			}
			switch b.used[nh.Ifindex] += n; b.used[nh.Ifindex] {
			case 0:
				delete(b.used, nh.Ifindex)
				b.usedChanged = true
			case n:
				b.usedChanged = true
			}
		}
	}
}

// SetRoutes says what routes a table of the prefix's family has for it, in the
// kernel's order of preference; of IPv6 these are all routes to the prefix, also those
// for some sources. None of them is the same as no route. Routes to what is the host's
// alone (hostsOnly6) are not kept.
func (b *Builder) SetRoutes(table uint32, prefix netip.Prefix, routes []Route) {
	family := FamilyOf(prefix.Addr())
	if family == IPv6 && keptLocal(prefix) {
		return
	}
	key := tableKey{family, table}
	s := b.fibs[key]
	if s == nil {
		s = new(fibState)
		b.fibs[key] = s
		b.rulesDirty = true
	}
	prefix = prefix.Masked()
	old, had := s.fib.Get(prefix)
	var best *Route
	if family == IPv6 {
		b.chain = appendChain6(b.chain[:0], routes, prefix.Bits())
	} else {
		b.chain = appendChain(b.chain[:0], routes)
	}
	if len(b.chain) > 0 {
		best = b.pool.hold(b.chain, uint8(prefix.Bits()))
	}
	if had {
		b.pool.release(old)
	}
	if best == old {
		return
	}
	b.touch(table, prefix)
	b.use(best, 1, family)
	b.use(old, -1, family)
	switch {
	case best == nil:
		b.routes--
		s.fib.Delete(prefix)
	case !had:
		b.routes++
		fallthrough
	default:
		s.fib.Insert(prefix, best)
	}
	s.published, b.rulesDirty = nil, true
}

// SetRules replaces the policy rules of a family.
func (b *Builder) SetRules(family Family, rules []Rule) {
	b.rules[family] = slices.Clone(rules)
	slices.SortStableFunc(b.rules[family], func(x, y Rule) int { return int(int64(x.Priority) - int64(y.Priority)) })
	b.rulesDirty, b.touchedAll = true, true
}

// Dirty reports whether anything changed since the last Publish.
func (b *Builder) Dirty() bool { return b.table == nil || b.linksDirty || b.rulesDirty }

// Publish makes a Table of what is known now.
func (b *Builder) Publish() *Table {
	if !b.Dirty() {
		return b.table
	}
	t := &Table{policy: b.policy, routes: b.routes, host: b.host}
	if b.linksDirty || b.table == nil {
		t.links, t.uplink, t.addresses = b.buildLinks()
	} else {
		t.links, t.uplink, t.addresses = b.table.links, b.table.uplink, b.table.addresses
	}
	t.v4, t.v6 = b.buildRouting(IPv4), b.buildRouting(IPv6)
	b.table, b.linksDirty, b.rulesDirty = t, false, false
	return t
}

func (b *Builder) buildLinks() (_ links, uplink *Link, addresses [families][]hostAddress) {
	all := make(map[int32]*Link, len(b.links))
	for _, index := range slices.Sorted(maps.Keys(b.links)) {
		s := b.links[index]
		for family := range addresses {
			addresses[family] = appendHost(addresses[family], Family(family), index, s)
		}
		if !s.wanted {
			continue
		}
		if s.dirty || s.built == nil {
			l := s.link
			l.neighbours, l.addresses = s.neighbours.snapshot(), s.addresses
			s.built, s.dirty = &l, false
		}
		all[index] = s.built
		if uplink == nil && s.built.resolves() {
			uplink = s.built
		}
	}
	return newLinks(all), uplink, addresses
}

// Size tells how much a table holds.
func (t *Table) Size() (links, routes int) {
	for _, l := range t.links.slots {
		if l != nil {
			links++
		}
	}
	return links, t.routes
}
