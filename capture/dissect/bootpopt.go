package dissect

// How the value of an option is printed.
type bootpKind int

const (
	bootpBytes bootpKind = iota
	bootpAddrs
	bootpPairs // of addresses
	bootpLongs
	bootpSigned
	bootpShorts
	bootpBools
	bootpText
	bootpSpecial
)

type bootpOption struct {
	name string
	kind bootpKind
}

// Options that are printed each in its way: RFC 2132, 3046, 3442, 3004, 4702.
const (
	bootpPad         = 0
	bootpNodeType    = 46
	bootpOverload    = 52
	bootpMessageType = 53
	bootpRequested   = 55
	bootpClientID    = 61
	bootpUserClass   = 77
	bootpFQDN        = 81
	bootpAgent       = 82
	bootpRoutes      = 121
	bootpRoutesMS    = 249
	bootpEnd         = 255
)

var (
	bootpMessages = []tok{
		{1, "Discover"}, {2, "Offer"}, {3, "Request"}, {4, "Decline"}, {5, "ACK"}, {6, "NACK"}, {7, "Release"},
		{8, "Inform"}, {10, "LeaseQuery"}, {11, "LeaseUnassigned"}, {12, "LeaseUnknown"}, {13, "LeaseActive"},
	}
	bootpNodeTypes = []tok{{1, "b-node"}, {2, "p-node"}, {4, "m-node"}, {8, "h-node"}}
	bootpOverloads = []tok{{1, "file"}, {2, "sname"}, {3, "file+sname"}}
	bootpHardware  = []tok{
		{1, "ether"}, {6, "ieee802"}, {7, "arcnet"}, {15, "frelay"}, {23, "strip"}, {24, "ieee1394"},
	}
	bootpAgentOptions = []tok{{1, "Circuit-ID"}, {2, "Remote-ID"}, {6, "Subscriber-ID"}}
	bootpFQDNFlags    = []tok{{1, "S"}, {2, "O"}, {4, "E"}, {8, "N"}}
)

// bootpOptionOf is what is known of a tag; of an unknown one, its length makes the best of it.
func bootpOptionOf(tag uint8, length int) bootpOption {
	if o, ok := bootpOptions[tag]; ok {
		return o
	}
	o := bootpOption{"Unknown", bootpLongs}
	if length%2 == 1 {
		o.kind = bootpBytes
	} else if length%4 == 2 {
		o.kind = bootpShorts
	}
	return o
}

// bootpOptions prints what follows the magic cookie, to the end option or the end of the capture.
func (p *Printer) bootpOptions(b []byte) {
	p.str("\n\t  Vendor-rfc1048 Extensions\n\t    Magic Cookie 0x63825363")
	for len(b) > 0 {
		tag := b[0]
		b = b[1:]
		n := 0
		switch {
		case tag == bootpPad && p.opt.Verbose < 3:
			continue
		case tag == bootpEnd && p.opt.Verbose < 3:
			return
		case tag != bootpPad && tag != bootpEnd:
			n = int(p.u8(b, 0))
			b = b[1:]
		}
		o := bootpOptionOf(tag, n)
		p.printf("\n\t    %s (%d), length %d%s", o.name, tag, n, flagStr(n > 0, ": ", ""))
		if tag == bootpPad {
			b = p.bootpPadding(b)
		}
		if len(b) < n {
			p.trunc()
			return
		}
		p.bootpValue(tag, o.kind, b[:n])
		b = b[n:]
	}
}

// bootpPadding counts the bytes of padding that follow one, and gives what follows them.
func (p *Printer) bootpPadding(b []byte) []byte {
	n := 0
	for n < len(b) && b[n] == bootpPad {
		n++
	}
	if n > 0 {
		p.printf(", occurs %d", n+1)
	}
	return b[n:]
}

func (p *Printer) bootpValue(tag uint8, kind bootpKind, v []byte) {
	switch {
	case tag == bootpMessageType && len(v) == 1:
		p.str(tokStr(bootpMessages, "Unknown (%d)", uint32(v[0])))
		return
	case tag == bootpRequested:
		for i, t := range v {
			p.str(flagStr(i%4 == 0, "\n\t      ", ", "))
			p.printf("%s (%d)", bootpOptionOf(t, 0).name, t)
		}
		return
	case kind == bootpText:
		p.inQuotes(v)
		return
	case kind == bootpSpecial:
		v = p.bootpSpecial(tag, v)
	default:
		v = p.bootpList(kind, v)
	}
	if len(v) > 0 {
		p.printf("\n\t  trailing data length %d", len(v))
	}
}

