// Package doctor looks at a host and tells what stops, duplicates or bypasses
// proxyarpd there, each with its cure. It gathers facts, in this network namespace
// and, where it may, in those of the pods; the findings are pure functions of them.
// It changes nothing; the only packets that it sends are ARP requests for gateways.
package doctor

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"proxyarpd/internal/daemon"
	"proxyarpd/internal/explain"
	"proxyarpd/internal/hostpolicy"
	"proxyarpd/internal/netstate"
	"proxyarpd/internal/wire"
)

// Severity says how bad a finding is.
type Severity string

// The severities. A host on which all is well has neither errors nor warnings.
const (
	Error   Severity = "error"   // packets or answers are lost, doubled or pass by rules
	Warning Severity = "warning" // they will be under some condition
	Info    Severity = "info"    // good to know
)

// Finding is one thing that was found. IDs are stable words.
type Finding struct {
	ID       string   `json:"id"`
	Severity Severity `json:"severity"`
	Subject  string   `json:"subject"` // an interface, a sysctl, a pod; "" for the host
	What     string   `json:"what"`
	Cure     string   `json:"cure"`
}

// facts are what the findings are drawn from.
type facts struct {
	cfg       *daemon.Config
	view      *explain.View
	workloads []*netstate.Link // by name
	uplinks   []*netstate.Link
	status    *daemon.Status // nil: no daemon answers
	noDaemon  error          // why
	has       func(capability int) bool
	sysctl    func(key string) (value int, ok bool) // below net.ipv4
	readOnly  bool                                  // /proc/sys
	tun       error                                 // of /dev/net/tun
	programs  error                                 // of the eBPF programs
	rules     []hostpolicy.Finding
	unknown   error // why rules can't be told
	// translated are flows that the kernel translates and that would be ours.
	translated struct {
		flows    int
		from, to netip.Addr // of one
	}
	dead []string
	// advertised are the interfaces over which an IPv6 default route of a router
	// advertisement leads, by index.
	advertised map[int]bool
	local      map[string]bool // IPv4 addresses of this host
	managers   managers
	pods       []pod
	noPods     string   // why pods could not be looked into
	answers    []answer // to requests for gateways
}

// pod is what the other end of a workload interface is like.
type pod struct {
	host      string // the interface here
	hostMTU   int
	netns     string
	name      string // the interface there
	mtu       int
	up        bool
	addresses []string         // with their prefixes
	routed    []bool           // which of them lead to the interface here
	gateways  []string         // of its default routes
	direct    bool             // a default route without gateway
	fixed     map[string]macIs // PERMANENT and NOARP entries of gateways
	noARP     bool
}

type macIs struct {
	mac  wire.MAC
	want wire.MAC
}

// answer is what came for a request for a gateway.
type answer struct {
	where   string // an interface, with the pod's namespace if it is one's
	pod     bool
	host    string // the interface here
	gateway string
	macs    []wire.MAC // of all who answered
	err     error
}

// checks are all there are, in the order in which they are told.
var checks = []func(*facts) []Finding{
	checkDaemon, checkPrivileges, checkKernel, checkForwarding, checkIPv6, checkUplinks, checkARPSysctls, checkRPFilter,
	checkAnswers, checkRules, checkConntrack, checkManagers, checkInterfaces, checkRoutes, checkPods,
}

// examine draws the findings, errors first.
func examine(f *facts) []Finding {
	all := []Finding{}
	for _, check := range checks {
		all = append(all, check(f)...)
	}
	rank := map[Severity]int{Error: 0, Warning: 1, Info: 2}
	slices.SortStableFunc(all, func(a, b Finding) int { return cmp.Compare(rank[a.Severity], rank[b.Severity]) })
	return all
}

// Errors counts the findings that are errors.
func Errors(all []Finding) (n int) {
	for _, f := range all {
		if f.Severity == Error {
			n++
		}
	}
	return n
}

func (f *facts) forwards() bool { return f.view.Forwards }

// is reports whether a setting of an interface, or of all of them, is not 0.
func (f *facts) is(name, key string) (all, one bool) {
	a, _ := f.sysctl("conf/all/" + key)
	b, _ := f.sysctl("conf/" + name + "/" + key)
	return a != 0, b != 0
}

// culprit names the setting that is on.
func culprit(name, key string, all bool) string {
	if all {
		name = "all"
	}
	return fmt.Sprintf("net.ipv4.conf.%s.%s", name, key)
}

// recently is how long ago a conflict may have been heard of.
const recently = time.Minute

