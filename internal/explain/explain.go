// Package explain walks the decisions about one packet, and about the ARP request
// for its destination, as the daemon takes them and as the kernel would, and says
// where the two differ and why. It decides nothing itself: arpd and forward/route
// do, and the kernel is asked.
package explain

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"proxyarpd/arpd"
	"proxyarpd/arpd/ndp"
	"proxyarpd/forward/route"
	"proxyarpd/internal/netstate"
	"proxyarpd/internal/wire"
)

// View is a host as a daemon sees it. It is read only.
type View struct {
	Table    *route.Table
	Links    map[int]*netstate.Link
	Policies map[int]*arpd.Policy // of the interfaces on which ARP requests are answered
	// Policies6 are those of neighbour discovery.
	Policies6 map[int]*arpd.Policy
	// Left6 says why IPv6 of interfaces is left to the kernel, by the rules of the host.
	Left6    map[int]string
	Used     map[int32]bool // interfaces that unicast routes lead over
	Forwards bool           // the engine moves packets
	// From says whose view it is: a daemon's, or what one would see.
	From string
	// Refused says why a daemon would not start here, "" if it would, or runs.
	Refused string
}

// Question is a packet that is asked about. Complete fills in what is missing.
type Question struct {
	Dst   netip.Addr `json:"dst"`
	IIF   string     `json:"iif"`  // interface that it comes in by
	From  netip.Addr `json:"from"` // source
	Proto uint8      `json:"proto"`
	SPort uint16     `json:"sport"`
	DPort uint16     `json:"dport"`
	TOS   uint8      `json:"tos"`
	Len   int        `json:"len"` // bytes, IP header included
}

// Defaults of a question, and the bounds of its length in bytes.
const (
	DefaultProto = wire.ProtoUDP
	DefaultLen   = 84
	MinLen       = wire.IPv4MinLen + 8 // of IPv4: a header, and ports
	MaxLen       = 65535
)

// Step is one thing that was looked at.
type Step struct {
	What string `json:"what"`
	Says string `json:"says"`
}

// Answer is what becomes of the packet. What does not apply is null.
type Answer struct {
	Question Question `json:"question"`
	View     string   `json:"view"`
	Refused  string   `json:"refused,omitempty"`
	ARP      ARP      `json:"arp"`
	Forward  Forward  `json:"forward"`
	Kernel   Kernel   `json:"kernel"`
	Agree    bool     `json:"agree"`
	Differs  []string `json:"differs,omitempty"` // why they don't
}

// ARP is what becomes of a request for the destination.
type ARP struct {
	Verdict *string     `json:"verdict"` // null: nothing is answered on the interface
	Reason  *string     `json:"reason"`
	Steps   []arpd.Step `json:"steps"`
}

// Forward is the daemon's decision.
type Forward struct {
	Verdict *string `json:"verdict"`
	Reason  *string `json:"reason"` // a name of docs/VERDICTS.md
	Rule    *Rule   `json:"rule"`
	Route   *string `json:"route"` // a CIDR
	Out     *string `json:"out"`
	Nexthop *string `json:"nexthop"`
	MAC     *string `json:"mac"`
	MTU     *int    `json:"mtu"`
	ICMP    *string `json:"icmp"` // type/code
	Steps   []Step  `json:"steps"`
}

// Rule is a policy rule.
type Rule struct {
	Priority uint32  `json:"priority"`
	Table    *uint32 `json:"table"` // null: the rule names none
}

// Kernel is what the kernel would do.
type Kernel struct {
	Verdict *string `json:"verdict"` // null: it could not be asked
	Reason  *string `json:"reason"`
	Out     *string `json:"out"`
	Nexthop *string `json:"nexthop"`
	ARP     string  `json:"arp"` // whether it answers the request too
	Steps   []Step  `json:"steps"`
}

// Validate checks what a question says, whatever the host.
func (q *Question) Validate() error {
	if !q.Dst.IsValid() || q.Dst.Is4In6() || q.Dst.Zone() != "" {
		return fmt.Errorf("%s: want an IPv4 or IPv6 address", q.Dst)
	}
	if q.From.IsValid() && (q.From.Is4() != q.Dst.Is4() || q.From.Is4In6() || q.From.Zone() != "") {
		return fmt.Errorf("--from %s: want an address of the family of %s", q.From, q.Dst)
	}
	if q.Len == 0 {
		q.Len = DefaultLen
	}
	if least := q.least(); q.Len < least || q.Len > MaxLen {
		return fmt.Errorf("--len %d: want %d to %d bytes", q.Len, least, MaxLen)
	}
	return nil
}

