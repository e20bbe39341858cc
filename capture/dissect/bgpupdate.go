package dissect

import "math"

// update prints RFC 4271 4.3's message; false is that it is cut.
func (m *bgpMessage) update() bool {
	p := m.p
	at, withdrawn, ok := m.withdrawn(bgpHeaderLen)
	if !ok || at+2 > m.length {
		return false
	}
	attrs := int(p.u16(m.b, at))
	at += 2
	if withdrawn == 0 && attrs == 0 && at == m.length {
		p.str("\n\t  End-of-Rib Marker (empty NLRI)")
		return true
	}
	if at+attrs > m.length {
		return false
	}
	if at, ok = m.attributes(at, at+attrs); !ok {
		return false
	}
	if at == m.length {
		return true
	}
	p.str("\n\t  Updated routes:")
	_, _, ok = m.routes(at, m.length, p.bgpAddPath(m.b, at, m.length-at, 4), true)
	return ok
}

// withdrawn prints the routes that are withdrawn and gives where the attributes' length stands, and how much of the
// routes was not printed. A wrong prefix leaves it in the midst of the routes.
func (m *bgpMessage) withdrawn(at int) (next, left int, ok bool) {
	if at+2 > m.length {
		return 0, 0, false
	}
	n := int(m.p.u16(m.b, at))
	at += 2
	if at+n > m.length {
		return 0, 0, false
	}
	if n < 2 {
		return at + n, n, true
	}
	m.p.str("\n\t  Withdrawn routes:")
	end := at + n
	at, left, ok = m.routes(at, end, m.p.bgpAddPath(m.b, at, n, 4), false)
	return at, left, ok
}

// routes prints IPv4 prefixes up to end, and how much of them is left because of a wrong one. strict says that a
// path identifier must be whole; else what is less is skipped.
func (m *bgpMessage) routes(at, end int, withPath, strict bool) (next, left int, ok bool) {
	p := m.p
	for at < end {
		path := uint32(0)
		if withPath {
			if end-at < 4 {
				return end, end - at, !strict
			}
			path = p.u32(m.b, at)
			at += 4
		}
		n, ok := p.bgpPrefix("\n\t    ", m.b, at, end-at, 4)
		if !ok {
			return at, end - at, false
		}
		if n < 0 {
			p.str("\n\t    (illegal prefix length)")
			return at, end - at, true
		}
		if withPath {
			p.printf("   Path Id: %d", path)
		}
		at += n
	}
	return at, 0, true
}

// bgpPrefix prints a prefix of addresses of size bytes and gives the bytes it took, -1 of one that is too long; false
// is that it is cut.
func (p *Printer) bgpPrefix(before string, b []byte, at, left, size int) (int, bool) {
	if left < 1 {
		return 0, false
	}
	bits := int(p.u8(b, at))
	if bits > 8*size {
		return -1, true
	}
	n := (bits + 7) / 8
	if left-1 < n {
		return 0, false
	}
	var a [16]byte
	copy(a[:], p.part(b, at+1, n))
	if bits%8 > 0 {
		a[n-1] &= 0xff << (8 - bits%8)
	}
	p.str(before)
	p.addr(a[:size])
	p.printf("/%d", bits)
	return 1 + n, true
}

// bgpAddPath guesses whether n bytes of prefixes go each with a path identifier, RFC 7911 3: if they can be read in
// that way, and not, or not well, without.
func (p *Printer) bgpAddPath(b []byte, at, n, size int) bool {
	if n < 5 {
		return false
	}
	i := 0
	for i < n {
		if i += 4; !has(b, at+i, 1) {
			break
		}
		bits := int(b[at+i])
		if bits > 8*size {
			return false
		}
		i += 1 + (bits+7)/8
	}
	if i > n {
		return false
	}
	for i = 0; i < n; {
		if !has(b, at+i, 1) {
			break
		}
		bits := int(b[at+i])
		if bits < 1 || bits > 8*size {
			return true
		}
		i += 1 + (bits+7)/8
	}
	return i > n
}

