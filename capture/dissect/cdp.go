package dissect

import "bytes"

// A cdpField is a kind of value of the Cisco Discovery Protocol; a max of 0 is no bound.
type cdpField struct {
	name     string
	min, max int
	print    func(p *Printer, b []byte)
}

const cdpDevice = 1

// cdpFields returns what is known of the kinds of fields.
func cdpFields(kind uint16) (f cdpField, known bool) {
	text := (*Printer).cdpString
	switch kind {
	case cdpDevice:
		return cdpField{"Device-ID", 0, 0, text}, true
	case 2:
		return cdpField{"Address", 0, 0, (*Printer).cdpAddresses}, true
	case 3:
		return cdpField{"Port-ID", 0, 0, text}, true
	case 4:
		return cdpField{"Capability", 4, 4, (*Printer).cdpCapability}, true
	case 5:
		return cdpField{"Version String", 0, 0, (*Printer).cdpVersion}, true
	case 6:
		return cdpField{"Platform", 0, 0, text}, true
	case 7:
		return cdpField{"Prefixes", 0, 0, (*Printer).cdpPrefixes}, true
	case 8:
		return cdpField{"Protocol-Hello option", 0, 0, nil}, true
	case 9:
		return cdpField{"VTP Management Domain", 0, 0, text}, true
	case 0x0a:
		return cdpField{"Native VLAN ID", 2, 2, func(p *Printer, b []byte) { p.dec(uint64(p.u16(b, 0))) }}, true
	case 0x0b:
		return cdpField{"Duplex", 1, 1, func(p *Printer, b []byte) { p.str(flagStr(b[0] != 0, "full", "half")) }}, true
	case 0x0e:
		return cdpField{"ATA-186 VoIP VLAN assignment", 3, 3, (*Printer).cdpVoice}, true
	case 0x0f:
		return cdpField{"ATA-186 VoIP VLAN request", 2, 3, (*Printer).cdpVoice}, true
	case 0x10:
		return cdpField{"power consumption", 1, 3, (*Printer).cdpPower}, true
	case 0x11:
		return cdpField{"MTU", 4, 4, func(p *Printer, b []byte) { p.printf("%d bytes", p.u32(b, 0)) }}, true
	case 0x12:
		return cdpField{"AVVID trust bitmap", 1, 1, (*Printer).cdpPlace}, true
	case 0x13:
		return cdpField{"AVVID untrusted ports CoS", 1, 1, (*Printer).cdpPlace}, true
	case 0x14:
		return cdpField{"System Name", 0, 0, text}, true
	case 0x15:
		return cdpField{"System Object ID (not decoded)", 0, 0, nil}, true
	case 0x16:
		return cdpField{"Management Addresses", 4, 0, (*Printer).cdpAddresses}, true
	case 0x17:
		return cdpField{"Physical Location", 1, 0, (*Printer).cdpPlace}, true
	}
	return cdpField{name: "unknown field type"}, kind <= 0x17
}

// cdp prints a message of the Cisco Discovery Protocol: who sends it, with -v all it says.
func (p *Printer) cdp(b []byte, length int) {
	const header = 4
	p.proto = "cdp"
	whole, verbose := length, p.opt.Verbose > 0
	wrong := func() {
		p.invalid()
		p.need(b, length)
	}
	if length < header {
		p.printf(" (packet length %d < %d)", length, header)
		wrong()
		return
	}
	p.need(b, 2)
	p.printf("CDPv%d, ttl: %ds", b[0], b[1])
	if sum := p.u16(b, 2); verbose {
		p.printf(", checksum: 0x%04x (unverified), length %d", sum, whole)
	}
	b, length = b[header:], length-header
	for length > 0 {
		if length < header {
			p.printf(" (remaining packet length %d < %d)", length, header)
			wrong()
			return
		}
		kind, n := p.u16(b, 0), int(p.u16(b, 2))
		if !p.cdpLength(kind, n, length) {
			wrong()
			return
		}
		b, length, n = b[header:], length-header, n-header
		p.cdpField(kind, b, n)
		b, length = b[n:], length-n
	}
	if !verbose {
		p.printf(", length %d", whole)
	}
}

// cdpLength says whether a field with header has n bytes, and prints why not.
func (p *Printer) cdpLength(kind uint16, n, length int) bool {
	if n >= 4 {
		if n > length {
			p.printf(" (TLV length %d > %d)", n, length)
		}
		return n <= length
	}
	f, _ := cdpFields(kind)
	if p.opt.Verbose > 0 {
		p.printf("\n\t%s (0x%02x), TLV length: %d byte%s (too short)", f.name, kind, n, flagStr(n == 1, "", "s"))
	} else {
		p.printf(", %s TLV length %d too short", f.name, n)
	}
	return false
}

