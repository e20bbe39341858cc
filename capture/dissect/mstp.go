package dissect

// Where the parts of a message of multiple spanning trees are (IEEE 802.1Q, 14.6).
const (
	mstpLeast  = 102
	mstpLen3   = 36
	mstpName   = 39
	mstpTrees  = 102 // an entry for each further tree
	mstpTree   = 16  // bytes of an entry
	mstpConfig = 64  // bytes that the length of version 3 counts before the entries
	spbLeast   = 87  // bytes of the part of 802.1aq, with its length
)

// stpMultiple prints a message of 802.1s, or of 802.1aq, which says more after it.
func (p *Printer) stpMultiple(b []byte, length int, spb bool) {
	const before = 36 // what the length of version 3 does not count
	if length < mstpLeast || p.u8(b, 35) != 0 {
		p.invalid()
		return
	}
	len3 := int(p.u16(b, mstpLen3)) + 2
	if length < before+len3 {
		p.invalid()
		return
	}
	p.mstp(b, length)
	if !spb {
		return
	}
	len4 := int(p.u16(b, mstpLen3+len3)) + 2
	if length < before+len3+len4 || len4 < spbLeast {
		p.invalid()
		return
	}
	if p.opt.Verbose > 0 {
		p.spb(b[before+len3:])
	}
}

func (p *Printer) mstp(b []byte, length int) {
	flags := uint32(p.u8(b, 4))
	p.printf(", CIST Flags [%s], length %d", bitStr(stpFlags, "none", flags, ", "), length)
	if p.opt.Verbose == 0 {
		return
	}
	p.printf("\n\tport-role %s, CIST root-id ", stpRole(flags))
	p.bridgeID(p.part(b, 5, 8))
	p.printf(", CIST ext-pathcost %d\n\tCIST regional-root-id ", p.u32(b, 13))
	p.bridgeID(p.part(b, 17, 8))
	p.printf(", CIST port-id %04x,", p.u16(b, 25))
	p.stpTimes(b)
	len3 := int(p.u16(b, mstpLen3))
	p.printf("\n\tv3len %d, MCID Name ", len3)
	p.safeString(p.part(b, mstpName, 32))
	p.printf(", rev %d,\n\t\tdigest ", p.u16(b, mstpName+32))
	p.hexBytes(p.part(b, mstpName+34, 16))
	p.printf(", CIST int-root-pathcost %d,\n\tCIST bridge-id ", p.u32(b, 89))
	p.bridgeID(p.part(b, 93, 8))
	p.printf(", CIST remaining-hops %d", p.u8(b, 101))
	for at := mstpTrees; at+mstpTree <= mstpTrees+len3-mstpConfig; at += mstpTree {
		p.mstpTree(b, at)
	}
}

// mstpTree prints the entry of one tree.
func (p *Printer) mstpTree(b []byte, at int) {
	number := p.u16(b, at+1) & 0x0fff
	flags := uint32(p.u8(b, at))
	p.printf("\n\tMSTI %d, Flags [%s], port-role %s\n\t\tMSTI regional-root-id ", number,
		bitStr(stpFlags, "none", flags, ", "), stpRole(flags))
	p.bridgeID(p.part(b, at+1, 8))
	p.printf(", pathcost %d\n\t\tMSTI bridge-prio %d, port-prio %d, hops %d", p.u32(b, at+9), p.u8(b, at+13)>>4,
		p.u8(b, at+14)>>4, p.u8(b, at+15))
}

// spb prints what 802.1aq adds.
func (p *Printer) spb(b []byte) {
	p.printf("\n\tv4len %d, AUXMCID Name ", p.u16(b, 0))
	p.safeString(p.part(b, 3, 32))
	p.printf(", Rev %d,\n\t\tdigest ", p.u16(b, 35))
	p.hexBytes(p.part(b, 37, 16))
	agreement := p.u8(b, 53)
	format, convention := p.u8(b, 55), p.u8(b, 56)
	p.printf("\n\tAgreement num %d, Discarded Agreement num %d, Agreement valid-flag %d,", agreement>>6, agreement>>4&3,
		agreement>>3&1)
	p.printf("\n\tRestricted role-flag: %d, Format id %d cap %d, Convention id %d cap %d,", agreement>>2&1, format>>4,
		format, convention>>4, convention)
	p.printf("\n\tEdge count %d, Agreement digest ", p.u16(b, 57))
	p.hexBytes(p.part(b, 67, 20))
}
