package route

import (
	"net/netip"
	"slices"
)

// Table is all that a forwarding decision needs. It is immutable but for the
// time stamps in its neighbours; readers load it once a batch.
type Table struct {
	links     links
	uplink    *Link // the first on which addresses are resolved, by index
	v4, v6    routing
	policy    Policy
	host      HostConf
	addresses [families][]hostAddress // of all interfaces, by index
	routes    int
}

// routing is what the host has for each family: rules, and the tables that they
// lead to.
type routing struct {
	rules []Rule
	// simple: the rules are the kernel's default ones. Of IPv6 these are the first
	// two, and fallback is empty.
	simple                bool
	local, main, fallback *fib
	customRules           bool
	dissect               bool             // a rule looks at protocol or ports
	groups                map[int32]uint32 // of interfaces, for suppress_ifgroup
}

// of is the routing of an address's family.
func (t *Table) of(a netip.Addr) *routing {
	if a.Is4() {
		return &t.v4
	}
	return &t.v6
}

// Link gives the interface with that index, or nil.
func (t *Table) Link(ifindex int32) *Link { return t.links.get(ifindex) }

// HostOver is the lowest address of a family that has a unicast route of its own over
// an interface in the main table, as a workload's has; invalid if there is none. It
// walks the table.
func (t *Table) HostOver(family Family, ifindex int32) (host netip.Addr) {
	t.eachHost(family, func(a netip.Addr, over int32) {
		if over == ifindex && (!host.IsValid() || a.Less(host)) {
			host = a
		}
	})
	return host
}

// HostsOver are all such addresses, in order, by the interface's index. It walks the table
// once.
func (t *Table) HostsOver(family Family) map[int32][]netip.Addr {
	hosts := map[int32][]netip.Addr{}
	t.eachHost(family, func(a netip.Addr, over int32) { hosts[over] = append(hosts[over], a) })
	for _, all := range hosts {
		slices.SortFunc(all, netip.Addr.Compare)
	}
	return hosts
}

func (t *Table) eachHost(family Family, do func(a netip.Addr, over int32)) {
	all := everythings[family]
	t.of(all.Addr()).main.within(all, func(p netip.Prefix, r *Route) {
		if p.IsSingleIP() && r.Type == TypeUnicast && len(r.Nexthops) == 1 {
			do(p.Addr(), r.Nexthops[0].Ifindex)
		}
	})
}

// Host gives the host's settings, which are immutable.
func (t *Table) Host() *HostConf { return &t.host }

// Copies reports whether the kernel keeps the originals of all frames: see Policy.
func (t *Table) Copies() bool { return t.policy.Copies }

// links finds a Link by ifindex: an open-addressed table, since indices grow
// without bound on a host whose pods come and go.
type links struct {
	slots []*Link
	mask  uint32
}

func newLinks(all map[int32]*Link) links {
	size := uint32(8)
	for int(size) < 2*len(all) {
		size *= 2
	}
	l := links{slots: make([]*Link, size), mask: size - 1}
	for _, link := range all {
		i := uint32(link.Ifindex) & l.mask
		for l.slots[i] != nil {
			i = (i + 1) & l.mask
		}
		l.slots[i] = link
	}
	return l
}

func (l *links) get(ifindex int32) *Link {
	if len(l.slots) == 0 {
		return nil
	}
	for i := uint32(ifindex) & l.mask; ; i = (i + 1) & l.mask {
		if s := l.slots[i]; s == nil || s.Ifindex == ifindex {
			return s
		}
	}
}