// attributes prints the path attributes up to end and gives where the routes begin.
func (m *bgpMessage) attributes(at, end int) (int, bool) {
	p, b := m.p, m.b
	for at < end {
		if end-at < 2 {
			p.str("\n\t  [path attrs too short]")
			return end, true
		}
		flags, kind := b[at], b[at+1]
		at += 2
		lengthLen := 1
		if flags&0x10 != 0 {
			lengthLen = 2
		}
		if at+lengthLen > m.length {
			return at, false
		}
		if end-at < lengthLen {
			p.str("\n\t  [path attrs too short]")
			return end, true
		}
		n := int(b[at])
		if lengthLen == 2 {
			n = int(p.u16(b, at))
		}
		at += lengthLen
		p.printf("\n\t  %s (%d), length: %d", tokStr(bgpAttributes, "Unknown Attribute", uint32(kind)), kind, n)
		if flags != 0 {
			p.printf(", Flags [%s", letters(bgpAttributeFlags, uint32(flags)))
			if flags&15 != 0 {
				p.printf("+%x", flags&15)
			}
			p.str("]: ")
		}
		if end-at < n {
			p.str(" [path attrs too short]")
			return end, true
		}
		if !m.attribute(kind, at, n) {
			return at, false
		}
		at += n
	}
	return at, true
}

// attribute prints the n bytes of an attribute at off; false is that it is cut.
func (m *bgpMessage) attribute(kind uint8, off, n int) bool {
	p := m.p
	v := m.b[off : off+n]
	if size, ok := bgpAttributeSizes[kind]; ok && n != size {
		p.str("invalid len")
		m.dumpAttribute(v)
		return true
	}
	switch kind {
	case bgpAttrOrigin:
		p.str(tokStr(bgpOrigins, "Unknown Origin Typecode", uint32(v[0])))
	case bgpAttrASPath, bgpAttrAS4Path:
		if !m.asPath(kind, off, n) {
			return false
		}
	case bgpAttrNextHop, bgpAttrOriginator:
		p.addr(v)
	case bgpAttrMED, bgpAttrLocalPref:
		p.dec(uint64(p.u32(v, 0)))
	case bgpAttrAtomic:
	case bgpAttrAggregator, bgpAttrAggregator4:
		p.bgpAggregator(v)
	case bgpAttrCommunities:
		p.bgpCommunities(v)
	case bgpAttrClusters:
		p.bgpClusters(v)
	case bgpAttrReach, bgpAttrUnreach:
		if !m.multiprotocol(kind == bgpAttrReach, off, n) {
			return false
		}
	case bgpAttrExtended:
		p.bgpExtendedCommunities(v)
	case bgpAttrLarge:
		if p.bgpLargeCommunities(v) {
			return true
		}
	default:
		p.printf("\n\t    no Attribute %d decoder", kind)
		if p.opt.Verbose < 2 {
			p.hexLines("\n\t    ", v, 0)
		}
	}
	m.dumpAttribute(v)
	return true
}

// dumpAttribute adds the bytes with -vv.
func (m *bgpMessage) dumpAttribute(v []byte) {
	if m.p.opt.Verbose > 1 {
		m.p.hexLines("\n\t    ", v, 0)
	}
}

// asSize guesses how long AS numbers are: two bytes, if segments of such numbers fill the path.
func (m *bgpMessage) asSize(kind uint8, off, n int) int {
	if kind == bgpAttrAS4Path {
		return 4
	}
	end := off + n
	for off < end {
		if s := m.p.u8(m.b, off); s < 1 || s > 4 {
			return 4
		}
		off += 2 + 2*int(m.p.u8(m.b, off+1))
	}
	if off == end {
		return 2
	}
	return 4
}

