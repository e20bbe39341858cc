package dissect

// Sockets of IPX.
const (
	ipxNCP       = 0x0451
	ipxSAP       = 0x0452
	ipxRIP       = 0x0453
	ipxNetBIOS   = 0x0455
	ipxDiagnosis = 0x0456
	ipxNWLink    = 0x0553
	ipxEIGRP     = 0x85be
)

// ipx prints a packet of Novell's network protocol.
func (p *Printer) ipx(b []byte) {
	const header = 30
	p.proto = "ipx"
	p.sep(!p.opt.Link, "IPX ")
	p.need(b, header)
	p.ipxAddress(b[18:])
	p.printf(".%04x > ", p.u16(b, 28))
	p.ipxAddress(b[6:])
	p.printf(".%04x: ", p.u16(b, 16))
	length := int(p.u16(b, 2))
	if length < header {
		p.printf("[length %d < %d]", length, header)
		p.invalid()
		return
	}
	socket := p.u16(b, 16)
	b, length = b[header:], length-header
	switch socket {
	case ipxNCP:
		p.printf("ipx-ncp %d", length)
	case ipxSAP:
		p.ipxServices(b, length)
	case ipxRIP:
		p.ipxRoutes(b, length)
	case ipxNetBIOS:
		p.printf("ipx-netbios %d", length)
	case ipxDiagnosis:
		p.printf("ipx-diags %d", length)
	case ipxNWLink:
		p.printf("ipx-nwlink-dgm %d", length)
	case ipxEIGRP:
		p.eigrp(b, length)
	default:
		p.printf("ipx-#%x %d", socket, length)
	}
}

// ipxCommand reads the command that messages between routers and servers begin with; ok is false if there is none.
func (p *Printer) ipxCommand(b []byte, length int) (command uint16, ok bool) {
	command = p.u16(b, 0)
	if length < 2 {
		p.printf(" [length %d < 2]", length)
		p.invalid()
	}
	return command, length >= 2
}

// ipxServices prints a message of the Service Advertising Protocol.
func (p *Printer) ipxServices(b []byte, length int) {
	const most, service, name = 8, 64, 48
	command, ok := p.ipxCommand(b, length)
	if !ok {
		return
	}
	b, length = b[2:], length-2
	switch command {
	case 1, 3:
		p.str(flagStr(command == 1, "ipx-sap-req", "ipx-sap-nearest-req"))
		p.printf(" %04x", p.u16(b, 0))
		return
	case 2, 4:
		p.str(flagStr(command == 2, "ipx-sap-resp", "ipx-sap-nearest-resp"))
	default:
		p.printf("ipx-sap-?%x", command)
		return
	}
	for i := 0; i < most && length > 0; i++ {
		p.need(b, 2)
		if length < 2 {
			p.invalid()
			return
		}
		p.printf(" %04x '", p.u16(b, 0))
		if length < 2+name {
			p.char('\'')
			p.invalid()
			return
		}
		p.paddedStr(b, 2, name)
		p.char('\'')
		p.need(b, 2+name+10)
		if length < 2+name+10 {
			p.invalid()
			return
		}
		p.str(" addr ")
		p.ipxAddress(b[2+name:])
		p.need(b, service)
		if length < service {
			p.invalid()
			return
		}
		b, length = b[service:], length-service
	}
}

// ipxRoutes prints a message of IPX's routing protocol.
func (p *Printer) ipxRoutes(b []byte, length int) {
	const most, route = 50, 8
	command, ok := p.ipxCommand(b, length)
	if !ok {
		return
	}
	b, length = b[2:], length-2
	n := most
	switch command {
	case 1:
		p.str("ipx-rip-req")
		n = 1
	case 2:
		p.str("ipx-rip-resp")
	default:
		p.printf("ipx-rip-?%x", command)
		return
	}
	for ; n > 0 && length > 0; n-- {
		if length < route {
			p.invalid()
			return
		}
		p.printf(" %08x/%d.%d", p.u32(b, 0), p.u16(b, 4), p.u16(b, 6))
		b, length = b[route:], length-route
	}
}

// ipxAddress prints a network and a node of it.
func (p *Printer) ipxAddress(b []byte) {
	p.printf("%08x.%02x:%02x:%02x:%02x:%02x:%02x", p.u32(b, 0), b[4], b[5], b[6], b[7], b[8], b[9])
}