// least is the shortest packet: a header, and ports.
func (q *Question) least() int {
	if q.Dst.Is6() {
		return MinLen - wire.IPv4MinLen + wire.IPv6Len
	}
	return MinLen
}

// Complete fills in what the question leaves open: the interface by the source,
// or the first workload; the source by the interface, the first address that has
// a route of its own over it.
func (v *View) Complete(q *Question) error {
	if v.Table == nil {
		return errors.New("the routing tables are not read yet: ask again")
	}
	if err := q.Validate(); err != nil {
		return err
	}
	if q.IIF == "" {
		if q.IIF = v.ingress(q); q.IIF == "" {
			return errors.New("no interface leads to a workload: name the one that the packet comes in by with --iif")
		}
	}
	l := v.link(q.IIF)
	if l == nil {
		return fmt.Errorf("--iif %s: no such interface", q.IIF)
	}
	if !q.From.IsValid() {
		if q.From = v.Table.HostOver(route.FamilyOf(q.Dst), int32(l.Index)); !q.From.IsValid() {
			return fmt.Errorf("no address has a route of its own over %s: name the packet's source with --from", q.IIF)
		}
	}
	return nil
}

func (v *View) link(name string) *netstate.Link {
	for _, l := range v.Links {
		if l.Name == name {
			return l
		}
	}
	return nil
}

// name is that of an interface of the host, served or not.
func (v *View) name(index int32) string {
	if l := v.Links[int(index)]; l != nil {
		return l.Name
	}
	return fmt.Sprintf("if%d", index)
}

