package dissect

// ofType is a type of OpenFlow message: its name, and how long the body is at least or exactly; -1 is any length.
type ofType struct {
	name        string
	least, only int
}

func ofLeast(name string, n int) ofType { return ofType{name, n, -1} }
func ofOnly(name string, n int) ofType  { return ofType{name, 0, n} }

var (
	ofVersions = []tok{{1, "1.0"}, {2, "1.1"}, {3, "1.2"}, {4, "1.3"}, {5, "1.4"}, {6, "1.5"}}
	// ofTypes are the types by version.
	ofTypes = map[uint8][]ofType{
		1: {
			ofLeast("HELLO", 0), ofLeast("ERROR", 4), ofLeast("ECHO_REQUEST", 0), ofLeast("ECHO_REPLY", 0), ofLeast("VENDOR", 4),
			ofOnly("FEATURES_REQUEST", 0), ofLeast("FEATURES_REPLY", 24), ofOnly("GET_CONFIG_REQUEST", 0),
			ofOnly("GET_CONFIG_REPLY", 4), ofOnly("SET_CONFIG", 4), ofLeast("PACKET_IN", 12), ofOnly("FLOW_REMOVED", 80),
			ofOnly("PORT_STATUS", 56), ofLeast("PACKET_OUT", 8), ofLeast("FLOW_MOD", 64), ofOnly("PORT_MOD", 24),
			ofLeast("STATS_REQUEST", 4), ofLeast("STATS_REPLY", 4), ofOnly("BARRIER_REQUEST", 0), ofOnly("BARRIER_REPLY", 0),
			ofOnly("QUEUE_GET_CONFIG_REQUEST", 4), ofLeast("QUEUE_GET_CONFIG_REPLY", 8),
		},
		4: {
			ofLeast("HELLO", 0), ofLeast("ERROR", 4), ofLeast("ECHO_REQUEST", 0), ofLeast("ECHO_REPLY", 0),
			ofLeast("EXPERIMENTER", 8), ofOnly("FEATURES_REQUEST", 0), ofOnly("FEATURES_REPLY", 24),
			ofOnly("GET_CONFIG_REQUEST", 0), ofOnly("GET_CONFIG_REPLY", 4), ofOnly("SET_CONFIG", 4), ofLeast("PACKET_IN", 0),
			ofLeast("FLOW_REMOVED", 0), ofOnly("PORT_STATUS", 72), ofLeast("PACKET_OUT", 0), ofLeast("FLOW_MOD", 0),
			ofLeast("GROUP_MOD", 0), ofOnly("PORT_MOD", 32), ofOnly("TABLE_MOD", 8), ofLeast("MULTIPART_REQUEST", 0),
			ofLeast("MULTIPART_REPLY", 0), ofOnly("BARRIER_REQUEST", 0), ofOnly("BARRIER_REPLY", 0),
			ofOnly("QUEUE_GET_CONFIG_REQUEST", 8), ofLeast("QUEUE_GET_CONFIG_REPLY", 0), ofOnly("ROLE_REQUEST", 16),
			ofOnly("ROLE_REPLY", 16), ofOnly("GET_ASYNC_REQUEST", 0), ofOnly("GET_ASYNC_REPLY", 24), ofOnly("SET_ASYNC", 24),
			ofLeast("METER_MOD", 0),
		},
	}
)

// openFlow prints the headers of the messages that a segment begins with.
func (p *Printer) openFlow(b []byte, length int) {
	const header = 8
	p.proto = "openflow"
	p.str(": OpenFlow")
	partial := func(b []byte, left int) {
		p.str(" (end of TCP payload)")
		p.need(b, left)
	}
	for length > 0 {
		version := p.u8(b, 0)
		p.printf("\n\tversion %s", tokStr(ofVersions, "unknown (0x%02x)", uint32(version)))
		if length < 2 {
			partial(b[1:], length-1)
			return
		}
		code := p.u8(b, 1)
		kind := ofType{only: -1}
		if known := ofTypes[version]; int(code) < len(known) {
			kind = known[code]
			p.printf(", type %s", kind.name)
		} else {
			p.printf(", type unknown (0x%02x)", code)
		}
		if length < 4 {
			partial(b[2:], length-2)
			return
		}
		size := int(p.u16(b, 2))
		p.printf(", length %d", size)
		p.sep(size < header, " (too short!)")
		if length < header {
			partial(b[4:], length-4)
			return
		}
		p.printf(", xid 0x%08x", p.u32(b, 4))
		b, length, size = b[header:], length-header, size-header
		if size < 0 {
			p.invalid()
			p.need(b, length)
			return
		}
		if kind.only >= 0 && size != kind.only || size < kind.least {
			p.invalid()
		}
		p.need(b, size)
		if size > length {
			return
		}
		b, length = b[size:], length-size
	}
}
