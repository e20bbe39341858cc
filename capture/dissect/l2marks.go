package dissect

var (
	udldCodes = []tok{{0, "Reserved"}, {1, "Probe message"}, {2, "Echo message"}, {3, "Flush message"}}
	udldFlags = []tok{
		{0x01, "RT"}, {0x02, "RSY"}, {0x04, "MBZ-2"}, {0x08, "MBZ-3"}, {0x10, "MBZ-4"}, {0x20, "MBZ-5"}, {0x40, "MBZ-6"}, {0x80, "MBZ-7"},
	}
	vtpCodes = []tok{
		{1, "Summary advertisement"}, {2, "Subset advertisement"}, {3, "Advertisement request"}, {4, "Join message"},
	}
	aoeFlags = []tok{{0x08, "Response"}, {0x04, "Error"}}
)

// dtp prints that a frame is of Cisco's Dynamic Trunking Protocol.
func (p *Printer) dtp(b []byte, length int) {
	p.proto = "dtp"
	if length < 1 {
		p.str("[zero packet length]")
		p.invalid()
		return
	}
	p.printf("DTPv%d, length %d", p.u8(b, 0), length)
}

// udld prints what a message of Cisco's Unidirectional Link Detection is (RFC 5171, section 5).
func (p *Printer) udld(b []byte, length int) {
	p.proto = "udld"
	if length < 4 {
		p.invalid()
		return
	}
	first, flags := p.u8(b, 0), p.u8(b, 1)
	code := uint32(first & 0x1f)
	p.printf("UDLDv%d, Code %s (%x), Flags [%s] (0x%02x), length %d", first>>5, tokStr(udldCodes, "Reserved", code), code,
		bitStr(udldFlags, "none", uint32(flags), ", "), flags, length)
}

// vtp prints what a message of Cisco's VLAN Trunking Protocol is.
func (p *Printer) vtp(b []byte, length int) {
	const header = 36
	p.proto = "vtp"
	switch {
	case length < header:
		p.invalid()
		return
	case len(b) < header:
		p.trunc()
		return
	}
	p.printf("VTPv%d, Message %s (0x%02x), length %d", b[0], tokStr(vtpCodes, "Unknown message type", uint32(b[1])), b[1],
		length)
}

// aoe prints the header of ATA over Ethernet.
func (p *Printer) aoe(b []byte, length int) {
	p.proto = "aoe"
	p.printf("AoE length %d", length)
	if length < 1 {
		p.invalid()
		return
	}
	version := p.u8(b, 0) >> 4
	p.printf(", Ver %d", version)
	switch {
	case version != 1:
	case length < 10:
		p.invalid()
		p.need(b, length)
	default:
		p.printf(", Flags: [%s]", bitStr(aoeFlags, "none", uint32(b[0]&15), ", "))
	}
}

// nlb prints the heartbeat of a cluster of Microsoft's Network Load Balancing.
func (p *Printer) nlb(b []byte) {
	p.proto = "msnlb"
	p.str("MS NLB heartbeat")
	host := p.part(b, 8, 4)
	p.printf(", host priority: %d", uint32(host[0])|uint32(host[1])<<8|uint32(host[2])<<16|uint32(host[3])<<24)
	p.addr4At(", cluster IP: ", b, 12)
	p.addr4At(", host IP: ", b, 16)
}
