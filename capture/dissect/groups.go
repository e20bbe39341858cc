package dissect

// What IGMPv3 and MLDv2 say of multicast groups is alike but for the length of addresses: size, in bytes.

var groupRecordTypes = []tok{{1, "is_in"}, {2, "is_ex"}, {3, "to_in"}, {4, "to_ex"}, {5, "allow"}, {6, "block"}}

// groupReport prints the group records of a report (RFC 3376, section 4.2; RFC 3810, section 5.2). unknown is the
// format of a record's type that has no name.
func (p *Printer) groupReport(b []byte, length, size int, unknown string) {
	const header = 4
	groups := int(p.u16(b, 6))
	p.printf(", %d group record(s)", groups)
	if p.opt.Verbose == 0 {
		return
	}
	at := 8
	for range groups {
		if length < at+header+size {
			p.str(" [invalid number of groups]")
			return
		}
		p.addrAt(" [gaddr ", b, at+header, size)
		p.char(' ')
		p.str(tokStr(groupRecordTypes, unknown, uint32(p.u8(b, at))))
		n := int(p.u16(b, at+2))
		at += header + size
		if length < at+size*n {
			p.printf(" [invalid number of sources %d]", n)
			return
		}
		if p.opt.Verbose == 1 {
			p.printf(", %d source(s)", n)
		} else {
			p.groupSources(b, at, n, size)
		}
		at += size * n
		p.char(']')
	}
}

// groupSources prints the n addresses of sources that stand in b from at on.
func (p *Printer) groupSources(b []byte, at, n, size int) {
	p.str(" {")
	for i := range n {
		p.addrAt(" ", b, at+size*i, size)
	}
	p.str(" }")
}
