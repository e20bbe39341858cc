package claim

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
)

// NDTarget is whom neighbour solicitations ask for that the responder alone answers: a
// gateway's address. Ifindex 0 is all interfaces of workloads that have Port.ND.
type NDTarget struct {
	Ifindex int32
	Addr    netip.Addr // IPv6, without a zone
}

func (t NDTarget) key() bpfNdkey {
	return bpfNdkey{Ifindex: uint32(t.Ifindex), Target: nativeAddr6(t.Addr)}
}

// MaxNDTargets is MAX_TARGETS of bpf/claim.c.
const MaxNDTargets = 1024

// SetNDTarget says that neighbour solicitations for a target are the responder's, so
// that the kernel does not answer them as well, or are so no more. Without Config.IPv6
// none becomes so. It has effect where a claim is attached and the responder's thread has
// called OwnND.
func (s *Set) SetNDTarget(t NDTarget, on bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if on && !s.cfg.IPv6 || s.targets[t] == on {
		return nil
	}
	if err := s.putNDTarget(t, on); err != nil {
		return fmt.Errorf("neighbour discovery, target %v: %w", t.Addr, err)
	}
	if on {
		s.targets[t] = true
	} else {
		delete(s.targets, t)
	}
	return nil
}

func (s *Set) putNDTarget(t NDTarget, on bool) error {
	if on {
		return s.objs.ParpNdTargets.Put(t.key(), uint8(1))
	}
	if err := s.objs.ParpNdTargets.Delete(t.key()); !errors.Is(err, ebpf.ErrKeyNotExist) {
		return err
	}
	return nil
}

// NDTargets are those that were set.
func (s *Set) NDTargets() (all []NDTarget) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for t := range s.targets {
		all = append(all, t)
	}
	return all
}

// AttachND makes the filter of neighbour discovery the socket filter of fd, a packet
// socket of ETH_P_IPV6 with link-layer headers (SOCK_RAW). It passes the neighbour
// solicitations and advertisements of the ports with Port.ND, with hop limit 255 and
// without extension headers, as far as the interface and the sender have their share of
// Config.ARP. What it passes is for the responder whatever its packet type: the kernel
// does not answer solicitations that come as PACKET_OTHERHOST.
func (s *Set) AttachND(fd int) error {
	if s.nd == nil {
		return fmt.Errorf("filter of neighbour discovery: %w: IPv6 is off", ErrNotSupported)
	}
	return attachSocket(fd, s.nd, "filter of neighbour discovery")
}

// OwnND says that the calling thread answers neighbour solicitations from now on. Until
// it is called, and as soon as the thread has ended, the kernel has all of them: see
// Window.Own, of which what is said of the thread holds here, too. So may a thread of
// another process, that goes on in the place of this one: there is no moment in which
// both the kernel and the responder answer. disown takes it back, on the same thread,
// unless another one has called OwnND.
func (s *Set) OwnND() (disown func(), err error) {
	r := s.windows.nd
	if err := r.own(); err != nil {
		r.leave()
		return nil, fmt.Errorf("neighbour discovery: %w", err)
	}
	return r.leave, nil
}
