package dissect

// Service access points of IEEE 802.2 that lead on.
const (
	sapIP     = 0x06
	sapSTP    = 0x42
	sapSNAP   = 0xaa
	sapIPX    = 0xe0
	sapISO    = 0xfe
	sapGlobal = 0xff
)

var llcSAPs = []tok{
	{0x00, "Null"}, {sapGlobal, "Global"}, {0x02, "802.1B I"}, {0x03, "802.1B G"}, {sapIP, "IP"}, {0x04, "SNA"},
	{0x0e, "ProWay NM"}, {sapSTP, "STP"}, {0x4e, "RS511"}, {0x7e, "ISO8208"}, {0x8e, "ProWay"}, {sapSNAP, "SNAP"},
	{sapIPX, "IPX"}, {0xf0, "NetBeui"}, {sapISO, "OSI"},
}

var llcCommands = []tok{
	{0x03, "ui"}, {0xe3, "test"}, {llcXID, "xid"}, {0x63, "ua"}, {0x43, "disc"}, {0x0f, "dm"}, {0x6f, "sabme"},
	{0x87, "frmr"},
}

var llcFlags = []tok{
	{0, "Command"}, {llcResponse, "Response"}, {llcUPoll, "Poll"}, {llcResponse | llcUPoll, "Final"},
	{llcISPoll, "Poll"}, {llcResponse | llcISPoll, "Final"},
}

var llcSupervisory = []tok{{0, "Receiver Ready"}, {1, "Receiver not Ready"}, {2, "Reject"}}

// Bits of the control field and of the source SAP.
const (
	llcUnnumbered  = 0x03
	llcSupervisor  = 0x01
	llcUPoll       = 0x10
	llcISPoll      = 0x0100
	llcResponse    = 0x01
	llcXID         = 0xaf
	llcXIDFormatID = 0x81
)

// llcOrUnknown prints an LLC frame, and dumps it if nothing here knows what it carries; it returns the length of the
// headers.
func (p *Printer) llcOrUnknown(b []byte, length int, f frame) int {
	n, known := p.llc(b, length, f)
	if !known {
		p.unknown(b)
	}
	return n
}

// llc prints an LLC frame (IEEE 802.2) and returns the length of its headers, and whether the payload is known.
func (p *Printer) llc(b []byte, length int, f frame) (int, bool) {
	p.proto = "llc"
	have := min(len(b), length)
	if have < 3 {
		p.trunc()
		p.hexASCII("\n\t", b, 0)
		return have, true
	}
	dsapField, ssapField, control := b[0], b[1], uint32(b[2])
	header := 3
	unnumbered := control&llcUnnumbered == llcUnnumbered
	if !unnumbered {
		if have < 4 {
			p.trunc()
			p.hexASCII("\n\t", b, 0)
			return have, true
		}
		control |= uint32(b[3]) << 8
		header = 4
	}
	if dsapField == sapGlobal && ssapField == sapGlobal {
		p.sep(p.opt.Link, "IPX 802.3: ")
		p.ipx(b)
		return 0, true
	}
	dsap, ssap := dsapField&^1, ssapField&^1
	if p.opt.Link {
		p.llcHeader(dsapField, ssapField, control, header)
	}
	body, rest := b[header:], length-header
	if ssap == dsap && control == llcUnnumbered {
		switch ssap {
		case sapSNAP:
			return header + 5, p.snap(body, rest, f)
		case sapSTP:
			p.stp(body, rest)
			return header, true
		case sapIP:
			p.ipv4(body, rest)
			return header, true
		case sapIPX:
			p.sep(p.opt.Link, "IPX 802.2: ")
			p.ipx(body)
			return header, true
		case sapISO:
			p.osi(body, rest)
			return header, true
		}
	}
	if !p.opt.Link {
		p.llcAddresses(dsap, ssap, f)
	}
	return header, p.llcControl(body, rest, ssapField, control, header)
}

func (p *Printer) llcHeader(dsap, ssap uint8, control uint32, header int) {
	group, response := "Individual", "Command"
	if dsap&1 != 0 {
		group = "Group"
	}
	if ssap&1 != 0 {
		response = "Response"
	}
	p.printf("LLC, dsap %s (0x%02x) %s, ssap %s (0x%02x) %s, ctrl 0x%0*x: ",
		tokStr(llcSAPs, "Unknown", uint32(dsap&^1)), dsap&^1, group,
		tokStr(llcSAPs, "Unknown", uint32(ssap&^1)), ssap&^1, response, 2*(header-2), control)
}

// llcAddresses prints who sends to whom if the link-level header was not printed.
func (p *Printer) llcAddresses(dsap, ssap uint8, f frame) {
	if f.src != nil {
		p.mac(f.src)
		p.char(' ')
	}
	if dsap != ssap {
		p.str(tokStr(llcSAPs, "Unknown SSAP 0x%02x", uint32(ssap)))
		p.char(' ')
	}
	if f.src != nil || dsap != ssap {
		p.str("> ")
	}
	if f.dst != nil {
		p.mac(f.dst)
		p.char(' ')
	}
	p.str(tokStr(llcSAPs, "Unknown DSAP 0x%02x", uint32(dsap)))
	p.char(' ')
}

