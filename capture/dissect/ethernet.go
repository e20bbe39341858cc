package dissect

// Ethernet types that the printers name.
const (
	typeIPv4      = 0x0800
	typeARP       = 0x0806
	typeTrail     = 0x1000
	typeTEB       = 0x6558 // transparent Ethernet bridging
	typeRARP      = 0x8035
	typeVLAN      = 0x8100 // IEEE 802.1Q
	typePPP       = 0x880b
	typeIPv6      = 0x86dd
	typeMPLS      = 0x8847
	typeMPLSMulti = 0x8848
	typeJumbo     = 0x8870
	typeQinQ      = 0x88a8 // IEEE 802.1ad
	typeVLAN9100  = 0x9100
	typeVLAN9200  = 0x9200
	typeSlow      = 0x8809 // IEEE 802.3, annex 57A
	typePPPoED    = 0x8863 // RFC 2516
	typePPPoES    = 0x8864
	typePPPoED2   = 0x3c12 // of some makers before RFC 2516
	typePPPoES2   = 0x3c13
	typeNLB       = 0x886f
	typeNSH       = 0x894f
	typeAoE       = 0x88a2
	typeEAPOL     = 0x888e // IEEE 802.1X
	typePTP       = 0x88f7 // IEEE 1588
	typeLoopback  = 0x9000
	typeLLDP      = 0x88cc

	typeGREOSI    = 0x00fe // in GRE
	typeGeoNetOld = 0x0707
	typeCALM      = 0x1111 // ISO 29281
	typeAppleTalk = 0x809b
	typeAARP      = 0x80f3
	typeIPX       = 0x8137
	typeMPCP      = 0x8808 // IEEE 802.3, clause 64
	typeRealtek   = 0x8899
	typeTIPC      = 0x88ca
	typeMACsec    = 0x88e5 // IEEE 802.1AE
	typeCFM       = 0x8902 // IEEE 802.1ag
	typeGeoNet    = 0x8947
	typeCFMOld    = 0xabcd
	typeArista    = 0xd28b
	typeOSI       = 0xfefe
)

// maxLength is the greatest value of the type field that is a length (IEEE 802.3, 3.2.6).
const maxLength = 1500

// etherTypes are the names that tcpdump gives to Ethernet types.
var etherTypes = []tok{
	{typeIPv4, "IPv4"}, {typeMPLS, "MPLS unicast"}, {typeMPLSMulti, "MPLS multicast"}, {typeIPv6, "IPv6"},
	{typeVLAN, "802.1Q"}, {typeVLAN9100, "802.1Q-9100"}, {typeQinQ, "802.1Q-QinQ"}, {typeVLAN9200, "802.1Q-9200"},
	{0x0200, "PUP"}, {typeARP, "ARP"}, {typeRARP, "Reverse ARP"}, {0x0600, "NS"}, {0x0500, "Sprite"},
	{typeTrail, "Trail"}, {0x6001, "MOP DL"}, {0x6002, "MOP RC"}, {0x6003, "DN"}, {0x6004, "LAT"}, {0x6007, "SCA"},
	{typeTEB, "TEB"}, {0x8038, "Lanbridge"}, {0x803c, "DEC DNS"}, {0x803e, "DEC DTS"}, {0x805b, "VEXP"},
	{0x805c, "VPROD"}, {0x809b, "Appletalk"}, {0x80f3, "Appletalk ARP"}, {0x8137, "IPX"},
	{typePPP, "PPP"}, {0x8808, "MPCP"}, {typeSlow, "Slow Protocols"}, {typePPPoED, "PPPoE D"}, {typePPPoES, "PPPoE S"},
	{typeEAPOL, "EAPOL"}, {0x8899, "Realtek protocols"}, {typeNLB, "MS NLB heartbeat"}, {typeJumbo, "Jumbo"}, {typeNSH, "NSH"},
	{typeLoopback, "Loopback"}, {typeGREOSI, "GRE-OSI"}, {0x8902, "CFM"}, {0x893a, "IEEE1905.1"},
	{typeLLDP, "LLDP"}, {0x88ca, "TIPC"}, {0x0707, "GeoNet (old)"}, {0x8947, "GeoNet"}, {0x1111, "CALM FAST"},
	{typeAoE, "AoE"}, {0x88e5, "802.1AE MACsec"}, {typePTP, "PTP"}, {0xabcd, "CFM (old)"},
	{0xd28b, "Arista Vendor Specific Protocol"}, {0xfefe, "OSI"},
}

