package dissect

// Subtypes of the slow protocols (IEEE 802.3, table 57A-3).
const (
	slowLACP   = 1
	slowMarker = 2
	slowOAM    = 3
)

// slow prints what a slow protocol is: LACP of bonds, markers, OAM.
func (p *Printer) slow(b []byte, length int) {
	p.proto = "slow"
	if length < 1 {
		p.slowShort()
		return
	}
	kind := p.u8(b, 0)
	name := ""
	switch kind {
	case slowLACP:
		name = "LACP"
	case slowMarker:
		name = "MARKER"
	case slowOAM:
		p.printf("OAM, length %d", length)
		return
	default:
		p.printf("unknown (%d), length %d", kind, length)
		p.hexLines("\n\t", upto(b, length), 0)
		return
	}
	if length < 2 {
		p.slowShort()
		return
	}
	if version := p.u8(b, 1); version != 1 {
		p.printf("%s version %d packet not supported", name, version)
		return
	}
	p.printf("%sv1, length %d", name, length)
	if p.opt.Verbose > 0 && kind == slowLACP {
		p.lacp(b[2:], length-2)
	}
}

func (p *Printer) slowShort() {
	if p.opt.Verbose > 0 {
		p.str("\n\t\t packet is too short")
	} else {
		p.str(" (packet is too short)")
	}
}

var (
	lacpTLVs   = []tok{{0, "Terminator"}, {1, "Actor Information"}, {2, "Partner Information"}, {3, "Collector Information"}}
	lacpStates = []tok{
		{0x01, "Activity"}, {0x02, "Timeout"}, {0x04, "Aggregation"}, {0x08, "Synchronization"}, {0x10, "Collecting"},
		{0x20, "Distributing"}, {0x40, "Default"}, {0x80, "Expired"},
	}
)

// lacp prints the parts of a message of IEEE 802.1AX, section 6.4.2.
func (p *Printer) lacp(b []byte, length int) {
	for length > 0 {
		if length < 2 {
			p.slowShort()
			return
		}
		kind, size := p.u8(b, 0), int(p.u8(b, 1))
		p.printf("\n\t%s TLV (0x%02x), length %d", tokStr(lacpTLVs, "Unknown", uint32(kind)), kind, size)
		if kind == 0 {
			return
		}
		if size < 2 {
			p.str("\n\t    ERROR: illegal length - should be >= 2")
			return
		}
		if length < size {
			p.slowShort()
			return
		}
		p.lacpTLV(kind, p.part(b, 2, size-2))
		b, length = b[size:], length-size
	}
}

func (p *Printer) lacpTLV(kind uint8, b []byte) {
	want := 0
	switch kind {
	case 1, 2:
		want = 18
	case 3:
		want = 14
	}
	switch {
	case want == 0 && p.opt.Verbose <= 1:
		p.hexLines("\n\t  ", b, 0)
	case want == 0:
	case len(b) != want:
		p.printf("\n\t    ERROR: illegal length - should be %d", want+2)
	case kind == 3:
		p.printf("\n\t  Max Delay %d", p.u16(b, 0))
	default:
		p.str("\n\t  System ")
		p.mac(b[2:8])
		p.printf(", System Priority %d, Key %d, Port %d, Port Priority %d\n\t  State Flags [%s]", p.u16(b, 0), p.u16(b, 8),
			p.u16(b, 12), p.u16(b, 10), bitStr(lacpStates, "none", uint32(b[14]), ", "))
	}
	if p.opt.Verbose > 1 {
		p.hexLines("\n\t  ", b, 0)
	}
}