// asked reports whether it has been asked there who has a gateway's address:
// checkAnswers tells then.
func (f *facts) asked(host, gateway string) bool {
	return slices.ContainsFunc(f.answers, func(a answer) bool {
		return (a.host == host || a.where == host) && a.gateway == gateway && a.err == nil
	})
}

func checkDaemon(f *facts) (found []Finding) {
	if f.status == nil {
		return []Finding{{"no-daemon", Info, "", fmt.Sprintf("no daemon answers at %s: %v", f.cfg.Control, f.noDaemon), "start it: proxyarpd run"}}
	}
	s, now := f.status, time.Now()
	if !s.Ready {
		found = append(found, Finding{"not-ready", Error, "", "the daemon is not ready: " + s.NotReady, "see its log; proxyarpd status --wait 10s"})
	}
	for _, c := range s.Conflicts {
		if now.Sub(c.Last) > recently {
			continue
		}
		switch what := fmt.Sprintf("%s, as the daemon has heard %d times", c.MAC, c.Count); c.Kind {
		case "foreign-answer":
			id, severity := c.Kind, Error
			if f.asked(c.Interface, c.Address) { // checkAnswers tells of those who answer now
				id, severity = "foreign-claim", Warning
			}
			found = append(found, Finding{id, severity, c.Interface, fmt.Sprintf("the gateway %s is claimed by %s", c.Address, what), "find out who that is, and take the address from it"})
		case "uplink-claim":
			found = append(found, Finding{c.Kind, Error, c.Interface, fmt.Sprintf("the address %s, which is routed to %s, is claimed by %s", c.Address, cmp.Or(c.Other, "a workload"), what),
				"find out who that is, and take the address from it; or delete the route, if the workload has gone there"})
		case "address-twice":
			found = append(found, Finding{c.Kind, Error, c.Interface, fmt.Sprintf("the address %s, which is routed to %s, is used by %s", c.Address, c.Other, what), "give one of the two workloads another address, or correct the route"})
		}
	}
	for _, g := range s.Gate.Findings {
		switch {
		case !g.Left:
			found = append(found, Finding{"policy-bypassed", Warning, g.Interface, "the daemon forwards past " + g.What, "remove it, leave the destinations to the kernel (--punt), or run with --on-policy leave"})
		case g.IPv6:
			found = append(found, Finding{"policy-left", Warning, g.Interface, "IPv6 is left to the kernel, for " + g.What,
				"remove it, or forward past it (--bypass-policy); if IPv6 is to be the kernel's, run with --ipv6=false"})
		default:
			found = append(found, Finding{"policy-left", Warning, g.Interface, "packets are left to the kernel, for " + g.What, "remove it, or run with --on-policy warn"})
		}
	}
	for _, i := range slices.Concat(s.Workloads, s.Uplinks) {
		if i.Error != "" {
			found = append(found, Finding{"interface-failed", Error, i.Name, i.Error, "cure what it says, or leave the interface out of --workload and --uplink"})
		}
	}
	return found
}

func (f *facts) names(links []*netstate.Link) string {
	var names []string
	for _, l := range links {
		names = append(names, l.Name)
	}
	if len(names) > 4 {
		names = append(names[:4], fmt.Sprintf("and %d more", len(links)-4))
	}
	return strings.Join(names, ", ")
}

// checkForwarding looks at who forwards.
func checkForwarding(f *facts) (found []Finding) {
	var on, off []*netstate.Link
	for _, l := range f.workloads {
		if l.Forwards {
			on = append(on, l)
		} else {
			off = append(off, l)
		}
	}
	switch {
	case !f.forwards() && len(off) > 0:
		return []Finding{{"forwarding-off", Error, f.names(off), "--engine none leaves forwarding to the kernel, and net.ipv4.conf.*.forwarding is 0 there: packets of these workloads are lost",
			"sysctl -w net.ipv4.ip_forward=1, or run another engine"}}
	case f.forwards() && len(on) > 0 && f.programs != nil:
		return []Finding{{"forwarding-too", Error, f.names(on), "the kernel forwards there too, and no tc program can take its frames: each packet would be sent twice",
			"sysctl -w net.ipv4.conf.IF.forwarding=0 for each, or --engine none"}}
	case f.forwards() && len(on) > 0:
		found = append(found, Finding{"forwarding-too", Info, f.names(on), "the kernel forwards there too; a tc program takes from it what proxyarpd forwards", "none is needed"})
	}
	if f.readOnly {
		found = append(found, Finding{"sysctl-read-only", Info, "/proc/sys", "it is read-only here: the kernel's own proxy_arp and forwarding can't be turned on", "none is needed: proxyarpd writes no sysctl"})
	}
	return found
}

