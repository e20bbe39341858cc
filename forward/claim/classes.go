package claim

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
)

// Class says where a destination may lead: route.Class, whose members are
// TO_* of bpf/claim.c.
type Class uint32

// classed is a destination that the maps hold.
type classed struct {
	class  Class
	inTrie bool
}

// The families have maps of their own.
const (
	ipv4 = iota
	ipv6
	families
)

func familyOf(p netip.Prefix) int {
	if p.Addr().Is4() {
		return ipv4
	}
	return ipv6
}

// classRoom is how many entries the maps of a family have.
type classRoom struct {
	hosts uint32 // single addresses
	nets  uint32 // of the trie
}

// maxHosts are MAX_HOSTS and MAX_HOSTS6 of bpf/claim.c: further single addresses are
// kept in the trie, where a look-up takes longer.
var maxHosts = [families]uint32{ipv4: 65536, ipv6: 16384}

// SetClass says what class the destinations of a prefix have that no longer
// prefix has, and 0 that they have that of the next shorter one. It calls the
// kernel only for what changes. Without Config.IPv6 no prefix of IPv6 gets a class.
func (s *Set) SetClass(p netip.Prefix, c Class) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	family := familyOf(p)
	if family == ipv6 && !s.cfg.IPv6 && c != 0 {
		return nil
	}
	have, had := s.classes[p]
	var err error
	switch {
	case have.class == c:
	case c == 0:
		delete(s.classes, p)
		err = s.deleteClass(p, have.inTrie)
	default:
		if !had {
			have.inTrie = !p.IsSingleIP() || s.room[family].hosts >= maxHosts[family]
		}
		if err = s.putClass(p, c, have.inTrie); err == nil {
			s.classes[p] = classed{c, have.inTrie}
			s.count(family, have.inTrie, had)
			err = s.tellNets(family)
		}
	}
	if err != nil {
		return fmt.Errorf("destination %s: ring filter: %w", p, err)
	}
	return nil
}

func (s *Set) count(family int, inTrie, had bool) {
	switch {
	case had:
	case inTrie:
		s.room[family].nets++
	default:
		s.room[family].hosts++
	}
}

// tellNets tells the programs how many entries a trie has.
func (s *Set) tellNets(family int) error {
	if family == ipv6 {
		return s.vars.Nets6.Set(s.room[family].nets)
	}
	return s.vars.Nets.Set(s.room[family].nets)
}

func lpmKey(p netip.Prefix) bpfLpmkey {
	return bpfLpmkey{Prefixlen: uint32(p.Bits()), Addr: nativeAddr(p.Addr())}
}

func lpmKey6(p netip.Prefix) bpfLpmkey6 {
	return bpfLpmkey6{Prefixlen: uint32(p.Bits()), Addr: nativeAddr6(p.Addr())}
}

// classEntry is where the maps hold a prefix.
func (s *Set) classEntry(p netip.Prefix, inTrie bool) (m *ebpf.Map, key any) {
	switch six := familyOf(p) == ipv6; {
	case six && inTrie:
		return s.objs.ParpNets6, lpmKey6(p)
	case six:
		return s.objs.ParpHosts6, nativeAddr6(p.Addr())
	case inTrie:
		return s.objs.ParpNets, lpmKey(p)
	}
	return s.objs.ParpHosts, nativeAddr(p.Addr())
}

func (s *Set) putClass(p netip.Prefix, c Class, inTrie bool) error {
	m, key := s.classEntry(p, inTrie)
	return m.Put(key, uint32(c))
}

func (s *Set) deleteClass(p netip.Prefix, inTrie bool) error {
	m, key := s.classEntry(p, inTrie)
	family := familyOf(p)
	err := m.Delete(key)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		err = nil
	}
	if !inTrie {
		s.room[family].hosts--
		return err
	}
	s.room[family].nets--
	return errors.Join(err, s.tellNets(family))
}
