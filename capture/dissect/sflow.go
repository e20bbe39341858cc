package dissect

// sflow prints sFlow version 5: which agent sends.
func (p *Printer) sflow(b []byte, length int) {
	const headerLen, headerLen6 = 28, 40
	p.proto = "sflow"
	ip := p.u32(b, 4)
	if length < headerLen && ip == 1 || length < headerLen6 && ip == 2 {
		p.printf("sFlowv%d [length %d < %d]", p.u32(b, 0), length, headerLen)
		p.invalid()
		return
	}
	p.need(b, headerLen)
	version := p.u32(b, 0)
	if version != 5 {
		p.printf("sFlow version %d packet not supported", version)
		return
	}
	size := 16
	if ip == 1 {
		size = 4
	}
	agent, id := p.part(b, 8, size), p.u32(b, 8+size)
	p.printf("sFlowv5, %s agent ", flagStr(ip == 1, "IPv4", "IPv6"))
	p.addr(agent)
	p.printf(", agent-id %d, length %d", id, length)
}
