package dissect

const (
	ripEntryLen  = 20
	ripFamilyAny = 0
	ripFamilyIP  = 2
)

var ripFamilies = []tok{
	{ripFamilyIP, "IPv4"}, {6, "NS"}, {7, "ISO"}, {16, "Appletalk"}, {23, "IPX"}, {24, "IPv6"}, {28, "IPv6"}, {30, "IPv6"},
}

var ripCommands = []tok{{1, "Request"}, {2, "Response"}, {3, "Trace on"}, {4, "Trace off"}, {5, "Poll"}, {6, "Poll Entry"}}

// rip prints RIP, RFC 1058 and 2453.
func (p *Printer) rip(b []byte, length int) {
	p.proto = "rip"
	if min(len(b), length) < 4 {
		p.trunc()
		return
	}
	p.verboseStr("\n\t")
	version := b[1]
	p.printf("RIPv%d", version)
	if version == 0 {
		p.hexLines("\n\t", upto(b, length), 0)
		return
	}
	p.printf(", %s, length: %d", tokStr(ripCommands, "unknown command (%d)", uint32(b[0])), length)
	if p.opt.Verbose == 0 {
		return
	}
	switch b[0] {
	case 1, 2:
		p.ripRoutes(version, b[4:], length)
	case 4, 5, 6:
	default:
		if p.opt.Verbose == 1 {
			p.hexLines("\n\t", upto(b, length), 0)
		}
	}
	if p.opt.Verbose > 1 {
		p.hexLines("\n\t", upto(b, length), 0)
	}
}

func (p *Printer) ripRoutes(version uint8, b []byte, length int) {
	entry := p.ripEntry1
	switch version {
	case 1:
		p.printf(", routes: %d", length/ripEntryLen)
	case 2:
		p.printf(", routes: %d or less", length/ripEntryLen)
		entry = p.ripEntry2
	default:
		p.str(", unknown version")
		return
	}
	for left := min(len(b), length-4); left > 0; {
		n := entry(b, left)
		if n == 0 {
			p.trunc()
			return
		}
		if left < n {
			p.printf(" [remaining entries length %d < %d]", left, n)
			p.invalid()
			return
		}
		b, left = b[n:], left-n
	}
}

// ripEntry1 prints an entry of version 1, of which there are left bytes; 0 is that it is cut.
func (p *Printer) ripEntry1(b []byte, left int) int {
	if left < ripEntryLen {
		return 0
	}
	family := p.u16(b, 0)
	switch {
	case family != ripFamilyIP && family != ripFamilyAny:
		p.printf("\n\t AFI %s, ", tokStr(ripFamilies, "Unknown (%d)", uint32(family)))
		p.hexLines("\n\t  ", b[4:ripEntryLen], 0)
		return ripEntryLen
	case p.u16(b, 2) != 0 || p.u64(b, 8) != 0:
		p.hexLines("\n\t  ", b[:ripEntryLen], 0)
		return ripEntryLen
	case family == ripFamilyAny:
		p.str("\n\t  AFI 0, ")
	default:
		p.str("\n\t  ")
	}
	p.addr(b[4:8])
	p.printf(", metric: %d", p.u32(b, 16))
	return ripEntryLen
}

// ripEntry2 prints an entry of version 2, of which there are left bytes. It may be an authentication that goes to the
// end of the packet. What is behind the end of the message is printed with an entry that is cut there, as in tcpdump.
func (p *Printer) ripEntry2(b []byte, left int) int {
	if left < 4 {
		return 0
	}
	switch family := p.u16(b, 0); family {
	case 0xffff:
		return p.ripAuth(p.u16(b, 2), b[4:], left-4)
	case ripFamilyIP, ripFamilyAny:
		if left < ripEntryLen {
			return 0
		}
		p.printf("\n\t  AFI %s, %15s/%-2d, tag 0x%04x, metric: %d, next-hop: ",
			tokStr(ripFamilies, "%d", uint32(family)), p.addrText(b[4:8]), maskLen(p.u32(b, 8)),
			p.u16(b, 2), p.u32(b, 16))
		if p.u32(b, 12) != 0 {
			p.addr(b[12:16])
		} else {
			p.str("self")
		}
	default:
		p.printf("\n\t  AFI %s", tokStr(ripFamilies, "Unknown (%d)", uint32(family)))
		p.hexLines("\n\t  ", upto(b[4:], ripEntryLen-4), 0)
	}
	return ripEntryLen
}

func (p *Printer) ripAuth(kind uint16, b []byte, left int) int {
	switch kind {
	case 1:
		p.str("\n\t  Auth trailer:")
	case 2:
		p.str("\n\t  Simple Text Authentication data: ")
		p.paddedStr(b, 0, 16)
		return ripEntryLen
	case 3: // RFC 4822
		if left < 16 {
			return 0
		}
		p.printf("\n\t  Auth header: Packet Len %d, Key-ID %d, Auth Data Len %d, SeqNo %d, MBZ %d, MBZ %d",
			p.u16(b, 0), b[2], b[3], p.u32(b, 4), p.u32(b, 8), p.u32(b, 12))
		return ripEntryLen
	default:
		p.printf("\n\t  Unknown (%d) Authentication data:", kind)
	}
	p.hexLines("\n\t  ", upto(b, left), 0)
	return 4 + left
}

// maskLen is the length of a network mask, -1 of what is none.
func maskLen(m uint32) int {
	for n := 32; n >= 0; n-- {
		if m == ^uint32(0)<<(32-n) {
			return n
		}
	}
	return -1
}

const ripngAnyMetric = 16

// ripng prints RFC 2080's messages.
func (p *Printer) ripng(b []byte, length int) {
	p.proto = "ripng"
	if v := p.u8(b, 1); v != 1 {
		p.printf(" [vers %d]", v)
		p.invalid()
		return
	}
	cmd := p.u8(b, 0)
	if cmd != 1 && cmd != 2 {
		p.printf(" ripng-%d ?? %d", cmd, length)
		p.invalid()
		return
	}
	if length < 4 {
		p.invalid()
		return
	}
	n, rest := (length-4)/ripEntryLen, (length-4)%ripEntryLen
	if cmd == 1 && n == 1 && p.u8(b, 23) == ripngAnyMetric && p.u64(b, 4)|p.u64(b, 12) == 0 {
		p.str(" ripng-req dump")
		return
	}
	p.printf(" ripng-%s %d", flagStr(cmd == 1, "req", "resp"), n)
	if rest != 0 {
		p.printf("[%d]", length)
	}
	p.char(':')
	for i := range n {
		p.str(flagStr(p.opt.Verbose > 1, "\n\t", " "))
		p.ripngEntry(from(b, 4+ripEntryLen*i), cmd == 2)
	}
	if rest != 0 {
		p.invalid()
	}
}

func (p *Printer) ripngEntry(b []byte, withMetric bool) {
	bits := p.u8(p.part(b, 0, 19), 18)
	p.addr(b[:16])
	p.printf("/%d", bits)
	if tag := p.u16(b, 16); tag != 0 {
		p.printf(" [%d]", tag)
	}
	if metric := p.u8(b, 19); metric != 0 && withMetric {
		p.printf(" (%d)", metric)
	}
}
