package filter

import (
	"slices"
)

// snapLen is what a program returns for a frame that it selects: tcpdump's default snapshot length in bytes.
const snapLen = 262144

// kernelMax is the length of the longest program that a socket takes (BPF_MAXINSNS of linux/bpf_common.h).
const kernelMax = 4096

// Filter is a compiled expression. It is immutable: any number of goroutines may use it at the same time.
type Filter struct {
	prog []Instruction
}

// Meta is what the kernel knows of a frame beside its bytes; see [CompileSocket].
type Meta struct {
	Outgoing bool   // sent by this host (PACKET_OUTGOING)
	Ifindex  uint32 // index of the interface
	HasVLAN  bool   // the outer VLAN tag is in VLANTCI instead of the bytes
	VLANTCI  uint16 // priority, DEI and VLAN ID, host byte order
}

// packetOutgoing is PACKET_OUTGOING of linux/if_packet.h, and so it stands in the headers of cooked captures.
const packetOutgoing = 4

func (m *Meta) load(k uint32) (uint32, bool) {
	if m == nil {
		return 0, false
	}
	switch k {
	case adPktType:
		if m.Outgoing {
			return packetOutgoing, true
		}
		return 0, true
	case adIfindex:
		return m.Ifindex, true
	case adVLANTag:
		return uint32(m.VLANTCI), true
	case adVLANTagPresent:
		if m.HasVLAN {
			return 1, true
		}
		return 0, true
	}
	return 0, false
}

// Compile translates expr for frames of type link, as they stand in a capture file: a VLAN tag is among the bytes,
// and the direction is known only where the link type says it. The empty expression selects all frames.
//
// What is wrong with the expression, or not supported, is a [*SyntaxError]; a link type without filters is another
// error.
func Compile(expr string, link LinkType) (*Filter, error) {
	return Options{}.Compile(expr, link)
}

// CompileSocket is [Compile] for frames that come from a packet socket, which keeps the outer VLAN tag beside the
// bytes: "vlan" looks at both, and "inbound", "outbound" and "ifindex" are known for every link type. The filter's
// Program is for the socket itself, MatchMeta decides the same outside of the kernel.
//
// The program is that of libpcap for a live capture, but for one thing: in some expressions with a VLAN ID behind
// something else, as "ip6 and vlan 10", libpcap 1.10.3 jumps past the load of the tag, and such frames never match.
func CompileSocket(expr string, link LinkType) (*Filter, error) {
	return Options{Origin: FromSocket}.Compile(expr, link)
}

// Origin is where frames come from, and so what is known of them beside their bytes.
type Origin int

// The origins of frames.
const (
	FromFile   Origin = iota // nothing is known
	FromSocket               // direction, interface and the outer VLAN tag: see CompileSocket
	// FromNowhere is for no capture at all, to see a program: as FromSocket, but with all VLAN tags among the bytes. So
	// does tcpdump -d without an interface.
	FromNowhere
)

// Options say how an expression is translated; their zero value is what [Compile] does.
type Options struct {
	Origin Origin
	// NoOptimize leaves the program as it was generated: tcpdump -O. Then an expression that matches nothing is no error.
	NoOptimize bool
}

// Compile translates expr for frames of type link. See the function Compile for its errors.
func (o Options) Compile(expr string, link LinkType) (*Filter, error) {
	l, err := newLayout(link)
	if err != nil {
		return nil, err
	}
	tree, err := parse(expr)
	if err != nil {
		return nil, err
	}
	prog, err := generate(expr, tree, l, o)
	if err != nil {
		return nil, err
	}
	return &Filter{prog: prog}, nil
}

// Match reports whether the filter selects the frame whose first bytes are data and which had wireLen bytes before
// it was cut to the snapshot length. It allocates nothing, keeps no reference to data, and its time is bounded by the
// program's length.
func (f *Filter) Match(data []byte, wireLen int) bool {
	return run(f.prog, data, uint32(wireLen), nil) != 0
}

// MatchMeta is Match for a filter of [CompileSocket].
func (f *Filter) MatchMeta(data []byte, wireLen int, meta Meta) bool {
	return run(f.prog, data, uint32(wireLen), &meta) != 0
}

// Instructions returns a copy of the filter's instructions, whoever takes them: with the loops of "protochain" they are
// no program for a kernel.
func (f *Filter) Instructions() []Instruction { return slices.Clone(f.prog) }

// Program returns a copy of the filter's instructions, for SO_ATTACH_FILTER; what they select they cut to 262144
// bytes. It is nil if the kernel would not take them: "protochain" needs a loop, what follows "geneve or" reads memory
// that is not written, an index may be negative, and 4096 instructions are the most.
//
// On a packet socket the program of [Compile] decides as Match does, but for VLAN tags (see [CompileSocket]) and
// shifts by a number of bits that is computed from the frame: where it is above 31 the kernel takes it modulo 32.
func (f *Filter) Program() []Instruction {
	if len(f.prog) > kernelMax || verify(f.prog) != nil {
		return nil
	}
	return slices.Clone(f.prog)
}
