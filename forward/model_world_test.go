package forward

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
)

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

// newWorld draws a world.
func newWorld(rng *rand.Rand) *world {
	w := &world{policy: Policy{Transit: oneIn(rng, 2), Copies: oneIn(rng, 3)}}
	if oneIn(rng, 3) {
		w.policy.Punt = []netip.Prefix{pick(rng, worldPrefixes[3:])}
	}
	for n := range int32(3 + rng.IntN(3)) {
		w.links = append(w.links, newWorldLink(rng, n))
	}
	w.localRoutes()
	tables := []uint32{TableMain, TableMain, TableMain, TableDefault, 100, 200}
	for range 3 + rng.IntN(12) {
		table, prefix := pick(rng, tables), pick(rng, worldPrefixes)
		for range 1 + rng.IntN(4)/3 {
			w.routes = append(w.routes, w.newRoute(rng, table, prefix))
		}
	}
	slices.SortStableFunc(w.routes, func(a, b worldRoute) int { return int(b.TOS) - int(a.TOS) }) // the kernel's order
	w.newRules(rng)
	return w
}

func newWorldLink(rng *rand.Rand, n int32) worldLink {
	index := 2 + 3*n
	l := worldLink{neigh: map[netip.Addr]worldNeighbour{}, Link: Link{Ifindex: index, Name: string(rune('a' + n)), MAC: [6]byte{2, 0, 0, 0, 0, byte(index)},
		MTU: pick(rng, []int{1500, 1500, 600, 68, 70000}), Slot: uint32(index)}}
	switch l.Flags = LinkWorkload; rng.IntN(7) {
	case 0, 1, 2:
		l.Flags = LinkUplink
	case 3:
		l.Flags = 0 // an interface that only lends its address
	}
	if !oneIn(rng, 8) {
		l.Flags |= LinkUp
	}
	if !oneIn(rng, 5) {
		l.Flags |= LinkEthernet
	}
	for _, f := range []LinkFlags{LinkKernelForwards, LinkLeft, LinkReceiveOnly} {
		if oneIn(rng, 2) && (f == LinkKernelForwards || oneIn(rng, 8)) {
			l.Flags |= f
		}
	}
	if oneIn(rng, 3) {
		l.Aliases[rng.IntN(2)] = [6]byte{0xee, 0xee, 0xee, 0xee, 0xee, 0xee}
	}
	l.Conf = LinkConf{RPFilter: uint8(rng.IntN(3)), SendRedirects: oneIn(rng, 2), SharedMedia: oneIn(rng, 2),
		AcceptSourceRoute: oneIn(rng, 2), AcceptLocal: oneIn(rng, 4), RouteLocalnet: oneIn(rng, 4)}
	for range rng.IntN(3) {
		a := Address{Local: pick(rng, ownAddrs), Secondary: oneIn(rng, 4), Scope: pick(rng, []uint8{0, 0, 0, 253, 254})}
		a.Prefix, _ = a.Local.Prefix(pick(rng, []int{32, 24, 24, 28, 16}))
		if !slices.ContainsFunc(l.addrs, func(o Address) bool { return o.Local == a.Local }) {
			l.addrs = append(l.addrs, a)
		}
	}
	for _, a := range unicastAddrs {
		if rng.IntN(3) != 0 {
			l.neigh[a] = worldNeighbour{mac: [6]byte{4, 0, 0, 0, byte(index), a.As4()[3]}, valid: !oneIn(rng, 5)}
		}
	}
	return l
}

// localRoutes are those that the kernel makes itself for addresses.
func (w *world) localRoutes() {
	const kernel = 2 // RTPROT_KERNEL
	for i := range w.links {
		l := &w.links[i]
		for _, a := range l.addrs {
			nh := []Nexthop{{Ifindex: l.Ifindex, Weight: 1}}
			host, _ := a.Local.Prefix(32)
			w.routes = append(w.routes, worldRoute{TableLocal, host,
				Route{Table: TableLocal, Type: RouteLocal, Protocol: kernel, Scope: scopeHost, Source: a.Local, Nexthops: nh}})
			if a.Prefix.Bits() < 31 {
				last := a.Prefix.Addr().As4()
				binary.BigEndian.PutUint32(last[:], binary.BigEndian.Uint32(last[:])|(1<<(32-a.Prefix.Bits())-1))
				w.routes = append(w.routes, worldRoute{TableLocal, netip.PrefixFrom(netip.AddrFrom4(last), 32),
					Route{Table: TableLocal, Type: RouteBroadcast, Protocol: kernel, Scope: scopeLink, Source: a.Local, Nexthops: nh}})
			}
		}
	}
}

