package daemon

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// With --keep-mac a workload is told a MAC that its device does not have. What
// takes every frame off its wire makes such frames PACKET_OTHERHOST, which the tc
// program mends. Others drop them, unless they are asked for that address too.

// takesAll are the kinds of devices that take every frame.
var takesAll = map[string]bool{"veth": true, "tun": true, "dummy": true, "netkit": true, "ifb": true}

// takesOwn are the kinds that take frames to their own address alone, whatever
// they are asked for: their lower device is shared by address
// (drivers/net/macvlan.c, macvlan_hash_lookup); a bridge sends what is to an address
// that it does not know to its ports alone (net/bridge/br_input.c,
// br_handle_frame_finish).
var takesOwn = map[string]bool{"bridge": true, "macvlan": true, "macvtap": true, "ipvlan": true, "ipvtap": true}

// members are the devices that were asked for frames to --mac. They are let go
// of with the process.
type members struct{ socket int }

// add asks a device.
func (m *members) add(ifindex int, mac macAddr) error {
	if m.socket == 0 {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("packet socket: %w", err)
		}
		m.socket = fd
	}
	const packetMrUnicast = 3 // PACKET_MR_UNICAST, Linux 2.6.35
	req := unix.PacketMreq{Ifindex: int32(ifindex), Type: packetMrUnicast, Alen: uint16(len(mac))}
	copy(req.Address[:], mac[:])
	if err := unix.SetsockoptPacketMreq(m.socket, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &req); err != nil {
		return fmt.Errorf("PACKET_MR_UNICAST: %w", err)
	}
	return nil
}

func (m *members) Close() error {
	if m.socket == 0 {
		return nil
	}
	return unix.Close(m.socket)
}
