package bench

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
)

// line is one of the README's table: figures of one kind, side by side.
type line struct {
	title string
	works []string // whose rows stand in it, divided by slashes
	unit  string
}

// lines are the main table. One that the run did not have is left out; in the others - stands for what has no figure.
var lines = []line{
	{"64-byte UDP, one sender, 1 / 16 / 1000 flows", []string{"rate, 64 B, 1 sender, 1 flow, one host", "rate, 64 B, 1 sender, 16 flows, one host", "rate, 64 B, 1 sender, 1000 flows, one host"}, "kpps"},
	{"the same, a sender on each CPU", []string{"rate, 64 B, N senders, 1 flow, one host", "rate, 64 B, N senders, 16 flows, one host", "rate, 64 B, N senders, 1000 flows, one host"}, "kpps"},
	{"RFC 2544 throughput, 64 / 512 / 1518 bytes", []string{"throughput, 64 B", "throughput, 512 B", "throughput, 1518 B"}, "kpps"},
	{"RFC 2544 throughput, IMIX", []string{"throughput, IMIX"}, "kpps"},
	{"CPU time a packet at 50 kpps, generator and receiver included, 1 / 16 / 1000 flows", []string{"CPU a packet, 1 flow, all CPUs", "CPU a packet, 16 flows, all CPUs", "CPU a packet, 1000 flows, all CPUs"}, "ns"},
	{"64-byte UDP to 1 / 100 / 1000 workloads", []string{"rate, 64 B, 1 sender, to 1 workload", "rate, 64 B, 1 sender, to 100 workloads", "rate, 64 B, 1 sender, to 1000 workloads"}, "kpps"},
	{"UDP request/response, p50 / p99", []string{"UDP request/response, one host, p50", "UDP request/response, one host, p99"}, "µs"},
	{"the same, one a ms", []string{"UDP request/response, paced 1 ms, one host, p50", "UDP request/response, paced 1 ms, one host, p99"}, "µs"},
	{"TCP request/response, p50 / p99", []string{"TCP request/response, one host, p50", "TCP request/response, one host, p99"}, "µs"},
	{"TCP, one host, 1 / 4 streams", []string{"TCP, 1 stream, one host", "TCP, 4 streams, one host"}, "Gbit/s"},
	{"TCP, two hosts, 1 / 4 streams", []string{"TCP, 1 stream, two hosts", "TCP, 4 streams, two hosts"}, "Gbit/s"},
	{"first ping of a cold pod, two hosts", []string{"first ping, cold, two hosts"}, "ms"},
	{"ARP answer, at once, p50 / p99", []string{"ARP answer, at once, p50", "ARP answer, at once, p99"}, "µs"},
	{"up to first answer, 1 / 100 / 1000 interfaces at once, median", []string{"up to first answer, 1 interface at once", "up to first answer, 100 interfaces at once", "up to first answer, 1000 interfaces at once"}, "ms"},
	{"UDP request/response of others while a pod floods IP, p50 / p99", []string{"UDP request/response of other pods, IP flood, p50", "UDP request/response of other pods, IP flood, p99"}, "µs"},
	{"the same, ARP flood", []string{"UDP request/response of other pods, ARP flood, p50", "UDP request/response of other pods, ARP flood, p99"}, "µs"},
	{"start-up with 1 / 100 / 1000 workloads", []string{"start-up, 1 interface", "start-up, 100 interfaces", "start-up, 1000 interfaces"}, "ms"},
	{"resident memory with 1 / 100 / 1000 workloads", []string{"VmRSS, 1 interface", "VmRSS, 100 interfaces", "VmRSS, 1000 interfaces"}, "MB"},
}

