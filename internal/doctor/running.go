package doctor

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// recently is how long ago a conflict may have been heard of.
const recently = time.Minute

// checkDaemon looks at what the daemon that runs says of itself.
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
			if f.answeredBy(c.Interface, c.Address) { // checkAnswers tells
				continue
			}
			found = append(found, Finding{c.Kind, Error, c.Interface, fmt.Sprintf("the address %s, which is routed to %s, is claimed by %s", c.Address, cmp.Or(c.Other, "a workload"), what),
				takeFrom})
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
