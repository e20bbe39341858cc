package dissect

const (
	bootpRequest   = 1
	bootpOptionsAt = 236

	bootpCookie    = 0x63825363 // RFC 1048
	bootpCookieCMU = 0x434d5500 // Carnegie Mellon's options
)

var (
	bootpOps   = []tok{{bootpRequest, "Request"}, {2, "Reply"}}
	bootpFlags = []tok{{0x8000, "Broadcast"}}
)

// bootp prints BOOTP and DHCP, RFC 951 and 2131.
func (p *Printer) bootp(b []byte, length int) {
	p.proto = "bootp"
	op := p.u8(b, 0)
	p.str("BOOTP/DHCP, ")
	p.str(tokStr(bootpOps, "unknown (0x%02x)", uint32(op)))
	ethernet := p.u16(b, 1) == 0x0106
	if ethernet && op == bootpRequest {
		mac := p.part(b, 28, 6)
		p.str(" from ")
		p.mac(mac)
	}
	p.printf(", length %d", length)
	if p.opt.Verbose == 0 {
		return
	}
	if len(b) < 10 {
		p.trunc()
		return
	}
	p.bootpHeader(b, ethernet)
	if !p.bootpName("sname", b, 44, 64) || !p.bootpName("file", b, 108, 128) {
		return
	}
	if !has(b, bootpOptionsAt, 4) {
		p.trunc()
		return
	}
	switch cookie := p.u32(b, bootpOptionsAt); cookie {
	case 0:
	case bootpCookie:
		p.bootpOptions(b[bootpOptionsAt+4:])
	case bootpCookieCMU:
		p.bootpCMU(b[bootpOptionsAt:])
	default:
		p.printf("\n\t  Vendor-#0x%x", cookie)
	}
}

// bootpHeader prints the fields of the header that are not what they usually are.
func (p *Printer) bootpHeader(b []byte, ethernet bool) {
	if b[1] != 1 {
		p.printf(", htype %d", b[1])
	}
	if !ethernet {
		p.printf(", hlen %d", b[2])
	}
	if b[3] != 0 {
		p.printf(", hops %d", b[3])
	}
	if xid := p.u32(b, 4); xid != 0 {
		p.printf(", xid 0x%x", xid)
	}
	if secs := p.u16(b, 8); secs != 0 {
		p.printf(", secs %d", secs)
	}
	flags := p.u16(b, 10)
	p.printf(", Flags [%s]", bitStr(bootpFlags, "none", uint32(flags), ", "))
	if p.opt.Verbose > 1 {
		p.printf(" (0x%04x)", flags)
	}
	for i, name := range []string{"Client", "Your", "Server", "Gateway"} {
		if off := 12 + 4*i; p.u32(b, off) != 0 {
			p.addr4At("\n\t  "+name+"-IP ", b, off)
		}
	}
	if ethernet {
		mac := p.part(b, 28, 6)
		p.str("\n\t  Client-Ethernet-Address ")
		p.mac(mac)
	}
}

// bootpName prints a name in a field of size bytes; false is that it is cut, or that no NUL ends it.
func (p *Printer) bootpName(what string, b []byte, off, size int) bool {
	if p.u8(b, off) == 0 {
		return true
	}
	p.printf("\n\t  %s \"", what)
	n := p.stringZ(b[off:], size)
	p.char('"')
	if n == 0 {
		p.trunc()
		return false
	}
	return true
}

// bootpCMU prints the addresses in Carnegie Mellon's options.
func (p *Printer) bootpCMU(b []byte) {
	p.str(" vend-cmu")
	if len(b) < 8 {
		p.trunc()
		return
	}
	flags := b[4]
	if flags&^1 != 0 {
		p.printf(" F:0x%x", flags)
	}
	for i, name := range []string{"SM", "DG", "NS1", "NS2", "IEN1", "IEN2", "TS1", "TS2"} {
		at := 8 + 4*i
		if i < 2 { // the gateway is printed first
			at = 12 - 4*i
			name = [2]string{"DG", flagStr(flags&1 != 0, "SM", "SM*")}[i]
		}
		if !has(b, at, 4) {
			p.trunc()
			return
		}
		if p.u32(b, at) != 0 {
			p.addr4At(" "+name+":", b, at)
		}
	}
}
