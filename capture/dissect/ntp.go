package dissect

var ntpModes = [8]string{
	"unspecified", "symmetric active", "symmetric passive", "Client", "Server", "Broadcast", "Control Message",
	"Reserved",
}

// ntp prints RFC 5905's packets.
func (p *Printer) ntp(b []byte, length int) {
	p.proto = "ntp"
	first := p.u8(b, 0)
	p.printf("NTPv%d, %s, length %d", first>>3&7, ntpModes[first&7], length)
}
