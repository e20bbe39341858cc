package dissect

// Types of IEEE 802.1AB, table 8-1.
const (
	lldpEnd          = 0
	lldpChassis      = 1
	lldpPort         = 2
	lldpTTL          = 3
	lldpPortText     = 4
	lldpSystemName   = 5
	lldpSystemText   = 6
	lldpCapabilities = 7
	lldpManagement   = 8
	lldpPrivate      = 127
)

var (
	lldpTypes = []tok{
		{lldpEnd, "End"}, {lldpChassis, "Chassis ID"}, {lldpPort, "Port ID"}, {lldpTTL, "Time to Live"},
		{lldpPortText, "Port Description"}, {lldpSystemName, "System Name"}, {lldpSystemText, "System Description"},
		{lldpCapabilities, "System Capabilities"}, {lldpManagement, "Management Address"},
		{lldpPrivate, "Organization specific"},
	}
	lldpChassisKinds = []tok{
		{1, "Chassis component"}, {2, "Interface alias"}, {3, "Port component"}, {4, "MAC address"},
		{5, "Network address"}, {6, "Interface name"}, {7, "Local"},
	}
	lldpPortKinds = []tok{
		{1, "Interface alias"}, {2, "Port component"}, {3, "MAC address"}, {4, "Network Address"},
		{5, "Interface Name"}, {6, "Agent circuit ID"}, {7, "Local"},
	}
	lldpCapabilityBits = []tok{
		{0x01, "Other"}, {0x02, "Repeater"}, {0x04, "Bridge"}, {0x08, "WLAN AP"}, {0x10, "Router"}, {0x20, "Telephone"},
		{0x40, "Docsis"}, {0x80, "Station Only"},
	}
	lldpNumbering = []tok{{2, "Interface Index"}, {3, "System Port Number"}}
)

// lldp prints who a neighbour is (IEEE 802.1AB): its name, with -v all it says.
func (p *Printer) lldp(b []byte, length int) {
	p.proto = "lldp"
	p.str("LLDP, length ")
	p.num(length)
	for length >= 2 {
		if len(b) < 2 {
			p.trunc()
			return
		}
		head := p.u16(b, 0)
		kind, n := uint8(head>>9), int(head&0x1ff)
		b, length = b[2:], length-2
		if p.opt.Verbose > 0 {
			p.printf("\n\t%s TLV (%d), length %d", tokStr(lldpTypes, "Unknown", uint32(kind)), kind, n)
		}
		if kind == lldpEnd || n == 0 {
			return
		}
		if length < n || len(b) < n {
			p.trunc()
			return
		}
		known, whole := true, true
		switch {
		case kind == lldpSystemName:
			p.str(": ")
			p.safeString(b[:n])
		case p.opt.Verbose > 0:
			known, whole = p.lldpValue(kind, b[:n])
		}
		if !whole {
			p.trunc()
			return
		}
		if p.opt.Verbose > 1 || p.opt.Verbose > 0 && !known {
			p.hexLines("\n\t  ", b[:n], 0)
		}
		b, length = b[n:], length-n
	}
}

// lldpValue prints a value with -v; known is false if it should be dumped, whole if it is too short.
func (p *Printer) lldpValue(kind uint8, b []byte) (known, whole bool) {
	switch kind {
	case lldpChassis:
		return p.lldpID(lldpChassisKinds, 4, 5, b)
	case lldpPort:
		return p.lldpID(lldpPortKinds, 3, 4, b)
	case lldpTTL:
		if len(b) < 2 {
			return true, false
		}
		p.printf(": TTL %ds", p.u16(b, 0))
	case lldpPortText:
		p.str(": ")
		p.safeString(b)
	case lldpSystemText:
		p.str("\n\t  ")
		p.safeString(b)
	case lldpCapabilities:
		if len(b) < 4 {
			return true, false
		}
		for i, name := range []string{"System ", "Enabled"} {
			bits := p.u16(b, 2*i)
			p.printf("\n\t  %s Capabilities [%s] (0x%04x)", name, bitStr(lldpCapabilityBits, "none", uint32(bits), ", "), bits)
		}
	case lldpManagement:
		return true, p.lldpManagement(b)
	case lldpPrivate:
		if len(b) < 3 {
			return true, false
		}
		oui := p.u24(b, 0)
		p.printf(": OUI %s (0x%06x)", ouiName(oui), oui)
		return p.lldpOrganization(oui, b), true
	default:
		return false, true
	}
	return true, true
}

