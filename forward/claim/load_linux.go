package claim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// ARPPolice bounds what one interface may put into the ARP socket's queue.
type ARPPolice struct {
	PerSecond int
	Burst     int
}

// Load loads programs and maps. An error that is ErrNotSupported, by
// errors.Is, says why this host can't: the kernel, or a missing capability.
func Load(arp ARPPolice) (*Set, error) { return loadSet(arp, true) }

// loadSet loads the filter that sees GSO types only if exact is wanted.
func loadSet(arp ARPPolice, exact bool) (*Set, error) {
	spec, err := loadBpf()
	if err != nil {
		return nil, err
	}
	if err := errors.Join(
		spec.Variables[bpfVarArpCostNs].Set(uint64(1e9)/uint64(max(arp.PerSecond, 1))),
		spec.Variables[bpfVarArpBurstNs].Set(uint64(1e9)/uint64(max(arp.PerSecond, 1))*uint64(max(arp.Burst, 1))),
	); err != nil {
		return nil, fmt.Errorf("eBPF constants: %w", err)
	}
	basic := spec.Programs[bpfProgParpRingBasic]
	delete(spec.Programs, bpfProgParpRingBasic)
	var coll *ebpf.Collection
	err = ErrNotSupported
	if exact {
		coll, err = ebpf.NewCollection(spec)
	}
	sees := err == nil
	if err != nil {
		// bpf_rdonly_cast needs Linux 6.2 and CAP_PERFMON: go by the IP protocol.
		first := err
		delete(spec.Programs, bpfProgParpRing)
		spec.Programs[bpfProgParpRingBasic] = basic
		if coll, err = ebpf.NewCollection(spec); err != nil {
			return nil, fmt.Errorf("load eBPF: %w", unsupported(err, first))
		}
	}
	s := &Set{seesGSO: sees, ports: map[int32]ported{}, local: map[netip.Prefix]uint32{}, claims: map[int32]attached{}}
	if err := errors.Join(coll.Assign(&s.objs), coll.Assign(&s.vars)); err != nil {
		coll.Close()
		return nil, err
	}
	name := bpfProgParpRing
	if !sees {
		name = bpfProgParpRingBasic
	}
	s.watch = coll.DetachProgram(bpfProgParpWatch)
	s.ring, s.arp, s.claim = coll.DetachProgram(name), coll.DetachProgram(bpfProgParpArp), coll.DetachProgram(bpfProgParpClaim)
	coll.Close()
	for slot := uint32(MaxPorts - 1); slot > 0; slot-- {
		s.free = append(s.free, slot)
	}
	if s.window, err = newWindow(s.objs.ParpStats.FD(), s.objs.ParpConsumed.FD()); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.window.press = func(quota uint32) error { return s.vars.Pressed.Set(quota) }
	return s, nil
}

// unsupported wraps what a host without eBPF answers.
func unsupported(err, first error) error {
	if errors.Is(err, unix.EPERM) { // about which the library has a guess that is wrong since Linux 5.11
		return fmt.Errorf("%w: CAP_BPF or CAP_NET_ADMIN is missing, or forbidden here", ErrNotSupported)
	}
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.ENOSYS) || errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("%w: %w", ErrNotSupported, err)
	}
	return errors.Join(err, first)
}

// AttachRing makes the ring's filter the socket filter of fd.
func (s *Set) AttachRing(fd int) error { return attachSocket(fd, s.ring, "ring filter") }

// AttachWatch makes the filter of a capture the socket filter of fd: it keeps
// out what the ring and the ARP socket take, and what is sent with that mark
// (SO_MARK). Of the rest it passes snap bytes.
func (s *Set) AttachWatch(fd int, mark uint32, snap int) error {
	if err := errors.Join(s.vars.WatchSnap.Set(uint32(snap)), s.vars.WatchMark.Set(mark)); err != nil {
		return fmt.Errorf("capture filter: %w", err)
	}
	return attachSocket(fd, s.watch, "capture filter")
}

// AttachARP makes the ARP policing filter the socket filter of fd.
func (s *Set) AttachARP(fd int) error { return attachSocket(fd, s.arp, "ARP filter") }

func attachSocket(fd int, p *ebpf.Program, what string) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ATTACH_BPF, p.FD()); err != nil {
		return fmt.Errorf("%s: SO_ATTACH_BPF: %w", what, err)
	}
	return nil
}

// Window is the datapath's half of the policing.
func (s *Set) Window() *Window { return s.window }

// Close detaches and unloads all.
func (s *Set) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for ifindex := range s.claims {
		errs = append(errs, s.releaseLocked(ifindex))
	}
	for _, p := range []*ebpf.Program{s.ring, s.arp, s.claim, s.watch} {
		errs = append(errs, p.Close())
	}
	return errors.Join(append(errs, s.objs.Close(), s.window.close())...)
}

// nativeAddr gives the four bytes of an address as they lie in memory.
func nativeAddr(a netip.Addr) uint32 {
	b := a.As4()
	return binary.NativeEndian.Uint32(b[:])
}
