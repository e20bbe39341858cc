package netstate

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// A nexthopObject is a next hop, or a group of them, with a number of its own.
// Blackholes, and those of bridge forwarding entries, have neither.
type nexthopObject struct {
	id     uint32
	single Nexthop
	group  []groupMember
}

type groupMember struct {
	id     uint32
	weight int
}

// parseNexthopObject reads struct nhmsg and attributes (nh_fill_node in
// net/ipv4/nexthop.c).
func parseNexthopObject(b []byte) (nexthopObject, error) {
	o := nexthopObject{single: Nexthop{Weight: 1}}
	if len(b) < unix.SizeofNhmsg {
		return o, short("nhmsg", b)
	}
	family := b[0]
	o.single.Flags = native.Uint32(b[4:]) & nexthopFlags
	a := attrs{rest: b[unix.SizeofNhmsg:]}
	for a.next() {
		switch a.typ {
		case unix.NHA_ID:
			o.id = a.u32()
		case unix.NHA_GROUP:
			o.group = parseGroup(&a)
		case unix.NHA_OIF:
			o.single.Index = a.index()
		case unix.NHA_GATEWAY:
			o.single.Gateway = a.addr(family)
		case unix.NHA_ENCAP_TYPE:
			o.single.Encap = a.u16()
		}
	}
	if a.err == nil && o.id == 0 {
		a.err = fmt.Errorf("%w: nexthop object without a number", errMalformed)
	}
	return o, a.err
}

// parseGroup reads the struct nexthop_grp records of NHA_GROUP. The upper half
// of a weight is new in Linux 6.12, and zero before.
func parseGroup(a *attrs) (group []groupMember) {
	if len(a.val)%unix.SizeofNexthopGrp != 0 {
		a.fail()
		return nil
	}
	for b := a.val; len(b) > 0; b = b[unix.SizeofNexthopGrp:] {
		group = append(group, groupMember{native.Uint32(b), (int(b[4]) | int(b[5])<<8) + 1})
	}
	return group
}

// nexthopObjects are those of the namespace, by number.
type nexthopObjects map[uint32]nexthopObject

// complete puts in what a route of an object does not say of itself: its
// nexthops where the sysctl nexthop_compat_mode is off, and weights of more
// than the eight bits of a struct rtnexthop. A route of an object that is not
// known stays as it is.
func (n nexthopObjects) complete(r *Route) {
	o, known := n[r.NHID]
	if r.NHID == 0 || !known {
		return
	}
	switch {
	case len(r.Nexthops) > 0 && len(r.Nexthops) == len(o.group):
		for i := range r.Nexthops {
			r.Nexthops[i].Weight = o.group[i].weight
		}
	case len(r.Nexthops) > 0:
	case o.group == nil && o.single.Index != 0:
		r.Nexthops = append(r.Nexthops, o.single)
	default:
		for _, m := range o.group {
			if of, ok := n[m.id]; ok && of.single.Index != 0 {
				of.single.Weight = m.weight
				r.Nexthops = append(r.Nexthops, of.single)
			}
		}
	}
}

// setNexthop takes an RTM_NEWNEXTHOP or RTM_DELNEXTHOP. An object that went
// took its routes along, and one that became another changed them
// (remove_nexthop, replace_nexthop in net/ipv4/nexthop.c): all without a word.
// A new one has no routes yet.
func (s *state) setNexthop(typ, flags uint16, b []byte) outcome {
	o, err := parseNexthopObject(b)
	if err != nil {
		return malformed
	}
	if typ == unix.RTM_DELNEXTHOP {
		delete(s.nexthops, o.id)
	} else {
		s.nexthops[o.id] = o
	}
	const created = unix.NLM_F_CREATE | unix.NLM_F_EXCL
	if typ == unix.RTM_NEWNEXTHOP && flags&created == created {
		return applied
	}
	for _, t := range s.fibs() {
		t.stale = t.stale || t.any(func(r *Route) bool { return r.NHID != 0 })
	}
	return applied
}
