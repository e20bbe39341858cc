package arpd

import (
	"golang.org/x/net/bpf"

	"proxyarpd/internal/wire"
)

// Protocol is how the frames of another protocol than ARP are read and answered. A
// Responder with one has all else in common with that of ARP: socket, batches, what is
// held, limits, counters, captures. Package ndp has that of IPv6.
//
// A Responder calls it on Run's goroutine, frame by frame. What Read has found it keeps
// until the next Read.
type Protocol interface {
	EtherType() wire.EtherType
	// Filter is the socket's program where Options.Filter attaches no better one. It
	// may pass more than requests; each frame that it passes ends in a verdict.
	Filter() []bpf.Instruction
	// Read checks and reads a frame. NotSpecified is a well-formed request, any other
	// verdict the frame's end.
	Read(frame []byte) Verdict
	// Asker is who sent the request that was read. Its Index is not set.
	Asker() Asker
	// Answer decides about the request that was read, and with Answered writes the
	// reply of n bytes to reply, which has room for ReplyRoom.
	Answer(reply []byte, p *Policy) (n int, v Verdict)
	// Claim reads a frame whose sender says that an address is its own.
	Claim(frame []byte, ifindex int) (Claim, bool)
}

// ReplyRoom is the length in bytes of the longest reply, of any protocol.
const ReplyRoom = wire.AdvertisementLen

// MarkTaken marks a frame (skb->mark) that a tc program keeps from the kernel's own
// neighbour discovery by making it another host's (PACKET_OTHERHOST): sockets of one
// EtherType still see it.
const MarkTaken = 0x7061726e // MARK_ND of forward/claim/bpf/nd.h

// question is what was read last: a request of ARP, or one of another protocol. ARP's
// costs no more than a branch, and no call by an interface.
type question struct {
	arp   Request
	other Protocol // nil: ARP
}

// etherType is that of the frames.
func (q *question) etherType() wire.EtherType {
	if q.other != nil {
		return q.other.EtherType()
	}
	return wire.EtherTypeARP
}

// filter is the program of the socket where no better one is attached.
func (q *question) filter() []bpf.Instruction {
	if q.other != nil {
		return q.other.Filter()
	}
	return filter()
}

// what names the frames in errors and in the log.
func (q *question) what() string {
	if q.other != nil {
		return "ND"
	}
	return "ARP"
}

func (q *question) parse(frame []byte) Verdict {
	if q.other != nil {
		return q.other.Read(frame)
	}
	return q.arp.Read(frame)
}

func (q *question) asker(p *Policy) Asker {
	if q.other == nil {
		return q.arp.asker(p)
	}
	a := q.other.Asker()
	a.Index = p.Index
	return a
}

func (q *question) answer(reply []byte, p *Policy) (int, Verdict) {
	if q.other != nil {
		return q.other.Answer(reply, p)
	}
	return Answer(reply, &q.arp, p)
}

func (q *question) claim(frame []byte, ifindex int) (Claim, bool) {
	if q.other != nil {
		return q.other.Claim(frame, ifindex)
	}
	return readClaim(frame, ifindex)
}

// read is parse, with the verdict IgnoreVLAN for a frame that bore an IEEE
// 802.1Q tag when it reached the device: it is a station's of that VLAN, not ours
// (tag 0, a mere priority, is none).
//
// The tag itself is gone. A frame whose VLAN has a device of its own comes from
// that device; one whose VLAN has none is marked by __netif_receive_skb_core
// (net/core/dev.c) as another host's before the tag is cleared and sockets of one
// ethertype see it, so that PACKET_AUXDATA never has TP_STATUS_VLAN_VALID here
// (it would if the kernel's order changed: that is looked at, too). No untagged
// frame to a group address or to the device's MAC is another host's, unless MarkTaken
// says why. One to another MAC of ours (--keep-mac, before the tc program marks it) may
// be: it is taken for untagged.
func (q *question) read(f frame, p *Policy) Verdict {
	v := q.parse(f.data)
	switch {
	case f.vlan:
		return IgnoreVLAN
	case !f.otherhost || f.taken || v == DropTooSmall:
		return v
	}
	if dst := wire.Ethernet(f.data).Dst(); dst.IsMulticast() || dst == p.Own {
		return IgnoreVLAN
	}
	return v
}