// checkUplinks looks at what keeps --answer-uplink from being answered.
func checkUplinks(f *facts) (found []Finding) {
	if len(f.cfg.AnswerUplink) == 0 {
		return nil
	}
	answered := false
	for _, l := range f.uplinks {
		p := f.view.Policies[l.Index]
		if p == nil {
			p = f.view.Policies6[l.Index]
		}
		switch {
		case p == nil:
		case p.Uplink.Unforwarded:
			found = append(found, Finding{"uplink-unforwarded", Error, l.Name, "nobody forwards what comes in there: nothing of --answer-uplink is answered",
				"sysctl -w net.ipv4.conf." + l.Name + ".forwarding=1, or have an engine forward, past what the interface is left to the kernel for"})
			answered = true
		default:
			answered = true
		}
	}
	if !answered {
		found = append(found, Finding{"uplink-none", Warning, "", "--answer-uplink is given, and no uplink has ARP, or for IPv6 neighbour discovery", "name one: --uplink GLOB"})
	}
	return found
}

// checkARPSysctls looks at what makes the kernel answer too, or not.
func checkARPSysctls(f *facts) (found []Finding) {
	for _, l := range f.workloads {
		all, one := f.is(l.Name, "proxy_arp")
		if !all && !one {
			continue
		}
		key := culprit(l.Name, "proxy_arp", all)
		found = append(found, Finding{"proxy-arp-too", Warning, l.Name, key + " is 1: the kernel answers the same requests", "sysctl -w " + key + "=0"})
		if delay, _ := f.sysctl("neigh/" + l.Name + "/proxy_delay"); delay > 0 {
			found = append(found, Finding{"proxy-delay", Warning, l.Name, fmt.Sprintf("the kernel's second answer comes up to %d ms later (proxy_delay)", delay*10),
				"sysctl -w " + key + "=0, or net.ipv4.neigh." + l.Name + ".proxy_delay=0"})
		}
	}
	for _, l := range append(slices.Clone(f.workloads), f.uplinks...) {
		if all, one := f.is(l.Name, "drop_gratuitous_arp"); all || one {
			key := culprit(l.Name, "drop_gratuitous_arp", all)
			found = append(found, Finding{"drop-gratuitous-arp", Warning, l.Name, key + " is 1: who moves to another MAC is noticed only when the old entry has failed", "sysctl -w " + key + "=0"})
		}
	}
	for _, l := range f.uplinks {
		if all, one := f.is(l.Name, "proxy_arp"); (all || one) && l.Forwards && len(f.cfg.AnswerUplink) > 0 {
			key := culprit(l.Name, "proxy_arp", all)
			found = append(found, Finding{"proxy-arp-too", Warning, l.Name, key + " is 1: with --answer-uplink the kernel answers the same requests, and for all that is routed elsewhere", "sysctl -w " + key + "=0"})
		}
	}
	for _, l := range f.uplinks {
		ignore := f.most(l.Name, "arp_ignore")
		if ignore >= 8 {
			found = append(found, Finding{"arp-ignore", Warning, l.Name, "arp_ignore is 8: nobody on that network gets an answer from this host", "sysctl -w net.ipv4.conf." + l.Name + ".arp_ignore=0"})
		}
	}
	for _, l := range f.workloads {
		if ignore := f.most(l.Name, "arp_ignore"); ignore > 0 && len(f.cfg.Proxy) > 0 {
			found = append(found, Finding{"arp-ignore", Warning, l.Name, fmt.Sprintf("arp_ignore is %d: with --proxy, requests for addresses of this host are left to the kernel, which does not answer", ignore),
				"sysctl -w net.ipv4.conf." + l.Name + ".arp_ignore=0"})
		}
		if all, one := f.is(l.Name, "arp_filter"); (all || one) && len(f.cfg.Proxy) > 0 {
			key := culprit(l.Name, "arp_filter", all)
			found = append(found, Finding{"arp-filter", Warning, l.Name, key + " is 1: the kernel answers for addresses of this host only if its route to the asker leads there", "sysctl -w " + key + "=0"})
		}
	}
	return merged(found)
}

func (f *facts) most(name, key string) int {
	a, _ := f.sysctl("conf/all/" + key)
	b, _ := f.sysctl("conf/" + name + "/" + key)
	return max(a, b)
}

// merged leaves of many findings that name the same cause one, with all subjects.
func merged(all []Finding) (found []Finding) {
	at := map[string]int{}
	for _, f := range all {
		key := f.ID + f.What + f.Cure
		if i, ok := at[key]; ok {
			found[i].Subject += ", " + f.Subject
			continue
		}
		at[key] = len(found)
		found = append(found, f)
	}
	return found
}

