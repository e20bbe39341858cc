package dissect

import "encoding/binary"

// Address families of the BSDs, as DLT_NULL has them. Theirs for IPv6 differ.
const (
	afISO          = 7
	afAppleTalk    = 16
	afIPX          = 23
	afINET6OpenBSD = 24
	afINET6FreeBSD = 28
	afINET6Darwin  = 30
)

var bsdFamilies = []tok{
	{afINET, "IPv4"}, {6, "NS"}, {afISO, "ISO"}, {afAppleTalk, "Appletalk"}, {afIPX, "IPX"}, {afINET6OpenBSD, "IPv6"},
	{afINET6FreeBSD, "IPv6"}, {afINET6Darwin, "IPv6"},
}

// null prints a frame of the BSDs' loopback. The family is in the byte order of the host that captured it.
func (p *Printer) null(b []byte, length int) int {
	const header = 4
	p.proto = "null"
	if len(b) < header {
		p.trunc()
		return 0
	}
	family := binary.LittleEndian.Uint32(b)
	if family&0xffff0000 != 0 {
		family = binary.BigEndian.Uint32(b)
	}
	if p.opt.Link {
		p.nullHeader(family, length)
	}
	body, rest := b[header:], length-header
	switch family {
	case afINET:
		p.ipv4(body, rest)
	case afINET6OpenBSD, afINET6FreeBSD, afINET6Darwin:
		p.ip6(body, rest)
	case afISO:
		p.osi(body, rest)
	case afAppleTalk:
		p.appleTalk(body, rest)
	case afIPX:
		p.ipx(body)
	default:
		if !p.opt.Link {
			p.nullHeader(family, length)
		}
		p.unknown(body)
	}
	return header
}

func (p *Printer) nullHeader(family uint32, length int) {
	if p.opt.Quiet > 0 {
		p.str(tokStr(bsdFamilies, "Unknown AF %d", family))
	} else {
		p.printf("AF %s (%d)", tokStr(bsdFamilies, "Unknown", family), family)
	}
	p.printf(", length %d: ", length)
}

// raw prints a packet without a link level.
func (p *Printer) raw(b []byte, length int) {
	p.proto = "raw"
	if p.opt.Link {
		p.str("ip: ")
	}
	p.anyIP(b, length)
}

// anyIP prints a packet of the version of IP that its first four bits name.
func (p *Printer) anyIP(b []byte, length int) {
	if length < 1 {
		p.printf("truncated-ip %d", length)
		return
	}
	switch v := p.u8(b, 0) >> 4; v {
	case 4:
		p.etherType(typeIPv4, b, length, frame{})
	case 6:
		p.etherType(typeIPv6, b, length, frame{})
	default:
		p.printf("unknown ip %d", v)
	}
}

// Packet types of packet(7), and protocols of cooked captures that are no Ethernet types.
var sllPacketTypes = []tok{{0, "In"}, {1, "B"}, {2, "M"}, {3, "P"}, {4, "Out"}}

const (
	sllHeader  = 16
	sll2Header = 20
	sll8023    = 1
	sll8022    = 4
)

// sll prints a frame of a cooked capture.
func (p *Printer) sll(b []byte, length int) int {
	p.proto = "sll"
	if len(b) < sllHeader {
		p.trunc()
		return 0
	}
	header := func(length int) {
		p.printf("%3s ", tokStr(sllPacketTypes, "?", uint32(p.u16(b, 0))))
		p.sllAddress(int(p.u16(b, 4)), b[6:14])
		p.sllType(p.u16(b, 14), length)
	}
	if p.opt.Link {
		header(length)
	}
	return sllHeader + p.sllPayload(p.u16(b, 14), b[sllHeader:], length-sllHeader, sllHeader, header)
}

// sll2 prints a frame of a cooked capture of version 2, which has the interface.
func (p *Printer) sll2(b []byte, length int, name string) int {
	p.proto = "sll2"
	if len(b) < sll2Header {
		p.trunc()
		return 0
	}
	header := func(length int) {
		p.printf("ifindex %d ", p.u32(b, 4))
		p.sllAddress(int(b[11]), b[12:20])
		p.sllType(p.u16(b, 0), length)
	}
	if name == "" && p.opt.InterfaceName != nil {
		name = p.opt.InterfaceName(p.u32(b, 4))
	}
	if name == "" {
		name = "?"
	}
	p.safe([]byte(name)) // a file's names are not the kernel's
	p.printf("%*s %-3s ", max(5-len(name), 0), "", tokStr(sllPacketTypes, "?", uint32(b[10])))
	if p.opt.Link {
		header(length)
	}
	return sll2Header + p.sllPayload(p.u16(b, 0), b[sll2Header:], length-sll2Header, sll2Header, header)
}

func (p *Printer) sllAddress(n int, a []byte) {
	if n == 6 {
		p.mac(a[:6])
		p.char(' ')
	}
}

// sllType prints the protocol and the length of a cooked frame.
func (p *Printer) sllType(t uint16, length int) {
	if p.opt.Quiet > 0 {
		return
	}
	switch {
	case t == sll8023:
		p.str("802.3")
	case t == sll8022:
		p.str("802.2")
	case t <= maxLength:
		p.printf("ethertype Unknown (0x%04x)", t)
	default:
		p.etherTypeName(t)
	}
	p.printf(", length %d: ", length)
}

// sllPayload prints what a cooked header of so many bytes is before, and returns the length of the headers that are
// skipped. header prints the link-level header, for payloads that nothing here knows.
func (p *Printer) sllPayload(t uint16, b []byte, length, cooked int, header func(length int)) int {
	skipped, whole := 0, length+cooked
	for t == typeVLAN {
		if len(b) < 4 {
			p.proto = "vlan"
			p.trunc()
			return skipped + len(b)
		}
		if p.opt.Link {
			p.vlanTag(p.u16(b, 0))
		}
		if t = p.u16(b, 2); t <= maxLength {
			t = sll8022
		}
		if p.opt.Quiet == 0 {
			p.printf("ethertype %s, ", tokStr(etherTypes, "Unknown", uint32(t)))
		}
		b, length, skipped = b[4:], length-4, skipped+4
	}
	switch {
	case t == sll8022:
		n, known := p.llc(b, length, frame{})
		if !known {
			p.unknown(b)
			return skipped
		}
		return skipped + n
	case t == sll8023:
		p.ipx(b)
	case t <= maxLength:
		p.unknown(b)
	case !p.etherType(t, b, length, frame{}):
		if !p.opt.Link {
			header(whole - skipped)
		}
		p.unknown(b)
	}
	return skipped
}
