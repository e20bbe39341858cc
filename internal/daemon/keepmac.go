package daemon

import (
	"fmt"

	"golang.org/x/sys/unix"

	"proxyarpd/forward/claim"
	"proxyarpd/internal/netstate"
	"proxyarpd/internal/shortage"
)

// With --keep-mac a workload is told a MAC that its device does not have. What
// takes every frame off its wire makes such frames PACKET_OTHERHOST, which the tc
// program mends. Others drop them, unless they are asked for that address too.

// takesAll are the kinds of devices that take every frame.
var takesAll = map[string]bool{"veth": true, "tun": true, "bridge": true, "dummy": true, "netkit": true, "ifb": true}

// takesOwn are the kinds that take frames to their own address alone, whatever
// they are asked for: their lower device is shared by address
// (drivers/net/macvlan.c, macvlan_hash_lookup).
var takesOwn = map[string]bool{"macvlan": true, "macvtap": true, "ipvlan": true, "ipvtap": true}

// answersOwn reports whether an interface has to answer its own MAC with
// --keep-mac, and says so once. It asks the device for frames to --mac.
func (d *Daemon) answersOwn(l *netstate.Link, p *port) bool {
	switch {
	case !d.cfg.KeepMAC || p.role != roleWorkload:
		return false
	case d.claim == nil || d.cfg.Claim == claim.None:
		return true // nobody makes frames to another MAC than the device's PACKET_HOST
	case p.asked:
		return p.ownMAC
	}
	p.asked = true
	switch {
	case takesAll[l.Kind]:
	case takesOwn[l.Kind]:
		p.ownMAC = true
		d.log.Warn("--keep-mac: answers give the interface's own MAC, for it takes frames to no other", "interface", l.Name, "mac", macAddr(l.MAC))
	default:
		if err := d.addMember(l); shortage.Passing(err) {
			p.asked = false
			d.fellShort(l, "--keep-mac: the interface is not asked to take frames to another MAC yet", err)
			return true
		} else if err != nil {
			p.ownMAC = true
			d.log.Warn("--keep-mac: answers give the interface's own MAC, for it can't be asked to take frames to another", "interface", l.Name, "mac", macAddr(l.MAC), "err", err)
		}
	}
	return p.ownMAC
}

// addMember asks a device to take frames to --mac. It ends with the process.
func (d *Daemon) addMember(l *netstate.Link) error {
	if d.members == 0 {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("packet socket: %w", err)
		}
		d.members = fd
	}
	const packetMrUnicast = 3 // PACKET_MR_UNICAST, Linux 2.6.35
	req := unix.PacketMreq{Ifindex: int32(l.Index), Type: packetMrUnicast, Alen: uint16(len(d.cfg.MAC))}
	copy(req.Address[:], d.cfg.MAC[:])
	if err := unix.SetsockoptPacketMreq(d.members, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &req); err != nil {
		return fmt.Errorf("PACKET_MR_UNICAST: %w", err)
	}
	return nil
}
