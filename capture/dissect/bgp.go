package dissect

// bgp prints that a segment holds BGP.
func (p *Printer) bgp(b []byte) {
	p.proto = "bgp"
	p.str(": BGP")
}
