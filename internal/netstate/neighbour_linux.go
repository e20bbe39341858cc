package netstate

import (
	"fmt"

	"golang.org/x/sys/unix"
)

const sizeofNdMsg = 12 // struct ndmsg

// From include/uapi/linux/neighbour.h.
const (
	ndaProtocol = 12 // NDA_PROTOCOL
	ndaFlagsExt = 15 // NDA_FLAGS_EXT
)

// parseNeighbour reads struct ndmsg and attributes (neigh_fill_info in
// net/core/neighbour.c).
func parseNeighbour(b []byte) (Neighbour, error) {
	var n Neighbour
	if len(b) < sizeofNdMsg {
		return n, short("ndmsg", b)
	}
	family := b[0]
	if n.Index = int(int32(native.Uint32(b[4:]))); n.Index < 0 {
		return n, fmt.Errorf("%w: neighbour of link %d", errMalformed, n.Index)
	}
	n.State = NeighState(native.Uint16(b[8:]))
	n.Flags = b[10]
	a := attrs{rest: b[sizeofNdMsg:]}
	for a.next() {
		switch a.typ {
		case unix.NDA_DST:
			n.IP = a.addr(family)
		case unix.NDA_LLADDR:
			if len(a.val) > maxAddrLen {
				a.fail()
			} else if len(a.val) == 6 {
				n.MAC, n.HasMAC = [6]byte(a.val), true
			}
		case ndaProtocol:
			n.Protocol = Protocol(a.u8())
		case ndaFlagsExt:
			n.ExtFlags = a.u32()
		}
	}
	if a.err == nil && !n.IP.IsValid() {
		a.err = fmt.Errorf("%w: neighbour without an address", errMalformed)
	}
	return n, a.err
}
