package netstate

import (
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// addressLists holds the addresses of all links, each list in the kernel's
// order. A link may have tens of thousands (a service proxy's).
type addressLists struct {
	lists map[addressListKey][]Address
	known map[addressKey]bool
	links map[netip.Addr]int // how many links have it
}

type addressListKey struct {
	index  int
	family Family
}

// addressKey is what the kernel allows once a link: of IPv4 a local address in a
// network (__inet_insert_ifa in net/ipv4/devinet.c), of IPv6 a local address
// (ipv6_add_addr in net/ipv6/addrconf.c), whose prefix is then not set.
type addressKey struct {
	index  int
	local  netip.Addr
	prefix netip.Prefix
}

func (a *Address) key() addressKey {
	k := addressKey{index: a.Index, local: a.Local}
	if a.Local.Is4() {
		k.prefix = a.Prefix
	}
	return k
}

// list is the list that the address is in.
func (a *Address) list() addressListKey { return addressListKey{a.Index, familyOfAddr(a.Local)} }

func newAddressLists() addressLists {
	return addressLists{
		lists: make(map[addressListKey][]Address),
		known: make(map[addressKey]bool),
		links: make(map[netip.Addr]int),
	}
}

// of returns a list, which is not to be kept.
func (l *addressLists) of(k addressListKey) []Address { return l.lists[k] }

// set returns a copy of a list.
func (l *addressLists) set(k addressListKey) AddressSet {
	return AddressSet{Index: k.index, Family: k.family, Addresses: slices.Clone(l.lists[k])}
}

// has reports whether any link has the address.
func (l *addressLists) has(ip netip.Addr) bool { return l.links[ip] > 0 }

// add appends an address to its list, as a dump tells them. It may tell one
// twice when addresses change under it.
func (l *addressLists) add(a Address) {
	if l.known[a.key()] {
		l.lists[a.list()][l.at(&a)] = a
		return
	}
	l.insert(a, len(l.lists[a.list()]))
}

// put takes what the kernel tells of one address, and reports whether it is a
// change. One that was secondary and is not any more, since the primary one of
// its network went (promote_secondaries), takes its place among the primary
// ones.
func (l *addressLists) put(a Address) (changed bool) {
	if !l.known[a.key()] {
		l.insert(a, addressPlace(l.lists[a.list()], &a))
		return true
	}
	at := l.at(&a)
	old := &l.lists[a.list()][at]
	if *old == a {
		return false
	}
	if (old.Flags^a.Flags)&unix.IFA_F_SECONDARY == 0 || a.Local.Is6() {
		*old = a
		return true
	}
	l.remove(a)
	l.insert(a, addressPlace(l.lists[a.list()], &a))
	return true
}

// addressPlace is where the kernel has a new address in a list
// (__inet_insert_ifa and __inet_del_ifa in net/ipv4/devinet.c, ipv6_link_dev_addr
// in net/ipv6/addrconf.c, where the flag of secondary ones means temporary ones).
func addressPlace(list []Address, a *Address) int {
	if a.Local.Is6() {
		at := slices.IndexFunc(list, func(o Address) bool { return o.Scope >= a.Scope })
		if at < 0 {
			return len(list)
		}
		return at
	}
	if a.Flags&unix.IFA_F_SECONDARY != 0 {
		return len(list)
	}
	for i := len(list) - 1; i >= 0; i-- {
		if list[i].Flags&unix.IFA_F_SECONDARY == 0 && a.Scope <= list[i].Scope {
			return i + 1
		}
	}
	return 0
}

func (l *addressLists) at(a *Address) int {
	return slices.IndexFunc(l.lists[a.list()], func(o Address) bool { return o.key() == a.key() })
}

func (l *addressLists) insert(a Address, at int) {
	k := a.list()
	l.lists[k] = slices.Insert(l.lists[k], at, a)
	l.known[a.key()] = true
	l.links[a.Local]++
}

// remove reports whether the address was there.
func (l *addressLists) remove(a Address) bool {
	if !l.known[a.key()] {
		return false
	}
	k, at := a.list(), l.at(&a)
	if list := l.lists[k]; len(list) == 1 {
		delete(l.lists, k)
	} else if at == 0 { // the kernel empties a list from its head
		l.lists[k] = list[1:]
	} else {
		l.lists[k] = slices.Delete(list, at, at+1)
	}
	l.drop(&a)
	return true
}

func (l *addressLists) drop(a *Address) {
	delete(l.known, a.key())
	if l.links[a.Local]--; l.links[a.Local] == 0 {
		delete(l.links, a.Local)
	}
}

// forgetFamily removes all lists of a family.
func (l *addressLists) forgetFamily(f Family) {
	for k := range l.lists {
		if k.family == f {
			l.forget(k)
		}
	}
}

// forget removes a list, and reports whether there was one.
func (l *addressLists) forget(k addressListKey) bool {
	list := l.lists[k]
	for i := range list {
		l.drop(&list[i])
	}
	delete(l.lists, k)
	return len(list) > 0
}
