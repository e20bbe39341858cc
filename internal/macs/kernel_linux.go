package macs

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/netstate"
)

// Kernel is the [Netlink] of a network namespace: it asks and tells by a [netstate.Requester], and finds inodes in
// sysfs. It is for one goroutine at a time, as a Keeper uses it.
//
// The kernel forgets all neighbours of an interface with its MAC (neigh_changeaddr in net/core/neighbour.c). The
// permanent ones are the Keeper's, which records them; the others SetMAC makes again, for a workload that answers no
// ARP request would be lost until it asks again.
type Kernel struct {
	Requester *netstate.Requester
	// Bare, if set, reports that an interface is known to have no neighbours: most are new when they get their MAC.
	Bare func(ifindex int) bool
	// Flushed, if set, is told which neighbours may be lost: those that were made since a time, before which they
	// were read.
	Flushed func(ifindex int, since time.Time)
	// Lost, if set, is told why a neighbour that is not permanent could not be kept.
	Lost func(error)

	sysfs sysfs
}

// Close lets go of what was opened, but for the Requester.
func (k *Kernel) Close() error { return k.sysfs.close() }

// Link implements [Netlink].
func (k *Kernel) Link(ifindex int) (Link, error) {
	const tries = 3 // it may be renamed between two questions
	var l, before Link
	var err error
	for range tries {
		if l, err = k.readLink(ifindex); err != nil {
			return l, err
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

func (k *Kernel) readLink(ifindex int) (Link, error) {
	found, err := k.Requester.LinkByIndex(ifindex)
	if err != nil {
		return Link{}, err
	}
	l := Link{Name: found.Name, MAC: found.MAC,
		Identity: Identity{Kind: recordedKind(found.Kind), Permanent: found.PermMAC, Peer: found.ParentIndex}}
	if found.AddrLen != len(l.MAC) {
		return l, fmt.Errorf("%s has no Ethernet address", found.Name)
	}
	return l, nil
}

// recordedKind is what records of earlier versions have for an IFLA_INFO_KIND.
func recordedKind(kind string) string {
	switch kind {
	case "":
		return "device"
	case "tun":
		return "tuntap"
	}
	return kind
}

// SetMAC implements [Netlink].
func (k *Kernel) SetMAC(ifindex int, mac MAC) error {
	began := time.Now()
	var others []netstate.Neighbour
	if k.Bare == nil || !k.Bare(ifindex) {
		var err error
		if others, err = k.Requester.Neighbours(ifindex); err != nil {
			k.lost(err)
		}
	}
	if err := k.Requester.SetMAC(ifindex, mac); err != nil {
		return err
	}
	for _, n := range others {
		if n.State&unix.NUD_PERMANENT != 0 {
			continue
		}
		if err := k.Requester.RestoreNeighbour(n); errors.Is(err, unix.ENODEV) {
			break
		} else if err != nil {
			k.lost(err)
		}
	}
	if k.Flushed != nil {
		k.Flushed(ifindex, began)
	}
	return nil
}

func (k *Kernel) lost(err error) {
	if k.Lost != nil {
		k.Lost(err)
	}
}

// PermanentNeighbours implements [Netlink].
func (k *Kernel) PermanentNeighbours() ([]Neighbour, error) {
	all, err := k.Requester.PermanentNeighbours()
	if err != nil {
		return nil, err
	}
	out := make([]Neighbour, 0, len(all))
	for _, n := range all {
		out = append(out, Neighbour{Ifindex: n.Index, IP: n.IP, MAC: n.MAC, Flags: n.Flags, Protocol: uint8(n.Protocol)})
	}
	return out, nil
}

// AddNeighbour implements [Netlink].
func (k *Kernel) AddNeighbour(n Neighbour) error {
	return k.Requester.RestoreNeighbour(netstate.Neighbour{Index: n.Ifindex, IP: n.IP, MAC: n.MAC, HasMAC: true,
		State: unix.NUD_PERMANENT, Flags: n.Flags, Protocol: netstate.Protocol(n.Protocol)})
}