// checkRPFilter looks at uplinks whose source validation drops what comes by another way.
func checkRPFilter(f *facts) (found []Finding) {
	var used []*netstate.Link
	for _, l := range f.uplinks {
		if f.view.Used[int32(l.Index)] {
			used = append(used, l)
		}
	}
	if len(used) < 2 {
		return nil
	}
	for _, l := range used {
		if f.most(l.Name, "rp_filter") == 1 {
			found = append(found, Finding{"rp-filter", Warning, l.Name, "rp_filter is 1 (strict) on an uplink, and routes lead over several: packets that come by another way than the one back are dropped (IP_RPFILTER)",
				"sysctl -w net.ipv4.conf." + l.Name + ".rp_filter=2, if ways may differ by direction"})
		}
	}
	return found
}

// checkAnswers looks at who answers for the gateways.
func checkAnswers(f *facts) (found []Finding) {
	for _, a := range f.answers {
		switch {
		case a.err != nil:
			found = append(found, Finding{"not-asked", Info, a.where, "could not ask there for " + a.gateway + ": " + a.err.Error(), "none is needed"})
		case !a.pod && len(a.macs) > 0:
			found = append(found, Finding{"foreign-answer", Error, a.where, fmt.Sprintf("%s answers for the gateway %s on the uplink, which nobody should own", listMACs(a.macs), a.gateway),
				"find the station by its MAC (ip neigh, the switch's table) and remove the address, or turn off its proxy ARP"})
		case a.pod:
			found = append(found, f.checkPodAnswer(a)...)
		}
	}
	return found
}

func (f *facts) checkPodAnswer(a answer) (found []Finding) {
	var want wire.MAC
	for _, l := range f.workloads {
		if p := f.view.Policies[l.Index]; l.Name == a.host && p != nil {
			want = p.Answer
		}
	}
	var foreign []wire.MAC
	for _, m := range a.macs {
		if m != want {
			foreign = append(foreign, m)
		}
	}
	switch {
	case len(foreign) > 0:
		found = append(found, Finding{"foreign-answer", Error, a.where, fmt.Sprintf("%s answers for the gateway %s, expected is %s", listMACs(foreign), a.gateway, want),
			"find who has that MAC: a second daemon, the kernel's proxy_arp on " + a.host + ", or the pod's network"})
	case len(a.macs) == 0 && f.status != nil:
		found = append(found, Finding{"no-answer", Error, a.where, "nobody answers there for the gateway " + a.gateway + ", though a daemon runs",
			"proxyarpd explain " + a.gateway + " --iif " + a.host + "; proxyarpd capture -ni " + a.host + " arp"})
	}
	return found
}

func listMACs(macs []wire.MAC) string {
	var all []string
	for _, m := range macs {
		all = append(all, m.String())
	}
	return strings.Join(all, ", ")
}

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

// checkInterfaces looks at the workloads' interfaces.
func checkInterfaces(f *facts) (found []Finding) {
	if len(f.workloads) == 0 {
		return []Finding{{"no-workloads", Info, "", fmt.Sprintf("no interface matches --workload %v", f.cfg.Workloads), "name the interfaces: --workload GLOB"}}
	}
	for _, l := range f.workloads {
		switch {
		case !l.Up():
			found = append(found, Finding{"interface-down", Info, l.Name, "is down", "ip link set " + l.Name + " up, when its workload is to be reached"})
		case !f.view.Used[int32(l.Index)]:
			found = append(found, Finding{"no-route", Warning, l.Name, "no route leads over it: nothing reaches the workload, and with --rp-filter 1 or 2 nothing from it is forwarded",
				"ip route add ADDRESS/32 dev " + l.Name})
		}
		for _, u := range f.uplinks {
			if l.MTU > u.MTU && f.view.Used[int32(u.Index)] {
				found = append(found, Finding{"mtu", Warning, l.Name, fmt.Sprintf("its MTU, %d, is larger than that of the uplink %s, %d: long packets are dropped there, and each sender told by ICMP", l.MTU, u.Name, u.MTU),
					fmt.Sprintf("ip link set %s mtu %d, and the same for the pod's end", l.Name, u.MTU)})
			}
		}
	}
	return merged(found)
}

// checkRoutes looks at routes that lead nowhere.
func checkRoutes(f *facts) (found []Finding) {
	for i, r := range f.dead {
		if i == 8 {
			found = append(found, Finding{"route-dead", Warning, "", fmt.Sprintf("%d more routes like these", len(f.dead)-i), "ip route show"})
			break
		}
		found = append(found, Finding{"route-dead", Warning, r, "the route's interface is down or without carrier", "bring the interface up, or delete the route"})
	}
	return found
}
