package claim

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Handed is what a Set of another process has: all but the descriptors, which come
// beside it. It is for a process whose Layout is the same.
type Handed struct {
	Config  Config
	Mode    Mode
	Maps    []string // their names, a descriptor each, in this order
	Ports   []HandedPort
	Classes []HandedClass
	Targets []NDTarget
	Claims  []HandedClaim // of TCX a descriptor each, in this order, behind those of Maps
	IDs     []uint32      // of the programs at the interfaces, and of others that were: what is there until TakePlaces is no foreign one

	Gone        Counters // of interfaces that have left
	CarriedGone Carried
	Resumed     []int64 // by worker: when the last stall was over, CLOCK_MONOTONIC, ns
}

// HandedPort is an interface that the programs know.
type HandedPort struct {
	Port    Port
	Slot    uint32
	Base    uint64
	Carried Carried
}

// HandedClass is the class of a prefix's destinations.
type HandedClass struct {
	Prefix netip.Prefix
	Class  Class
	Trie   bool
}

// HandedClaim is an interface whose frames are taken from the kernel.
type HandedClaim struct {
	Ifindex int32
	Relay   bool   // it is the relay's program
	TCX     bool   // there is a descriptor
	Handle  uint32 // of clsact
	Qdisc   bool   // of clsact: the qdisc is ours
}

// layoutGeneration counts changes of what values in the maps mean that their types do
// not show.
const layoutGeneration = 1

// Layout names how the programs keep their maps: processes whose maps look alike give
// the same.
func Layout() (string, error) {
	spec, err := loadBpf()
	if err != nil {
		return "", err
	}
	types := &btf.GoFormatter{}
	text := func(t btf.Type) string {
		if t == nil {
			return ""
		}
		s, err := types.TypeDeclaration("t", t)
		if err != nil {
			return t.TypeName()
		}
		return s
	}
	h := sha256.New()
	fmt.Fprintln(h, layoutGeneration)
	for _, name := range slices.Sorted(maps.Keys(spec.Maps)) {
		if m := spec.Maps[name]; name != sectionROData {
			fmt.Fprintln(h, name, m.Type, m.KeySize, m.ValueSize, m.MaxEntries, m.Flags, text(m.Key), text(m.Value))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(spec.Variables)) {
		if v := spec.Variables[name]; v.SectionName == sectionBSS {
			fmt.Fprintln(h, name, v.Offset, len(v.Value))
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:12]), nil
}

// sectionROData is the map of the programs' constants, which each process has of its own.
const sectionROData = ".rodata"

// HandOver is what another process needs to keep the programs' maps in this one's
// place, and the descriptors for it, which stay the Set's. Programs that carry must
// have been replaced by others before.
func (s *Set) HandOver() (h Handed, fds []int, err error) {
	s.attaching.Lock()
	defer s.attaching.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !s.cfg.Replaceable:
		return h, nil, errors.New("the eBPF programs were not loaded to be handed over: more descriptors were needed for that when the daemon began (ulimit -n, LimitNOFILE)")
	case s.cfg.Carry:
		return h, nil, errors.New("eBPF programs that carry can't be handed over")
	}
	h = Handed{Config: s.cfg, Mode: s.mode, Gone: s.gone, CarriedGone: s.carriedGone, IDs: slices.Sorted(maps.Keys(s.ids))}
	all := s.kept(s.cfg)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		h.Maps = append(h.Maps, name)
		fds = append(fds, all[name].FD())
	}
	for _, p := range s.ports {
		h.Ports = append(h.Ports, HandedPort{p.port, p.slot, p.base, p.carried})
	}
	for p, c := range s.classes {
		h.Classes = append(h.Classes, HandedClass{p, c.class, c.inTrie})
	}
	h.Targets = slices.Collect(maps.Keys(s.targets))
	for ifindex, a := range s.claims {
		c := HandedClaim{Ifindex: ifindex, Relay: a.relay}
		if a.link != nil {
			raw, ok := a.link.(interface{ FD() int })
			if !ok {
				return h, nil, fmt.Errorf("interface %d: a link of type %T can't be handed over", ifindex, a.link)
			}
			c.TCX = true
			fds = append(fds, raw.FD())
		} else {
			c.Handle, c.Qdisc = a.filter.Handle, a.qdisc != nil
		}
		h.Claims = append(h.Claims, c)
	}
	for _, w := range s.windows.of {
		h.Resumed = append(h.Resumed, w.resumed.Load())
	}
	return h, fds, nil
}

