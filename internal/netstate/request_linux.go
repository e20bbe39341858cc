package netstate

import (
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// ErrNotFound is wrapped by the errors about things that are not there, beside
// the kernel's own (ENODEV for a link).
var ErrNotFound = errors.New("not found")

// notFound has an error that says so wrap ErrNotFound too.
func notFound(err error) error {
	if errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	return err
}

// A Requester makes the changes and asks the questions that following events
// does not cover: whatever the daemon says to rtnetlink of links and neighbours
// it says by one. It stays with the network namespace in which it was made. It
// is safe for concurrent use; after Close its methods return os.ErrClosed.
type Requester struct {
	c        *conn
	putBacks atomic.Uint64
}

// NewRequester opens a socket in the network namespace of the calling thread.
func NewRequester() (*Requester, error) {
	c, err := dial()
	if err != nil {
		return nil, fmt.Errorf("netstate: %w", err)
	}
	return &Requester{c: c}, nil
}

// Close closes the socket.
func (r *Requester) Close() error { return r.c.Close() }

// UseNeighbour has the kernel resolve a neighbour as if it had a packet for
// it: it makes an entry if there is none, and confirms a stale one. One that is
// Fixed is left alone, which NTF_USE by itself would not do.
func (r *Requester) UseNeighbour(ifindex int, ip netip.Addr) error {
	n := Neighbour{Index: ifindex, IP: ip, Flags: unix.NTF_USE}
	err := r.c.request(newNeighbour(&n, unix.NLM_F_CREATE|unix.NLM_F_EXCL), nil)
	if errors.Is(err, unix.EEXIST) {
		_, err = r.guarded(n.key(), func(now *Neighbour) []byte {
			if now != nil && now.Fixed() {
				return nil
			}
			return newNeighbour(&n, createFlags(now))
		})
	}
	if err != nil {
		return fmt.Errorf("use neighbour %s on link %d: %w", ip, ifindex, err)
	}
	return nil
}

// Neighbour returns an entry as it is now, or ErrNotFound (Linux 5.0).
func (r *Requester) Neighbour(ifindex int, ip netip.Addr) (Neighbour, error) {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	n, err := r.c.neighbour(neighbourKey{ifindex, ip}, nil)
	if err == nil && n == nil || errors.Is(err, unix.ENODEV) {
		err = ErrNotFound
	}
	if err != nil {
		return Neighbour{}, fmt.Errorf("neighbour %s on link %d: %w", ip, ifindex, err)
	}
	return *n, nil
}

// LearnNeighbour notes that an address of a link has been seen with a MAC, as
// the kernel does for who asks for what it answers (neigh_event_ns in
// net/core/neighbour.c): an entry that is not there is made, STALE; one without
// a MAC, or with another, becomes this. One that is Fixed stays. It reports
// whether something was written.
func (r *Requester) LearnNeighbour(ifindex int, ip netip.Addr, mac [6]byte) (written bool, err error) {
	n := Neighbour{Index: ifindex, IP: ip, MAC: mac, HasMAC: true, State: unix.NUD_STALE}
	err = r.c.request(newNeighbour(&n, unix.NLM_F_CREATE|unix.NLM_F_EXCL), nil)
	written = err == nil
	if errors.Is(err, unix.EEXIST) {
		written, err = r.guarded(n.key(), func(now *Neighbour) []byte { return n.learn(now) })
	}
	if err != nil {
		return written, fmt.Errorf("learn neighbour %s on link %d: %w", ip, ifindex, err)
	}
	return written, nil
}

// learn is the message that makes the present entry n, nil if it is not to be
// written to.
func (n *Neighbour) learn(now *Neighbour) []byte {
	if now != nil {
		if now.Fixed() || now.State.Valid() && now.MAC == n.MAC {
			return nil
		}
		n.Flags = now.Flags & unix.NTF_ROUTER
	}
	return newNeighbour(n, createFlags(now))
}

// createFlags are for a change of an entry that was there or not: it must not
// have come meanwhile.
func createFlags(now *Neighbour) uint16 {
	if now == nil {
		return unix.NLM_F_CREATE | unix.NLM_F_EXCL
	}
	return unix.NLM_F_REPLACE
}

// RestoreNeighbour makes an entry what it was before the kernel forgot it: a
// dynamic one is STALE then. An entry that stands there meanwhile stays if it is
// Fixed, or has a MAC and the lost one was not Fixed.
func (r *Requester) RestoreNeighbour(n Neighbour) error {
	if !n.Fixed() {
		n.State = unix.NUD_STALE
	}
	err := r.c.request(newNeighbour(&n, unix.NLM_F_CREATE|unix.NLM_F_EXCL), nil)
	if errors.Is(err, unix.EEXIST) {
		_, err = r.guarded(n.key(), func(now *Neighbour) []byte {
			if now != nil && (now.Fixed() || now.State.Valid() && !n.Fixed()) {
				return nil
			}
			return newNeighbour(&n, createFlags(now))
		})
	}
	if err != nil {
		return fmt.Errorf("restore neighbour %s on link %d: %w", n.IP, n.Index, err)
	}
	return nil
}

// PutBacks counts the entries that UseNeighbour, LearnNeighbour and
// RestoreNeighbour have put back: somebody had made them Fixed at the same time.
func (r *Requester) PutBacks() uint64 { return r.putBacks.Load() }

func newNeighbour(n *Neighbour, flags uint16) []byte {
	msg := aboutNeighbour(unix.RTM_NEWNEIGH, flags, n.key())
	ndm := msg[unix.SizeofNlMsghdr:]
	native.PutUint16(ndm[8:], uint16(n.State))
	ndm[10] = n.Flags
	if n.HasMAC {
		msg = appendAttr(msg, unix.NDA_LLADDR, n.MAC[:])
	}
	if n.Protocol != 0 {
		msg = appendAttr(msg, ndaProtocol, []byte{byte(n.Protocol)})
	}
	if n.ExtFlags != 0 {
		msg = appendU32(msg, ndaFlagsExt, n.ExtFlags)
	}
	return msg
}

// aboutNeighbour names an entry, and says nothing else of it.
func aboutNeighbour(typ, flags uint16, k neighbourKey) []byte {
	fixed := make([]byte, sizeofNdMsg)
	fixed[0] = unix.AF_INET
	if !k.ip.Is4() {
		fixed[0] = unix.AF_INET6
	}
	native.PutUint32(fixed[4:], uint32(k.index))
	return appendAttr(newMessage(typ, flags, fixed), unix.NDA_DST, k.ip.AsSlice())
}

// Permanent reports whether the entry is one that the kernel neither resolves
// nor forgets but with the link's address (neigh_changeaddr in
// net/core/neighbour.c), and tells a MAC.
func (n *Neighbour) Permanent() bool { return n.HasMAC && n.State&unix.NUD_PERMANENT != 0 }

// PermanentNeighbours returns the entries of all links, of IPv4 and IPv6, that
// are Permanent.
func (r *Requester) PermanentNeighbours() ([]Neighbour, error) {
	all, err := r.neighbours(0, (*Neighbour).Permanent)
	if err != nil {
		return nil, fmt.Errorf("neighbours of all links: %w", err)
	}
	return all, nil
}

// Neighbours returns the entries of a link, of IPv4 and IPv6, that the kernel
// does not make by itself: they have a station's MAC, or somebody has made them.
func (r *Requester) Neighbours(ifindex int) ([]Neighbour, error) {
	all, err := r.neighbours(ifindex, func(n *Neighbour) bool {
		group := n.IP.IsMulticast() || n.HasMAC && n.MAC[0]&1 != 0
		return !group && (n.Fixed() || n.HasMAC && n.State.Valid())
	})
	if err != nil {
		return nil, fmt.Errorf("neighbours of link %d: %w", ifindex, err)
	}
	return all, nil
}

// neighbours returns the wanted entries of a link, of all links with 0. Proxy
// entries are in a dump of their own (neigh_dump_info in net/core/neighbour.c).
// An entry that does not parse is an error: it may be one that must not be lost.
func (r *Requester) neighbours(ifindex int, wanted func(*Neighbour) bool) (out []Neighbour, err error) {
	msg := dumpRequest(kind{unix.RTM_GETNEIGH, unspecified})
	if ifindex != 0 {
		msg = appendU32(msg, unix.NDA_IFINDEX, uint32(ifindex))
	}
	for range maxDumps {
		out = out[:0]
		err = r.c.request(msg, func(typ uint16, body []byte) error {
			if f := familyOf(body); f != unix.AF_INET && f != unix.AF_INET6 {
				return nil
			}
			n, err := parseNeighbour(body)
			if err == nil && (ifindex == 0 || n.Index == ifindex) && wanted(&n) {
				out = append(out, n)
			}
			return err
		})
		if !errors.Is(err, errInterrupted) {
			break
		}
	}
	return out, err
}

// LinkByIndex returns a link as it is now, or ErrNotFound.
func (r *Requester) LinkByIndex(ifindex int) (*Link, error) {
	var l Link
	err := r.c.request(getLink(ifindex), func(_ uint16, body []byte) (err error) {
		l, err = parseLink(body)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("link %d: %w", ifindex, notFound(err))
	}
	return &l, nil
}

// SetMAC sets the Ethernet address of a link, or returns ErrNotFound. The kernel
// forgets the neighbours of the link then, even if it has that address already.
func (r *Requester) SetMAC(ifindex int, mac [6]byte) error {
	fixed := make([]byte, unix.SizeofIfInfomsg)
	native.PutUint32(fixed[4:], uint32(ifindex))
	msg := appendAttr(newMessage(unix.RTM_SETLINK, 0, fixed), unix.IFLA_ADDRESS, mac[:])
	if err := r.c.request(msg, nil); err != nil {
		return fmt.Errorf("set address of link %d: %w", ifindex, notFound(err))
	}
	return nil
}
