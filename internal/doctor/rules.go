package doctor

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"proxyarpd/internal/hostpolicy"
	"proxyarpd/internal/netstate"
)

// ruleIDs are those of findings by the kind of what was found.
var ruleIDs = map[string]string{
	hostpolicy.KindNFTables: "forward-hook-rules", hostpolicy.KindIPTables: "forward-hook-rules", hostpolicy.KindTC: "tc-program",
	hostpolicy.KindQdisc: "shaping-qdisc", hostpolicy.KindXFRM: "ipsec-policy", hostpolicy.KindIPVS: "ipvs-services",
}

// checkRules looks at rules of the host that what is forwarded would pass by.
func checkRules(f *facts) (found []Finding) {
	if !f.forwards() {
		return nil
	}
	severity, cure := Error, "--engine none, or --bypass-policy if they need not apply to what is forwarded, with --punt for what the kernel is to handle"
	if f.cfg.BypassPolicy {
		severity, cure = Warning, "none, if that is meant: --bypass-policy is given"
	}
	for _, r := range f.rules {
		id := ruleIDs[r.Kind]
		switch hook := strings.ToLower(r.What); {
		case id != "forward-hook-rules" || strings.Contains(hook, "hook forward") || strings.Contains(hook, "chain forward"):
		case strings.Contains(hook, "hook ingress") || strings.Contains(hook, "hook egress"):
			id = "netdev-hook-rules"
		default:
			id = "nat-rules"
		}
		if r.Family == hostpolicy.IPv6 && (!f.cfg.BypassPolicy || r.Kind == hostpolicy.KindIPVS || f.cfg.LeavesNAT6(&r, f.forwards6())) {
			found = append(found, Finding{id, Warning, cmp.Or(r.Interface, "host"), "forwarding IPv6 would pass by " + r.String() + ": it is left to the kernel" + f.nobody6(),
				"none, if the kernel is to forward IPv6: --ipv6=false says so; else --bypass-policy, with --punt for what the kernel is to handle"})
			continue
		}
		found = append(found, Finding{id, severity, cmp.Or(r.Interface, "host"), "forwarding passes by " + r.String(), cure})
	}
	if f.unknown != nil {
		found = append(found, Finding{"rules-unknown", severity, "host", "it can't be told whether rules would be passed by: " + f.unknown.Error(), cure})
	}
	return found
}

// nobody6 says what becomes of IPv6 that is left to the kernel where that does not
// forward it.
func (f *facts) nobody6() string {
	if slices.ContainsFunc(f.workloads, func(l *netstate.Link) bool { return l.IPv6 && !l.Forwards6 }) {
		return ", which does not forward it (net.ipv6.conf.all.forwarding is 0)"
	}
	return ""
}

// forwards6 reports whether the kernel forwards IPv6 that comes in by an interface that is served.
func (f *facts) forwards6() bool {
	return slices.ContainsFunc(slices.Concat(f.workloads, f.uplinks), func(l *netstate.Link) bool { return l.Forwards6 })
}

// checkConntrack looks at flows that the kernel translates while packets are forwarded past it.
func checkConntrack(f *facts) (found []Finding) {
	on := slices.ContainsFunc(slices.Concat(f.workloads, f.uplinks), func(l *netstate.Link) bool { return l.Forwards || l.Forwards6 })
	if !f.forwards() || !on {
		return nil
	}
	if t := &f.translated; t.flows > 0 {
		found = append(found, Finding{"nat-not-punted", Warning, "host", fmt.Sprintf("the kernel translates %d flows of workloads that proxyarpd would forward as they are, of %s to %s for one", t.flows, t.from, t.to),
			"name their destinations by --punt"})
	}
	if len(f.cfg.Punt) == 0 && !f.cfg.BypassPolicy {
		return found
	}
	if n, ok := f.sysctl("../netfilter/nf_conntrack_events"); ok && n == 0 {
		found = append(found, Finding{"conntrack-events", Warning, "host", "the kernel tells of no flow that it translates: replies in those that are older than the daemon are lost",
			"sysctl -w net.netfilter.nf_conntrack_events=1"})
	}
	if n, ok := f.sysctl("../netfilter/nf_conntrack_tcp_be_liberal"); ok && n == 0 && len(f.rules) > 0 {
		found = append(found, Finding{"conntrack-strict", Warning, "host", "a connection that goes from the daemon to the kernel and back (a restart, a stall) is invalid to conntrack later on, which the rules may drop",
			"sysctl -w net.netfilter.nf_conntrack_tcp_be_liberal=1 (kube-proxy: conntrack.tcpBeLiberal)"})
	}
	return found
}
