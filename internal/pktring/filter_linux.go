package pktring

import (
	"fmt"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// ipFilter passes IPv4 frames of no VLAN to this host's MACs, or to other
// ones: userspace tells which those are; and IPv6 frames, too, or a second time IPv4.
// It is for hosts without eBPF: whose a destination is, and whose share of the ring is
// used up, it can't tell.
func ipFilter(second uint32) []bpf.Instruction {
	return []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtProto},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.ETH_P_IP, SkipTrue: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: second, SkipTrue: 6},
		bpf.LoadExtension{Num: bpf.ExtVLANTag}, // 0 without a tag
		bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: VLANID, SkipTrue: 4},
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.PACKET_HOST, SkipTrue: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.PACKET_OTHERHOST, SkipTrue: 1},
		bpf.RetConstant{Val: 0x7fffffff},
		bpf.RetConstant{Val: 0},
	}
}

// AttachIPv4 makes the socket take IPv4 of no VLAN only, by classic BPF.
func AttachIPv4(fd int) error { return attachIP(fd, unix.ETH_P_IP) }

// AttachIP makes the socket take IPv4 and IPv6 of no VLAN only, by classic BPF.
func AttachIP(fd int) error { return attachIP(fd, unix.ETH_P_IPV6) }

func attachIP(fd int, second uint32) error {
	raw, err := bpf.Assemble(ipFilter(second))
	if err != nil {
		return err
	}
	return AttachClassic(fd, raw)
}

// AttachClassic makes a classic BPF program the filter of a socket.
func AttachClassic(fd int, raw []bpf.RawInstruction) error {
	prog := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		prog[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}); err != nil {
		return fmt.Errorf("SO_ATTACH_FILTER: %w", err)
	}
	return nil
}