// asPath prints RFC 4271 4.3's and RFC 5065's segments.
func (m *bgpMessage) asPath(kind uint8, off, n int) bool {
	p, b := m.p, m.b
	if n%2 == 1 {
		p.str("invalid len")
		return true
	}
	if n == 0 {
		p.str("empty")
		return true
	}
	size := m.asSize(kind, off, n)
	for end := off + n; off < end; {
		s := uint32(p.u8(b, off))
		p.str(tokStr(bgpSegmentOpen, "?", s))
		count := int(p.u8(b, off+1))
		off += 2
		for range count {
			if !has(b, off, size) {
				return false
			}
			if size == 2 {
				p.dec(uint64(p.u16(b, off)))
			} else {
				p.as(p.u32(b, off))
			}
			p.char(' ')
			off += size
		}
		p.str(tokStr(bgpSegmentClose, "?", s))
	}
	return true
}

// as prints an AS number: as two of 16 bits with -b (RFC 5396, asdot).
func (p *Printer) as(n uint32) {
	if p.opt.ASDot && n > 0xffff {
		p.printf("%d.%d", n>>16, n&0xffff)
		return
	}
	p.dec(uint64(n))
}

func (p *Printer) bgpAggregator(v []byte) {
	switch len(v) {
	case 6:
		p.printf(" AS #%d", p.u16(v, 0))
		p.addr4At(", origin ", v, 2)
	case 8:
		p.str(" AS #")
		p.as(p.u32(v, 0))
		p.addr4At(", origin ", v, 4)
	default:
		p.str("invalid len")
	}
}

// bgpCommunities is RFC 1997.
func (p *Printer) bgpCommunities(v []byte) {
	if len(v)%4 != 0 {
		p.str("invalid len")
		return
	}
	for ; len(v) > 0; v = v[4:] {
		c := p.u32(v, 0)
		if name := tokStr(bgpWellKnown, " ", c); name != " " {
			p.str(name)
			continue
		}
		p.printf("%d:%d", c>>16, c&0xffff)
		p.sep(len(v) > 4, ", ")
	}
}

// bgpClusters is RFC 4456 8.
func (p *Printer) bgpClusters(v []byte) {
	if len(v)%4 != 0 {
		p.str("invalid len")
		return
	}
	for ; len(v) > 0; v = v[4:] {
		p.addr(v[:4])
		p.sep(len(v) > 4, ", ")
	}
}

// bgpLargeCommunities is RFC 8092; false is that the length is wrong. Of those that are right, tcpdump does not dump
// the bytes.
func (p *Printer) bgpLargeCommunities(v []byte) bool {
	if len(v) == 0 || len(v)%12 != 0 {
		p.str("invalid len")
		return false
	}
	p.str("\n\t    ")
	for ; len(v) > 0; v = v[12:] {
		p.printf("%d:%d:%d", p.u32(v, 0), p.u32(v, 4), p.u32(v, 8))
		p.sep(len(v) > 12, ", ")
	}
	return true
}

// bgpExtendedCommunities is RFC 4360.
func (p *Printer) bgpExtendedCommunities(v []byte) {
	if len(v)%8 != 0 {
		p.str("invalid len")
		return
	}
	for ; len(v) > 0; v = v[8:] {
		kind := uint32(p.u16(v, 0))
		p.printf("\n\t    %s (0x%04x), Flags [%s]: ", tokStr(bgpExtended, "unknown extd community typecode", kind),
			kind, bitStr(bgpExtendedFlags, "none", kind, ", "))
		p.bgpExtendedCommunity(kind, v)
	}
}

func (p *Printer) bgpExtendedCommunity(kind uint32, v []byte) {
	switch kind {
	case 0x0002, 0x0003, 0x000a:
		p.printf("%d:%d", p.u16(v, 2), p.u32(v, 4))
		p.addr4At(" (= ", v, 4)
		p.char(')')
	case 0x0102, 0x0103, 0xf10a, 0x010b:
		p.addr(v[2:6])
		p.printf(":%d", p.u16(v, 6))
	case 0x0202, 0x0203:
		p.as(p.u32(v, 2))
		p.printf(":%d", p.u16(v, 6))
	case 0x4004:
		p.printf("bandwidth: %.3f Mbps", float64(math.Float32frombits(p.u32(v, 4))*8/1000000))
	case 0x0005, 0x0105, 0x0205, 0x8005, 0x0107, 0x8001:
		p.addr(v[2:6])
	case 0x0306, 0x8000:
		p.addr4At("area:", v, 2)
		p.printf(", router-type:%s, metric-type:%s%s", tokStr(bgpOSPFTypes, "unknown (0x%02x)", uint32(v[6])),
			flagStr(v[7]&1 != 0, "E2", ""), flagStr(v[6] == 5 || v[6] == 7, "E1", ""))
	case 0x0009:
		p.printf("AS %d", p.u16(v, 2))
	case 0x030c:
		p.printf("Tunnel type: %s", tokStr(bgpTunnels, "unknown encaps", uint32(p.u16(v, 6))))
	default:
		p.hexBytes(v[2:8])
	}
}

