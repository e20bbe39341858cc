package dissect

// Options of neighbour discovery.
const (
	ndSourceLink   = 1
	ndTargetLink   = 2
	ndPrefix       = 3
	ndRedirected   = 4
	ndMTU          = 5
	ndAdvInterval  = 7
	ndHomeAgent    = 8
	ndRouteInfo    = 24 // RFC 4191
	ndNameServers  = 25 // RFC 8106
	ndSearchList   = 31
	ndOptionHeader = 2
)

var ndOptions = []tok{
	{ndSourceLink, "source link-address"}, {ndTargetLink, "destination link-address"}, {ndPrefix, "prefix info"},
	{ndRedirected, "redirected header"}, {ndMTU, "mtu"}, {ndNameServers, "rdnss"}, {ndSearchList, "dnssl"},
	{ndAdvInterval, "advertisement interval"}, {ndHomeAgent, "homeagent information"}, {ndRouteInfo, "route info"},
}

var (
	ndAdvertFlags = []tok{{0x80000000, "router"}, {0x40000000, "solicited"}, {0x20000000, "override"}}
	ndRouterFlags = []tok{{0x80, "managed"}, {0x40, "other stateful"}, {0x20, "home agent"}, {0x02, "ipv6 only"}}
	ndPrefixFlags = []tok{{0x80, "onlink"}, {0x40, "auto"}, {0x20, "router"}}
	ndPreferences = [4]string{"medium", "high", "rsv", "low"}
)

// neighborDiscovery prints RFC 4861's messages. Options are printed with -v only. False is that what follows the
// options is not to be printed.
func (p *Printer) neighborDiscovery(kind uint8, b []byte, length int) bool {
	options := 0
	switch kind {
	case icmp6RouterSolicit:
		options = 8
	case icmp6RouterAdvert:
		p.routerAdvert(b)
		options = 16
	case icmp6NeighborSolicit:
		p.addr6At(", who has ", b, 8)
		options = 24
	case icmp6NeighborAdvert:
		p.addr6At(", tgt is ", b, 8)
		if p.opt.Verbose > 0 {
			p.printf(", Flags [%s]", bitStr(ndAdvertFlags, "none", p.u32(b, 4), ", "))
		}
		options = 24
	case icmp6Redirect:
		p.addr6At(", ", b, 24)
		p.addr6At(" to ", b, 8)
		options = 40
	case icmp6PrefixAdvert:
		p.prefixAdvert(b)
		options = 8
	}
	if p.opt.Verbose > 0 && !p.ndOptions(from(b, options), length-options) {
		p.trunc()
		return false
	}
	return true
}

func (p *Printer) routerAdvert(b []byte) {
	if p.opt.Verbose == 0 {
		return
	}
	flags := uint32(p.u8(b, 5))
	p.printf("\n\thop limit %d, Flags [%s], pref %s, router lifetime %ds, reachable time %dms, retrans timer %dms",
		p.u8(b, 4), bitStr(ndRouterFlags, "none", flags, ", "), ndPreferences[flags>>3&3],
		p.u16(b, 6), p.u32(b, 8), p.u32(b, 12))
}

// prefixAdvert is RFC 6275 6.8.
func (p *Printer) prefixAdvert(b []byte) {
	if p.opt.Verbose == 0 {
		return
	}
	p.printf(", id 0x%04x", p.u16(b, 4))
	flags := p.u16(b, 6)
	p.sep(flags&0xc000 != 0, " ")
	p.sep(flags&0x8000 != 0, "M")
	p.sep(flags&0x4000 != 0, "O")
}

// ndOptions prints options of which the message's length leaves n bytes; false is that one is cut.
func (p *Printer) ndOptions(b []byte, n int) bool {
	all := &dnsMessage{p: p, b: b} // names point to other names from the first option on
	for len(b) > 0 {
		if len(b) < 2 {
			return false
		}
		if n <= 0 {
			return true
		}
		units := int(b[1])
		size := units * 8
		if size == 0 || size > len(b) {
			return false
		}
		p.printf("\n\t  %s option (%d), length %d (%d): ", tokStr(ndOptions, "unknown", uint32(b[0])), b[0], size, units)
		known, ok := p.ndOption(b[:size], b, all)
		if !ok {
			return false
		}
		if !known && p.opt.Verbose < 2 {
			p.hexLines("\n\t  ", b[ndOptionHeader:size], 0)
			return true
		}
		if p.opt.Verbose > 1 {
			p.hexLines("\n\t    ", b[ndOptionHeader:size], 0)
		}
		b, n = b[size:], n-size
	}
	return true
}

// ndOption prints option o; rest are the captured bytes from it on, into which some fields of a short option reach,
// all those from the first option on.
func (p *Printer) ndOption(o, rest []byte, all *dnsMessage) (known, ok bool) {
	units := len(o) / 8
	switch o[0] {
	case ndSourceLink, ndTargetLink:
		p.colons(o[ndOptionHeader:])
	case ndPrefix:
		p.addr(p.part(rest, 16, 16))
		p.printf("/%d%s, Flags [%s], valid time %s", o[2], flagStr(units != 4, "badlen", ""),
			bitStr(ndPrefixFlags, "none", uint32(o[3]), ", "), ndLifetime(p.u32(rest, 4)))
		p.printf(", pref. time %s", ndLifetime(p.u32(rest, 8)))
	case ndRedirected:
		// tcpdump dumps from the first option on, not from this one.
		p.hexLines("\n\t    ", upto(all.b, len(o)), 0)
	case ndMTU:
		p.printf(" %d%s", p.u32(rest, 4), flagStr(units != 1, "bad option length", ""))
	case ndNameServers:
		p.printf(" lifetime %ds,", p.u32(rest, 4))
		for i := range (units - 1) / 2 {
			p.str(" addr: ")
			p.addr(o[8+16*i : 24+16*i])
		}
	case ndSearchList:
		p.printf(" lifetime %ds, domain(s):", p.u32(rest, 4))
		return true, all.ndDomains(len(all.b)-len(rest), len(o))
	case ndAdvInterval:
		p.printf(" %dms", p.u32(rest, 4))
	case ndHomeAgent:
		p.printf(" preference %d, lifetime %d", p.u16(rest, 4), p.u16(rest, 6))
	case ndRouteInfo:
		return true, p.ndRoute(o)
	default:
		return false, true
	}
	return true, true
}

// ndDomains prints the names of an option of size bytes at off.
func (d *dnsMessage) ndDomains(off, size int) bool {
	for at := off + 8; at < off+size && d.p.u8(d.b, at) != 0; {
		d.p.char(' ')
		if at = d.name(at, 0); at == dnsNone {
			return false
		}
	}
	return true
}

// ndRoute is RFC 4191 2.3.
func (p *Printer) ndRoute(o []byte) bool {
	if len(o) > 24 {
		return false
	}
	var prefix [16]byte
	copy(prefix[:], o[8:])
	p.char(' ')
	p.addr(prefix[:])
	p.printf("/%d, pref=%s, lifetime=%s", o[2], ndPreferences[o[3]>>3&3], ndLifetime(p.u32(o, 4)))
	return true
}

func ndLifetime(secs uint32) string {
	if secs == 0xffffffff {
		return "infinity"
	}
	return sprintf1("%ds", secs)
}
