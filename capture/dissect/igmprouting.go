package dissect

var (
	dvmrpKinds = []tok{
		{1, "Probe"}, {2, "Report"}, {3, "Ask-neighbors(old)"}, {4, "Neighbors(old)"}, {5, "Ask-neighbors2"},
		{6, "Neighbors2"}, {7, "Prune"}, {8, "Graft"}, {9, "Graft-ACK"},
	}
	dvmrpFlags = []tok{{0x01, "/tunnel"}, {0x02, "/srcrt"}, {0x40, "/querier"}, {0x20, "/disabled"}, {0x10, "/down"}}
	pim1Kinds  = []tok{
		{0, "Query"}, {1, "Register"}, {2, "Register-Stop"}, {3, "Join/Prune"}, {4, "RP-reachable"}, {5, "Assert"},
		{6, "Graft"}, {7, "Graft-ACK"},
	}
	pim1Modes = []tok{{0, "Dense-mode"}, {1, "Sparse-mode"}, {2, "Sparse-Dense-mode"}}
)

// dvmrp prints a message of the Distance Vector Multicast Routing Protocol (RFC 1075 and its third version).
func (p *Printer) dvmrp(b []byte, length int) {
	const header = 8
	p.proto = "dvmrp"
	if length < header {
		p.printf(" [length %d < %d]", length, header)
		p.invalid()
		return
	}
	kind := p.u8(b, 1)
	p.printf(" %s", tokStr(dvmrpKinds, "[type %d]", uint32(kind)))
	rest, n := from(b, header), length-header
	whole := true
	switch {
	case kind == 1 && p.opt.Verbose > 0:
		whole = p.dvmrpProbe(rest, n)
	case kind == 2 && p.opt.Verbose > 1:
		whole = p.dvmrpReport(rest, n)
	case kind == 4:
		whole = p.dvmrpNeighbors(rest, n, 7)
	case kind == 6:
		p.printf(" (v %d.%d):", p.u8(b, 7), p.u8(b, 6))
		whole = p.dvmrpNeighbors(rest, n, 8)
	case kind >= 7 && kind <= 9:
		p.need(rest, 8)
		p.addr4At(" src ", rest, 0)
		p.addr4At(" grp ", rest, 4)
		if kind == 7 {
			p.str(" timer ")
			p.relativeTime(p.u32(rest, 8))
		}
	}
	if !whole {
		p.invalid()
	}
}

func (p *Printer) dvmrpProbe(b []byte, n int) bool {
	if n < 4 {
		p.printf(" [full length %d < 4]", n)
		return false
	}
	p.str(flagStr(p.opt.Verbose > 1, "\n\t", " "))
	p.printf("genid %d", p.u32(b, 0))
	if p.opt.Verbose < 2 {
		return true
	}
	for i := 4; i < n; i += 4 {
		if n-i < 4 {
			p.printf("[remaining length %d < 4]", n-i)
			return false
		}
		p.addr4At("\n\tneighbor ", b, i)
	}
	return true
}

// dvmrpReport prints routes: by netmask, of which the first byte is not sent, networks of as many bytes as it takes.
func (p *Printer) dvmrpReport(b []byte, n int) bool {
	for n > 0 {
		if n < 3 {
			p.printf(" [length %d < 3]", n)
			return false
		}
		mask, width := [4]byte{0xff}, 1
		copy(mask[1:], p.part(b, 0, 3))
		for i, c := range mask[1:] {
			if c != 0 {
				width = i + 2
			}
		}
		p.str("\n\tMask ")
		p.addrNumber(mask[:])
		b, n = b[3:], n-3
		for last := false; !last; {
			if n < width+1 {
				p.str("\n\t  [Truncated Report]")
				return false
			}
			var origin [4]byte
			copy(origin[:], p.part(b, 0, width))
			metric := p.u8(b, width)
			p.str("\n\t  ")
			p.addrNumber(origin[:])
			p.printf(" metric %d", metric&0x7f)
			last = metric&0x80 != 0
			b, n = b[width+1:], n-width-1
		}
	}
	return true
}

// dvmrpNeighbors prints who is reached by each interface; 7 bytes before their addresses are of the old form.
func (p *Printer) dvmrpNeighbors(b []byte, n, header int) bool {
	old := header == 7
	for n > 0 {
		if n < header {
			p.printf(" [length %d < %d]", n, header)
			return false
		}
		h := p.part(b, 0, header)
		b, n = b[header:], n-header
		count := int(h[header-1])
		for ; count > 0 && (old || n > 0); count-- {
			if n < 4 {
				p.printf(" [length %d < 4]", n)
				return false
			}
			p.str(" [")
			p.addr(h[:4])
			if old {
				p.str(" ->")
				p.addr4At(" ", b, 0)
				p.printf(", (%d/%d)]", h[4], h[5])
			} else {
				p.str(" -> ")
				p.addr4At("", b, 0)
				p.printf(" (%d/%d%s)]", h[4], h[5], letters(dvmrpFlags, uint32(h[6])))
			}
			b, n = b[4:], n-4
		}
		if count > 0 {
			p.str(" [invalid ncount]")
			return false
		}
	}
	return true
}

