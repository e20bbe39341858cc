// Package claim takes from the kernel the frames that userspace forwards. It
// loads the eBPF programs of bpf/claim.c and keeps their maps.
//
// The ring's socket filter decides about each frame once; the tc program drops
// the original of exactly those that the filter took. Both end with the
// process: TCX links and socket filters are held by file descriptors, and a
// clsact filter that outlives a kill finds no decision and passes everything.
package claim

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/cilium/ebpf"

	"proxyarpd/internal/wire"
)

// ErrNotSupported says that this kernel, or what the process may do, has no
// way to load or attach the programs.
var ErrNotSupported = errors.New("not supported")

// MaxPorts is how many interfaces the maps hold. Slot 0 is for interfaces that
// are not known yet.
const MaxPorts = 4096

// Port is what the programs know of an interface.
type Port struct {
	Ifindex  int32
	Forward  bool // its IPv4 frames are ours
	Workload bool // its ARP requests are answered
	Quota    uint32
	L2Len    uint32      // 14 with an Ethernet header, else 0
	Aliases  [2]wire.MAC // destinations besides its own MAC that mean it; zero: none
}

// Flags of struct port, bpf/claim.c.
const (
	portForward = 1 << iota
	portWorkload
	portRetype
)

// Counters are what the filters counted for an interface.
type Counters struct {
	Admitted   uint64 // given to the ring
	Policed    uint64 // refused: the interface's share of the ring was in use
	BadGSO     uint64 // refused: a GSO type that no virtio_net_hdr expresses
	Local      uint64 // left to the kernel: for this host
	Punted     uint64 // left to the kernel: punted
	ARPPassed  uint64
	ARPPoliced uint64
}

func (c *Counters) add(o Counters) {
	c.Admitted += o.Admitted
	c.Policed += o.Policed
	c.BadGSO += o.BadGSO
	c.Local += o.Local
	c.Punted += o.Punted
	c.ARPPassed += o.ARPPassed
	c.ARPPoliced += o.ARPPoliced
}

// Set is the loaded programs and their maps. Its methods are safe for
// concurrent use but for the Window's, which belong to the datapath.
type Set struct {
	mu    sync.Mutex
	objs  bpfMaps
	vars  bpfVariables
	ring  *ebpf.Program
	arp   *ebpf.Program
	claim *ebpf.Program
	watch *ebpf.Program
	// seesGSO: the ring's filter reads the exact GSO type.
	seesGSO  bool
	mode     Mode
	free     []uint32
	ports    map[int32]ported
	local    map[netip.Prefix]uint32
	prefixes uint32
	claims   map[int32]attached
	gone     Counters // of interfaces that have left
	window   *Window
}

type ported struct {
	port Port
	slot uint32
	base uint64 // admitted of the slot before it was this interface's
}

func (s *Set) read(p ported) Counters {
	c := s.window.read(p.slot)
	c.Admitted -= p.base
	return c
}

// Slot gives the index of an interface in the filter's tables.
func (s *Set) Slot(ifindex int32) uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ports[ifindex].slot
}

// SeesGSOType reports whether the filter reads the exact GSO type of frames;
// without it, it goes by the IP protocol.
func (s *Set) SeesGSOType() bool { return s.seesGSO }

// SetPort adds or changes an interface and gives its slot.
func (s *Set) SetPort(p Port) (slot uint32, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	have, known := s.ports[p.Ifindex]
	if known && have.port == p {
		return have.slot, nil
	}
	if !known {
		if len(s.free) == 0 {
			return 0, fmt.Errorf("interface %d: all %d slots of the ring filter are in use", p.Ifindex, MaxPorts-1)
		}
		have.slot = s.free[len(s.free)-1]
		have.base = s.window.start(have.slot)
	}
	v := bpfPort{Slot: have.slot, Quota: p.Quota, L2len: p.L2Len}
	if p.Forward {
		v.Flags |= portForward
	}
	if p.Workload {
		v.Flags |= portWorkload
	}
	if p.Aliases != [2]wire.MAC{} {
		v.Flags |= portRetype
	}
	for i, a := range p.Aliases {
		if a.IsZero() {
			a = p.Aliases[1-i]
		}
		v.Alias[i] = a
	}
	if err := s.objs.ParpPorts.Put(uint32(p.Ifindex), &v); err != nil {
		return 0, fmt.Errorf("interface %d: ring filter: %w", p.Ifindex, err)
	}
	if !known {
		s.free = s.free[:len(s.free)-1]
	}
	have.port = p
	s.ports[p.Ifindex] = have
	if !known {
		s.setActive()
	}
	return have.slot, nil
}

