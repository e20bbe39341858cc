// Package hostpolicy finds what of the host's own rules forwarding in userspace would pass by.
//
// The kernel's packet goes through tc ingress, the netfilter hooks prerouting, forward and postrouting, the
// IPsec policies and the egress qdisc of the way it takes (net/core/dev.c, net/ipv4/ip_forward.c, net/ipv6/ip6_output.c). A packet that
// a userspace forwarder carries from one interface to another meets few or none of them: a host that relied on
// them is open without knowing it. [Inspect] names each such rule set, so that the daemon can refuse.
//
// It asks the kernel alone, by netlink, bpf(2) and getsockopt(2), never nft, iptables or tc, and it asks nothing
// that would load a legacy iptables table. It fails closed: what may not be read (no CAP_NET_ADMIN, say) is an
// error and not "nothing found"; only what this kernel cannot have at all is passed over.
//
// XDP programs run before the frame reaches any socket, so they are not bypassed and not reported. Input and
// output hooks go on seeing the host's own packets. Rules of family bridge are met on the ports of a bridge: by what
// comes in before a packet socket at the bridge gets it, by what is sent out of the bridge after (br_handle_frame and
// br_dev_xmit in net/bridge). So they apply to what is forwarded, too.
package hostpolicy

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// An Interface is one that userspace forwarding would take packets from or send them to.
type Interface struct {
	Name  string
	Index int
}

// Kinds of findings.
const (
	KindNFTables = "nftables"
	KindIPTables = "iptables"
	KindTC       = "tc"
	KindQdisc    = "qdisc"
	KindXFRM     = "xfrm"
	KindIPVS     = "ipvs"
)

// Family says whose packets rules apply to.
type Family uint8

// The families.
const (
	AnyFamily Family = iota // both
	IPv4
	IPv6
)

// Sources is a set of what can be asked for rules.
type Sources uint8

// The sources. The kernel tells of changes to some of them: see [Watch].
const (
	NFTables Sources = 1 << iota
	IPTables         // legacy
	TC               // qdiscs, and filters in them
	TCX
	XFRM
	IPVS

	NumSources         = iota
	All        Sources = 1<<NumSources - 1
)

var sourceNames = [NumSources]string{"nftables rules", "legacy iptables rules", "qdiscs and tc filters", "tcx programs", "IPsec policies", "IPVS services"}

// Result is what one source said.
type Result struct {
	Found []Finding
	Err   error
}

// Results are those of all sources; one that was not asked has an empty one.
type Results [NumSources]Result

// Replace takes over what others say of some sources. One that could not be read
// keeps what it had, with the error.
func (r *Results) Replace(by *Results, which Sources) {
	for i := range r {
		switch {
		case which&(1<<i) == 0:
		case by[i].Err != nil:
			r[i].Err = by[i].Err
		default:
			r[i] = by[i]
		}
	}
}

// ErrUserNamespace says that tc programs of the interfaces may be there and can't be seen: the process is in a user
// namespace, where only programs of the initial one's root can have been attached.
var ErrUserNamespace = errors.New("hostpolicy: in a user namespace tc programs can't be listed")

// A Finding is one rule set of the host that would be bypassed.
type Finding struct {
	Kind string // one of the Kind constants
	// What names it: table and chain, or interface and direction.
	What string
	// Count is the number of rules, filters, programs or policies in it. It is 0 for a chain that is there for
	// its drop policy alone, and counts the rules of the named chain, not of chains that it jumps to.
	Count int
	// Interface is set where the finding belongs to one interface.
	Interface string
	// Family says which packets would pass it by.
	Family Family
	// NAT says that it translates addresses.
	NAT bool
}

// String returns the finding on one line.
func (f Finding) String() string {
	noun := ""
	switch f.Kind {
	case KindNFTables, KindIPTables:
		noun = "rule"
	case KindTC:
		noun = "filter"
		if strings.HasPrefix(f.What, "tcx") {
			noun = "program"
		}
	case KindXFRM:
		noun = "polic"
	case KindIPVS:
		noun = "service"
	}
	if noun == "" || f.Count == 0 {
		return f.What
	}
	plural := "s"
	switch {
	case noun == "polic" && f.Count == 1:
		plural = "y"
	case noun == "polic":
		plural = "ies"
	case f.Count == 1:
		plural = ""
	}
	return fmt.Sprintf("%s: %d %s%s", f.What, f.Count, noun, plural)
}

// ownPrefix begins the names of the tc programs of this project, which are no finding. The kernel gives a program's
// name by its ID to CAP_SYS_ADMIN alone; without, a filter is called what its loader called it.
const ownPrefix = "parp_"

// own reports whether a tc program is one of ours by its name, "" where the kernel does not give it.
func own(program string) bool { return strings.HasPrefix(program, ownPrefix) }

// A dumper sends one netlink dump request and returns the payloads of the answers.
type dumper func(ctx context.Context, protocol int, typ uint16, payload []byte) ([][]byte, error)

type inspector struct {
	ifs   []Interface
	ipv6  bool // is asked about, too
	dump  dumper
	names map[uint32]string    // of programs, by ID: one is at many interfaces
	ours  func(id uint32) bool // nil: not known
}
