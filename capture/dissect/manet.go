package dissect

// Routing in networks without infrastructure or without an administrator, and of those with two kinds of addresses.

var (
	aodvRequest = []tok{{0x80, "[J]"}, {0x40, "[R]"}, {0x20, "[G]"}, {0x10, "[D]"}}
	hncpTypes   = []tok{
		{1, "Request network state"}, {2, "Request node state"}, {3, "Node endpoint"}, {4, "Network state"}, {5, "Node state"},
		{8, "Peer"}, {9, "Keep-alive interval"}, {10, "Trust-Verdict"}, {32, "HNCP-Version"}, {33, "External-Connection"},
		{34, "Delegated-Prefix"}, {43, "Prefix-Policy"}, {37, "DHCPv4-Data"}, {38, "DHCPv6-Data"}, {35, "Assigned-Prefix"},
		{36, "Node-Address"}, {39, "DNS-Delegated-Zone"}, {40, "Domain-Name"}, {41, "Node-Name"}, {42, "Managed-PSK"},
	}
	lispTypes = []tok{
		{0, "LISP-Reserved"}, {1, "LISP-Map-Request"}, {2, "LISP-Map-Reply"}, {lispRegister, "LISP-Map-Register"},
		{lispNotify, "LISP-Map-Notify"}, {8, "LISP-Encapsulated-Contol-Message"},
	}
)

// aodvLayout is where the parts of AODV's messages are: they differ between IPv4, IPv6, and a draft for the latter.
type aodvLayout struct {
	mark           string // what tcpdump puts before "rreq"
	address        int    // bytes of an address
	da, ds, oa, os int    // of a request
	reply, rda     int    // bytes of a reply, and where its addresses and sequence number are
	rds, roa, life int
}

var (
	aodv4     = aodvLayout{"", 4, 8, 12, 16, 20, 20, 4, 8, 12, 16}
	aodv6     = aodvLayout{"v6 ", 16, 8, 24, 28, 44, 44, 4, 20, 24, 40}
	aodvDraft = aodvLayout{"", 16, 16, 8, 32, 12, 44, 8, 4, 24, 40}
)

// aodv prints RFC 3561.
func (p *Printer) aodv(b []byte, length int, h *ipHeader) {
	p.proto = "aodv"
	kind := p.u8(b, 0)
	p.str(" aodv")
	l := aodv4
	if h.version == 6 {
		l = aodv6
	}
	if kind >= 16 && kind <= 19 {
		l, kind = aodvDraft, kind-15
	}
	switch kind {
	case 1:
		p.aodvRequest(b, length, l)
	case 2:
		p.aodvReply(b, length, l)
	case 3:
		p.aodvError(b, length, l)
	case 4:
		p.printf(" rrep-ack %d", length)
	default:
		p.printf(" type %d %d", kind, length)
	}
}

func (p *Printer) aodvRequest(b []byte, length int, l aodvLayout) {
	size := max(l.oa+l.address, l.os+4)
	if len(b) < size || length < size {
		p.trunc()
		return
	}
	// tcpdump takes the type for the flags.
	flags := ""
	if b[0]&0xf0 != 0 {
		flags = bitStr(aodvRequest, "", uint32(b[0]), "")
	}
	p.printf(" %srreq %d %s%shops %d id 0x%08x\n\tdst ", l.mark, length, flags, flagStr(b[0]&8 != 0, "[U] ", " "), b[3],
		p.u32(b, 4))
	p.addr(b[l.da:][:l.address])
	p.printf(" seq %d src ", p.u32(b, l.ds))
	p.addr(b[l.oa:][:l.address])
	p.printf(" seq %d", p.u32(b, l.os))
	p.aodvExtension(b[size:], length-size)
}

func (p *Printer) aodvReply(b []byte, length int, l aodvLayout) {
	size := l.life + 4
	if len(b) < size || length < size {
		p.trunc()
		return
	}
	p.printf(" rrep %d %s%sprefix %d hops %d\n\tdst ", length, flagStr(b[0]&0x80 != 0, "[R]", ""), flagStr(b[0]&0x40 != 0, "[A] ", " "),
		b[2]&0x1f, b[3])
	p.addr(b[l.rda:][:l.address])
	p.printf(" dseq %d src ", p.u32(b, l.rds))
	p.addr(b[l.roa:][:l.address])
	p.printf(" %d ms", p.u32(b, l.life))
	p.aodvExtension(b[size:], length-size)
}

