package lab

import (
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
)

// Form says how the pods of a lab are addressed and how their host ends look.
type Form string

// The forms of a lab; see the package comment.
const (
	FormArticle Form = "article"
	FormSlash32 Form = "slash32"
	FormCalico  Form = "calico"
)

// Forms lists every form, the default first.
func Forms() []Form { return []Form{FormArticle, FormSlash32, FormCalico} }

// NoPods as Spec.PodsPerHost makes hosts alone; AddPods adds to them.
const NoPods = -1

const (
	uplinkName  = "ens192"
	podLinkName = "eth0"
	gateway     = "169.254.1.1"
	// gateway6 is the link-local address that an interface with calicoMAC gives itself
	// (RFC 4291 appendix A): Calico's IPv6 gateway.
	gateway6 = "fe80::ecee:eeff:feee:eeee"
	// minMTU6 is that of a link which may carry IPv6 (RFC 8200 section 5).
	minMTU6 = 1280
	// blockSize is how many pods one of Calico's route blocks holds here: what
	// of a /24 is neither 0, 1 nor the end.
	blockSize = 250
	maxPods   = 1000
	// maxArticlePods is where two hosts that share 10.20.1.0/24 run out of it.
	maxArticlePods = 125
)

// calicoMAC is what Calico's CNI gives the host's end of every veth.
var calicoMAC = net.HardwareAddr{0xee, 0xee, 0xee, 0xee, 0xee, 0xee}

// Spec describes a lab. The zero value is the article's lab under a random name.
type Spec struct {
	// Name is the prefix of the namespaces' names. Empty means a random one,
	// and Transient.
	Name string
	Form Form // default FormArticle
	// Hosts is 1 or 2 (the default). A single host has no ens192; its address
	// is on lo.
	Hosts int
	// PodsPerHost: 0 means one, or two in FormCalico; NoPods means none.
	PodsPerHost int
	PodMTU      int // of both ends of every pod's veth; 0: the kernel's 1500
	WireMTU     int // of both ends of ens192
	// SharedPods puts the pod ends of one host into one namespace, podsH, as
	// eth0, eth1, ...: hundreds of interfaces without hundreds of namespaces.
	// Source rules (`from ADDR lookup N`) keep their traffic apart.
	SharedPods bool
	// Transient ties the lab to this process: see the package comment.
	Transient bool

	fail func(step string) error // a test's wish to fail
}

// Node is a network namespace of a lab.
type Node struct {
	Name  string       // "host0", "ns1", "pod0-3"
	Netns string       // its name in /run/netns
	Host  int          // the host it is, or hangs off
	IsPod bool         // else it is the host itself
	Addr  netip.Prefix // of its eth0 or ens192; zero for a shared pod namespace
	Addr6 netip.Prefix // alike; zero also where there is no IPv6
}

// Pod is one veth pair: an interface of a host, and the end behind it.
type Pod struct {
	Name     string // the node's name, unless the namespace is shared
	Node     string // where the pod's end is
	Host     int
	N        int // the how-manieth of its host, from 0
	Addr     netip.Prefix
	Addr6    netip.Prefix // zero where there is no IPv6
	Iface    string       // the host's end
	Index    int          // of the host's end
	MAC      string       // of the host's end, as it was made
	Peer     string       // the pod's end
	PeerMAC  string
	HostDown bool // made with PodOptions.Down and not yet brought Up
}

// PodOptions change what AddPod makes; the zero value makes the form's next pod.
type PodOptions struct {
	Iface string           // name of the host's end
	MAC   net.HardwareAddr // of the host's end
	MTU   int              // of both ends
	// Down leaves the host's end down and without its routes until Lab.Up.
	Down bool
}

var (
	nameRE = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)
	nodeRE = regexp.MustCompile(`^(host[0-9]+|ns[0-9]+|pods?[0-9]+(-[0-9]+)?)$`)
)

func (s Spec) withDefaults() Spec {
	if s.Form == "" {
		s.Form = FormArticle
	}
	if s.Hosts == 0 {
		s.Hosts = 2
	}
	if s.PodsPerHost == 0 {
		s.PodsPerHost = 1
		if s.Form == FormCalico {
			s.PodsPerHost = 2
		}
	}
	return s
}