// captureLines are what a capture costs, recorderLines what it records beside tcpdump.
var (
	captureLines = []line{
		{"64-byte UDP, one sender, 16 flows", []string{"rate, 64 B, 1 sender, 16 flows, beside a capture"}, "kpps"},
		{"CPU time a packet at that rate, of the daemon", []string{"CPU a packet at that rate, daemon's process"}, "ns"},
		{"UDP request/response, p50 / p99", []string{"UDP request/response, one host, beside a capture, p50", "UDP request/response, one host, beside a capture, p99"}, "µs"},
	}
	recorderLines = []line{
		{"64-byte UDP recorded, of 50 / 100 / 200 kpps, and of all that is sent", []string{"recorded, 64 B, at 50 kpps", "recorded, 64 B, at 100 kpps", "recorded, 64 B, at 200 kpps", "recorded, 64 B, at full speed"}, "kpps"},
	}
)

// Markdown writes the main tables, for the README: medians, and the ratios to the base in parentheses.
func (r *Report) Markdown(w io.Writer) error {
	c := r.Circumstances
	fmt.Fprintf(w, "%s, Linux %s, %d CPUs (%s), proxyarpd %s; medians of %d rounds, in parentheses the ratio to `%s`.\n",
		c.Began.Format("2006-01-02"), c.Kernel, c.CPUs, c.Model, c.Version, c.Rounds, r.Base)
	if r.Noisy != "" {
		fmt.Fprintf(w, "The run was noisy: %s.\n", r.Noisy)
	}
	r.markdown(w, lines)
	r.delayed(w)
	r.markdown(w, captureLines)
	r.markdown(w, recorderLines)
	return nil
}

// markdown writes a table with a column for each contestant that takes part.
func (r *Report) markdown(w io.Writer, lines []line) {
	lines = slices.Clone(lines)
	for i := range lines {
		lines[i].rename(r)
	}
	lines = slices.DeleteFunc(lines, func(l line) bool {
		return !slices.ContainsFunc(r.Rows, func(row *Row) bool { return slices.Contains(l.works, row.Work) })
	})
	if len(lines) == 0 {
		return
	}
	names := slices.DeleteFunc(append(r.contestants(), Ceiling), func(n string) bool {
		return n == (&kernel{delayed: true}).name() || n == "-" ||
			!slices.ContainsFunc(lines, func(l line) bool { return l.cell(r, n) != "" })
	})
	fmt.Fprintf(w, "\n| work | %s |\n|---|%s\n", strings.Join(names, " | "), strings.Repeat("---|", len(names)))
	for _, l := range lines {
		fmt.Fprintf(w, "| %s, %s |", l.title, l.unit)
		for _, name := range names {
			fmt.Fprintf(w, " %s |", l.cell(r, name))
		}
		fmt.Fprintln(w)
	}
}

// delayed says what the kernel's own proxy_delay costs, which is no column of its own.
func (r *Report) delayed(w io.Writer) {
	for _, row := range r.Rows {
		if row.Contestant == (&kernel{delayed: true}).name() && row.Kind == "cold" && row.Median != nil {
			fmt.Fprintf(w, "\nWith the kernel's default `proxy_delay` the first ping takes %s %s.\n", number(*row.Median), row.Unit)
		}
	}
}

// rename puts the number of senders into the works' names.
func (l *line) rename(r *Report) {
	most := r.values("rate", "senders")
	l.works = slices.Clone(l.works)
	for i := range l.works {
		if len(most) > 0 {
			l.works[i] = strings.Replace(l.works[i], "N senders", count(int(most[len(most)-1]), "sender"), 1)
		}
	}
}

// cell is a contestant's figures.
func (l line) cell(r *Report, name string) string {
	var medians, ratios []string
	takesPart, compared := false, false
	for _, work := range l.works {
		median, ratio := "-", "-"
		for _, row := range r.Rows {
			if row.Work != work || row.Contestant != name {
				continue
			}
			takesPart = true
			if row.Median != nil {
				median = number(*row.Median)
				if base := cmp.Or(row.Base, r.Base); row.Ratio != nil && name != base && name != Ceiling {
					compared, ratio = true, fmt.Sprintf("%.2f", *row.Ratio)
				}
			}
		}
		medians, ratios = append(medians, median), append(ratios, ratio)
	}
	switch {
	case !takesPart:
		return ""
	case !compared:
		return strings.Join(medians, " / ")
	}
	return strings.Join(medians, " / ") + " (" + strings.Join(ratios, " / ") + ")"
}