// DeletePort forgets an interface and lets go of its claim. Its counters stay
// in Totals.
func (s *Set) DeletePort(ifindex int32) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	have, known := s.ports[ifindex]
	if !known {
		return nil
	}
	delete(s.ports, ifindex)
	err := s.objs.ParpPorts.Delete(uint32(ifindex))
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		err = nil
	}
	left := s.window.take(have.slot)
	left.Admitted -= have.base
	s.gone.add(left)
	s.free = append(s.free, have.slot)
	s.setActive()
	return errors.Join(err, s.releaseLocked(ifindex))
}

// setActive tells the window which slots there are.
func (s *Set) setActive() {
	active := make([]uint32, 0, len(s.ports)+1)
	active = append(active, 0)
	for _, p := range s.ports {
		active = append(active, p.slot)
	}
	s.window.active.Store(&active)
}

// Counters reads what the filters counted for an interface.
func (s *Set) Counters(ifindex int32) Counters {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p, ok := s.ports[ifindex]; ok {
		return s.read(p)
	}
	return Counters{}
}

// Totals are the counters of all interfaces, those that have left included.
func (s *Set) Totals() Counters {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.gone
	unknown := s.window.read(0)
	unknown.Admitted = 0 // there it counts all
	t.add(unknown)
	for _, p := range s.ports {
		t.add(s.read(p))
	}
	return t
}

// Destination says whose a destination is.
type Destination uint32

// The destinations that are left to the kernel.
const (
	ToLocal Destination = 1
	ToPunt  Destination = 2
)

// SetDestinations says which destinations are left to the kernel: this host's
// addresses and broadcast addresses, and what is punted. Only differences to
// what was said before are written.
func (s *Set) SetDestinations(want map[netip.Prefix]Destination) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for p, d := range want {
		if have, ok := s.local[p]; ok && have == uint32(d) {
			continue
		}
		if err := s.putDestination(p, uint32(d)); err != nil {
			errs = append(errs, fmt.Errorf("destination %s: ring filter: %w", p, err))
		}
	}
	for p := range s.local {
		if _, ok := want[p]; ok {
			continue
		}
		if err := s.deleteDestination(p); err != nil {
			errs = append(errs, fmt.Errorf("destination %s: ring filter: %w", p, err))
		}
	}
	return errors.Join(errs...)
}

func lpmKey(p netip.Prefix) bpfLpmkey {
	return bpfLpmkey{Prefixlen: uint32(p.Bits()), Addr: nativeAddr(p.Addr())}
}

func (s *Set) putDestination(p netip.Prefix, d uint32) error {
	if p.IsSingleIP() {
		if err := s.objs.ParpLocal.Put(nativeAddr(p.Addr()), d); err != nil {
			return err
		}
		s.local[p] = d
		return nil
	}
	if err := s.objs.ParpPrefixes.Put(lpmKey(p), d); err != nil {
		return err
	}
	if _, had := s.local[p]; !had {
		s.prefixes++
	}
	s.local[p] = d
	return s.vars.Prefixes.Set(s.prefixes)
}

func (s *Set) deleteDestination(p netip.Prefix) error {
	delete(s.local, p)
	var err error
	if p.IsSingleIP() {
		err = s.objs.ParpLocal.Delete(nativeAddr(p.Addr()))
	} else {
		s.prefixes--
		err = errors.Join(s.objs.ParpPrefixes.Delete(lpmKey(p)), s.vars.Prefixes.Set(s.prefixes))
	}
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil
	}
	return err
}