// ingress is the interface to which the source is routed, or the first workload
// to which the destination is not, "" if there is none.
func (v *View) ingress(q *Question) string {
	if q.From.IsValid() {
		for index := range v.Links {
			if v.Table.LeadsTo(q.From, int32(index)) {
				return v.name(int32(index))
			}
		}
	}
	var names []string
	for index, p := range v.policies(q) {
		if v.Links[index] != nil && p.Uplink == nil {
			names = append(names, v.Links[index].Name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		l := v.link(name)
		if v.Table.HostOver(route.FamilyOf(q.Dst), int32(l.Index)).IsValid() && !v.Table.LeadsTo(q.Dst, int32(l.Index)) {
			return name
		}
	}
	return strings.Join(names[:min(1, len(names))], "")
}

// policies are those of the responder that the question concerns.
func (v *View) policies(q *Question) map[int]*arpd.Policy {
	if q.Dst.Is6() {
		return v.Policies6
	}
	return v.Policies
}

// packet is the one that is asked about: no options, DF set.
func (q *Question) packet() []byte {
	b := make([]byte, q.Len)
	var l4 []byte // where ports are, or what stands for them: an SPI, an ICMP type
	if q.Dst.Is6() {
		wire.PutIPv6(b, q.TOS, 0, q.Len-wire.IPv6Len, q.Proto, ttl, q.From.As16(), q.Dst.As16())
		l4 = wire.IPv6(b).Payload()
	} else {
		wire.PutIPv4(b, q.TOS, q.Len, 0, wire.IPv4DF, ttl, q.Proto, q.From.As4(), q.Dst.As4())
		l4 = wire.IPv4(b).Payload()
	}
	l4[0], l4[1], l4[2], l4[3] = byte(q.SPort>>8), byte(q.SPort), byte(q.DPort>>8), byte(q.DPort)
	return b
}

const ttl = 64 // of the packet

// Explain answers a question that is complete. req is how the kernel is asked.
func (v *View) Explain(q Question, req *netstate.Requester) *Answer {
	in := v.link(q.IIF)
	a := &Answer{Question: q, View: v.From, Refused: v.Refused}
	a.ARP = v.arp(&q, in)
	d := v.forward(&q, in, &a.Forward)
	v.askKernel(&q, in, d, req, a)
	return a
}

// arp judges the request, or the solicitation, that a station with the packet's source
// would send to all.
func (v *View) arp(q *Question, in *netstate.Link) (a ARP) {
	p := v.policies(q)[in.Index]
	switch {
	case p == nil && q.Dst.Is6() && !in.IPv6:
		reason := arpd.IgnoreNotWorkload
		a.Verdict, a.Reason = text(reason.Kind().String()), text(reason.String())
		a.Steps = []arpd.Step{{Rule: "IPv6", Says: in.Name + " has none: its disable_ipv6 is 1, or its MTU is less than 1280, or --ipv6=false", Decides: true}}
		return a
	case p == nil:
		reason := arpd.IgnoreNotWorkload
		a.Verdict, a.Reason = text(reason.Kind().String()), text(reason.String())
		says := in.Name + " matches none: its requests are the kernel's alone"
		if l := v.Table.Link(int32(in.Index)); l != nil && l.Flags&route.LinkUplink != 0 {
			says = in.Name + " is an uplink, and without --answer-uplink, or without ARP, its requests are the kernel's alone"
		}
		a.Steps = []arpd.Step{{Rule: "--workload", Says: says, Decides: true}}
		return a
	}
	var verdict arpd.Verdict
	var steps []arpd.Step
	if q.Dst.Is6() {
		verdict, steps = ndp.Explain(ndp.NewSolicitation(station, q.From, q.Dst), p)
	} else {
		verdict, steps = arpd.Explain(arpd.NewRequest(station, q.From, q.Dst), p)
	}
	a.Verdict, a.Steps = text(verdict.Kind().String()), steps
	if k := verdict.Kind(); k == arpd.KindIgnore || k == arpd.KindDrop {
		a.Reason = text(verdict.String())
	}
	return a
}

// station is the MAC of who asks: an address that is local and nobody's.
var station = wire.MAC{0x02, 0, 0x5e, 0, 0x53, 1}

func text(s string) *string { return &s }

// forward decides about the packet.
func (v *View) forward(q *Question, in *netstate.Link, f *Forward) *route.Decision {
	d := new(route.Decision)
	ip := q.packet()
	link := v.Table.Link(int32(in.Index))
	say := func(what, format string, args ...any) {
		f.Steps = append(f.Steps, Step{what, fmt.Sprintf(format, args...)})
	}
	switch {
	case !v.Forwards:
		say("engine", "none: all packets are the kernel's")
		f.end(route.Punt)
		return d
	case link == nil:
		say("interface", "%s is neither --workload nor --uplink: its packets are the kernel's", in.Name)
		f.end(route.Punt)
		return d
	case q.Dst.Is6() && v.Left6[in.Index] != "":
		say("IPv6", "%s", v.Left6[in.Index])
		f.end(route.Punt)
		return d
	case q.Dst.Is6() && !v.Table.Serves6(link):
		say("IPv6", "%s has none that is served: its disable_ipv6 is 1, or its MTU is less than 1280, or --ipv6=false", in.Name)
		f.end(route.IgnoreProto)
		return d
	case link.Flags&route.LinkLeft != 0:
		say("interface", "%s is left to the kernel, for rules of the host that are bound to it", in.Name)
		f.end(route.Punt)
		return d
	}
	role := "uplink"
	if link.Workload() {
		role = "workload"
	}
	say("interface", "%s, %s", in.Name, role)
	if owner := v.Table.Owner(ip, link); owner != route.NotSpecified {
		v.left(q, owner, say)
		f.end(owner)
		return d
	}
	if owner := v.Table.OwnerOf(q.Dst, link); owner != route.NotSpecified {
		say("owner", "packets to %s may take several ways, one of them the kernel's: all of them are left to it", q.Dst)
		f.end(owner)
		return d
	}
	say("owner", "ours: it is neither for this host nor in --punt")
	if q.Dst.Is6() {
		v.Table.Decide6(ip, len(ip), link, d)
	} else {
		v.Table.Decide(ip, len(ip), link, d)
	}
	v.fill(q, d, f, say)
	f.end(d.Verdict)
	return d
}

// left says why a packet is the kernel's.
func (v *View) left(q *Question, owner route.Verdict, say func(what, format string, args ...any)) {
	switch owner {
	case route.Local:
		say("owner", "%s is an address of this host, a group's, or a local segment", q.Dst)
	case route.Punt:
		say("--punt", "%s is left to the kernel", q.Dst)
	default:
		say("owner", "the kernel forwards here, and the way to %s is none that is served (--transit, --uplink)", q.Dst)
	}
}

func (f *Forward) end(verdict route.Verdict) {
	kind := verdict.Kind()
	f.Verdict = text(kind.String())
	if kind == route.KindDrop || kind == route.KindIgnore || kind == route.KindPunt && verdict != route.Punt {
		f.Reason = text(verdict.String())
	}
}

// fill tells the decision step by step.
func (v *View) fill(q *Question, d *route.Decision, f *Forward, say func(what, format string, args ...any)) {
	if d.Rule != nil {
		f.Rule = &Rule{Priority: d.Rule.Priority}
		if d.Rule.Action == route.RuleToTable {
			f.Rule.Table = &d.Rule.Table
			say("rule", "%d: lookup %s", d.Rule.Priority, tableName(d.Rule.Table))
		} else {
			say("rule", "%d: %s", d.Rule.Priority, d.Rule.Action)
		}
	}
	switch {
	case d.Route != nil:
		f.Route = text(d.Route.PrefixOf(q.Dst).String())
		say("route", "%s %s", d.Route.Type, *f.Route)
	case d.Verdict != route.DropIPInvalidSource && d.Verdict != route.DropIPLocalnet:
		say("route", "none")
	}
	if d.Nexthop != nil {
		out := v.name(d.Nexthop.Ifindex)
		way := fmt.Sprintf("%s dev %s", d.Next, out)
		if n := len(d.Route.Nexthops); n > 1 {
			way += fmt.Sprintf(", the one of %d for this flow", n)
		}
		say("next hop", "%s", way)
	}
	v.saySource(q, d, say)
	if d.Routed && d.Nexthop != nil {
		f.Out, f.Nexthop = text(v.name(d.Nexthop.Ifindex)), text(d.Next.String())
	}
	if d.MTU > 0 {
		f.MTU = &d.MTU
		fits := "fits"
		if q.Len > d.MTU {
			fits = q.tooLong()
		}
		say("MTU", "%d: a packet of %d bytes %s", d.MTU, q.Len, fits)
	}
	switch n := d.Neighbour; {
	case d.Verdict != route.Forward && d.Verdict != route.Queue && d.Verdict != route.DropIfDown:
	case !d.Out.Ethernet():
		say("neighbour", "%s needs no MAC", d.Out.Name)
	case n == nil:
		say("neighbour", "%s is not known: the kernel is asked to resolve it, and the packet waits", d.Next)
	case !n.Valid:
		say("neighbour", "%s is %s: the packet waits", d.Next, n.State())
	default:
		f.MAC = text(n.MAC.String())
		say("neighbour", "%s is at %s, %s", d.Next, n.MAC, n.State())
	}
	if d.Redirect {
		say("redirect", "the sender is told of the better way (ICMP redirect)")
	}
	if d.ICMP.Type != 0 {
		f.ICMP = text(fmt.Sprintf("%d/%d", d.ICMP.Type, d.ICMP.Code))
		say("ICMP", "%s is told by an ICMP error of type %d, code %d", q.From, d.ICMP.Type, d.ICMP.Code)
	}
}

// tooLong says so of the packet.
func (q *Question) tooLong() string {
	if q.Dst.Is6() {
		return "is too long, and routers cut none"
	}
	return "is too long, and DF is set"
}

// saySource tells the source validation of a packet that got so far.
func (v *View) saySource(q *Question, d *route.Decision, say func(what, format string, args ...any)) {
	mode := d.In.Conf.RPFilter
	if q.Dst.Is6() {
		mode = d.In.Conf6.RPFilter
	}
	switch d.Verdict {
	case route.DropIPRPFilter:
		say("source", "%s is not routed to %s, and rp_filter is %d", q.From, q.IIF, mode)
	case route.DropIPLocalSource:
		say("source", "%s is an address of this host", q.From)
	case route.DropIPInvalidSource, route.DropIPLocalnet:
		say("source", "%s > %s is none that a router takes", q.From, q.Dst)
	default:
		if d.Out == nil {
			return
		}
		say("source", "%s may come by %s (rp_filter %d)", q.From, q.IIF, mode)
	}
}

func tableName(t uint32) string {
	if name := map[uint32]string{route.TableLocal: "local", route.TableMain: "main", route.TableDefault: "default"}[t]; name != "" {
		return name
	}
	return fmt.Sprint(t)
}

// Clone is a view of the same that the owner's changes do not reach.
func (v View) Clone() *View {
	v.Links, v.Policies, v.Policies6, v.Used = maps.Clone(v.Links), maps.Clone(v.Policies), maps.Clone(v.Policies6), maps.Clone(v.Used)
	return &v
}