func (w *world) newRoute(rng *rand.Rand, table uint32, prefix netip.Prefix) worldRoute {
	r := Route{Table: table, Type: RouteUnicast, Protocol: 3, Metric: rng.Uint32N(3), Scope: pick(rng, []uint8{0, 0, 253})}
	if oneIn(rng, 6) {
		r.TOS = pick(rng, []uint8{4, 8, 16, 0x18, 0x48}) // the last matches nothing
	}
	if oneIn(rng, 6) {
		r.Type = pick(rng, []RouteType{RouteBlackhole, RouteUnreachable, RouteProhibit, RouteThrow})
		return worldRoute{table, prefix, r}
	}
	if oneIn(rng, 4) {
		r.MTU = pick(rng, []int{68, 600, 1500})
	}
	if oneIn(rng, 4) {
		r.Source = pick(rng, unicastAddrs)
	}
	for range 1 + rng.IntN(5)/4 {
		nh := Nexthop{Ifindex: pick(rng, w.links).Ifindex, Weight: 1 + rng.IntN(3)}
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
	return worldRoute{table, prefix, r}
}

func (w *world) newRules(rng *rand.Rand) {
	w.rules = []Rule{
		{Priority: 0, Action: RuleToTable, Table: TableLocal, SuppressPrefixLen: -1},
		{Priority: 32766, Action: RuleToTable, Table: TableMain, SuppressPrefixLen: -1},
		{Priority: 32767, Action: RuleToTable, Table: TableDefault, SuppressPrefixLen: -1},
	}
	if oneIn(rng, 2) {
		return
	}
	for range 1 + rng.IntN(5) {
		r := Rule{Priority: rng.Uint32N(8), Action: RuleToTable, Table: pick(rng, []uint32{100, 200, TableMain, 300}), SuppressPrefixLen: -1,
			Invert: oneIn(rng, 4), Never: oneIn(rng, 8), Undecided: oneIn(rng, 8)}
		switch rng.IntN(8) {
		case 0:
			r.Action = pick(rng, []RuleAction{RuleBlackhole, RuleUnreachable, RuleProhibit, RuleNop})
		case 1:
			r.Action, r.Goto = RuleGoto, pick(rng, []uint32{r.Priority + 1, r.Priority + 2, 32766, 40})
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
		w.rules = append(w.rules, r)
	}
	if oneIn(rng, 8) {
		w.rules = w.rules[1:] // without the local table
	}
	slices.SortStableFunc(w.rules, func(a, b Rule) int { return int(a.Priority) - int(b.Priority) })
}

func (w *world) build() *Table { return w.builder().Publish() }

// builder tells a Builder of the world.
func (w *world) builder() *Builder {
	b := NewBuilder(w.policy)
	for i := range w.links {
		l := &w.links[i]
		if l.known() {
			b.SetLink(l.Link)
		}
		b.SetAddresses(l.Ifindex, l.addrs)
		for a, n := range l.neigh {
			b.SetNeighbour(l.Ifindex, a, &Neighbour{MAC: n.mac, Valid: n.valid})
		}
	}
	for i := range w.routes {
		table, prefix := w.routes[i].table, w.routes[i].prefix
		var all []Route
		for _, r := range w.routes {
			if r.table == table && r.prefix == prefix {
				all = append(all, r.Route)
			}
		}
		b.SetRoutes(table, prefix, all)
	}
	b.SetRules(w.rules)
	return b
}

// choices are taken from bytes, zero when there are no more.
type choices []byte

func (c *choices) next() int {
	if len(*c) == 0 {
		return 0
	}
	b := (*c)[0]
	*c = (*c)[1:]
	return int(b)
}

// oneIn is true for zero bytes too seldom to matter, and false without bytes.
func (c *choices) oneIn(n int) bool { return c.next()%n == n-1 }

func choose[T any](c *choices, all []T) T { return all[c.next()%len(all)] }

// newFrame makes a frame out of bytes: most are sound, so that they get far.
func (w *world) newFrame(data []byte) Frame {
	c := choices(data)
	in := choose(&c, w.links)
	f := Frame{Ifindex: in.Ifindex, Ethernet: in.Flags&LinkEthernet != 0}
	var options []byte
	if c.oneIn(4) {
		options = newOptions(&c)
	}
	header := 20 + len(options)
	ip := make([]byte, header+choose(&c, []int{8, 20, 28, 100, 600, 1480, 1490})+c.next()%4)
	ip[0], ip[1] = 0x40|byte(header/4), choose(&c, []byte{0, 0, 4, 8, 16, 0xf0, 9, 0x47})
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	ip[6] = choose(&c, []byte{0, 0x40, 0, 0x40, 0x20, 0x60})
	ip[8], ip[9] = choose(&c, []byte{64, 255, 2, 1, 0, 3}), choose(&c, []byte{17, 6, 1, 17})
	src, dst := address(&c).As4(), address(&c).As4()
	if c.oneIn(2) && len(in.addrs) > 0 { // a neighbour
		src = in.addrs[0].Prefix.Addr().Next().As4()
	}
	copy(ip[12:], src[:])
	copy(ip[16:], dst[:])
	copy(ip[20:], options)
	for i := range ip[header:] {
		ip[header+i] = byte(i * 5)
	}
	if ip[9] == 6 && len(ip) >= header+13 {
		ip[header+12] = choose(&c, []byte{0x50, 0x80, 0x40, 0xf0})
	}
	if c.oneIn(8) { // a broken header
		ip[c.next()%header] ^= byte(c.next())
	}
	sum := 0xffff - onesSum(append(slices.Clone(ip[:10]), ip[12:min(header, len(ip))]...))
	ip[10], ip[11] = byte(sum>>8), byte(sum)
	if c.oneIn(16) {
		ip[10] ^= byte(c.next())
	}
	f.Buf = append(newVnet(&c), w.ethernet(&c, &f, in)...)
	f.Buf = append(f.Buf, ip...)
	if c.oneIn(8) {
		f.Buf = append(f.Buf, 0, 0, 0, 0, 0, 0) // padding
	}
	if c.oneIn(16) {
		f.Buf = f.Buf[:max(10, len(f.Buf)-c.next()*4)]
	}
	switch c.next() {
	case 253:
		f.Tagged = true
	case 254:
		f.Lost = DropRateLimit
	case 255:
		f.Ifindex = 99
	}
	return f
}

// address is mostly one that somebody may have.
func address(c *choices) netip.Addr {
	if c.oneIn(6) {
		return choose(c, worldAddrs)
	}
	return choose(c, unicastAddrs)
}

func (w *world) ethernet(c *choices, f *Frame, in worldLink) []byte {
	if !f.Ethernet {
		return nil
	}
	b := make([]byte, 14)
	copy(b, in.MAC[:])
	copy(b[6:], []byte{2, 9, 9, 9, 9, 9})
	b[12] = 8
	switch c.next() % 16 {
	case 15:
		f.PktType = byte(c.next() % 5)
		mac := choose(c, [][6]byte{{}, {0xee, 0xee, 0xee, 0xee, 0xee, 0xee}, {2, 8, 8, 8, 8, 8}, in.MAC})
		copy(b, mac[:])
	case 14:
		b[13] = 6
	}
	return b
}

func newVnet(c *choices) []byte {
	v := make([]byte, 10)
	if !c.oneIn(4) {
		return v
	}
	n := binary.NativeEndian
	v[0], v[1] = choose(c, []byte{0, 1}), choose(c, []byte{0, 1, 1, 5, 5, 0x81, 4, 3})
	n.PutUint16(v[2:], choose(c, []uint16{54, 42, 0, 9000}))
	n.PutUint16(v[4:], choose(c, []uint16{1448, 500, 40, 0}))
	n.PutUint16(v[6:], choose(c, []uint16{34, 38, 20, 1500}))
	n.PutUint16(v[8:], choose(c, []uint16{6, 16}))
	return v
}

// newOptions makes IP options, a multiple of four bytes.
func newOptions(c *choices) []byte {
	var b []byte
	for range 1 + c.next()%3 {
		length := choose(c, []int{7, 11, 12, 4, 3, 2, 8})
		o := make([]byte, length)
		o[0] = choose(c, []byte{7, 68, 131, 137, 148, 134, 7, 68, 25, 1, 0})
		o[1] = byte(length)
		if c.oneIn(8) {
			o[1] = byte(c.next())
		}
		if length > 2 {
			o[2] = choose(c, []byte{4, 5, 8, 9, 5, 4, 0, 13, 40})
		}
		if length > 3 {
			o[3] = choose(c, []byte{0, 1, 3, 0xf0, 2, 0xf3, 10})
		}
		if length > 7 {
			a := worldAddrs[c.next()%len(worldAddrs)].As4()
			copy(o[4:], a[:])
		}
		b = append(b, o...)
	}
	for len(b)%4 != 0 {
		b = append(b, byte(c.next()%2))
	}
	return b[:min(len(b), 40)]
}