// Adopt makes a Set of another process's. Its programs are loaded anew, and run
// nowhere before TakePlaces. The descriptors are the Set's from then on, whether or not it
// fails.
func Adopt(h *Handed, fds []int) (_ *Set, err error) {
	rest := fds
	defer func() {
		for _, fd := range rest {
			_ = unix.Close(fd)
		}
	}()
	if len(h.Maps) > len(fds) {
		return nil, fmt.Errorf("%d descriptors for %d maps", len(fds), len(h.Maps))
	}
	have := map[string]*ebpf.Map{}
	defer func() {
		for _, m := range have {
			_ = m.Close()
		}
	}()
	for _, name := range h.Maps {
		m, err := ebpf.NewMapFromFD(rest[0])
		rest = rest[1:] // the library has it, or has closed it
		if err != nil {
			return nil, fmt.Errorf("map %s of another process: %w", name, err)
		}
		have[name] = m
	}
	if err := room(loadDescriptors); err != nil {
		return nil, fmt.Errorf("load eBPF: %w", err)
	}
	if countsMemlock() {
		raiseMemlock()
	}
	s, err := loadSet(h.Config, true, have)
	if err != nil {
		return nil, err
	}
	s.mode = h.Mode
	// What it could not have is the kernel's, as of a process that has died.
	err = s.Renew(h, rest)
	rest = nil
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Renew has a Set that was adopted know what has changed since: h is a later HandOver,
// and fds the descriptors of its claims, which are the Set's from then on.
func (s *Set) Renew(h *Handed, fds []int) error {
	s.attaching.Lock()
	defer s.attaching.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() {
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
	}()
	for ifindex, a := range s.claims {
		if a.link != nil {
			_ = a.link.Close() // of this process alone: the other one holds it, or has let go of it
		}
		delete(s.claims, ifindex)
	}
	s.links = 0
	for _, c := range h.Claims {
		a := attached{relay: c.Relay}
		if c.TCX {
			if len(fds) == 0 {
				return errors.New("descriptors of claims are missing")
			}
			l, err := link.NewFromFD(fds[0])
			fds = fds[1:]
			if err != nil {
				return fmt.Errorf("interface %d: claim of another process: %w", c.Ifindex, err)
			}
			a.link = l
			s.links++
		} else {
			if s.rtnl == nil {
				rtnl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
				if err != nil {
					return fmt.Errorf("clsact: netlink socket: %w", err)
				}
				s.rtnl = rtnl
			}
			program := s.claim
			if c.Relay {
				program = s.back
			}
			a.filter, a.qdisc = clsactFilter(int(c.Ifindex), program.FD()), nil
			a.filter.Handle = c.Handle
			if c.Qdisc {
				a.qdisc = clsactQdisc(int(c.Ifindex))
			}
		}
		s.claims[c.Ifindex] = a
	}
	s.mode = h.Mode
	for _, id := range h.IDs {
		s.ids[id] = true
	}
	s.gone, s.carriedGone = h.Gone, h.CarriedGone
	clear(s.ports)
	used := map[uint32]bool{}
	for _, p := range h.Ports {
		if p.Slot == 0 || p.Slot >= MaxPorts || used[p.Slot] {
			return fmt.Errorf("interface %d: slot %d of another process", p.Port.Ifindex, p.Slot)
		}
		used[p.Slot] = true
		s.ports[p.Port.Ifindex] = ported{port: p.Port, slot: p.Slot, base: p.Base, carried: p.Carried}
	}
	s.free = s.free[:0]
	for slot := uint32(MaxPorts - 1); slot > 0; slot-- {
		if !used[slot] {
			s.free = append(s.free, slot)
		}
	}
	s.setActive()
	clear(s.classes)
	s.room = [families]classRoom{}
	for _, c := range h.Classes {
		s.classes[c.Prefix] = classed{c.Class, c.Trie}
		s.count(familyOf(c.Prefix), c.Trie, false)
	}
	clear(s.targets)
	for _, t := range h.Targets {
		s.targets[t] = true
	}
	for i, w := range s.windows.of {
		if i < len(h.Resumed) {
			w.resumed.Store(h.Resumed[i])
		}
	}
	return s.countNatted()
}

// countNatted counts the ends of translated flows that are in the map.
func (s *Set) countNatted() error {
	var key bpfFlowkey
	var value uint8
	s.natted = 0
	it := s.objs.ParpNatted.Iterate()
	for it.Next(&key, &value) {
		s.natted++
	}
	if err := errors.Join(it.Err(), s.vars.Natted.Set(s.natted)); err != nil {
		return fmt.Errorf("translated flows: ring filter: %w", err)
	}
	return nil
}

// Ports are the interfaces that the programs know.
func (s *Set) Ports() (all []Port) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.ports {
		all = append(all, p.port)
	}
	return all
}