func (p *Printer) cdpField(kind uint16, b []byte, n int) {
	f, known := cdpFields(kind)
	if p.opt.Verbose > 0 {
		p.printf("\n\t%s (0x%02x), value length: %d byte%s: ", f.name, kind, n, flagStr(n == 1, "", "s"))
	} else if kind == cdpDevice {
		p.str(", Device-ID ")
	}
	bad := known && (n < f.min || f.max > 0 && n > f.max)
	if bad {
		p.str(" (malformed TLV)")
	}
	if known && !bad && (p.opt.Verbose > 0 || kind == cdpDevice) {
		if f.print != nil {
			f.print(p, p.part(b, 0, n))
		}
		p.need(b, n)
		return
	}
	p.need(b, n)
	p.hexLines("\n\t  ", b[:n], 0)
}

func (p *Printer) cdpString(b []byte) {
	p.char('\'')
	p.safe(b)
	p.char('\'')
}

var cdpCapabilities = []tok{
	{0x01, "Router"}, {0x02, "Transparent Bridge"}, {0x04, "Source Route Bridge"}, {0x08, "L2 Switch"},
	{0x10, "L3 capable"}, {0x20, "IGMP snooping"}, {0x40, "L1 capable"},
}

func (p *Printer) cdpCapability(b []byte) {
	v := p.u32(b, 0)
	p.printf("(0x%08x): %s", v, bitStr(cdpCapabilities, "none", v, ", "))
}

func (p *Printer) cdpVersion(b []byte) {
	for _, line := range bytes.Split(b, []byte{'\n'}) {
		p.str("\n\t  ")
		p.safe(line)
	}
}

func (p *Printer) cdpVoice(b []byte) {
	if len(b) == 2 {
		p.printf("unknown 0x%04x", p.u16(b, 0))
	} else {
		p.printf("app %d, vlan %d", b[0], p.u16(b, 1))
	}
}

func (p *Printer) cdpPower(b []byte) {
	milliwatts := 0
	for _, c := range b {
		milliwatts = milliwatts<<8 | int(c)
	}
	p.printf("%1.2fW", float64(milliwatts)/1000)
}

func (p *Printer) cdpPlace(b []byte) {
	p.printf("0x%02x", b[0])
	if len(b) > 1 {
		p.char('/')
		p.safe(b[1:])
	}
}

func (p *Printer) cdpPrefixes(b []byte) {
	if len(b)%5 != 0 {
		p.printf(" [length %d is not a multiple of 5]", len(b))
		return
	}
	p.printf(" IPv4 Prefixes (%d):", len(b)/5)
	for ; len(b) > 0; b = b[5:] {
		p.printf(" %d.%d.%d.%d/%d", b[0], b[1], b[2], b[3], b[4])
	}
}

// cdpIPv6 is the LLC and SNAP header that stands for IPv6 in an address.
var cdpIPv6 = []byte{0xaa, 0xaa, 0x03, 0, 0, 0, 0x86, 0xdd}

func (p *Printer) cdpAddresses(b []byte) {
	if len(b) < 4 {
		p.str(" (not enough space for num)")
		return
	}
	n := p.u32(b, 0)
	for b = b[4:]; n > 0; n-- {
		if len(b) < 2 {
			p.str(" (not enough space for PT+PL)")
			return
		}
		kind, size := b[0], int(b[1])
		if b = b[2:]; len(b) < size+2 {
			p.str(" (not enough space for P+AL)")
			return
		}
		proto, al := b[:size], int(p.u16(b, size))
		b = b[size+2:]
		ipv4 := kind == 1 && size == 1 && proto[0] == 0xcc && al == 4
		ipv6 := kind == 2 && bytes.Equal(proto, cdpIPv6) && al == 16
		if !ipv4 && !ipv6 {
			p.printf("pt=0x%02x, pl=%d, pb=", kind, size)
			for _, c := range proto {
				p.printf(" %02x", c)
			}
			p.printf(", al=%d, a=", al)
		}
		if len(b) < al {
			p.str(" (not enough space for A)")
			return
		}
		switch {
		case ipv4:
			p.printf("IPv4 (%d) ", n)
			p.addr(b[:al])
		case ipv6:
			p.printf("IPv6 (%d) ", n)
			p.addr(b[:al])
		default:
			for _, c := range b[:al] {
				p.printf(" %02x", c)
			}
		}
		if b = b[al:]; n > 1 {
			p.char(' ')
		}
	}
	if len(b) > 0 {
		p.printf(" (%d bytes of stray data)", len(b))
	}
}
