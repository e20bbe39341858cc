package netstate

import "net/netip"

// A Link is a network interface. Links compare with ==.
type Link struct {
	Index int
	Name  string
	Kind  string // IFLA_INFO_KIND: "veth", "bridge", "vxlan", "tun"; "" for hardware and lo

	// MAC is the link-layer address when AddrLen is 6, else zero. AddrLen is
	// 0 for links without addresses, such as tun.
	MAC     [6]byte
	AddrLen int
	PermMAC [6]byte // IFLA_PERM_ADDRESS, the hardware's own; zero where there is none, as of a veth

	Type   uint16 // ARPHRD_*
	Flags  uint32 // IFF_*
	MTU    int
	Master int // index of the bridge, bond or VRF it is a port of, or 0
	Group  uint32

	// ParentIndex is IFLA_LINK: the lower link of a VLAN, the peer of a veth.
	// When ParentForeign is set it is an index in another namespace.
	ParentIndex   int
	ParentForeign bool

	OperState      OperState
	NumTxQueues    int
	Qdisc          string // at the root; or QdiscDefault
	GSOMaxSize     uint32 // 0 if the kernel does not say
	GSOIPv4MaxSize uint32 // 0 if the kernel does not say
	XDP            bool   // an XDP program is attached, in any mode
	CarrierChanges uint32 // how often the carrier came or went

	// Forwards is net.ipv4.conf.*.forwarding of the link (IN_DEV_FORWARD): the
	// kernel forwards what comes in there. It is false where the link has no IPv4.
	Forwards bool
	// IPv6 says that the link has IPv6: an inet6_dev, and
	// net.ipv6.conf.*.disable_ipv6 is 0. MTU6 is net.ipv6.conf.*.mtu then, else 0.
	// Forwards6 says that the kernel forwards what comes in there
	// (net.ipv6.conf.all.forwarding, or force_forwarding of the link). None is set
	// where IPv6 is not followed.
	IPv6, Forwards6, forced6 bool
	MTU6                     int
	// Multipoint is set for a tunnel without a remote end of its own, as Calico's
	// tunl0 is: where to is said by the route of each packet.
	Multipoint bool
}

// An AddressSet is every address that a link has of one family, in the order of
// the kernel's list (in_device.ifa_list, __inet_insert_ifa in
// net/ipv4/devinet.c), by which it chooses among them (inet_select_addr):
// primary addresses by scope, the widest last, and in the order in which they
// were added among equals; then those with IFA_F_SECONDARY, each of which has a
// primary address in its network. Those of IPv6 are in the order of
// inet6_dev.addr_list (ipv6_link_dev_addr in net/ipv6/addrconf.c): by scope, the
// widest first, and the newest first among equals.
type AddressSet struct {
	Index     int
	Family    Family
	Addresses []Address
}

// An Address is an address of a link. Addresses compare with ==.
type Address struct {
	Index     int
	Local     netip.Addr
	Prefix    netip.Prefix // the connected network, masked; of a peer address, the peer's
	Peer      netip.Addr   // valid only if it differs from Local
	Broadcast netip.Addr
	Scope     Scope
	Flags     uint32 // IFA_F_*
	Label     string
}

// A RouteSet is everything one table holds for one destination, in the order
// in which the kernel considers it: TOS descending, then priority ascending,
// then the order among equals that NLM_F_APPEND and NLM_F_REPLACE left
// (fib_find_alias in net/ipv4/fib_trie.c). Routes is empty when none is left.
// It and all it refers to must not be modified.
//
// The order of IPv6 is: those with From first, then priority ascending, then the
// order in which they were added. Of several with the lowest priority the kernel
// takes one by Pref and by what it knows of the neighbours (find_rr_leaf in
// net/ipv6/route.c).
type RouteSet struct {
	Table  uint32
	Dst    netip.Prefix
	Routes []Route
}

