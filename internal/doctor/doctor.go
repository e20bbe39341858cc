// Package doctor looks at a host and tells what stops, duplicates or bypasses
// proxyarpd there, each with its cure. It gathers facts, in this network namespace
// and, where it may, in those of the pods; the findings are pure functions of them.
// It changes nothing; the only packets that it sends are ARP requests and neighbour
// solicitations for gateways.
package doctor

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"proxyarpd/internal/daemon"
	"proxyarpd/internal/explain"
	"proxyarpd/internal/hostpolicy"
	"proxyarpd/internal/netstate"
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
	dead []deadRoute
	host hostIPv6
	// local are the addresses of this host; those of one link have its index as their zone.
	local    map[string]bool
	routed   map[*family]map[int32][]netip.Addr // addresses with a route of their own, by the interface that it leads over
	managers managers
	pods     []pod
	noPods   string   // why pods could not be looked into
	answers  []answer // of who was asked for gateways
}

// checks are all there are, in the order in which they are told.
var checks = []func(*facts) []Finding{
	checkDaemon, checkPrivileges, checkKernel, checkForwarding, checkIPv6, checkUplinks, checkARPSysctls, checkNDSysctls, checkRPFilter,
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

func (f *facts) names(links []*netstate.Link) string {
	var names []string
	for _, l := range links {
		names = append(names, l.Name)
	}
	return few(names)
}

// few lists names, the first of many.
func few(names []string) string {
	const most = 4
	if len(names) > most {
		return fmt.Sprintf("%s, and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

// merged leaves of many findings that name the same cause one, with its subjects.
func merged(all []Finding) (found []Finding) {
	at := map[Finding]int{}
	var subjects [][]string
	for _, f := range all {
		key := f
		key.Subject = ""
		i, known := at[key]
		if !known {
			i = len(found)
			at[key], found, subjects = i, append(found, f), append(subjects, nil)
		}
		subjects[i] = append(subjects[i], f.Subject)
	}
	for i := range found {
		found[i].Subject = few(subjects[i])
	}
	return found
}
