package macs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Kernel is the rtnetlink of one network namespace, that of the thread that uses it first. It is for one goroutine at
// a time, as a Keeper uses it.
type Kernel struct {
	rtnl  *netlink.Handle // from the first use on
	sysfs sysfs
}

// open makes the socket, so that nothing later is in want of a descriptor for one.
func (k *Kernel) open() (err error) {
	if k.rtnl == nil {
		k.rtnl, err = netlink.NewHandle(unix.NETLINK_ROUTE)
	}
	return err
}

// Close lets go of what was opened.
func (k *Kernel) Close() error {
	if k.rtnl != nil {
		k.rtnl.Close()
		k.rtnl = nil
	}
	return k.sysfs.close()
}

// Link implements [Netlink].
func (k *Kernel) Link(ifindex int) (Link, error) {
	const tries = 3 // it may be renamed between two questions
	var l, before Link
	err := k.open()
	if err != nil {
		return l, fmt.Errorf("netlink socket: %w", err)
	}
	for range tries {
		if l, err = k.readLink(ifindex); err != nil {
			return l, fmt.Errorf("RTM_GETLINK: %w", err)
		}
		if l.Name == before.Name && l.MAC == before.MAC {
			return l, nil
		}
		if l.Inode, err = k.sysfs.inode(l.Name, ifindex, l.MAC); l.Inode != 0 || err != nil {
			return l, err
		}
		before = l
	}
	return l, nil
}

func (k *Kernel) readLink(ifindex int) (l Link, err error) {
	found, err := k.rtnl.LinkByIndex(ifindex)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return l, ErrNoLink
	}
	if err != nil {
		return l, err
	}
	a := found.Attrs()
	l.Name, l.Kind, l.Peer = a.Name, found.Type(), a.ParentIndex
	if len(a.HardwareAddr) != len(l.MAC) {
		return l, fmt.Errorf("%s has no Ethernet address", a.Name)
	}
	l.MAC = MAC(a.HardwareAddr)
	if len(a.PermHWAddr) == len(l.Permanent) {
		l.Permanent = MAC(a.PermHWAddr)
	}
	return l, nil
}

// SetMAC implements [Netlink].
func (k *Kernel) SetMAC(ifindex int, mac MAC) error {
	if err := k.open(); err != nil {
		return fmt.Errorf("netlink socket: %w", err)
	}
	l := &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: ifindex}}
	if err := k.rtnl.LinkSetHardwareAddr(l, mac[:]); err != nil {
		return fmt.Errorf("RTM_SETLINK: %w", err)
	}
	return nil
}

const sizeofNdmsg = 12

// PermanentNeighbours implements [Netlink]. It reads the messages itself, since netlink.Neigh has no protocol.
func (*Kernel) PermanentNeighbours() ([]Neighbour, error) {
	const tries = 10
	var err error
	for range tries {
		req := nl.NewNetlinkRequest(unix.RTM_GETNEIGH, unix.NLM_F_DUMP)
		req.AddData(&netlink.Ndmsg{})
		var msgs [][]byte
		if msgs, err = req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWNEIGH); errors.Is(err, netlink.ErrDumpInterrupted) {
			continue
		}
		if err != nil {
			break
		}
		var out []Neighbour
		for _, m := range msgs {
			if n, ok := parseNeighbour(m); ok {
				out = append(out, n)
			}
		}
		return out, nil
	}
	return nil, fmt.Errorf("RTM_GETNEIGH: %w", err)
}

// parseNeighbour reads a struct ndmsg with its attributes, and says whether it is a permanent neighbour.
func parseNeighbour(m []byte) (n Neighbour, ok bool) {
	if len(m) < sizeofNdmsg || m[0] != unix.AF_INET && m[0] != unix.AF_INET6 {
		return n, false
	}
	n.Ifindex = int(binary.NativeEndian.Uint32(m[4:]))
	state := binary.NativeEndian.Uint16(m[8:])
	n.Flags = m[10]
	attrs, err := nl.ParseRouteAttr(m[sizeofNdmsg:])
	if err != nil || state&netlink.NUD_PERMANENT == 0 || n.Flags&netlink.NTF_PROXY != 0 {
		return n, false
	}
	hasMAC := false
	for _, a := range attrs {
		switch a.Attr.Type {
		case netlink.NDA_DST:
			n.IP, _ = netip.AddrFromSlice(a.Value)
		case netlink.NDA_LLADDR:
			if hasMAC = len(a.Value) == len(n.MAC); hasMAC {
				copy(n.MAC[:], a.Value)
			}
		case netlink.NDA_PROTOCOL:
			if len(a.Value) > 0 {
				n.Protocol = a.Value[0]
			}
		}
	}
	return n, hasMAC && n.IP.IsValid()
}

// AddNeighbour implements [Netlink].
func (*Kernel) AddNeighbour(n Neighbour) error {
	family := uint8(unix.AF_INET)
	if n.IP.Is6() {
		family = unix.AF_INET6
	}
	req := nl.NewNetlinkRequest(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE|unix.NLM_F_ACK)
	req.AddData(&netlink.Ndmsg{Family: family, Index: uint32(n.Ifindex), State: netlink.NUD_PERMANENT, Flags: n.Flags})
	req.AddData(nl.NewRtAttr(netlink.NDA_DST, n.IP.AsSlice()))
	req.AddData(nl.NewRtAttr(netlink.NDA_LLADDR, n.MAC[:]))
	if n.Protocol != 0 {
		req.AddData(nl.NewRtAttr(netlink.NDA_PROTOCOL, []byte{n.Protocol}))
	}
	if _, err := req.Execute(unix.NETLINK_ROUTE, 0); err != nil {
		return fmt.Errorf("RTM_NEWNEIGH: %w", err)
	}
	return nil
}