// Validate says what of the description cannot be.
func (s Spec) Validate() error {
	s = s.withDefaults()
	switch {
	case s.Name != "" && !nameRE.MatchString(s.Name):
		return fmt.Errorf("lab: name %q: use letters, digits, '_', '.' and '-'", s.Name)
	case !slices.Contains(Forms(), s.Form):
		return fmt.Errorf("lab: form %q: there are %v", s.Form, Forms())
	case s.Hosts < 1 || s.Hosts > 2:
		return fmt.Errorf("lab: %d hosts: there can be 1 or 2", s.Hosts)
	case s.PodMTU < 0 || s.WireMTU < 0:
		return errors.New("lab: an MTU below 0")
	}
	return s.checkPods(max(s.PodsPerHost, 0))
}

// checkPods says whether a host may have n pods.
func (s Spec) checkPods(n int) error {
	limit := maxPods
	if s.Form == FormArticle {
		limit = maxArticlePods
	}
	if n > limit {
		return fmt.Errorf("lab: %d pods a host: form %s has room for %d", n, s.Form, limit)
	}
	return nil
}

func hostName(host int) string { return fmt.Sprintf("host%d", host) }

// hostAddr is the address of a host on the wire; .32 and .16 are the article's.
func hostAddr(host int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, 1, byte(32 - 16*host)}), 24)
}

// hostAddr6 is hostAddr for IPv6.
func hostAddr6(host int) netip.Prefix {
	return netip.MustParsePrefix(fmt.Sprintf("fd00:192:168:1::%d/64", 32-16*host))
}

// plan names and addresses the nth pod of a host.
func (s Spec) plan(host, n int, o PodOptions) Pod {
	p := Pod{Host: host, N: n, Peer: podLinkName, HostDown: o.Down, Iface: fmt.Sprintf("veth%d", n)}
	if s.Form == FormCalico {
		p.Name = fmt.Sprintf("pod%d-%d", host, n)
		p.Iface = caliName(p.Name)
		p.MAC = calicoMAC.String()
		p.Addr = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 65, byte(host + 2*(n/blockSize)), byte(2 + n%blockSize)}), 32)
	} else {
		// The hosts take turns, so ns0 is host0's and ns1 host1's whatever
		// is added later: 10.20.1.2, 10.20.1.3, 10.20.1.4, ...
		k := host + 2*n
		p.Name = fmt.Sprintf("ns%d", k)
		p.Addr = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 20, byte(1 + (2+k)/256), byte(2 + k)}), 24)
		if s.Form == FormSlash32 {
			p.Addr = netip.PrefixFrom(p.Addr.Addr(), 32)
		}
	}
	a := p.Addr.Addr().As4()
	p.Addr6 = netip.MustParsePrefix(fmt.Sprintf("fd00:%d:%d:%d::%d/128", a[0], a[1], a[2], a[3]))
	p.Node = p.Name
	if s.SharedPods {
		p.Node = fmt.Sprintf("pods%d", host)
		p.Peer = fmt.Sprintf("eth%d", n)
	}
	if o.Iface != "" {
		p.Iface = o.Iface
	}
	if o.MAC != nil {
		p.MAC = o.MAC.String()
	}
	return p
}

// route is the destination by which the other host reaches the pod: in the
// Calico form the block that it shares with its neighbours.
func (s Spec) route(p Pod) netip.Prefix {
	if s.Form == FormCalico {
		return netip.PrefixFrom(p.Addr.Addr(), 24).Masked()
	}
	return netip.PrefixFrom(p.Addr.Addr(), 32)
}

// route6 is route for IPv6.
func (s Spec) route6(p Pod) netip.Prefix {
	if s.Form == FormCalico {
		return netip.PrefixFrom(p.Addr6.Addr(), 64).Masked()
	}
	return p.Addr6
}

// caliName makes a host end's name as Calico does: a hash of the workload's name.
func caliName(pod string) string {
	sum := sha1.Sum([]byte("lab." + pod))
	return "cali" + hex.EncodeToString(sum[:])[:11]
}