// A Route is one route ("fib alias").
type Route struct {
	Table     uint32
	Dst       netip.Prefix
	From      netip.Prefix // invalid if any: packets from there alone (RTA_SRC of IPv6)
	Type      RouteType
	Protocol  Protocol
	Scope     Scope
	TOS       uint8
	Priority  uint32
	PrefSrc   netip.Addr
	MTU       uint32 // RTAX_MTU, or 0
	MTULocked bool
	HopLimit  uint8  // RTAX_HOPLIMIT, or 0
	Pref      uint8  // ICMPV6_ROUTER_PREF_* of IPv6: 0 medium, 1 high, 3 low
	Flags     uint32 // RTM_F_* and, of a single nexthop, RTNH_F_*

	// Nexthops is empty for blackholes and their like, and for a route of a
	// nexthop object that has just gone. IPv6 ones that have a gateway and one
	// metric are one route ("siblings").
	Nexthops []Nexthop
	NHID     uint32 // nexthop object, or 0

	expires int32 // in a message: in how many 1/100 s, negative if it has; 0: never
}

// A Nexthop is one way of a route.
type Nexthop struct {
	Index   int
	Gateway netip.Addr // invalid if on link; may be IPv6 for an IPv4 route (RTA_VIA)
	Flags   uint32     // RTNH_F_*
	Weight  int        // 1 or more
	Encap   uint16     // LWTUNNEL_ENCAP_*, or 0: frames need more than a MAC header
}

// Input reports whether what the kernel does with IPv6 packets for it does not hang on
// forwarding: the actions of SRv6 (seg6_local_input in net/ipv6/seg6_local.c), and a
// program at the route's input (bpf_input in net/core/lwt_bpf.c).
func (nh *Nexthop) Input() bool {
	const bpf, seg6Local = 6, 7 // LWTUNNEL_ENCAP_*, include/uapi/linux/lwtunnel.h
	return nh.Encap == seg6Local || nh.Encap == bpf
}

// A RuleSet is every policy routing rule of one family, in the order in which
// the kernel tries them: priority ascending, then the order in which they were
// added (fib_newrule in net/core/fib_rules.c). Duplicates, which have no effect,
// are left out. It is empty where all were deleted: no route is found then.
type RuleSet struct {
	Family Family
	Rules  []Rule
}

// A Rule is a policy routing rule. Rules compare with ==.
type Rule struct {
	Priority uint32
	Table    uint32
	Action   RuleAction
	From, To netip.Prefix // invalid if any
	IIF, OIF string
	Mark     uint32
	Mask     uint32
	TOS      uint8
	Invert   bool
	Goto     uint32
	Protocol Protocol

	// SuppressPrefixLen discards results with a prefix no longer than this;
	// -1 discards none.
	SuppressPrefixLen int32
	// SuppressGroup discards results over an interface of this group; -1
	// discards none.
	SuppressGroup int64

	IPProto      uint8 // 0 if any
	SPort, DPort PortRange
	// DSCP, a number of six bits, is to match in the bits of DSCPMask; mask 0
	// if any. TOS is another selector, of older rules.
	DSCP, DSCPMask uint8
	UIDs           UIDRange
	L3MDev         bool // selects packets of a VRF, and looks in its table

	// Other names the selectors and suppressors that are not modelled, each
	// with its bytes in hex: "tun_id=0000000000000001". A rule with any applies
	// to less than the fields above say.
	Other string
}

// A PortRange selects ports, in host byte order: those from First to Last or,
// if Mask is not 0, those equal to First in its bits. The zero PortRange
// selects all.
type PortRange struct{ First, Last, Mask uint16 }

// A UIDRange selects the users of sockets, if it is Set.
type UIDRange struct {
	First, Last uint32
	Set         bool
}

// Unsupported reports whether the rule has selectors that Rule does not model.
func (r Rule) Unsupported() bool { return r.Other != "" }

// A Neighbour is an entry of the ARP table or, with an IPv6 address, of that of
// neighbour discovery. Neighbours compare with ==.
type Neighbour struct {
	Index    int
	IP       netip.Addr
	MAC      [6]byte
	HasMAC   bool
	State    NeighState
	Flags    uint8    // NTF_*
	ExtFlags uint32   // NTF_EXT_*
	Protocol Protocol // who made it, 0 if nobody said
}