// ethernet prints a frame and returns the length of its header.
func (p *Printer) ethernet(b []byte, length int) int {
	p.proto = "ether"
	if length < len(b) {
		p.printf("[length %d < caplen %d]", length, len(b))
		p.invalid()
		return length
	}
	if len(b) < 14 {
		p.trunc()
		return len(b)
	}
	f := frame{src: b[6:12], dst: b[:6]}
	if p.opt.Link {
		p.etherAddresses(f)
	}
	return 12 + p.etherTyped(b[12:], length-12, length, f)
}

// etherTyped prints what begins with a type field in a frame that is whole bytes long, and returns the length of the
// headers there.
func (p *Printer) etherTyped(b []byte, length, whole int, f frame) int {
	header := 2
	t := p.u16(b, 0)
	b, length = b[2:], length-2
	printed := false
	typed := func() {
		p.etherTypeName(t)
		p.lengthOnce(&printed, whole)
	}
	if t == typeMACsec {
		if p.opt.Link {
			typed()
		}
		n, plain, left := p.macsec(b, length, f)
		if plain == nil {
			return header + n
		}
		b, length, header = plain, left, header+n
		if len(b) < 2 {
			p.printf(" [caplen %d < 2]", len(b))
			return header
		}
		t = p.u16(b, 0)
		b, length, header = b[2:], length-2, header+2
	}
	for isVLAN(t) {
		if len(b) < 4 || length < 4 {
			p.proto = "vlan"
			p.trunc()
			return header + min(len(b), length)
		}
		if p.opt.Link {
			typed()
			p.vlanTag(p.u16(b, 0))
		}
		t = p.u16(b, 2)
		b, length, header = b[4:], length-4, header+4
	}
	if t <= maxLength {
		return header + p.ieee8023(b, length, int(t), printed, f)
	}
	if t == typeJumbo {
		return header + p.llcOrUnknown(b, length, f)
	}
	if t == typeArista {
		return header + p.aristaTyped(b, length, whole, f)
	}
	if p.opt.Link {
		typed()
	}
	if !p.etherType(t, b, length, f) {
		if !p.opt.Link {
			p.untyped(t, whole, f)
		}
		p.unknown(b)
	}
	return header
}

// untyped prints the header of a frame whose type nothing here knows.
func (p *Printer) untyped(t uint16, whole int, f frame) {
	p.etherAddresses(f)
	p.etherTypeName(t)
	p.printf(", length %d: ", whole)
}

// ieee8023 prints what follows a length field instead of a type. n is that length: what lies beyond it is padding.
func (p *Printer) ieee8023(b []byte, length, n int, printed bool, f frame) int {
	length = min(length, n)
	b = upto(b, length)
	if p.opt.Link {
		p.str("802.3")
		if !printed {
			p.lengthOnce(&printed, length)
		}
	}
	return p.llcOrUnknown(b, length, f)
}

func isVLAN(t uint16) bool {
	return t == typeVLAN || t == typeVLAN9100 || t == typeVLAN9200 || t == typeQinQ
}

func (p *Printer) etherAddresses(f frame) {
	p.mac(f.src)
	p.str(" > ")
	p.mac(f.dst)
	p.str(", ")
}

func (p *Printer) etherTypeName(t uint16) {
	if p.opt.Quiet > 0 {
		p.str(tokStr(etherTypes, "Unknown Ethertype (0x%04x)", uint32(t)))
		return
	}
	p.str("ethertype ")
	p.str(tokStr(etherTypes, "Unknown", uint32(t)))
	p.str(" (0x")
	p.hex(uint64(t), 4)
	p.char(')')
}

// lengthOnce prints the frame's length after the first type, and a comma after the others.
func (p *Printer) lengthOnce(printed *bool, length int) {
	p.str(", ")
	if *printed {
		return
	}
	*printed = true
	p.str("length ")
	p.num(length)
	p.str(": ")
}

// vlanTag prints the TCI of a VLAN tag (IEEE 802.1Q, 9.6).
func (p *Printer) vlanTag(tci uint16) {
	p.str("vlan ")
	p.dec(uint64(tci & 0xfff))
	p.str(", p ")
	p.dec(uint64(tci >> 13))
	if tci&0x1000 != 0 {
		p.str(", DEI")
	}
	p.str(", ")
}
