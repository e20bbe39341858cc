package dissect

var (
	bfdPorts   = []tok{{portBFD, "Control"}, {portBFDMultihop, "Multihop"}, {portBFDLAG, "Lag"}}
	bfdStates  = [4]string{"AdminDown", "Down", "Init", "Up"}
	bfdFlags0  = []tok{{0x80, "I Hear You"}, {0x40, "Demand"}, {0x20, "Poll"}, {0x10, "Final"}, {0x08, bfdIndependent}, {0x04, bfdAuth}, {0x02, "Reserved"}, {0x01, "Reserved"}}
	bfdFlags1  = []tok{{0x20, "Poll"}, {0x10, "Final"}, {0x08, bfdIndependent}, {0x04, bfdAuth}, {0x02, "Demand"}, {0x01, "Multipoint"}}
	bfdDiags   = []tok{{0, "No Diagnostic"}, {1, "Control Detection Time Expired"}, {2, "Echo Function Failed"}, {3, "Neighbor Signaled Session Down"}, {4, "Forwarding Plane Reset"}, {5, "Path Down"}, {6, "Concatenated Path Down"}, {7, "Administratively Down"}, {8, "Reverse Concatenated Path Down"}}
	bfdAuthent = []tok{{1, "Simple Password"}, {2, "Keyed MD5"}, {3, "Meticulous Keyed MD5"}, {4, "Keyed SHA1"}, {5, "Meticulous Keyed SHA1"}}
)

const (
	bfdIndependent = "Control Plane Independent"
	bfdAuth        = "Authentication Present"
	bfdHeaderLen   = 24
)

// bfd prints RFC 5880's packets and version 0's.
func (p *Printer) bfd(b []byte, length int, port uint16) {
	p.proto = "bfd"
	if port == portBFDEcho {
		p.printf("BFD, Echo, length: %d", length)
		p.bfdDump(b, length)
		return
	}
	p.need(b, bfdHeaderLen)
	flags := uint32(b[1])
	switch version := b[0] >> 5; version {
	case 0:
		p.bfdControl(b, length, "BFDv0", "Control", bitStr(bfdFlags0, "none", flags, ", "))
	case 1:
		what := tokStr(bfdPorts, "unknown (%d)", uint32(port)) + ", State " + bfdStates[flags>>6]
		p.bfdControl(b, length, "BFDv1", what, bitStr(bfdFlags1, "none", flags&0x3f, ", "))
	default:
		p.printf("BFDv%d, Control, length: %d", version, length)
		p.bfdDump(b, length)
	}
}

func (p *Printer) bfdDump(b []byte, length int) {
	if p.opt.Verbose > 0 {
		p.hexLines("\n\t", upto(b, length), 0)
	}
}

func (p *Printer) bfdControl(b []byte, length int, name, what, flags string) {
	if p.opt.Verbose == 0 {
		p.printf("%s, %s, Flags: [%s], length: %d", name, what, flags, length)
		return
	}
	diag := uint32(b[0] & 0x1f)
	p.printf("%s, length: %d\n\t%s, Flags: [%s], Diagnostic: %s (0x%02x)", name, length, what, flags,
		tokStr(bfdDiags, "unknown", diag), diag)
	p.printf("\n\tDetection Timer Multiplier: %d (%d ms Detection time), BFD Length: %d",
		b[2], uint32(b[2])*p.u32(b, 12)/1000, b[3])
	p.printf("\n\tMy Discriminator: 0x%08x, Your Discriminator: 0x%08x", p.u32(b, 4), p.u32(b, 8))
	p.printf("\n\t  Desired min Tx Interval:    %4d ms", p.u32(b, 12)/1000)
	p.printf("\n\t  Required min Rx Interval:   %4d ms", p.u32(b, 16)/1000)
	p.printf("\n\t  Required min Echo Interval: %4d ms", p.u32(b, 20)/1000)
	if b[1]&0x04 != 0 {
		p.bfdAuthentication(b[bfdHeaderLen:])
	}
}

// bfdAuthentication prints RFC 5880 4.2 to 4.4.
func (p *Printer) bfdAuthentication(b []byte) {
	p.need(b, 4)
	kind, n := b[0], int(b[1])
	p.printf("\n\tAuthentication: %s (%d), length: %d", tokStr(bfdAuthent, "Unknown", uint32(kind)), kind, n)
	p.printf("\n\t  Auth Key ID: %d", b[2])
	digest := func(size int, name string) {
		if n != size+8 {
			p.printf("[invalid length %d]", n)
			return
		}
		p.printf(", Sequence Number: 0x%08x", p.u32(b, 4))
		d := p.part(b, 8, size)
		p.printf("\n\t  %s: ", name)
		p.hexBytes(d)
	}
	switch kind {
	case 1:
		if n < 4 || n > 19 {
			p.printf("[invalid length %d]", n)
			return
		}
		p.str(", Password: ")
		p.safe(upto(b[3:], n-3))
		p.need(b, n)
	case 2, 3:
		digest(16, "Digest")
	case 4, 5:
		digest(20, "Hash")
	}
}
