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
	"github.com/vishvananda/netlink"

	"proxyarpd/internal/wire"
)

// ErrNotSupported says that this kernel, or what the process may do, has no
// way to load or attach the programs.
var ErrNotSupported = errors.New("not supported")

// MaxPorts is how many interfaces the maps hold. Slot 0 is for interfaces that
// are not known yet.
const MaxPorts = 4096

// MaxWorkers is MAX_WORKERS of bpf/claim.c: how many rings there may be.
const MaxWorkers = 16

// Port is what the programs know of an interface.
type Port struct {
	Ifindex  int32
	Forward  bool // its IPv4 frames are looked at
	IPv6     bool // and its IPv6 frames; it takes Config.IPv6
	Workload bool // it leads to a workload
	ARP      bool // its ARP frames go to the responder
	// ND says that its neighbour solicitations go to the responder, and that a
	// workload there can't be a router: its router advertisements and redirects are
	// dropped. It takes Config.IPv6 and an Ethernet header.
	ND bool
	// Anywhere says that packets from it are sent to uplinks too, and refused here
	// where there is no way; else only those are taken that lead to a workload.
	Anywhere bool
	// KernelForwards says that the kernel forwards what it is left there of IPv4,
	// KernelForwards6 of IPv6.
	KernelForwards  bool
	KernelForwards6 bool
	Quota           uint32
	L2Len           uint32      // 14 with an Ethernet header, else 0
	Aliases         [2]wire.MAC // destinations besides its own MAC that mean it; zero: none
	// Answer is what programs that carry answer ARP requests and neighbour solicitations
	// for a gateway with, as far as they are plain; zero: they answer none. Of other
	// programs it is ignored.
	Answer wire.MAC
}

// Flags of struct port, bpf/claim.c.
const (
	portForward = 1 << iota
	portWorkload
	portRetype
	portAnywhere
	portKernelForwards
	portARP
	portForward6
	portKernelForwards6
	portND
)

// Owner says why a frame was left to the kernel: enum owner of bpf/claim.c.
type Owner uint8

// The owners; those before have no counter.
const (
	Local      Owner = iota + 2 // this host
	Punted                      // what the operator leaves to the kernel
	Transit                     // the kernel forwards, and the way is none that is served
	Translated                  // of a flow that the kernel translates, or may
	Upper                       // of a device that stands on the interface, maybe
	Tagged                      // a VLAN's
	GSO                         // the kernel forwards, and no ring can have it as it is
	Stalled                     // the kernel forwards, and nobody reads the ring
	RAGuard                     // nobody's: a workload's router advertisement or redirect, dropped
	owners
)

// Counters are what the filters counted for an interface.
type Counters struct {
	Admitted uint64 // given to the ring, or segments to the relay
	Policed  uint64 // refused: the interface's share of the ring was in use
	BadGSO   uint64 // with a GSO type that no virtio_net_hdr expresses
	Relayed  uint64 // those of them that went to the relay: the others are lost
	Left     [owners]uint64
	// Of ARP frames and of messages of neighbour discovery: passed to the responders.
	ARPPassed  uint64
	ARPPoliced uint64 // refused: the interface had had its share
	ARPSender  uint64 // refused: the sender had had its share
}

func (c *Counters) add(o Counters) {
	c.Admitted += o.Admitted
	c.Policed += o.Policed
	c.BadGSO += o.BadGSO
	c.Relayed += o.Relayed
	for i, n := range o.Left {
		c.Left[i] += n
	}
	c.ARPPassed += o.ARPPassed
	c.ARPPoliced += o.ARPPoliced
	c.ARPSender += o.ARPSender
}

// Set is the loaded programs and their maps. Its methods are safe for
// concurrent use but for the Windows', which belong to the datapath.
type Set struct {
	// attaching is held while the kernel attaches and detaches, which takes its
	// time: mu is not. It comes before mu.
	attaching sync.Mutex

	mu     sync.Mutex
	objs   bpfMaps
	vars   bpfVariables
	ring   *ebpf.Program
	fanout *ebpf.Program // nil if there is room for one ring
	arp    *ebpf.Program
	nd     *ebpf.Program // nil without Config.IPv6
	claim  *ebpf.Program
	watch  *ebpf.Program
	back   *ebpf.Program // of the relay
	// seesGSO: the ring's filter reads the exact GSO type.
	seesGSO bool
	// judges: the claims ask conntrack about flows that may be translated.
	judges  bool
	mode    Mode
	free    []uint32
	ports   map[int32]ported
	classes map[netip.Prefix]classed
	room    [families]classRoom
	targets map[NDTarget]bool
	natted  uint32 // of the map of who has translated flows
	claims  map[int32]attached
	ids     map[uint32]bool // of tc programs that were loaded
	links   int             // claims of TCX
	rtnl    *netlink.Handle // of clsact, from the first use on
	gone    Counters        // of interfaces that have left
	windows *windows
	carrier *Carrier // nil: nothing is carried

	cfg         Config    // that the programs were loaded for
	sections    *ebpf.Map // of their variables
	carriedGone Carried   // of interfaces that have left, by carriers that have gone
}