// Classes are the prefixes that have a class.
func (s *Set) Classes() []netip.Prefix {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.classes))
}

// TakePlaces has the programs of this process take the places of those of another one
// that keeps the same maps: at the interfaces, the relay, and the rings, whose filters
// refilter attaches. Both decide alike.
func (s *Set) TakePlaces(refilter func() error) error {
	s.attaching.Lock()
	defer s.attaching.Unlock()
	s.windows.pressing.Lock()
	pressed := s.windows.pressed
	s.windows.pressing.Unlock()
	if pressed == 0 { // the other's rings were, maybe
		if err := s.windows.press(0); err != nil {
			return err
		}
	}
	if err := errors.Join(s.swapClaims(s.claim), s.swapBack()); err != nil {
		return fmt.Errorf("exchange the eBPF programs: %w", err)
	}
	if refilter == nil {
		return nil
	}
	return refilter()
}

// swapBack puts the program of the relay in its place.
func (s *Set) swapBack() error {
	s.mu.Lock()
	claims := maps.Clone(s.claims)
	s.mu.Unlock()
	for ifindex, a := range claims {
		if !a.relay {
			continue
		}
		if err := s.swap(&a, s.back); err != nil {
			return fmt.Errorf("relay, interface %d: %w", ifindex, err)
		}
	}
	return nil
}

// Reclaim writes what this process knows into the maps, where another one may have
// written something else: it has died before it took over.
func (s *Set) Reclaim() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, p := range s.ports {
		errs = append(errs, s.putPort(p.port, p.slot))
	}
	errs = append(errs, forget(s.objs.ParpPorts, func(ifindex uint32) bool { _, ours := s.ports[int32(ifindex)]; return ours }))
	for prefix, c := range s.classes {
		errs = append(errs, s.putClass(prefix, c.class, c.inTrie))
	}
	known, known6 := map[uint32]bool{}, map[bpfAddr6]bool{}
	nets, nets6 := map[bpfLpmkey]bool{}, map[bpfLpmkey6]bool{}
	for prefix, c := range s.classes {
		switch six := familyOf(prefix) == ipv6; {
		case six && c.inTrie:
			nets6[lpmKey6(prefix)] = true
		case six:
			known6[nativeAddr6(prefix.Addr())] = true
		case c.inTrie:
			nets[lpmKey(prefix)] = true
		default:
			known[nativeAddr(prefix.Addr())] = true
		}
	}
	targets := map[bpfNdkey]bool{}
	for t := range s.targets {
		targets[t.key()] = true
		errs = append(errs, s.putNDTarget(t, true))
	}
	errs = append(errs, forget(s.objs.ParpHosts, func(addr uint32) bool { return known[addr] }),
		forget(s.objs.ParpNets, func(k bpfLpmkey) bool { return nets[k] }),
		forget(s.objs.ParpHosts6, func(addr bpfAddr6) bool { return known6[addr] }),
		forget(s.objs.ParpNets6, func(k bpfLpmkey6) bool { return nets6[k] }),
		forget(s.objs.ParpNdTargets, func(k bpfNdkey) bool { return targets[k] }),
		s.tellNets(ipv4), s.tellNets(ipv6))
	return errors.Join(errs...)
}

// forget deletes those keys of a map that are not ours.
func forget[K any](m *ebpf.Map, ours func(K) bool) error {
	var key K
	var all []K
	value := make([]byte, m.ValueSize())
	it := m.Iterate()
	for it.Next(&key, &value) {
		if !ours(key) {
			all = append(all, key)
		}
	}
	err := it.Err()
	for _, k := range all {
		if e := m.Delete(k); !errors.Is(e, ebpf.ErrKeyNotExist) {
			err = errors.Join(err, e)
		}
	}
	return err
}
