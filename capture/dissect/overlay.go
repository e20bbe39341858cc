package dissect

var (
	bcmDirections = []tok{{1, "unused"}, {2, "egress"}, {3, "ingress"}}
	bcmTypes      = []tok{{4, "undecided"}, {5, "ipv4"}, {6, "ipv6"}, {7, "ethernet"}}
	bcmSubtypes   = []tok{{1, "single VLAN tag"}, {2, "double VLAN tag"}, {3, "untagged"}}
	gpeFlags      = []tok{{0x08, "I"}, {0x04, "P"}, {0x02, "B"}, {0x01, "O"}}
)

// broadcom prints the shim of Broadcom's lawful interception. tcpdump takes whatever comes from port 49152 for it,
// which is the first of the dynamic ports.
func (p *Printer) broadcom(b []byte, length int) {
	p.proto = "bcm_li"
	if length < 4 {
		p.printf(" (length %d < 4)", length)
		p.invalid()
		return
	}
	shim := p.u32(b, 0)
	kind := shim >> 25 & 15
	margin := flagStr(p.opt.Verbose > 0, "\n    ", "")
	p.printf("%sBCM-LI-SHIM: direction %s, pkt-type %s, pkt-subtype %s, li-id %d%s", margin,
		tokStr(bcmDirections, "unknown", shim>>29), tokStr(bcmTypes, "unknown", kind),
		tokStr(bcmSubtypes, "unknown", shim>>22&7), shim&0x3fffff, margin)
	b, length = b[4:], length-4
	if p.opt.Verbose == 0 {
		p.need(b, length)
		return
	}
	p.broadcomPayload(kind, b, length)
}

func (p *Printer) broadcomPayload(kind uint32, b []byte, length int) {
	switch kind {
	case 7:
		p.ethernet(b, length)
		return
	case 5:
		p.ipv4(b, length)
		return
	case 6:
		p.ip6(b, length)
		return
	case 4: // undecided: the version says
	default:
		p.invalid()
		return
	}
	switch p.u8(b, 0) >> 4 {
	case 4:
		p.ipv4(b, length)
	case 6:
		p.ip6(b, length)
	default:
		p.str("unknown payload")
	}
}

// vxlanGPE prints the generic protocol extension of VXLAN and the packet in it.
func (p *Printer) vxlanGPE(b []byte, length int) {
	const headerLen = 8
	p.proto = "vxlan_gpe"
	p.str("VXLAN-GPE, ")
	if length < headerLen {
		p.printf(" (len %d < %d)", length, headerLen)
		p.invalid()
		return
	}
	p.printf("flags [%s], ", bitStr(gpeFlags, "none", uint32(p.u8(b, 0)), ""))
	next := p.u8(b, 3)
	vni := p.u24(b, 4)
	p.need(b, headerLen)
	p.printf("vni %d%s", vni, flagStr(p.opt.Verbose > 0, "\n    ", ": "))
	b, length = b[headerLen:], length-headerLen
	switch next {
	case 1:
		p.ipv4(b, length)
	case 2:
		p.ip6(b, length)
	case 3:
		p.ethernet(b, length)
	case 4:
		p.nsh(b, length)
	default:
		p.str("ERROR: unknown-next-protocol")
		p.invalid()
	}
}
