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

// Filter passes received solicitations and advertisements, those behind the fragment
// header of a first fragment too.
func (*protocol) Filter() []bpf.Instruction {
	const message, pass, drop = 10, 13, 14
	to := func(from, target int) uint8 { return uint8(target - from - 1) }
	return []bpf.Instruction{
		0: bpf.LoadExtension{Num: bpf.ExtType},
		1: bpf.JumpIf{Cond: bpf.JumpEqual, Val: packetOutgoing, SkipTrue: to(1, drop)},
		2: bpf.LoadConstant{Dst: bpf.RegX, Val: 0}, // where the message stands in the payload
		3: bpf.LoadAbsolute{Off: nextHeaderAt, Size: 1},
		4: bpf.JumpIf{Cond: bpf.JumpEqual, Val: wire.ProtoICMPv6, SkipTrue: to(4, message)},
		5: bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: wire.ProtoFragment, SkipTrue: to(5, drop)},
		6: bpf.LoadAbsolute{Off: payloadAt, Size: 4}, // next header, reserved, offset, flags
		7: bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0xff00fff8},
		8: bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: wire.ProtoICMPv6 << 24, SkipTrue: to(8, drop)},
		9: bpf.LoadConstant{Dst: bpf.RegX, Val: fragmentLen},

		message: bpf.LoadIndirect{Off: payloadAt, Size: 1},
		11:      bpf.JumpIf{Cond: bpf.JumpEqual, Val: wire.ICMPv6NeighSolicit, SkipTrue: to(11, pass)},
		12:      bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: wire.ICMPv6NeighAdvert, SkipTrue: to(12, drop)},
		pass:    bpf.RetConstant{Val: snapLen},
		drop:    bpf.RetConstant{Val: 0},
	}
}
