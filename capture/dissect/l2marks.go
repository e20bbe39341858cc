package dissect

var (
	udldCodes = []tok{{0, "Reserved"}, {1, "Probe message"}, {2, "Echo message"}, {3, "Flush message"}}
	udldFlags = []tok{{0x01, "RT"}, {0x02, "RSY"}}
	vtpCodes  = []tok{
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
	if length < header {
		p.trunc()
		return
	}
	p.need(b, 2)
	p.printf("VTPv%d, Message %s (0x%02x), length %d", b[0], tokStr(vtpCodes, "Unknown message type", uint32(b[1])), b[1],
		length)
}

// aoe prints the header of ATA over Ethernet.
func (p *Printer) aoe(b []byte, length int) {
	p.proto = "aoe"
	p.printf("AoE length %d", length)
	if length < 10 {
		p.invalid()
		p.need(b, length)
		return
	}
	first := p.u8(b, 0)
	p.printf(", Ver %d", first>>4)
	if first>>4 != 1 {
		p.need(b, length)
		return
	}
	p.printf(", Flags: [%s]", bitStr(aoeFlags, "none", uint32(first&15), ", "))
	p.need(b, length)
}

// nlb prints the heartbeat of a cluster of Microsoft's Network Load Balancing.
func (p *Printer) nlb(b []byte) {
	p.proto = "msnlb"
	p.need(b, 20)
	p.printf("MS NLB heartbeat, host priority: %d, cluster IP: ", uint32(b[8])|uint32(b[9])<<8|uint32(b[10])<<16|uint32(b[11])<<24)
	p.addr(b[12:16])
	p.str(", host IP: ")
	p.addr(b[16:20])
}
