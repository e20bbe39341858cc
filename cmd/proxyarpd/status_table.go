package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"proxyarpd/internal/printable"
	"proxyarpd/internal/status"
)

// printInterfaces writes what the interfaces are, and what was counted on them.
func printInterfaces(out io.Writer, s *status.Status) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	w := printable.NewWriter(table) // before the columns are measured
	fmt.Fprintln(w, "INTERFACE\tINDEX\tROLE\tMAC\tANSWERS\tIP")
	row := func(i *status.Interface, role string) {
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\n", i.Name, i.Index, role, i.MAC, dash(i.AnswersWith()), serves(i))
	}
	for i := range s.Workloads {
		row(&s.Workloads[i], "workload")
	}
	for i := range s.Uplinks {
		row(&s.Uplinks[i], "uplink")
	}
	if err := table.Flush(); err != nil {
		return err
	}
	all := slices.Concat(s.Workloads, s.Uplinks)
	for _, i := range all {
		if i.Error != "" {
			fmt.Fprintf(out, "%s: %s\n", i.Name, i.Error)
		}
	}
	printWithout6(out, all)
	for _, l := range s.Left {
		fmt.Fprintf(out, "%s: %s\n", l.Name, l.Why)
	}
	return printCounted(out, all)
}

// serves names the IP versions that are served on an interface.
func serves(i *status.Interface) string {
	if !i.Up {
		return "down"
	}
	return dash(i.Serves())
}

// printWithout6 says where IPv6 is not served, or lacks something, a line a reason.
func printWithout6(out io.Writer, all []status.Interface) {
	names, order := map[string][]string{}, []string(nil)
	for _, i := range all {
		if i.IPv6 == nil || i.IPv6.Why == "" {
			continue
		}
		if names[i.IPv6.Why] == nil {
			order = append(order, i.IPv6.Why)
		}
		names[i.IPv6.Why] = append(names[i.IPv6.Why], i.Name)
	}
	for _, why := range order {
		const most = 4
		of := names[why]
		more := ""
		if len(of) > most {
			of, more = of[:most], fmt.Sprintf(" and %d more", len(of)-most)
		}
		fmt.Fprintf(out, "IPv6 on %s%s: %s\n", strings.Join(of, ", "), more, why)
	}
}

// column is a counter of interfaces.
type column struct {
	head string
	of   func(*status.Interface) uint64
}

// counted are what is counted by interface.
var counted = []column{
	{"ARP REQ", func(i *status.Interface) uint64 { return i.ARPRequests }},
	{"REPLY", func(i *status.Interface) uint64 { return i.ARPReplies }},
	{"ND SOL", func(i *status.Interface) uint64 { return i.ND().Solicitations }},
	{"ADV", func(i *status.Interface) uint64 { return i.ND().Advertisements }},
	{"DEFENDED", func(i *status.Interface) uint64 { return i.ARPDefended + i.ND().Defended }},
	{"UNROUTED", func(i *status.Interface) uint64 { return i.ARPUnrouted + i.ND().Unrouted }},
	{"RECEIVED", func(i *status.Interface) uint64 { return i.Received }},
	{"CARRIED", func(i *status.Interface) uint64 { return i.Carried }},
	{"POLICED", func(i *status.Interface) uint64 { return i.Policed }},
	{"LOCAL", func(i *status.Interface) uint64 { return i.Local }},
	{"PUNTED", func(i *status.Interface) uint64 { return i.Punted }},
}

// printCounted leaves out interfaces and columns in which all is 0.
func printCounted(out io.Writer, all []status.Interface) error {
	columns := slices.DeleteFunc(slices.Clone(counted), func(c column) bool {
		return !slices.ContainsFunc(all, func(i status.Interface) bool { return c.of(&i) != 0 })
	})
	if len(columns) == 0 {
		return nil
	}
	fmt.Fprintln(out)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	w := printable.NewWriter(table)
	cells := []string{"INTERFACE"}
	for _, c := range columns {
		cells = append(cells, c.head)
	}
	fmt.Fprintln(w, strings.Join(cells, "\t"))
	for i := range all {
		cells, some := []string{all[i].Name}, false
		for _, c := range columns {
			n := c.of(&all[i])
			cells, some = append(cells, fmt.Sprint(n)), some || n != 0
		}
		if some {
			fmt.Fprintln(w, strings.Join(cells, "\t"))
		}
	}
	return table.Flush()
}

// printAnswers tells of ARP, or of neighbour discovery.
func printAnswers(out io.Writer, title string, verdicts map[string]uint64, defended uint64, defence string, groups ...string) {
	more := groups
	if defended > 0 {
		more = append([]string{fmt.Sprintf("%d of the answers to %s", defended, defence)}, more...)
	}
	line := counts(verdicts)
	switch {
	case line == "" && len(groups) == 0:
		return
	case line == "":
		line = "nothing yet"
	}
	fmt.Fprintf(out, "%s: %s\n", title, strings.Join(append([]string{line}, more...), "; "))
}

// groupsOf tells of memberships in solicited-node groups.
func groupsOf(n *status.ND) []string {
	switch {
	case n.Groups == 0:
		return nil
	case n.Joined == 1 && n.Groups == 1:
		return []string{"1 group joined"}
	case n.Joined == n.Groups:
		return []string{fmt.Sprintf("%d groups joined", n.Joined)}
	}
	return []string{fmt.Sprintf("%d of %d groups joined: switches that snoop MLD pass no solicitations of the others", n.Joined, n.Groups)}
}