// multiprotocol prints RFC 4760's attributes, of unicast and multicast routes of IPv4 and IPv6.
func (m *bgpMessage) multiprotocol(reach bool, off, n int) bool {
	p, b := m.p, m.b
	if !has(b, off, 3) || reach && n < 3 {
		return false
	}
	end := off + n
	family, safi := p.u16(b, off), b[off+2]
	p.printf("\n\t    AFI: %s (%d), %sSAFI: %s (%d)", tokStr(addressFamilies, "Unknown AFI", uint32(family)), family,
		flagStr(safi > 128, "vendor specific ", ""), tokStr(bgpSubFamilies, "Unknown SAFI", uint32(safi)), safi)
	size := map[uint16]int{1: 4, 2: 16}[family]
	if size == 0 || safi < 1 || safi > 3 {
		p.printf("\n\t    no AFI %d / SAFI %d decoder", family, safi)
		if p.opt.Verbose < 2 {
			p.hexLines("\n\t    ", b[off:end], 0)
		}
		return true
	}
	at := off + 3
	if reach {
		var ok bool
		if at, ok = m.nextHops(at, end, size); !ok {
			return false
		}
	} else if n == 3 {
		p.str("\n\t      End-of-Rib Marker (empty NLRI)")
	}
	return m.reachable(at, end, n, size)
}

// nextHops prints the next hops and their points of attachment, and gives where the routes begin.
func (m *bgpMessage) nextHops(at, end, size int) (int, bool) {
	p, b := m.p, m.b
	if at >= end {
		return 0, false
	}
	n := int(b[at])
	at++
	if end-at < n {
		return 0, false
	}
	if n > 0 {
		p.str("\n\t    nexthop: ")
		p.bgpNextHops(b[at:at+n], size)
	}
	at += n
	p.printf(", nh-length: %d", n)
	if at >= end {
		return 0, false
	}
	points := int(b[at])
	at++
	if points == 0 {
		p.str(", no SNPA")
		return at, true
	}
	p.printf("\n\t    %d SNPA", points)
	for range points {
		if at >= end {
			return 0, false
		}
		n := int(b[at])
		p.printf("\n\t      %d bytes", n)
		if at++; end-at < n {
			return 0, false
		}
		at += n
	}
	return at, true
}

func (p *Printer) bgpNextHops(v []byte, size int) {
	for i := 0; len(v) > 0; i++ {
		p.sep(i > 0, ", ")
		if len(v) < size {
			p.str("invalid len")
			return
		}
		p.addr(v[:size])
		v = v[size:]
	}
}

// reachable prints the routes of an attribute of n bytes up to end.
func (m *bgpMessage) reachable(at, end, n, size int) bool {
	p, b := m.p, m.b
	withPath := p.bgpAddPath(b, at, end-at, size)
	for at < end {
		path := uint32(0)
		if withPath {
			path = p.u32(b, at)
			at += 4
		}
		// tcpdump reckons with the length of the attribute, not with what is left of it.
		took, ok := p.bgpPrefix("\n\t      ", b, at, n, size)
		if !ok {
			return false
		}
		if took < 0 {
			p.str("\n\t    (illegal prefix length)")
		}
		if withPath {
			p.printf("   Path Id: %d", path)
		} else if took < 0 {
			return true
		}
		at += took
	}
	return true
}
