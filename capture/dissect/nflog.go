package dissect

import "encoding/binary"

// Linux's address families.
const (
	afINET  = 2
	afINET6 = 10
)

var nflogFamilies = []tok{{afINET, "IPv4"}, {afINET6, "IPv6"}}

const (
	nflogLen     = 4 // of the header, and of that of an attribute
	nflogPayload = 9
)

// nflog prints what netfilter logged (https://www.tcpdump.org/linktypes/LINKTYPE_NFLOG.html): of a packet's attributes
// the payload. Lengths and types of attributes are in the byte order of the host, and a reader of files gives them in
// little-endian order. It returns the length of what is before the payload.
func (p *Printer) nflog(b []byte, length int) int {
	p.proto = "nflog"
	if len(b) < nflogLen {
		p.trunc()
		return len(b)
	}
	if b[1] != 0 {
		p.printf("version %d (unknown)", b[1])
		return nflogLen
	}
	header := b[:nflogLen]
	if p.opt.Link {
		p.nflogHeader(header, length)
	}
	b, length = b[nflogLen:], length-nflogLen
	skipped := nflogLen
	for length > 0 {
		n, payload, ok := nflogAttribute(b)
		if !ok {
			p.trunc()
			return skipped
		}
		b, length, skipped = b[n:], length-n, skipped+n
		if payload {
			break
		}
	}
	switch header[0] {
	case afINET:
		p.ipv4(b, length)
	case afINET6:
		p.ip6(b, length)
	default:
		if !p.opt.Link {
			p.nflogHeader(header, length+nflogLen)
		}
		p.unknown(b)
	}
	return skipped
}

// nflogAttribute says how much is to be skipped of an attribute: all, or but its header if the payload follows. ok is
// false if it is not all there.
func nflogAttribute(b []byte) (n int, payload, ok bool) {
	if len(b) < nflogLen {
		return 0, false, false
	}
	size := binary.LittleEndian.Uint16(b)
	if size%4 != 0 {
		size += 4 - size%4 // tcpdump's 16 bits may overflow
	}
	if size < nflogLen || len(b) < int(size) {
		return 0, false, false
	}
	if binary.LittleEndian.Uint16(b[2:]) == nflogPayload {
		return nflogLen, true, true
	}
	return int(size), false, true
}

func (p *Printer) nflogHeader(b []byte, length int) {
	family := uint32(b[0])
	p.printf("version %d, resource ID %d, ", b[1], p.u16(b, 2))
	if p.opt.Quiet > 0 {
		p.str(tokStr(nflogFamilies, "Unknown NFLOG (0x%02x)", family))
	} else {
		p.printf("family %s (%d)", tokStr(nflogFamilies, "Unknown", family), family)
	}
	p.printf(", length %d: ", length)
}
