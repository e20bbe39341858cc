package dissect

// Kinds of a spanning tree message (IEEE 802.1D, 9.3; IEEE 802.1w).
const (
	stpConfig = 0x00
	stpRapid  = 0x02
	stpChange = 0x80
)

var (
	stpVersions = []tok{{0, "802.1d"}, {2, "802.1w"}, {3, "802.1s"}, {4, "802.1aq"}}
	stpKinds    = []tok{{stpConfig, "Config"}, {stpRapid, "Rapid STP"}, {stpChange, "Topology Change"}}
	stpFlags    = []tok{
		{0x01, "Topology change"}, {0x02, "Proposal"}, {0x10, "Learn"}, {0x20, "Forward"}, {0x40, "Agreement"},
		{0x80, "Topology change ACK"},
	}
	stpRoles = []tok{{0, "Unknown"}, {1, "Alternate"}, {2, "Root"}, {3, "Designated"}}
)

// stp prints a message of a spanning tree.
func (p *Printer) stp(b []byte, length int) {
	const header, config = 4, 35
	p.proto = "stp"
	if length < header {
		p.invalid()
		return
	}
	if p.u16(b, 0) != 0 {
		p.printf("unknown STP version, length %d", length)
		return
	}
	version := uint32(p.u8(b, 2))
	p.printf("STP %s", tokStr(stpVersions, "Unknown STP protocol (0x%02x)", version))
	if version != 0 && version != 2 && version != 3 && version != 4 {
		return
	}
	kind := uint32(p.u8(b, 3))
	p.printf(", %s", tokStr(stpKinds, "Unknown BPDU Type (0x%02x)", kind))
	least := config
	switch {
	case kind == stpConfig:
	case kind != stpRapid || version == 0:
		return
	case version == 2:
		least = config + 1
	default:
		p.stpMultiple(b, length, version == 4)
		return
	}
	if length < least {
		p.invalid()
		return
	}
	p.stpConfig(b, length, version)
}

func (p *Printer) stpConfig(b []byte, length int, version uint32) {
	flags := uint32(p.u8(b, 4))
	p.printf(", Flags [%s]", bitStr(stpFlags, "none", flags, ", "))
	p.need(b, 27)
	p.str(", bridge-id ")
	p.bridgeID(b[17:25])
	p.printf(".%04x, length %d", p.u16(b, 25), length)
	if p.opt.Verbose == 0 {
		return
	}
	p.stpTimes(b)
	p.str("\n\troot-id ")
	p.bridgeID(b[5:13])
	p.printf(", root-pathcost %d", p.u32(b, 13))
	if version == 2 {
		p.printf(", port-role %s", stpRole(flags))
	}
}

func stpRole(flags uint32) string { return tokStr(stpRoles, "Unknown", flags>>2&3) }

// stpTimes prints the times of a message, which are in units of 1/256 s.
func (p *Printer) stpTimes(b []byte) {
	seconds := func(i int) float64 { return float64(p.u16(b, i)) / 256 }
	p.printf("\n\tmessage-age %.2fs, max-age %.2fs, hello-time %.2fs, forwarding-delay %.2fs", seconds(27), seconds(29),
		seconds(31), seconds(33))
}

func (p *Printer) bridgeID(b []byte) {
	p.hexBytes(b[:2])
	p.char('.')
	p.colons(b[2:8])
}
