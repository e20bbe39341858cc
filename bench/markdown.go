package bench

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// line is one of a table of docs/BENCH.md: figures of one kind, side by side.
type line struct {
	title string
	works []selector // whose rows stand in it, divided by slashes
	unit  string
}

// selector names the rows of one figure: those of a kind that have all of the parameters.
type selector struct {
	kind   string
	params map[string]float64
}

// mostSenders stands for the largest number of senders of the report.
const mostSenders = -1

type params = map[string]float64

// each gives a selector for each value of a parameter, beside others.
func each(kind string, of params, name string, values ...float64) (all []selector) {
	for _, v := range values {
		p := maps.Clone(of)
		if p == nil {
			p = params{}
		}
		p[name] = v
		all = append(all, selector{kind, p})
	}
	return all
}

// lines are the main table. One that the run did not have is left out; in the others - stands for what has no figure.
// Missing tells of both.
var lines = []line{
	{"64-byte UDP, one sender, 1 / 16 / 1000 flows", each("rate", params{"frame": 64, "senders": 1, "hosts": 1}, "flows", 1, 16, 1000), "kpps"},
	{"the same, a sender on each CPU", each("rate", params{"frame": 64, "senders": mostSenders, "hosts": 1}, "flows", 1, 16, 1000), "kpps"},
	{"RFC 2544 throughput, 64 / 512 / 1518 bytes", each("throughput", nil, "frame", 64, 512, 1518), "kpps"},
	{"RFC 2544 throughput, IMIX", each("throughput", nil, "imix", 1), "kpps"},
	{"CPU time a packet at 50 kpps, generator and receiver included, 1 / 16 / 1000 flows", each("cpu", params{"frame": 64}, "flows", 1, 16, 1000), "ns"},
	{"64-byte UDP to 1 / 100 / 1000 workloads", each("rate", params{"frame": 64}, "workloads", 1, 100, 1000), "kpps"},
	{"UDP request/response, p50 / p99", each("rr", params{"udp": 1, "hosts": 1, "paced": 0}, "percentile", 50, 99), "µs"},
	{"the same, one a ms", each("rr", params{"udp": 1, "hosts": 1, "paced": 1}, "percentile", 50, 99), "µs"},
	{"TCP request/response, p50 / p99", each("rr", params{"tcp": 1, "hosts": 1, "paced": 0}, "percentile", 50, 99), "µs"},
	{"TCP, one host, 1 / 4 streams", each("tcp", params{"hosts": 1}, "streams", 1, 4), "Gbit/s"},
	{"TCP, two hosts, 1 / 4 streams", each("tcp", params{"hosts": 2}, "streams", 1, 4), "Gbit/s"},
	{"first ping of a cold pod, two hosts", []selector{{kind: "cold"}}, "ms"},
	{"ARP answer, at once, p50 / p99", each("arp", params{"paced": 0}, "percentile", 50, 99), "µs"},
	{"up to first answer, 1 / 100 / 1000 interfaces at once, median", each("up", nil, "workloads", 1, 100, 1000), "ms"},
	{"UDP request/response of others while a pod floods IP, p50 / p99", each("flood-rr", params{"flood_ip": 1}, "percentile", 50, 99), "µs"},
	{"the same, ARP flood", each("flood-rr", params{"flood_arp": 1}, "percentile", 50, 99), "µs"},
	{"start-up with 1 / 100 / 1000 workloads", each("start", nil, "workloads", 1, 100, 1000), "ms"},
	{"resident memory with 1 / 100 / 1000 workloads", each("memory", nil, "workloads", 1, 100, 1000), "MB"},
}

// dualLines are what dual-stack workloads take, which a host without IPv6 has none of.
var dualLines = []line{
	{"start-up with 1000 dual-stack workloads", each("start-dual", nil, "workloads", 1000), "ms"},
	{"resident memory with 1000 dual-stack workloads", each("memory-dual", nil, "workloads", 1000), "MB"},
}

// captureLines are what a capture costs, recorderLines what it records beside tcpdump.
var (
	captureLines = []line{
		{"64-byte UDP, one sender, 16 flows", each("rate-captured", params{"frame": 64, "senders": 1, "hosts": 1}, "flows", 16), "kpps"},
		{"CPU time a packet at that rate, of the daemon", each("cpu-forwarder", nil, "captured", 1), "ns"},
		{"UDP request/response, p50 / p99", each("rr", params{"udp": 1, "hosts": 1, "captured": 1}, "percentile", 50, 99), "µs"},
	}
	recorderLines = []line{
		{"64-byte UDP recorded, of 50 / 100 / 200 kpps, and of all that is sent", each("recorded", params{"frame": 64}, "rate", 50_000, 100_000, 200_000, 0), "kpps"},
	}
)

// of reports whether a row is one of the selector's.
func (s selector) of(row *Row) bool {
	if row.Kind != s.kind {
		return false
	}
	for name, want := range s.params {
		if got, ok := row.Params[name]; !ok || got != want {
			return false
		}
	}
	return true
}

func (s selector) String() string {
	var b strings.Builder
	b.WriteString(s.kind)
	for _, name := range slices.Sorted(maps.Keys(s.params)) {
		fmt.Fprintf(&b, " %s=%g", name, s.params[name])
	}
	return b.String()
}

// Missing names the figures of the tables of docs/BENCH.md of which the report has no row, or more than one work's.
func (r *Report) Missing() (all []string) {
	for _, l := range slices.Concat(lines, captureLines, recorderLines) {
		l.resolve(r)
		for _, s := range l.works {
			var works []string
			for _, row := range r.Rows {
				if s.of(row) && !slices.Contains(works, row.Work) {
					works = append(works, row.Work)
				}
			}
			if len(works) != 1 {
				all = append(all, fmt.Sprintf("%s: %v: rows of %q", l.title, s, works))
			}
		}
	}
	return all
}

// Markdown writes the main tables, for docs/BENCH.md: medians, and the ratios to the base in parentheses.
func (r *Report) Markdown(w io.Writer) error {
	c := r.Circumstances
	fmt.Fprintf(w, "%s, Linux %s, %d CPUs (%s), proxyarpd %s; medians of %d rounds, in parentheses the ratio to `%s`.\n",
		c.Began.Format("2006-01-02"), c.Kernel, c.CPUs, c.Model, c.Version, c.Rounds, r.Base)
	if r.Noisy != "" {
		fmt.Fprintf(w, "The run was noisy: %s.\n", r.Noisy)
	}
	r.markdown(w, slices.Concat(lines, dualLines))
	r.delayed(w)
	r.markdown(w, captureLines)
	r.markdown(w, recorderLines)
	return nil
}

// markdown writes a table with a column for each contestant that takes part.
func (r *Report) markdown(w io.Writer, lines []line) {
	lines = slices.Clone(lines)
	for i := range lines {
		lines[i].resolve(r)
	}
	lines = slices.DeleteFunc(lines, func(l line) bool {
		return !slices.ContainsFunc(r.Rows, func(row *Row) bool {
			return slices.ContainsFunc(l.works, func(s selector) bool { return s.of(row) })
		})
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

// resolve puts in the number of senders that is meant by mostSenders.
func (l *line) resolve(r *Report) {
	senders := r.values("rate", "senders")
	l.works = slices.Clone(l.works)
	for i := range l.works {
		if s := &l.works[i]; len(senders) > 0 && s.params["senders"] == mostSenders {
			s.params = maps.Clone(s.params)
			s.params["senders"] = senders[len(senders)-1]
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
			if !work.of(row) || row.Contestant != name {
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