// llcControl prints the control field, and says whether there is nothing more to print.
func (p *Printer) llcControl(b []byte, length int, ssap uint8, control uint32, header int) bool {
	response := uint32(ssap & llcResponse)
	switch {
	case control&llcUnnumbered == llcUnnumbered:
		command := control &^ llcUPoll
		p.printf("Unnumbered, %s, Flags [%s], length %d", tokStr(llcCommands, "%02x", command),
			tokStr(llcFlags, "?", response|control&llcUPoll), length+header)
		return command == llcXID && p.xid(b, length)
	case control&llcSupervisor == llcSupervisor:
		p.printf("Supervisory, %s, rcv seq %d, Flags [%s], length %d",
			tokStr(llcSupervisory, "?", control>>2&3), control>>9&0x7f,
			tokStr(llcFlags, "?", response|control&llcISPoll), length+header)
		return true
	default:
		p.printf("Information, send seq %d, rcv seq %d, Flags [%s], length %d", control>>1&0x7f, control>>9&0x7f,
			tokStr(llcFlags, "?", response|control&llcISPoll), length+header)
		return false
	}
}

// xid prints the information field of an XID frame, and says whether there is nothing more to print.
func (p *Printer) xid(b []byte, length int) bool {
	if length == 0 {
		return true
	}
	if len(b) > 0 && b[0] != llcXIDFormatID {
		return false
	}
	if len(b) < 3 || length < 3 {
		p.trunc()
		p.hexASCII("\n\t", b, 0)
	} else {
		p.printf(": %02x %02x", b[1], b[2])
	}
	return true
}

// What is bridged over other links (RFC 2684, section 5.2).
const (
	pidEthernetFCS = 0x0001
	pidEthernet    = 0x0007
	pidBPDU        = 0x000e
)

// Protocols of Cisco's SNAP headers.
const (
	pidUDLD       = 0x0111
	pidPVST       = 0x010b
	pidVLANBridge = 0x010c
	pidCDP        = 0x2000
	pidVTP        = 0x2003
	pidDTP        = 0x2004
)

var (
	ciscoPIDs = []tok{
		{pidCDP, "CDP"}, {pidDTP, "DTP"}, {pidUDLD, "UDLD"}, {pidVTP, "VTP"}, {pidPVST, "PVST"},
		{pidVLANBridge, "VLAN Bridge"},
	}
	// bridgedPIDs are of RFC 2684, section 5.2.
	bridgedPIDs = []tok{
		{0x0001, "Ethernet + FCS"}, {0x0007, "Ethernet w/o FCS"}, {0x0002, "802.4 + FCS"}, {0x0008, "802.4 w/o FCS"},
		{0x0003, "Token Ring + FCS"}, {0x0009, "Token Ring w/o FCS"}, {0x0004, "FDDI + FCS"}, {0x000a, "FDDI w/o FCS"},
		{0x0005, "802.6 + FCS"}, {0x000b, "802.6 w/o FCS"}, {pidBPDU, "BPDU"},
	}
)

// snap prints what follows a SNAP header (RFC 1042), and says whether the payload is known.
func (p *Printer) snap(b []byte, length int, f frame) bool {
	p.proto = "snap"
	if len(b) < 5 || length < 5 {
		p.trunc()
		return true
	}
	org, t := p.u24(b, 0), p.u16(b, 3)
	types, kind := etherTypes, "pid"
	switch org {
	case 0:
		kind = "ethertype"
	case ouiCisco:
		types = ciscoPIDs
	case oui8021:
		types = bridgedPIDs
	case ouiCisco90, ouiApple:
	default:
		types = nil
	}
	name := tokStr(types, "Unknown", uint32(t))
	b, length = b[5:], length-5
	if p.opt.Link {
		p.printf("oui %s (0x%06x), %s %s (0x%04x), length %d: ", ouiName(org), org, kind, name, t, length)
	}
	switch {
	case (org == 0 || org == ouiCisco90 || org == ouiApple && t == typeAppleTalk) && p.etherType(t, b, length, f):
		return true
	case org == ouiCisco && p.ciscoPID(t, b, length):
		return true
	case org == oui8021 && (t == pidEthernetFCS || t == pidEthernet):
		const pad = 2
		p.need(b, pad)
		p.ethernet(b[pad:], length-pad)
		return true
	case org == oui8021 && t == pidBPDU:
		p.stp(b, length)
		return true
	}
	if !p.opt.Link {
		if f.src != nil {
			p.mac(f.src)
			p.str(" > ")
			p.mac(f.dst)
			p.char(' ')
		}
		if org == 0 {
			p.printf("SNAP, ethertype %s (0x%04x), length %d: ", name, t, length)
		} else {
			p.printf("SNAP, oui %s (0x%06x), pid %s (0x%04x), length %d: ", ouiName(org), org, name, t, length)
		}
	}
	return false
}