// lldpID prints what names a chassis or a port. mac and network are the kinds of an address.
func (p *Printer) lldpID(kinds []tok, mac, network uint8, b []byte) (known, whole bool) {
	if len(b) < 2 {
		return true, false
	}
	kind := b[0]
	p.printf("\n\t  Subtype %s (%d): ", tokStr(kinds, "Unknown", uint32(kind)), kind)
	switch {
	case kind == mac:
		if len(b) < 7 {
			return true, false
		}
		p.mac(b[1:7])
	case kind == network:
		return true, p.lldpAddress(b[1:])
	case kind >= 1 && kind <= 7:
		p.safeString(b[1:])
	default:
		return false, true
	}
	return true, true
}

// lldpAddress prints an address after its family, and says whether it is long enough.
func (p *Printer) lldpAddress(b []byte) bool {
	if len(b) < 1 {
		return false
	}
	size := 0
	switch b[0] {
	case 1:
		size = 4
	case 2:
		size = 16
	case 6:
		size = 6
	}
	if len(b) < 1+size {
		return false
	}
	p.printf("AFI %s (%d)", tokStr(addressFamilies, "Unknown", uint32(b[0])), b[0])
	switch size {
	case 0:
		p.str(", no AF printer !")
	case 6:
		p.str(": ")
		p.mac(b[1:7])
	default:
		p.str(": ")
		p.addr(b[1 : 1+size])
	}
	return true
}

// lldpManagement prints a management address, and says whether it is whole.
func (p *Printer) lldpManagement(b []byte) bool {
	n := int(b[0])
	if len(b) < 1+n {
		return false
	}
	start := len(p.out)
	p.printf("\n\t  Management Address length %d, ", n)
	if !p.lldpAddress(b[1 : 1+n]) {
		p.out = p.out[:start]
		return false
	}
	b = b[1+n:]
	if len(b) < 5 {
		return false
	}
	p.printf("\n\t  %s Interface Numbering (%d): %d", tokStr(lldpNumbering, "Unknown", uint32(b[0])), b[0], p.u32(b, 1))
	if b = b[5:]; len(b) > 0 {
		n := int(b[0])
		if len(b) < 1+n {
			return false
		}
		if n > 0 {
			p.printf("\n\t  OID length %d", n)
			p.safeString(b[1 : 1+n])
		}
	}
	return true
}

var (
	lldp8021Kinds = []tok{
		{1, "Port VLAN Id"}, {2, "Port and Protocol VLAN ID"}, {3, "VLAN name"}, {4, "Protocol Identity"},
	}
	lldp8023Kinds = []tok{
		{1, "MAC/PHY configuration/status"}, {2, "Power via MDI"}, {3, "Link aggregation"}, {4, "Max frame size"},
	}
	lldpPMD = []tok{
		{1 << 14, "10BASE-T hdx"}, {1 << 13, "10BASE-T fdx"}, {1 << 12, "100BASE-T4"}, {1 << 11, "100BASE-TX hdx"},
		{1 << 10, "100BASE-TX fdx"}, {1 << 9, "100BASE-T2 hdx"}, {1 << 8, "100BASE-T2 fdx"},
		{1 << 7, "Pause for fdx links"}, {1 << 6, "Asym PAUSE for fdx"}, {1 << 5, "Sym PAUSE for fdx"},
		{1 << 4, "Asym and Sym PAUSE for fdx"}, {1 << 3, "1000BASE-{X LX SX CX} hdx"},
		{1 << 2, "1000BASE-{X LX SX CX} fdx"}, {1 << 1, "1000BASE-T hdx"}, {1 << 0, "1000BASE-T fdx"},
	}
	// lldpMAU are the types of RFC 3636.
	lldpMAU = [...]string{
		"Unknown", "AUI", "10BASE_5", "FOIRL", "10BASE2", "10BASET duplex mode unknown", "10BASEFP", "10BASEFB",
		"10BASEFL duplex mode unknown", "10BROAD36", "10BASET hdx", "10BASET fdx", "10BASEFL hdx", "10BASEFL fdx",
		"100BASET4", "100BASETX hdx", "100BASETX fdx", "100BASEFX hdx", "100BASEFX fdx", "100BASET2 hdx",
		"100BASET2 fdx", "1000BASEX hdx", "1000BASEX fdx", "1000BASELX hdx", "1000BASELX fdx", "1000BASESX hdx",
		"1000BASESX fdx", "1000BASECX hdx", "1000BASECX fdx", "1000BASET hdx", "1000BASET fdx", "10GBASEX",
		"10GBASELX4", "10GBASER", "10GBASEER", "10GBASELR", "10GBASESR", "10GBASEW", "10GBASEEW", "10GBASELW",
		"10GBASESW",
	}
	lldpSupport = []tok{{0x01, "supported"}, {0x02, "enabled"}}
	lldpPower   = []tok{{0x01, "PSE"}, {0x02, "supported"}, {0x04, "enabled"}, {0x08, "can be controlled"}}
)

