package filter

// node is a part of an expression that is true or false for a frame.
type node interface{ position() int }

// value is a part of an expression that is a number of 32 bits.
type value interface{ position() int }

// at is the byte offset in the expression of what an error in the node should point at.
type at int

func (p at) position() int { return int(p) }

// addrType is the type qualifier of an operand.
type addrType int

const (
	typeDefault addrType = iota
	typeHost
	typeNet
	typePort
	typePortRange
	typeGateway
	typeProto
	typeProtoChain
	typeUndef
)

// direction is the direction qualifier of an operand.
type direction int

const (
	dirDefault direction = iota
	dirSrc
	dirDst
	dirOr
	dirAnd
)

// qualifier is what stands before an operand, or is inherited from the operand before.
type qualifier struct {
	proto proto
	dir   direction
	typ   addrType
}

// nothingToInherit is the qualifier after a primitive without operand.
var nothingToInherit = qualifier{proto: protoUndef, typ: typeUndef}

type (
	// logic is l and r, or l or r.
	logic struct {
		at
		and  bool
		l, r node
	}

	not struct {
		at
		x node
	}

	// operand is a number, name or address with its qualifier.
	operand struct {
		at
		qualifier
		tok    token
		mask   token // tokEnd if there is none
		prefix token // tokEnd if there is none
	}

	// protocol is a protocol without operand.
	protocol struct {
		at
		proto proto
	}

	// cast is broadcast or multicast.
	cast struct {
		at
		proto     proto
		multicast bool
	}

	// lengthTest is less or greater.
	lengthTest struct {
		at
		greater bool
		n       uint32
	}

	// byteTest is byte index op val.
	byteTest struct {
		at
		op         string
		index, val uint32
	}

	// plain is a keyword with an optional number: inbound, outbound, ifindex, vlan, mpls, pppoed, pppoes, geneve.
	plain struct {
		at
		word string
		n    uint32
		hasN bool
	}

	// llc is llc with an optional type of frame.
	llc struct {
		at
		frame string
	}

	// relation compares two numbers: op is one of the BPF jumps, negated if not.
	relation struct {
		at
		op     int
		negate bool
		l, r   value
	}
)

type (
	constant struct {
		at
		n uint32
	}

	frameLen struct{ at }

	// load is proto[index:size].
	load struct {
		at
		proto proto
		index value
		size  uint32
	}

	// computation is l op r: op is one of the BPF operations.
	computation struct {
		at
		op   int
		l, r value
	}

	negative struct {
		at
		x value
	}
)
