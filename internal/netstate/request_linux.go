package netstate

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// ErrNotFound is wrapped by the errors about things that are not there.
var ErrNotFound = errors.New("not found")

// A Requester makes the changes and asks the questions that following events
// does not cover. It stays with the network namespace in which it was made. It
// is safe for concurrent use; after Close its methods return os.ErrClosed.
type Requester struct{ c *conn }

// NewRequester opens a socket in the network namespace of the calling thread.
func NewRequester() (*Requester, error) {
	c, err := dial()
	if err != nil {
		return nil, fmt.Errorf("netstate: %w", err)
	}
	return &Requester{c}, nil
}

// Close closes the socket.
func (r *Requester) Close() error { return r.c.Close() }

// UseNeighbour has the kernel resolve a neighbour as if it had a packet for
// it: it makes an entry if there is none, and confirms a stale one.
//
// It must not be called for an entry that is PERMANENT, NOARP or EXT_LEARNED:
// NTF_USE takes the state and flags away that make such an entry what it is
// (__neigh_update in net/core/neighbour.c).
func (r *Requester) UseNeighbour(ifindex int, ip netip.Addr) error {
	n := Neighbour{Index: ifindex, IP: ip, Flags: unix.NTF_USE}
	if err := r.c.request(newNeighbour(&n, unix.NLM_F_CREATE), nil); err != nil {
		return fmt.Errorf("use neighbour %s on link %d: %w", ip, ifindex, err)
	}
	return nil
}

// Neighbour returns an entry as it is now, or ErrNotFound (Linux 5.0).
func (r *Requester) Neighbour(ifindex int, ip netip.Addr) (n Neighbour, err error) {
	msg := newNeighbour(&Neighbour{Index: ifindex, IP: ip}, 0)
	native.PutUint16(msg[4:], unix.RTM_GETNEIGH)
	err = r.c.request(msg, func(_ uint16, body []byte) (err error) {
		n, err = parseNeighbour(body)
		return err
	})
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV):
		return n, fmt.Errorf("neighbour %s on link %d: %w", ip, ifindex, ErrNotFound)
	case err != nil:
		return n, fmt.Errorf("neighbour %s on link %d: %w", ip, ifindex, err)
	}
	return n, nil
}

// AddNeighbour makes an entry, or makes the present one this.
func (r *Requester) AddNeighbour(n Neighbour) error {
	if err := r.c.request(newNeighbour(&n, unix.NLM_F_CREATE|unix.NLM_F_REPLACE), nil); err != nil {
		return fmt.Errorf("add neighbour %s on link %d: %w", n.IP, n.Index, err)
	}
	return nil
}

func newNeighbour(n *Neighbour, flags uint16) []byte {
	fixed := make([]byte, sizeofNdMsg)
	fixed[0] = unix.AF_INET
	if !n.IP.Is4() {
		fixed[0] = unix.AF_INET6
	}
	native.PutUint32(fixed[4:], uint32(n.Index))
	native.PutUint16(fixed[8:], uint16(n.State))
	fixed[10] = n.Flags
	msg := appendAttr(newMessage(unix.RTM_NEWNEIGH, flags, fixed), unix.NDA_DST, n.IP.AsSlice())
	if n.HasMAC {
		msg = appendAttr(msg, unix.NDA_LLADDR, n.MAC[:])
	}
	if n.ExtFlags != 0 {
		msg = appendU32(msg, ndaFlagsExt, n.ExtFlags)
	}
	return msg
}

// PermanentNeighbours returns the IPv4 entries of a link that are PERMANENT.
func (r *Requester) PermanentNeighbours(ifindex int) ([]Neighbour, error) {
	var out []Neighbour
	var err error
	for range maxDumps {
		out = out[:0]
		msg := appendU32(dumpRequest(unix.RTM_GETNEIGH), unix.NDA_IFINDEX, uint32(ifindex))
		err = r.c.request(msg, func(typ uint16, body []byte) error {
			n, o := readNeighbour(body)
			if o == applied && n.Index == ifindex && n.IP.Is4() && n.State&unix.NUD_PERMANENT != 0 {
				out = append(out, n)
			}
			return nil
		})
		if !errors.Is(err, errInterrupted) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("permanent neighbours of link %d: %w", ifindex, err)
	}
	return out, nil
}

// LinkByIndex returns a link as it is now, or ErrNotFound.
func (r *Requester) LinkByIndex(ifindex int) (*Link, error) {
	var l Link
	err := r.c.request(getLink(ifindex), func(_ uint16, body []byte) (err error) {
		l, err = parseLink(body)
		return err
	})
	switch {
	case errors.Is(err, unix.ENODEV):
		return nil, fmt.Errorf("link %d: %w", ifindex, ErrNotFound)
	case err != nil:
		return nil, fmt.Errorf("link %d: %w", ifindex, err)
	}
	return &l, nil
}

// SetMAC sets the link-layer address of a link.
func (r *Requester) SetMAC(ifindex int, mac [6]byte) error {
	fixed := make([]byte, unix.SizeofIfInfomsg)
	native.PutUint32(fixed[4:], uint32(ifindex))
	msg := appendAttr(newMessage(unix.RTM_SETLINK, 0, fixed), unix.IFLA_ADDRESS, mac[:])
	err := r.c.request(msg, nil)
	switch {
	case errors.Is(err, unix.ENODEV):
		return fmt.Errorf("set address of link %d: %w", ifindex, ErrNotFound)
	case err != nil:
		return fmt.Errorf("set address of link %d: %w", ifindex, err)
	}
	return nil
}
