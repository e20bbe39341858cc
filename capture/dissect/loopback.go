package dissect

import "encoding/binary"

// loopback prints a frame of the Ethernet Configuration Testing Protocol.
func (p *Printer) loopback(b []byte, length int) {
	p.proto = "loopback"
	p.str("Loopback")
	le := func() uint16 { return binary.LittleEndian.Uint16(p.part(b, 0, 2)) }
	skip := func(n int) { b, length = from(b, n), length-n }
	wrong := func() {
		p.invalid()
		p.need(b, length)
	}
	if length < 2 {
		wrong()
		return
	}
	n := int(le())
	skip(2)
	p.printf(", skipCount %d", n)
	if n%8 != 0 {
		p.str(" (bogus)")
	}
	if n > length {
		wrong()
		return
	}
	p.need(b, n)
	skip(n)
	if length < 2 {
		wrong()
		return
	}
	function := le()
	skip(2)
	switch function {
	case 1:
		p.str(", Reply")
		if length < 2 {
			wrong()
			return
		}
		p.printf(", receipt number %d", le())
		skip(2)
	case 2:
		p.str(", Forward Data")
		if length < 6 {
			wrong()
			return
		}
		to := p.part(b, 0, 6)
		p.str(", forwarding address ")
		p.mac(to)
		skip(6)
	default:
		p.printf(",  invalid (%d)", function)
		p.need(b, length)
		return
	}
	p.printf(", data (%d octets)", length)
	p.need(b, length)
}