func (p *Printer) aodvError(b []byte, length int, l aodvLayout) {
	if len(b) < 4 || length < 4 {
		p.trunc()
		return
	}
	p.printf(" rerr %s [items %d] [%d]:", flagStr(b[1]&0x80 != 0, "[D]", ""), b[3], length)
	size := l.address + 4
	n := b[3]
	for b, length = b[4:], length-4; n > 0; n-- {
		if len(b) < size || length < size {
			p.trunc()
			return
		}
		p.str(" {")
		p.addr(b[:l.address])
		p.printf("}(%d)", p.u32(b, l.address))
		b, length = b[size:], length-size
	}
}

func (p *Printer) aodvExtension(b []byte, length int) {
	const hello = 6
	switch {
	case length < 2:
	case len(b) < 2, b[0] == 1 && (len(b) < hello || length < hello):
		p.trunc()
	case b[0] == 1 && b[1] < 4:
		p.printf("\n\text HELLO - bad length %d", b[1])
	case b[0] == 1:
		p.printf("\n\text HELLO %d ms", p.u32(b, 2))
	default:
		p.printf("\n\text %d %d", b[0], b[1])
	}
}

// hncp prints of which kinds the elements of a message of RFC 7788 are.
func (p *Printer) hncp(b []byte, length int) {
	p.proto = "hncp"
	p.printf("hncp (%d)", length)
	names, last, count := 0, "", 0
	name := func() {
		if count == 0 {
			return
		}
		p.str(flagStr(names == 0, " ", ", ") + last)
		if count > 1 {
			p.printf(" (x%d)", count)
		}
		names++
	}
	for length > 0 {
		if len(b) < 4 {
			p.trunc()
			return
		}
		kind, size := p.u16(b, 0), 4+int(p.u16(b, 2))
		if length < 4 {
			p.invalid()
			return
		}
		if len(b) < size {
			p.trunc()
			return
		}
		if length < size {
			p.invalid()
			return
		}
		this := hncpType(kind)
		if this != last || count == 0 {
			name()
			last, count = this, 0
		}
		count++
		size += -size & 3
		b, length = from(b, size), length-size
	}
	name()
}

func hncpType(kind uint16) string {
	unknown := "Future use"
	switch {
	case kind == 0:
		unknown = "Reserved"
	case kind >= 44 && kind <= 511:
		unknown = "Unassigned"
	case kind >= 768 && kind <= 1023:
		unknown = "Private use"
	}
	return tokStr(hncpTypes, unknown, uint32(kind))
}

const (
	lispRegister = 3
	lispNotify   = 4
)

// lisp prints what RFC 6830 registers and notifies of; of other messages the type.
func (p *Printer) lisp(b []byte, length int) {
	const header, record, locator, siteID = 16, 12, 8, 24
	p.proto = "lisp"
	if len(b) < header {
		p.trunc()
		return
	}
	kind := b[0] >> 4
	p.printf("%s,", tokStr(lispTypes, "unknown-type-%d", uint32(kind)))
	if kind != lispRegister && kind != lispNotify {
		return
	}
	withID := kind == lispRegister && b[0]&2 != 0 || kind == lispNotify && b[0]&8 != 0
	records, at := b[3], header+int(p.u16(b, 14))
	p.printf(" %d record(s),", records)
	if records == 0 {
		p.invalid()
		return
	}
	address := func(family uint16, before string) (known bool) {
		n, known := map[uint16]int{1: 4, 2: 16}[family]
		if known {
			a := p.part(b, at, n)
			p.str(before)
			p.addr(a)
			at += n
		}
		return known
	}
	for ; length > at && records > 0; records-- {
		if len(b) < at+record {
			p.trunc()
			return
		}
		p.char('\n')
		locators, mask, family := b[at+4], b[at+5], p.u16(b, at+10)
		at += record
		if !address(family, " EID ") {
			return
		}
		p.printf("/%d, %d locator(s)", mask, locators)
		for range locators {
			if len(b) < at+locator {
				p.trunc()
				return
			}
			family := p.u16(b, at+6)
			at += locator
			if n := map[uint16]int{1: 4, 2: 16}[family]; len(b) < at+n {
				p.trunc()
				return
			}
			address(family, " LOC ")
		}
	}
	switch {
	case withID && len(b) < at+siteID:
		p.invalid()
	case withID:
		p.hexLines("\n    xTR-ID: ", b[at:at+16], 0)
		p.printf("\n    SITE-ID: %d", p.u64(b, at+16))
	case at < len(b):
		p.hexLines("\n    Data: ", b[at:], 0)
	}
}
