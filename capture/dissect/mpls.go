package dissect

var (
	mplsLabels = []tok{
		{0, "IPv4 explicit NULL"}, {1, "router alert"}, {2, "IPv6 explicit NULL"}, {3, "implicit NULL"},
	}
	lspPingTypes = []tok{{1, "MPLS Echo Request"}, {2, "MPLS Echo Reply"}}
	lmpTypes     = []tok{
		{1, "Config"}, {2, "Config ACK"}, {3, "Config NACK"}, {4, "Hello"}, {5, "Begin Verify"},
		{6, "Begin Verify ACK"}, {7, "Begin Verify NACK"}, {8, "End Verify"}, {9, "End Verify ACK"}, {10, "Test"},
		{11, "Test Status Success"}, {12, "Test Status Failure"}, {13, "Test Status ACK"}, {14, "Link Summary"},
		{15, "Link Summary ACK"}, {16, "Link Summary NACK"}, {17, "Channel Status"}, {18, "Channel Status ACK"},
		{19, "Channel Status Request"}, {20, "Channel Status Response"}, {50, "Service Config"},
		{51, "Service Config ACK"}, {52, "Service Config NACK"},
	}
)

// mpls prints a stack of labels, RFC 3032, and what is probably under it.
func (p *Printer) mpls(b []byte, length int) {
	p.proto = "mpls"
	p.str("MPLS")
	label := uint32(0)
	for first := true; ; first = false {
		if length < 4 {
			p.invalid()
			p.need(b, length)
			return
		}
		entry := p.u32(b, 0)
		label = entry >> 12
		p.str(flagStr(!first && p.opt.Verbose > 0, "\n\t", " "))
		p.printf("(label %d", label)
		if p.opt.Verbose > 0 && label < 16 { // RFC 3032 2.1
			p.printf(" (%s)", tokStr(mplsLabels, "rsvd", label))
		}
		p.printf(", tc %d", entry>>9&7)
		p.sep(entry&0x100 != 0, ", [S]")
		p.printf(", ttl %d)", entry&0xff)
		b, length = b[4:], length-4
		if entry&0x100 != 0 {
			break
		}
	}
	p.mplsPayload(label, b, length)
}

func (p *Printer) mplsPayload(label uint32, b []byte, length int) {
	version, osi := uint8(0), false
	switch label {
	case 0, 3:
		version = 4
	case 2:
		version = 6
	default:
		if length < 1 {
			return
		}
		if first := p.u8(b, 0); first >= 0x45 && first <= 0x4f || first>>4 == 6 {
			version = first >> 4
		} else {
			osi = first >= nlpidCLNP && first <= nlpidISIS
		}
	}
	if osi {
		p.str(flagStr(p.opt.Verbose > 0, "\n\t", " "))
		p.osi(b, length)
		return
	}
	if version == 0 {
		if p.dumpsUnknown() {
			p.unknown(upto(b, length))
			p.need(b, length)
		}
		return
	}
	p.str(flagStr(p.opt.Verbose > 0, "\n\t", " "))
	if version == 4 {
		p.ipv4(b, length)
	} else {
		p.ip6(b, length)
	}
}

// ldp prints whose labels RFC 5036's first message is about.
func (p *Printer) ldp(b []byte, length int) {
	const headerLen, messageLen = 10, 8
	p.proto = "ldp"
	if length <= headerLen+messageLen {
		return
	}
	p.need(b, headerLen)
	if version := p.u16(b, 0); version != 1 {
		p.printf("%sLDP version %d packet not supported", flagStr(p.opt.Verbose > 0, "\n\t", ""), version)
		return
	}
	size := p.u16(b, 2)
	if size < headerLen-4 {
		p.printf("LDP, pdu-length: %d (too short, < %d)", size, headerLen-4)
		return
	}
	p.addr4At("LDP, Label-Space-ID: ", b, 4)
	p.printf(":%d, pdu-length: %d", p.u16(b, 8), size)
}

// lspPing prints RFC 8029's messages.
func (p *Printer) lspPing(b []byte, length int) {
	const headerLen = 32
	p.proto = "lspping"
	switch {
	case length < headerLen:
		p.str("\n\t\t packet is too short")
	case len(b) < headerLen:
		p.trunc()
	case p.u16(b, 0) != 1:
		p.printf("LSP-PING version %d packet not supported", p.u16(b, 0))
	default:
		p.printf("LSP-PINGv1, %s, seq %d, length: %d", tokStr(lspPingTypes, "unknown (%d)", uint32(b[4])), p.u32(b, 12), length)
	}
}

// lmp prints RFC 4204's messages.
func (p *Printer) lmp(b []byte, length int) {
	p.proto = "lmp"
	if len(b) < 8 {
		p.trunc()
		return
	}
	if version := b[0] >> 4; version != 1 {
		p.printf("LMP version %d packet not supported", version)
		return
	}
	p.printf("LMPv1 %s Message, length: %d", tokStr(lmpTypes, "unknown (%d)", uint32(b[3])), length)
}
