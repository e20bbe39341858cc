package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"proxyarpd/internal/wire"
)

// answer is what came of a request or solicitation.
type answer struct {
	where   string // an interface, with the pod's namespace if it is one's
	pod     bool
	host    string     // the interface here
	gateway netip.Addr // or on an uplink an address of a workload
	routed  string     // to which interface then
	macs    []wire.MAC // of all who answered
	hosts   []wire.MAC // of those who say that they are no routers: IPv6 alone
	err     error
}

func (a *answer) family() *family {
	if a.gateway.Is6() {
		return ipv6
	}
	return ipv4
}

// asked reports whether it has been asked there who has a gateway's address:
// checkAnswers tells then.
func (f *facts) asked(host, gateway string) bool {
	return slices.ContainsFunc(f.answers, func(a answer) bool {
		return (a.host == host || a.where == host) && a.gateway.String() == gateway && a.err == nil
	})
}

// answeredBy reports whether somebody has answered for an address there.
func (f *facts) answeredBy(where, address string) bool {
	return slices.ContainsFunc(f.answers, func(a answer) bool { return a.where == where && a.gateway.String() == address && len(a.macs) > 0 })
}

// checkAnswers looks at who answers for the gateways.
func checkAnswers(f *facts) (found []Finding) {
	for i := range f.answers {
		a := &f.answers[i]
		switch {
		case a.err != nil:
			found = append(found, Finding{"not-asked", Info, a.where, fmt.Sprintf("could not ask there for %s by %s: %v", a.gateway, a.family().resolution, a.err), "none is needed"})
		case a.routed != "":
			if macs := slices.DeleteFunc(slices.Clone(a.macs), f.ownMAC); len(macs) > 0 {
				found = append(found, Finding{"uplink-claim", Error, a.where, fmt.Sprintf("%s answers for the address %s, which is routed to %s", listMACs(macs), a.gateway, a.routed), takeFrom})
			}
		case !a.pod && len(a.macs) > 0:
			found = append(found, Finding{"foreign-answer", Error, a.where, fmt.Sprintf("%s answers for the gateway %s on the uplink, which nobody should own", listMACs(a.macs), a.gateway),
				"find the station by its MAC (" + a.family().ip + " neigh, the switch's table) and remove the address, or turn off its proxying of ARP or neighbour discovery"})
		case a.pod:
			found = append(found, f.checkPodAnswer(a)...)
		}
	}
	return merged(found)
}

func (f *facts) checkPodAnswer(a *answer) (found []Finding) {
	var want wire.MAC
	v := a.family()
	for _, l := range f.workloads {
		if p := f.view.PoliciesOf(v.Family)[l.Index]; l.Name == a.host && p != nil {
			want = p.Answer
		}
	}
	foreign := slices.DeleteFunc(slices.Clone(a.macs), func(m wire.MAC) bool { return m == want })
	too := "the kernel's proxy_arp on " + a.host
	if v == ipv6 {
		too = "an address or a proxy entry of " + a.host + " (ip -6 address, ip -6 neigh show proxy)"
	}
	switch {
	case len(foreign) > 0:
		found = append(found, Finding{"foreign-answer", Error, a.where, fmt.Sprintf("%s answers for the gateway %s, expected is %s", listMACs(foreign), a.gateway, want),
			"find who has that MAC: a second daemon, " + too + ", or the pod's network"})
	case len(a.macs) == 0 && f.status != nil:
		found = append(found, Finding{"no-answer", Error, a.where, fmt.Sprintf("nobody answers there for the gateway %s by %s, though a daemon runs", a.gateway, v.resolution),
			fmt.Sprintf("proxyarpd explain %s --iif %s; proxyarpd capture -ni %s %s", a.gateway, a.host, a.host, v.capture)})
	}
	if len(a.hosts) > 0 && f.status != nil {
		found = append(found, Finding{"no-router-flag", Warning, a.where, fmt.Sprintf("%s answers for the gateway %s without the router flag: the kernel does, for an address of its own, since no tc program keeps it from that, and net.ipv6.conf.all.forwarding is 0; a pod with a default route of an advertisement gives that up",
			listMACs(a.hosts), a.gateway), "what doctor and the daemon's log say of eBPF and tc programs; or sysctl -w net.ipv6.conf.all.forwarding=1"})
	}
	return found
}

// takeFrom is what to do about who claims a workload's address on an uplink.
const takeFrom = "find out who that is, and take the address from it; or delete the route, if the workload has gone there"

// ownMAC reports whether an interface of this host has a MAC.
func (f *facts) ownMAC(m wire.MAC) bool {
	for _, l := range f.view.Links {
		if l.MAC == m {
			return true
		}
	}
	return false
}

func listMACs(macs []wire.MAC) string {
	var all []string
	for _, m := range macs {
		all = append(all, m.String())
	}
	return strings.Join(all, ", ")
}
