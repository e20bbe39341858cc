package pktring

import (
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Group is a fanout group (PACKET_FANOUT, packet(7)): a frame comes to one of its
// rings. All of the group is one tap of the kernel's, so the filter of that ring
// is the only one that sees the frame. The number of a ring in the group is how
// many there were when it was opened; one that replaces another gets its number.
//
// No ring takes over from one that is full (PACKET_FANOUT_FLAG_ROLLOVER): it would
// reorder flows. Nor does the kernel put datagrams together (..._DEFRAG): they are
// to leave in the fragments in which they came.
type Group struct {
	// Choose is called with the group's first socket: attach the program that
	// chooses a ring (PACKET_FANOUT_DATA). nil is the kernel's hash of a flow, the
	// same in both directions. It knows fragments by their addresses alone, so they
	// and whole datagrams of one flow may come to different rings.
	Choose func(fd int) error
	// Most is how many rings may look at the same time before they sleep, 0: all.
	Most int32

	mu      sync.Mutex
	id      uint16
	members int
	looking looking
}

// fanoutIgnoreOutgoing is PACKET_FANOUT_FLAG_IGNORE_OUTGOING
// (include/uapi/linux/if_packet.h); kernels before 6.7 do not know it, and have
// nothing against it.
const fanoutIgnoreOutgoing = 0x4000

// join makes a bound socket a member.
func (g *Group) join(fd int) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	kind := unix.PACKET_FANOUT_HASH
	if g.Choose != nil {
		kind = unix.PACKET_FANOUT_EBPF
	}
	kind |= fanoutIgnoreOutgoing
	if g.members > 0 {
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_FANOUT, int(g.id)|kind<<16); err != nil {
			return fmt.Errorf("packet socket: PACKET_FANOUT: %w", err)
		}
		g.members++
		return nil
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_FANOUT, (kind|unix.PACKET_FANOUT_FLAG_UNIQUEID)<<16); err != nil {
		return fmt.Errorf("packet socket: PACKET_FANOUT: %w", err)
	}
	id, err := unix.GetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_FANOUT)
	if err != nil {
		return fmt.Errorf("packet socket: PACKET_FANOUT: %w", err)
	}
	g.id = uint16(id)
	if g.Choose != nil {
		if err := g.Choose(fd); err != nil {
			return err
		}
	}
	g.members++
	return nil
}

// leave says that a member has been closed.
func (g *Group) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.members--
}

// nothing passes no frame.
var nothing = []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K}}

// mute has a socket receive nothing. A socket has to be bound before it can join a
// group, and would get all frames itself until then.
func mute(fd int) error {
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(nothing)), Filter: &nothing[0]}); err != nil {
		return fmt.Errorf("packet socket: SO_ATTACH_FILTER: %w", err)
	}
	return nil
}

// unmute removes that filter.
func unmute(fd int) error {
	return os.NewSyscallError("SO_DETACH_FILTER", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0))
}

// settle waits until nobody delivers by what was before: for an RCU grace period
// (membarrier(2)).
func settle() {
	const global = 1 // MEMBARRIER_CMD_GLOBAL
	_, _, _ = unix.Syscall(unix.SYS_MEMBARRIER, global, 0, 0)
}
