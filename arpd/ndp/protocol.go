package ndp

import (
	"golang.org/x/net/bpf"

	"proxyarpd/arpd"
	"proxyarpd/internal/wire"
)

// protocol is arpd.Protocol for IPv6, with what was read last.
type protocol struct{ read Solicitation }

func (*protocol) EtherType() wire.EtherType { return wire.EtherTypeIPv6 }

func (n *protocol) Read(frame []byte) Verdict { return n.read.Read(frame) }

func (n *protocol) Asker() arpd.Asker { return n.read.Asker() }

func (n *protocol) Answer(reply []byte, p *Policy) (int, Verdict) { return Answer(reply, &n.read, p) }

func (*protocol) Claim(frame []byte, ifindex int) (arpd.Claim, bool) {
	return readClaim(frame, ifindex)
}

// readClaim reads a frame that came in by an interface: an advertisement says that its
// target is its sender's, a solicitation that its source is. One that the kernel would
// not heed is none.
func readClaim(frame []byte, ifindex int) (c arpd.Claim, ok bool) {
	eth := wire.Ethernet(frame)
	if !eth.Valid() {
		return c, false
	}
	ip, msg, fragment, v := message(eth)
	if v != arpd.NotSpecified || fragment || valid(ip, msg) != arpd.NotSpecified {
		return c, false
	}
	c = arpd.Claim{Index: ifindex, MAC: eth.Src()}
	opt := uint8(wire.NDOptSourceLinkLayer)
	switch msg[0] {
	case wire.ICMPv6NeighSolicit:
		c.IP = ip.SrcAddr()
	case wire.ICMPv6NeighAdvert:
		c.IP, opt = msg.Target(), wire.NDOptTargetLinkLayer
	default:
		return arpd.Claim{}, false
	}
	mac, has, ok := msg.LinkLayer(opt)
	if has {
		c.MAC = mac
	}
	return c, ok && !c.IP.IsUnspecified() && !c.IP.IsMulticast()
}

// snapLen is what is kept of a frame: solicitations are far shorter.
const snapLen = 2048

const packetOutgoing = 4 // PACKET_OUTGOING, include/uapi/linux/if_packet.h

// Offsets into an Ethernet frame with an IPv6 packet.
const (
	nextHeaderAt = wire.EthernetLen + 6
	payloadAt    = wire.EthernetLen + wire.IPv6Len
)

// Filter passes received solicitations and advertisements. They may stand behind one
// extension header, a hop-by-hop, destination options or fragment header; behind more
// nobody sends them, and the kernel has them alone.
func (*protocol) Filter() []bpf.Instruction {
	const pass, drop = 22, 23
	to := func(from, target int) uint8 { return uint8(target - from - 1) }
	return []bpf.Instruction{
		0: bpf.LoadExtension{Num: bpf.ExtType},
		1: bpf.JumpIf{Cond: bpf.JumpEqual, Val: packetOutgoing, SkipTrue: to(1, drop)},
		2: bpf.LoadAbsolute{Off: nextHeaderAt, Size: 1},
		3: bpf.LoadConstant{Dst: bpf.RegX, Val: 0},
		4: bpf.JumpIf{Cond: bpf.JumpEqual, Val: wire.ProtoICMPv6, SkipTrue: to(4, 19)},
		5: bpf.JumpIf{Cond: bpf.JumpEqual, Val: wire.ProtoHopByHop, SkipTrue: to(5, 11)},
		6: bpf.JumpIf{Cond: bpf.JumpEqual, Val: wire.ProtoDestOpts, SkipTrue: to(6, 11)},
		7: bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: wire.ProtoFragment, SkipTrue: to(7, drop)},
		// The first fragment has offset 0.
		8:  bpf.LoadAbsolute{Off: payloadAt + 2, Size: 2},
		9:  bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 0xfff8, SkipTrue: to(9, drop)},
		10: bpf.Jump{Skip: 3},
		// The length of options is in units of 8 bytes, the first not counted.
		11:   bpf.LoadAbsolute{Off: payloadAt + 1, Size: 1},
		12:   bpf.ALUOpConstant{Op: bpf.ALUOpShiftLeft, Val: 3},
		13:   bpf.Jump{Skip: 1},
		14:   bpf.LoadConstant{Dst: bpf.RegA, Val: 0},
		15:   bpf.ALUOpConstant{Op: bpf.ALUOpAdd, Val: 8},
		16:   bpf.TAX{},
		17:   bpf.LoadAbsolute{Off: payloadAt, Size: 1},
		18:   bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: wire.ProtoICMPv6, SkipTrue: to(18, drop)},
		19:   bpf.LoadIndirect{Off: payloadAt, Size: 1},
		20:   bpf.JumpIf{Cond: bpf.JumpEqual, Val: wire.ICMPv6NeighSolicit, SkipTrue: to(20, pass)},
		21:   bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: wire.ICMPv6NeighAdvert, SkipTrue: to(21, drop)},
		pass: bpf.RetConstant{Val: snapLen},
		drop: bpf.RetConstant{Val: 0},
	}
}
