package netstate

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Fixed reports whether somebody else decides about the entry, who would lose
// something if it were written to: it is PERMANENT, NOARP or EXT_LEARNED, or
// MANAGED, which the kernel keeps resolved. A request of netlink that changes an
// entry takes all of these away (__neigh_update in net/core/neighbour.c, with
// NEIGH_UPDATE_F_ADMIN).
func (n *Neighbour) Fixed() bool {
	return n.State&(unix.NUD_PERMANENT|unix.NUD_NOARP) != 0 || n.Flags&unix.NTF_EXT_LEARNED != 0 || n.ExtFlags&ExtManaged != 0
}

// keeps reports whether an entry is still as it was made: the kernel's timers
// change the state of one that is not PERMANENT or NOARP, and a MANAGED one has
// the MAC that the kernel has found.
func (n *Neighbour) keeps(now *Neighbour) bool {
	const timeless = unix.NUD_PERMANENT | unix.NUD_NOARP
	const flags = unix.NTF_EXT_LEARNED | unix.NTF_ROUTER
	return n.State&timeless == now.State&timeless && n.Flags&flags == now.Flags&flags && n.ExtFlags == now.ExtFlags &&
		(n.ExtFlags&ExtManaged != 0 || n.HasMAC == now.HasMAC && n.MAC == now.MAC)
}

// A neighbourLog keeps what others have made of one entry.
type neighbourLog struct {
	key  neighbourKey
	port uint32 // ours: events of our own changes bear it

	touched bool      // somebody has
	made    Neighbour // if somebody has, and has not removed it
	gone    bool      // it was removed
}

// note takes an event. The kernel by itself removes no entry that was just made,
// and changes none that is Fixed: what it makes of an entry is no other's.
func (l *neighbourLog) note(h header, body []byte) {
	if h.typ != unix.RTM_NEWNEIGH && h.typ != unix.RTM_DELNEIGH || h.port == l.port {
		return
	}
	n, o := readNeighbour(body)
	if o != applied || n.key() != l.key || n.Flags&unix.NTF_PROXY != 0 {
		return
	}
	removed := h.typ == unix.RTM_DELNEIGH || n.State&unix.NUD_FAILED != 0 && !n.Fixed()
	if !removed && !n.Fixed() && h.port == 0 {
		return
	}
	l.touched, l.made, l.gone = true, n, removed
}

func (l *neighbourLog) forget() { l.touched, l.gone, l.made = false, false, Neighbour{} }

// Bounds of what is tried again where others change the same entry.
const (
	guardTries   = 8
	putBackTries = 64
)

// errContended means that others kept changing an entry.
var errContended = errors.New("others keep changing the entry")

// guarded makes a change to an entry that must not be lost to whoever makes it
// Fixed. change is given the entry as it is, or nil, and returns the message, or
// nil for no change; it may be called again.
//
// Netlink knows no change on a condition, so an entry may become Fixed between
// the question and the change, and lose that. Hence the socket is a member of the
// neighbours' group meanwhile: changes by netlink and ioctl are made one after
// another under the RTNL lock and are told within it, so that whatever our change
// could have undone is in the queue before its acknowledgement. That is put back
// at once, as it was made.
func (r *Requester) guarded(k neighbourKey, change func(now *Neighbour) []byte) (changed bool, err error) {
	c := r.c
	c.mu.Lock()
	defer c.mu.Unlock()
	log := neighbourLog{key: k}
	if log.port, err = c.join(unix.RTNLGRP_NEIGH); err != nil {
		return false, err
	}
	defer c.leave(unix.RTNLGRP_NEIGH)
	for range guardTries {
		log.forget()
		now, err := c.neighbour(k, log.note)
		if err != nil {
			return false, err
		}
		msg := change(now)
		if msg == nil {
			return false, nil
		}
		err = c.exchange(msg, nil, log.note)
		switch {
		case now == nil && errors.Is(err, unix.EEXIST), now != nil && errors.Is(err, unix.ENOENT):
			continue // made, or removed, meanwhile
		case err != nil:
			return false, err
		}
		if !log.touched || log.gone || !log.made.Fixed() {
			return true, nil
		}
		return true, r.putBack(&log)
	}
	return false, errContended
}

// putBack makes the entry again what others have made it last. What they make
// of it meanwhile is put back in its turn.
func (r *Requester) putBack(log *neighbourLog) error {
	for range putBackTries {
		last, gone := log.made, log.gone
		log.forget()
		now, err := r.c.neighbour(log.key, log.note)
		switch {
		case err != nil:
			return fmt.Errorf("put back: %w", err)
		case log.touched:
			continue // already something else
		case gone && now == nil, !gone && now != nil && last.keeps(now):
			return nil
		}
		msg := newNeighbour(&last, unix.NLM_F_CREATE|unix.NLM_F_REPLACE)
		if gone {
			msg = aboutNeighbour(unix.RTM_DELNEIGH, 0, log.key)
		}
		r.putBacks.Add(1)
		if err := r.c.exchange(msg, nil, log.note); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("put back: %w", err)
		}
		if !log.touched {
			return nil
		}
	}
	return errContended
}

// neighbour asks for one entry, nil if there is none (since Linux 5.0).
func (c *conn) neighbour(k neighbourKey, other func(header, []byte)) (n *Neighbour, err error) {
	err = c.exchange(aboutNeighbour(unix.RTM_GETNEIGH, 0, k), func(_ uint16, body []byte) error {
		got, err := parseNeighbour(body)
		if err == nil && got.key() == k {
			n = &got
		}
		return err
	}, other)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	return n, err
}

// join has the socket receive a group's events, and gives its port. What is left
// of them when it leaves is passed over by the next exchange.
func (c *conn) join(group int) (port uint32, err error) {
	if c.fd < 0 {
		return 0, os.ErrClosed
	}
	name, err := unix.Getsockname(c.fd)
	if err != nil {
		return 0, err
	}
	if sa, ok := name.(*unix.SockaddrNetlink); ok {
		port = sa.Pid
	}
	return port, unix.SetsockoptInt(c.fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, group)
}

func (c *conn) leave(group int) {
	_ = unix.SetsockoptInt(c.fd, unix.SOL_NETLINK, unix.NETLINK_DROP_MEMBERSHIP, group)
}
