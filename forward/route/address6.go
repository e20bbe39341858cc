package route

import (
	"math/bits"
	"net/netip"
	"slices"
)

// hostAddress is an address of this host, and what counts of its interface.
type hostAddress struct {
	Address
	ifindex                        int32
	preferTemporary, useOptimistic bool
}

// appendHost appends an interface's addresses of a family. Link-local ones are left
// out, of IPv6: each interface has them, and no other uses them.
func appendHost(all []hostAddress, family Family, index int32, s *linkState) []hostAddress {
	for _, a := range s.addresses[family] {
		if family == IPv4 || !isLinkLocal6(a.Local) {
			all = append(all, hostAddress{a, index, s.link.Conf6.PreferTemporary, s.link.Conf6.UseOptimistic})
		}
	}
	return all
}

// LinkLocal is the first IPv6 link-local address of a link (ipv6_get_lladdr),
// which redirects are sent from; invalid if it has none.
func (l *Link) LinkLocal() netip.Addr {
	for i := range l.addresses[IPv6] {
		if a := &l.addresses[IPv6][i]; isLinkLocal6(a.Local) && !a.Tentative {
			return a.Local
		}
	}
	return netip.Addr{}
}

// owns6 reports whether an IPv6 address is one of the link's: what is sent there stays on
// the host.
func (l *Link) owns6(a netip.Addr) bool {
	return slices.ContainsFunc(l.addresses[IPv6], func(own Address) bool { return own.Local == a })
}

// selectAddr6 is the kernel's choice of a source address for dst (net/ipv6/
// addrconf.c, ipv6_dev_get_saddr; RFC 6724 section 5), over a link, which may be nil.
// It is invalid if there is none. Policy labels are the kernel's own (net/ipv6/addrlabel.c).
func (t *Table) selectAddr6(l *Link, dst netip.Addr) netip.Addr {
	to := target6{addr: dst, scope: scopeOf6(dst), label: labelOf6(dst)}
	var best candidate6
	if l != nil {
		to.ifindex = l.Ifindex
		for i := range l.addresses[IPv6] {
			best.meet(&hostAddress{l.addresses[IPv6][i], l.Ifindex, l.Conf6.PreferTemporary, l.Conf6.UseOptimistic}, &to)
		}
		if to.scope <= scopeLinkLocal6 || l.Conf6.OwnAddresses {
			return best.addr
		}
	}
	for i := range t.addresses[IPv6] {
		best.meet(&t.addresses[IPv6][i], &to)
	}
	return best.addr
}

// target6 is what a source is looked for.
type target6 struct {
	addr    netip.Addr
	ifindex int32 // of the link that leads there; 0: any
	scope   int
	label   uint8
}

// candidate6 is the best source so far, with its scores by rule.
type candidate6 struct {
	addr   netip.Addr
	scores [8]int
}

// meet takes another address if it is the better one by the first rule that tells
// them apart.
func (c *candidate6) meet(a *hostAddress, to *target6) {
	if a.Tentative && !a.Optimistic || a.Local.IsUnspecified() || isMulticast6(a.Local) {
		return
	}
	scores := a.scores(to)
	for i, s := range scores {
		if c.addr.IsValid() && s < c.scores[i] {
			return
		}
		if !c.addr.IsValid() || s > c.scores[i] {
			c.addr, c.scores = a.Local, scores
			return
		}
	}
}

// scores are those of ipv6_get_saddr_eval, in the order of its rules.
func (a *hostAddress) scores(to *target6) [8]int {
	scope := scopeOf6(a.Local)
	if scope >= to.scope {
		scope = -scope
	} else {
		scope -= 128 // worse than any that is enough
	}
	usable := !a.Deprecated && (!a.Optimistic || a.useOptimistic) || a.Local == netip.IPv6Loopback() || a.Local.Is4In6() || compat4.Contains(a.Local)
	return [8]int{
		score(a.Local == to.addr), // 1: the same address
		scope,                     // 2: appropriate scope
		score(usable),             // 3: not deprecated
		score(to.ifindex == 0 || to.ifindex == a.ifindex),           // 5: of the outgoing interface
		score(labelOf6(a.Local) == to.label),                        // 6: matching label
		score(a.Secondary == a.preferTemporary),                     // 7: temporary or not
		score(orchid.Contains(a.Local) == orchid.Contains(to.addr)), // the kernel's own
		min(commonBits(a.Local, to.addr), a.Prefix.Bits()),          // 8: longest matching prefix
	}
}

func score(good bool) int {
	if good {
		return 1
	}
	return 0
}

// Scopes of IPv6 addresses (RFC 4291 section 2.7, net/ipv6/addrconf_core.c).
const (
	scopeLinkLocal6 = 2
	scopeSiteLocal6 = 5
	scopeGlobal6    = 14
)

// scopeOf6 is __ipv6_addr_src_scope.
func scopeOf6(a netip.Addr) int {
	b := a.As16()
	switch {
	case b[0] == 0xff:
		return int(b[1] & 0xf)
	case isLinkLocal6(a), a == netip.IPv6Loopback():
		return scopeLinkLocal6
	case b[0] == 0xfe && b[1]&0xc0 == 0xc0:
		return scopeSiteLocal6
	}
	return scopeGlobal6
}

var (
	orchid  = netip.MustParsePrefix("2001:10::/28") // RFC 4843
	compat4 = netip.MustParsePrefix("::/96")
)

// labels6 is the kernel's default policy table (ip6addrlbl_init_table), the longest
// prefix first.
var labels6 = [...]struct {
	prefix netip.Prefix
	label  uint8
}{
	{netip.MustParsePrefix("::1/128"), 0},
	{netip.PrefixFrom(netip.AddrFrom16([16]byte{10: 0xff, 11: 0xff}), 96), 4},
	{compat4, 3},
	{netip.MustParsePrefix("2001::/32"), 6},
	{orchid, 7},
	{netip.MustParsePrefix("3ffe::/16"), 12},
	{netip.MustParsePrefix("2002::/16"), 2},
	{netip.MustParsePrefix("fec0::/10"), 11},
	{netip.MustParsePrefix("fc00::/7"), 5},
}

func labelOf6(a netip.Addr) uint8 {
	for i := range labels6 {
		if labels6[i].prefix.Contains(a) {
			return labels6[i].label
		}
	}
	return 1
}

// commonBits is how many leading bits two IPv6 addresses share.
func commonBits(a, b netip.Addr) int {
	x, y := a.As16(), b.As16()
	for i := range x {
		if d := x[i] ^ y[i]; d != 0 {
			return i*8 + bits.LeadingZeros8(d)
		}
	}
	return len(x) * 8
}