// bootpList prints the items of a value and gives what is left of it.
func (p *Printer) bootpList(kind bootpKind, v []byte) []byte {
	size := map[bootpKind]int{bootpAddrs: 4, bootpLongs: 4, bootpSigned: 4, bootpPairs: 8, bootpShorts: 2}[kind]
	sep := ","
	if kind == bootpBytes {
		sep = "."
	}
	for i := 0; len(v) >= max(size, 1); i++ {
		p.sep(i > 0, sep)
		switch kind {
		case bootpAddrs:
			p.addr(v[:4])
		case bootpPairs:
			p.addr4At("(", v, 0)
			p.addr4At(":", v, 4)
			p.char(')')
		case bootpLongs:
			p.dec(uint64(p.u32(v, 0)))
		case bootpSigned:
			p.num(int(int32(p.u32(v, 0))))
		case bootpShorts:
			p.dec(uint64(p.u16(v, 0)))
		case bootpBools:
			p.str(tokStr([]tok{{0, "N"}, {1, "Y"}}, "%d?", uint32(v[0])))
		default:
			p.dec(uint64(v[0]))
		}
		v = v[max(size, 1):]
	}
	return v
}

// bootpSpecial prints a value that is no list, and gives what is left of it.
func (p *Printer) bootpSpecial(tag uint8, v []byte) []byte {
	least := map[uint8]int{bootpFQDN: 3, bootpRoutes: 5, bootpRoutesMS: 5, bootpUserClass: 2, bootpAgent: 0}
	if n, ok := least[tag]; !ok && len(v) < 1 || len(v) < n {
		p.printf("[ERROR: length < %d bytes]", max(n, 1))
		return nil
	}
	switch tag {
	case bootpNodeType:
		p.str(tokStr(bootpNodeTypes, "", uint32(v[0])))
		return v[1:]
	case bootpOverload:
		p.str(tokStr(bootpOverloads, "", uint32(v[0])))
		return v[1:]
	case bootpFQDN:
		p.bootpFQDN(v)
	case bootpClientID:
		p.bootpClientID(v)
	case bootpAgent:
		return p.bootpAgent(v)
	case bootpRoutes, bootpRoutesMS:
		p.bootpRoutes(v)
	case bootpUserClass:
		p.bootpUserClass(v)
	}
	return nil
}

// bootpFQDN is RFC 4702.
func (p *Printer) bootpFQDN(v []byte) {
	if v[0]&0xf0 != 0 {
		p.printf("[ERROR: MBZ nibble 0x%x != 0] ", v[0]>>4)
	}
	if v[0]&0x0f != 0 {
		p.printf("[%s] ", letters(bootpFQDNFlags, uint32(v[0])))
	}
	if v[1] != 0 || v[2] != 0 {
		p.printf("%d/%d ", v[1], v[2])
	}
	p.inQuotes(v[3:])
}

func (p *Printer) bootpClientID(v []byte) {
	if v[0] == 0 {
		p.inQuotes(v[1:])
		return
	}
	p.printf("%s ", tokStr(bootpHardware, "hardware-type %d,", uint32(v[0])))
	p.colons(v[1:])
}

// bootpAgent is RFC 3046.
func (p *Printer) bootpAgent(v []byte) []byte {
	for len(v) >= 2 {
		kind, n := v[0], int(v[1])
		v = v[2:]
		p.printf("\n\t      %s SubOption %d, length %d: ", tokStr(bootpAgentOptions, "Unknown", uint32(kind)), kind, n)
		if n > len(v) {
			p.str("length goes past end of option")
			return nil
		}
		switch kind {
		case 1, 2, 6:
			p.safe(v[:n])
		default:
			p.hexLines("\n\t\t", v[:n], 0)
		}
		v = v[n:]
	}
	return v
}

// bootpRoutes is RFC 3442.
func (p *Printer) bootpRoutes(v []byte) {
	for i := 0; len(v) > 0; i++ {
		p.sep(i > 0, ",")
		bits := int(v[0])
		v = v[1:]
		if bits > 32 {
			p.printf("[ERROR: Mask width (%d) > 32]", bits)
			return
		}
		n := (bits + 7) / 8
		if len(v) < n+4 {
			p.printf("[ERROR: Remaining length (%d) < %d bytes]", len(v), n+4)
			return
		}
		if bits == 0 {
			p.str("(default")
		} else {
			var net [4]byte
			copy(net[:], v[:n])
			p.char('(')
			p.addrNumber(net[:])
			p.printf("/%d", bits)
		}
		p.addr4At(":", v, n)
		p.char(')')
		v = v[n+4:]
	}
}

// bootpUserClass is RFC 3004.
func (p *Printer) bootpUserClass(v []byte) {
	for i := 1; len(v) > 0; i++ {
		n := int(v[0])
		v = v[1:]
		p.printf("\n\t      instance#%d: ", i)
		if n == 0 {
			p.str("[ERROR: suboption length must be non-zero]")
			return
		}
		if len(v) < n {
			p.str("[ERROR: invalid option]")
			return
		}
		p.inQuotes(v[:n])
		p.printf(", length %d", n)
		v = v[n:]
	}
}