// lldpOrganization prints the values of IEEE 802.1 and 802.3, and says whether it knows the kind.
func (p *Printer) lldpOrganization(oui uint32, b []byte) bool {
	switch {
	case oui != oui8021 && oui != oui8023:
		return false
	case len(b) < 4:
		return true
	case oui == oui8021:
		return p.lldp8021(b)
	}
	return p.lldp8023(b)
}

// lldp8021 is IEEE 802.1Q, annex D.2.
func (p *Printer) lldp8021(b []byte) bool {
	kind := b[3]
	p.printf("\n\t  %s Subtype (%d)", tokStr(lldp8021Kinds, "unknown", uint32(kind)), kind)
	switch {
	case kind == 1 && len(b) >= 6:
		p.printf("\n\t    port vlan id (PVID): %d", p.u16(b, 4))
	case kind == 2 && len(b) >= 7:
		p.printf("\n\t    port and protocol vlan id (PPVID): %d, flags [%s] (0x%02x)", p.u16(b, 5),
			bitStr([]tok{{0x02, "supported"}, {0x04, "enabled"}}, "none", uint32(b[4]), ", "), b[4])
	case kind == 3 && len(b) >= 6:
		p.printf("\n\t    vlan id (VID): %d", p.u16(b, 4))
		if len(b) >= 7 && len(b) >= 7+int(b[6]) {
			p.str("\n\t    vlan name: ")
			p.safeString(b[7 : 7+int(b[6])])
		}
	case kind == 4 && len(b) >= 5 && len(b) >= 5+int(b[4]):
		p.str("\n\t    protocol identity: ")
		p.safeString(b[5 : 5+int(b[4])])
	}
	return kind >= 1 && kind <= 4
}

// lldp8023 is IEEE 802.3, clause 79.3.
func (p *Printer) lldp8023(b []byte) bool {
	kind := b[3]
	p.printf("\n\t  %s Subtype (%d)", tokStr(lldp8023Kinds, "unknown", uint32(kind)), kind)
	switch {
	case kind == 1 && len(b) >= 9:
		pmd, mau := p.u16(b, 5), p.u16(b, 7)
		name := "unknown"
		if int(mau) < len(lldpMAU) {
			name = lldpMAU[mau]
		}
		p.printf("\n\t    autonegotiation [%s] (0x%02x)", bitStr(lldpSupport, "none", uint32(b[4]), ", "), b[4])
		p.printf("\n\t    PMD autoneg capability [%s] (0x%04x)", bitStr(lldpPMD, "unknown", uint32(pmd), ", "), pmd)
		p.printf("\n\t    MAU type %s (0x%04x)", name, mau)
	case kind == 2 && len(b) >= 7:
		p.printf("\n\t    MDI power support [%s], power pair %s, power class %s",
			bitStr(lldpPower, "none", uint32(b[4]), ", "), tokStr([]tok{{1, "signal"}, {2, "spare"}}, "unknown", uint32(b[5])),
			tokStr([]tok{{1, "class0"}, {2, "class1"}, {3, "class2"}, {4, "class3"}, {5, "class4"}}, "unknown", uint32(b[6])))
	case kind == 3 && len(b) >= 9:
		p.printf("\n\t    aggregation status [%s], aggregation port ID %d", bitStr(lldpSupport, "none", uint32(b[4]), ", "),
			p.u32(b, 5))
	case kind == 4 && len(b) >= 6:
		p.printf("\n\t    MTU size %d", p.u16(b, 4))
	}
	return kind >= 1 && kind <= 4
}
