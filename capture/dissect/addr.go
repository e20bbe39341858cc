package dissect

import (
	"net/netip"
	"strings"
)

// addr prints an address of 4 or 16 bytes, or the name of the host.
func (p *Printer) addr(a []byte) {
	if p.opt.Numeric == 0 && p.opt.HostName != nil {
		if name := p.opt.HostName(a); name != "" {
			if p.opt.NoDomain {
				name, _, _ = strings.Cut(name, ".")
			}
			p.safe([]byte(name))
			return
		}
	}
	p.addrNumber(a)
}

// addrNumber prints an address of 4 or 16 bytes, never a name.
func (p *Printer) addrNumber(a []byte) {
	if len(a) != 4 {
		p.addr6(a)
		return
	}
	for i, c := range a {
		if i > 0 {
			p.char('.')
		}
		p.dec(uint64(c))
	}
}

// addr6 prints 16 bytes as RFC 5952 says. IPv4-mapped and IPv4-compatible ones end in a dotted quad, as inet_ntop's.
func (p *Printer) addr6(a []byte) {
	ip, ok := netip.AddrFromSlice(a)
	if !ok {
		return
	}
	if p.u64(a, 0)|uint64(p.u32(a, 8)) == 0 && p.u16(a, 12) != 0 {
		p.str("::")
		ip, _ = netip.AddrFromSlice(a[12:])
	}
	p.out = ip.AppendTo(p.out)
}

// mac prints an Ethernet address, and who made the device if numbers are not enough.
func (p *Printer) mac(a []byte) {
	if p.opt.Numeric == 0 && isBroadcast(a) {
		p.str("Broadcast")
		return
	}
	p.colons(a)
	if p.opt.Numeric == 0 {
		p.str(" (oui ")
		p.str(ouiName(uint32(a[0])<<16 | uint32(a[1])<<8 | uint32(a[2])))
		p.char(')')
	}
}

func isBroadcast(a []byte) bool {
	for _, c := range a {
		if c != 0xff {
			return false
		}
	}
	return true
}

// colons prints bytes in hexadecimal with colons between.
func (p *Printer) colons(a []byte) {
	for i, c := range a {
		if i > 0 {
			p.char(':')
		}
		p.hex(uint64(c), 2)
	}
}

// port prints a port of "tcp" or "udp", or the name of the service.
func (p *Printer) port(protocol string, n uint16) {
	if p.opt.Numeric == 0 && p.opt.PortName != nil {
		if name := p.opt.PortName(protocol, n); name != "" {
			p.safe([]byte(name))
			return
		}
	}
	p.dec(uint64(n))
}