// pim1 prints a message of version 1 of PIM, which IGMP carries.
func (p *Printer) pim1(b []byte, length int) {
	p.proto = "pimv1"
	kind := p.u8(b, 1)
	p.printf(" %s", tokStr(pim1Kinds, "[type %d]", uint32(kind)))
	switch kind {
	case 0:
		if len(b) > 8 {
			p.printf(" %s", tokStr(pim1Modes, "mode-%d", uint32(b[8]>>4)))
		}
		if p.opt.Verbose > 0 {
			p.str(" (Hold-time ")
			p.relativeTime(uint32(p.u16(b, 10)))
			p.char(')')
		}
	case 1:
		if len(b) < 28 {
			p.trunc()
			return
		}
		p.addr4At(" for ", b, 20)
		p.addr4At(" > ", b, 24)
	case 2:
		p.need(b, 16)
		p.addr4At(" for ", b, 8)
		p.addr4At(" > ", b, 12)
	case 4:
		if p.opt.Verbose > 0 {
			p.pim1Group(" group ", b)
			p.addr4At(" RP ", b, 16)
			p.str(" hold ")
			p.relativeTime(uint32(p.u16(b, 22)))
		}
	case 5:
		p.need(b, 20)
		p.addr4At(" for ", b, 16)
		p.pim1Group(" > ", b)
		preference, metric := p.u32(b, 20), p.u32(b, 24)
		p.printf(" %s pref %d metric %d", flagStr(preference>>31 != 0, "RP-tree", "SPT"), preference&0x7fffffff, metric)
	case 3, 6, 7:
		if p.opt.Verbose > 0 && !p.pim1Joins(b, length) {
			p.trunc()
		}
	}
	if v := p.u8(b, 4) >> 4; v != 1 {
		p.printf(" [v%d]", v)
	}
}

// pim1Group prints a group and its mask, which are at 8 and 12.
func (p *Printer) pim1Group(before string, b []byte) {
	p.addr4At(before, b, 8)
	if p.u32(b, 12) != 0xffffffff {
		p.addr4At("/", b, 12)
	}
}

// pim1Joins prints the groups that are joined and pruned, and says whether the message holds all of them.
func (p *Printer) pim1Joins(b []byte, length int) bool {
	b, n := from(b, 8), length-8
	take := func(size int) []byte {
		if n < size {
			return nil
		}
		part := p.part(b, 0, size)
		b, n = b[size:], n-size
		return part
	}
	line := flagStr(p.opt.Verbose > 1, "\n", "")
	if n < 4 {
		return false
	}
	p.str(line)
	p.addr4At(" Upstream Nbr: ", b, 0)
	b, n = b[4:], n-4
	if n < 4 {
		return false
	}
	p.str(line + " Hold time: ")
	head := take(4)
	p.relativeTime(uint32(head[2])<<8 | uint32(head[3]))
	if p.opt.Verbose < 2 {
		return true
	}
	if head = take(4); head == nil {
		return false
	}
	for groups := int(head[3]); groups > 0; groups-- {
		group := take(4)
		if group == nil {
			return false
		}
		p.str("\n\tGroup: ")
		p.addr(group)
		mask := take(4)
		if mask == nil {
			return false
		}
		if p.u32(mask, 0) != 0xffffffff {
			p.char('/')
			p.addr(mask)
		}
		counts := take(4)
		if counts == nil {
			return false
		}
		joined, pruned := int(p.u16(counts, 0)), int(p.u16(counts, 2))
		p.printf(" joined: %d pruned: %d", joined, pruned)
		for i := range joined + pruned {
			source := take(6)
			if source == nil {
				return false
			}
			p.printf("\n\t%s %s%s%s", flagStr(i < joined, "Join ", "Prune"), flagStr(source[0]&1 != 0, "Sparse ", "Dense "),
				flagStr(source[1]&0x80 != 0, "WC ", ""), flagStr(source[1]&0x40 != 0, "RP ", "SPT "))
			p.addr(source[2:])
			p.printf("/%d", source[1]&0x3f)
		}
	}
	return true
}
