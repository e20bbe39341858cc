package dissect

var (
	tftpOps    = []tok{{1, "RRQ"}, {2, "WRQ"}, {3, "DATA"}, {4, "ACK"}, {5, "ERROR"}, {6, "OACK"}}
	tftpErrors = []tok{
		{0, "EUNDEF"}, {1, "ENOTFOUND"}, {2, "EACCESS"}, {3, "ENOSPACE"}, {4, "EBADOP"}, {5, "EBADID"},
		{6, "EEXISTS"}, {7, "ENOUSER"},
	}
)

// tftp prints TFTP, RFC 1350 and 2347.
func (p *Printer) tftp(b []byte, length int) {
	p.proto = "tftp"
	p.printf("TFTP, length %d", length)
	if length < 2 || !p.tftpMessage(p.u16(b, 0), b[2:], length-2) {
		p.trunc()
	}
}

func (p *Printer) tftpMessage(op uint16, b []byte, length int) bool {
	p.printf(", %s", tokStr(tftpOps, "tftp-#%d", uint32(op)))
	switch op {
	case 1, 2:
		return p.tftpRequest(b, length)
	case 3, 4:
		if length < 2 {
			return false
		}
		p.printf(" block %d", p.u16(b, 0))
	case 5:
		return p.tftpError(b, length)
	case 6:
		return p.tftpStrings(b, length)
	}
	return true
}

func (p *Printer) tftpRequest(b []byte, length int) bool {
	if length == 0 {
		return false
	}
	p.str(" \"")
	n := p.stringZ(b, length)
	p.char('"')
	if n == 0 || n == length {
		return false
	}
	b, length = b[n:], length-n
	p.char(' ')
	if n = p.stringZ(b, length); n == 0 {
		return false
	}
	return p.tftpStrings(b[n:], length-n)
}

// tftpStrings prints options and their values.
func (p *Printer) tftpStrings(b []byte, length int) bool {
	for length > 0 {
		p.sep(p.u8(b, 0) != 0, " ")
		n := p.stringZ(b, length)
		if n == 0 {
			return false
		}
		b, length = b[n:], length-n
	}
	return true
}

func (p *Printer) tftpError(b []byte, length int) bool {
	if length < 2 {
		return false
	}
	p.printf(" %s", tokStr(tftpErrors, "tftp-err-#%d \"", uint32(p.u16(b, 0))))
	if length == 2 {
		return false
	}
	p.str(" \"")
	n := p.stringZ(b[2:], length-2)
	p.char('"')
	return n > 0
}
