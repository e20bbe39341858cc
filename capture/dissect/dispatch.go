package dissect

// ipHeader is what the protocols above IP need of it.
type ipHeader struct {
	version  int
	src, dst []byte // 4 or 16 bytes; dst is the destination of the header, not of a source route
	last     []byte // the destination after source routing: what checksums are made with
	ttl      uint8  // or hop limit
	fragment bool   // more fragments follow this first one
	direct   bool   // the IP header itself names the transport: there are no extension headers between
}

// link prints a frame by the capture's link type.
func (p *Printer) link(pkt *Packet) {
	switch pkt.LinkType {
	default:
		p.unknown(pkt.Data)
	}
}

// ipProtocol prints the payload of an IP protocol.
func (p *Printer) ipProtocol(proto uint8, b []byte, length int, h *ipHeader) {
	switch proto {
	default:
		p.str(" ip-proto-")
		p.dec(uint64(proto))
		p.char(' ')
		p.num(length)
	}
}

// udpPort prints the payload of UDP by its ports, in tcpdump's order, and says whether it knows them.
func (p *Printer) udpPort(src, dst uint16, b []byte, length int, h *ipHeader) bool {
	return false
}
