package ndp

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// errGone is the error of an interface that is not there, or has no IPv6.
var errGone error = unix.ENODEV

// sockets hold memberships, as many as the kernel allows one to have: each takes of
// net.core.optmem_max, some 60 bytes (sock_kmalloc, net/ipv6/mcast.c). They receive
// nothing, since they are bound to no port.
type sockets struct{ all []groupSocket }

type groupSocket struct {
	fd   int
	n    int  // memberships
	full bool // the kernel has refused one more
}

// join gives the socket, by its place, that has become a member.
func (s *sockets) join(key membership) (at int, err error) {
	for at = range s.all {
		if s.all[at].full {
			continue
		}
		switch err = s.all[at].join(key); {
		case err == nil:
			return at, nil
		case errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.ENOMEM):
			s.all[at].full = true
		default:
			return 0, fmt.Errorf("IPV6_JOIN_GROUP: %w", err)
		}
	}
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return 0, fmt.Errorf("socket of IPv6: %w", err)
	}
	s.all = append(s.all, groupSocket{fd: fd})
	at = len(s.all) - 1
	if err := s.all[at].join(key); err != nil {
		if errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.ENOMEM) { // more sockets would not help
			s.all = s.all[:at]
			err = errors.Join(err, unix.Close(fd))
		}
		return 0, fmt.Errorf("IPV6_JOIN_GROUP: %w", err)
	}
	return at, nil
}

// leave is heedless: an interface that is gone has taken the membership with it, and
// the socket's part goes in any case (ipv6_sock_mc_drop).
func (s *sockets) leave(at int, key membership) {
	g := &s.all[at]
	mreq := unix.IPv6Mreq{Multiaddr: key.group, Interface: uint32(key.index)}
	_ = unix.SetsockoptIPv6Mreq(g.fd, unix.IPPROTO_IPV6, unix.IPV6_LEAVE_GROUP, &mreq)
	g.n--
	g.full = false
}

func (g *groupSocket) join(key membership) error {
	mreq := unix.IPv6Mreq{Multiaddr: key.group, Interface: uint32(key.index)}
	err := unix.SetsockoptIPv6Mreq(g.fd, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP, &mreq)
	if err == nil {
		g.n++
	}
	return err
}

func (s *sockets) close() error {
	var errs []error
	for _, g := range s.all {
		errs = append(errs, unix.Close(g.fd))
	}
	s.all = nil
	return errors.Join(errs...)
}
