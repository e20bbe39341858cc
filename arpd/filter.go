package arpd

import "golang.org/x/net/bpf"

// snapLen is what is kept of a frame: far more than an ARP packet has, so that a
// capture shows trailing bytes, yet bounded, so that a jumbo frame costs nothing.
const snapLen = 2048

const packetOutgoing = 4 // PACKET_OUTGOING, include/uapi/linux/if_packet.h

// filter is the classic BPF program of the socket where no better one is
// attached (Options.Filter).
//
// Each frame has to end in a named verdict with a counter, so only what is no
// received frame is dropped here: what this host sends. The kernel shows outgoing
// frames to ETH_P_ALL sockets only, and PACKET_IGNORE_OUTGOING is set as well;
// the test makes that independent of both.
//
// There is no test of SKF_AD_VLAN_TAG_PRESENT: __netif_receive_skb_core clears
// the tag before it delivers to sockets of one ethertype, see tagged.
func filter() []bpf.Instruction {
	return []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: packetOutgoing, SkipTrue: 1},
		bpf.RetConstant{Val: snapLen},
		bpf.RetConstant{Val: 0},
	}
}
