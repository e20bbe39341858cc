package dissect

// Types are what packets may be taken for whatever their ports say (tcpdump's -T): those that have a printer here.
var Types = []string{typeCARP, typeDomain, typeLMP, typePGM, typePTPort, typeRADIUS, typeRESP, typeSNMP, typeSOMEIP, typeTFTP, typeVAT, typeVXLAN}

const (
	typeCARP   = "carp"
	typeDomain = "domain"
	typeLMP    = "lmp"
	typePGM    = "pgm"
	typePTPort = "ptp"
	typeRADIUS = "radius"
	typeRESP   = "resp"
	typeSNMP   = "snmp"
	typeSOMEIP = "someip"
	typeTFTP   = "tftp"
	typeVAT    = "vat"
	typeVXLAN  = "vxlan"
)

// udpType prints a datagram's payload as what -T says. Of a type that is not UDP's tcpdump prints nothing, not even
// the datagram's ports, where before was.
func (p *Printer) udpType(b []byte, length int, h *ipHeader, before int) {
	switch p.opt.Type {
	case typeDomain:
		p.domain(b, length, false)
	case typeLMP:
		p.lmp(b, length)
	case typePGM:
		within := *h
		within.direct = false // its ports alone: the addresses are there
		p.pgm(b, &within)
	case typePTPort:
		p.ptp(b, length)
	case typeRADIUS:
		p.radius(b, length)
	case typeSNMP:
		p.snmp(b, length)
	case typeSOMEIP:
		p.someip(b, length)
	case typeTFTP:
		p.tftp(b, length)
	case typeVAT:
		p.vat(b, length)
	case typeVXLAN:
		p.vxlan(b, length)
	default:
		p.out = p.out[:before]
	}
}

// tcpType is udpType for a segment's payload.
func (p *Printer) tcpType(b []byte, length int) {
	switch p.opt.Type {
	case typeDomain:
		p.domainTCP(b, length)
	case typeRESP:
		p.resp(b, length)
	}
}

// carp prints OpenBSD's address redundancy protocol, which has VRRP's number.
func (p *Printer) carp(b []byte, length int, h *ipHeader) {
	p.proto = "carp"
	version, kind := p.u8(b, 0)>>4, p.u8(b, 0)&15
	p.printf("CARPv%d-%s %d: ", version, flagStr(kind == 1, "advertise", "unknown"), length)
	if h.ttl != 255 {
		p.printf("[ttl=%d!] ", h.ttl)
	}
	if version != 2 || kind != 1 {
		return
	}
	p.printf("vhid=%d advbase=%d advskew=%d authlen=%d ", p.u8(b, 1), p.u8(b, 5), p.u8(b, 2), p.u8(b, 3))
	if p.opt.Verbose > 0 && len(b) >= length && checksum(b[:length]) != 0 {
		p.printf(" (bad carp cksum %x!)", p.u16(b, 6))
	}
	p.str("counter=")
	p.dec(p.u64(b, 8))
}
