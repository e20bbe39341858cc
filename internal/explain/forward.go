package explain

import (
	"fmt"

	"proxyarpd/forward/route"
	"proxyarpd/internal/netstate"
)

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
		say("IPv6", "%s", without6(in.Name))
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
		switch {
		case q.Dst.Is6() && q.Dst.IsMulticast():
			say("owner", "%s is a group's: the kernel's matter", q.Dst)
		case q.Dst.Is6() && q.Dst.IsLinkLocalUnicast():
			say("owner", "%s belongs to the link: no router forwards there", q.Dst)
		default:
			say("owner", "%s is an address of this host, a group's, or a local segment", q.Dst)
		}
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
		say("redirect", "the sender is told of the better way (%s redirect)", q.icmp())
	}
	if d.ICMP.Type != 0 {
		f.ICMP = text(fmt.Sprintf("%d/%d", d.ICMP.Type, d.ICMP.Code))
		say(q.icmp(), "%s is told by an %s error of type %d, code %d", q.From, q.icmp(), d.ICMP.Type, d.ICMP.Code)
	}
}

// icmp is the protocol of errors.
func (q *Question) icmp() string {
	if q.Dst.Is6() {
		return "ICMPv6"
	}
	return "ICMP"
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