type ported struct {
	port    Port
	slot    uint32
	base    uint64  // admitted of the slot before it was this interface's
	carried Carried // by carriers that have gone
}

func (s *Set) read(p ported) Counters {
	c := s.windows.read(p.slot)
	c.Admitted -= p.base
	return c
}

// SeesGSOType reports whether the filter reads the exact GSO type of frames;
// without it, it goes by the IP protocol.
func (s *Set) SeesGSOType() bool { return s.seesGSO }

// SetPort adds or changes an interface and gives its slot.
func (s *Set) SetPort(p Port) (slot uint32, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.cfg.IPv6 {
		p.IPv6, p.KernelForwards6, p.ND = false, false, false
	}
	have, known := s.ports[p.Ifindex]
	if known && have.port == p {
		return have.slot, nil
	}
	if !known {
		if len(s.free) == 0 {
			return 0, fmt.Errorf("interface %d: all %d slots of the ring filter are in use", p.Ifindex, MaxPorts-1)
		}
		have.slot = s.free[len(s.free)-1]
		have.base = s.windows.start(have.slot)
	}
	if err := s.putPort(p, have.slot); err != nil {
		return 0, err
	}
	if s.carrier != nil {
		if err := s.carrier.Changed(); err != nil {
			return 0, fmt.Errorf("interface %d: ring filter: %w", p.Ifindex, err)
		}
	}
	if !known {
		s.free = s.free[:len(s.free)-1]
	}
	have.port = p
	s.ports[p.Ifindex] = have
	if !known {
		s.windows.activate(have.slot)
		if s.carrier != nil {
			s.carrier.show(p.Ifindex, have.slot)
		}
	}
	return have.slot, nil
}

// putPort writes an interface into the filter's map.
func (s *Set) putPort(p Port, slot uint32) error {
	v := bpfPort{Slot: slot, Quota: p.Quota, L2len: p.L2Len, Answer: p.Answer}
	if p.Forward {
		v.Flags |= portForward
	}
	if p.Workload {
		v.Flags |= portWorkload
	}
	if p.ARP {
		v.Flags |= portARP
	}
	v.Flags |= flags6(p)
	if p.Aliases != [2]wire.MAC{} {
		v.Flags |= portRetype
	}
	if p.Anywhere {
		v.Flags |= portAnywhere
	}
	if p.KernelForwards {
		v.Flags |= portKernelForwards
	}
	for i, a := range p.Aliases {
		if a.IsZero() {
			a = p.Aliases[1-i]
		}
		v.Alias[i] = a
	}
	if err := s.objs.ParpPorts.Put(uint32(p.Ifindex), &v); err != nil {
		return fmt.Errorf("interface %d: ring filter: %w", p.Ifindex, err)
	}
	return nil
}

func flags6(p Port) (flags uint32) {
	if p.IPv6 {
		flags |= portForward6
	}
	if p.KernelForwards6 {
		flags |= portKernelForwards6
	}
	if p.ND {
		flags |= portND
	}
	return flags
}

// DeletePort forgets an interface and lets go of its claim. Its counters stay
// in Totals.
func (s *Set) DeletePort(ifindex int32) error {
	err, known := s.deletePort(ifindex)
	if !known {
		return nil
	}
	return errors.Join(err, s.Release(ifindex))
}

func (s *Set) deletePort(ifindex int32) (err error, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	have, known := s.ports[ifindex]
	if !known {
		return nil, false
	}
	delete(s.ports, ifindex)
	if err = s.objs.ParpPorts.Delete(uint32(ifindex)); errors.Is(err, ebpf.ErrKeyNotExist) {
		err = nil
	}
	left := s.windows.take(have.slot)
	left.Admitted -= have.base
	s.gone.add(left)
	s.carriedGone.add(have.carried)
	if s.carrier != nil {
		err = errors.Join(err, s.carrier.leave(have.slot))
	}
	s.free = append(s.free, have.slot)
	s.setActive()
	return err, true
}

// setActive tells the window which slots there are.
func (s *Set) setActive() {
	active := make([]uint32, 0, len(s.ports)+1)
	active = append(active, 0)
	for _, p := range s.ports {
		active = append(active, p.slot)
	}
	s.windows.active.Store(&active)
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

// Holds reports whether frames of an interface that the ring took may be in it
// still.
func (s *Set) Holds(ifindex int32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.ports[ifindex]
	return ok && s.windows.holds(p.slot)
}

// Totals are the counters of all interfaces, those that have left included.
func (s *Set) Totals() Counters {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.gone
	unknown := s.windows.read(0)
	unknown.Admitted, unknown.Relayed = 0, 0 // there they count all
	t.add(unknown)
	for _, p := range s.ports {
		t.add(s.read(p))
	}
	return t
}
