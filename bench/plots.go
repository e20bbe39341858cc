package bench

import (
	"fmt"
	"slices"
)

// plot says which rows make a chart: those of a kind, at the category that at gives them, or not at all.
type plot struct {
	title, x, y string
	kind        string
	log, bars   bool
	at          func(*Row) (category string, order float64, ok bool)
}

// by takes a parameter for the category.
func by(param string) func(*Row) (string, float64, bool) {
	return func(r *Row) (string, float64, bool) {
		v, ok := r.Params[param]
		return fmt.Sprintf("%g", v), v, ok
	}
}

// only takes rows whose parameters are as given, and lacks none of them.
func only(at func(*Row) (string, float64, bool), want map[string]float64) func(*Row) (string, float64, bool) {
	return func(r *Row) (string, float64, bool) {
		for k, v := range want {
			if got, ok := r.Params[k]; !ok || got != v {
				return "", 0, false
			}
		}
		return at(r)
	}
}

// mixed is the category of IMIX, which is no size and stands apart.
const mixed = "IMIX"

func bySize(r *Row) (string, float64, bool) {
	if r.Params["imix"] == 1 {
		return mixed, 1e9, true
	}
	return by("frame")(r)
}

func byPercentile(r *Row) (string, float64, bool) {
	v, ok := r.Params["percentile"]
	return fmt.Sprintf("p%g", v), v, ok
}

func byStreams(r *Row) (string, float64, bool) {
	hosts, streams := r.Params["hosts"], r.Params["streams"]
	return fmt.Sprintf("%s, %s", count(int(streams), "stream"), count(int(hosts), "host")), hosts*1000 + streams, true
}

// plots are what the page has, as far as there are rows for it.
func (r *Report) plots() []plot {
	all := []plot{
		{title: "RFC 2544 throughput by frame size", x: "frame, bytes with FCS", y: "kpps without loss", kind: "throughput", at: bySize},
		{title: "Frame loss by offered load, 64-byte frames", x: "offered, % of the generator's ceiling", y: "% lost", kind: "loss", at: by("offered_percent")},
	}
	for _, senders := range r.values("rate", "senders") {
		all = append(all, plot{title: "Maximum rate by flows, 64-byte frames, " + count(int(senders), "sender") + ", one host", x: "flows", y: "kpps", kind: "rate",
			at: only(by("flows"), params{"senders": senders, "hosts": 1})})
	}
	all = append(all,
		plot{title: "Maximum rate by workloads sent to", x: "workloads", y: "kpps", kind: "rate", at: by("workloads")},
		plot{title: "CPU time a packet by flows, all CPUs", x: "flows", y: "ns a packet", kind: "cpu", at: by("flows")},
		plot{title: "CPU time a packet by workloads, all CPUs", x: "workloads", y: "ns a packet", kind: "cpu", at: by("workloads")},
		plot{title: "UDP request/response, one host", x: "percentile", y: "round trip, µs", kind: "rr", log: true, at: only(byPercentile, params{"udp": 1, "hosts": 1, "paced": 0})},
		plot{title: "UDP request/response, one a millisecond, one host", x: "percentile", y: "round trip, µs", kind: "rr", log: true, at: only(byPercentile, params{"udp": 1, "hosts": 1, "paced": 1})},
		plot{title: "TCP request/response, one host", x: "percentile", y: "round trip, µs", kind: "rr", log: true, at: only(byPercentile, params{"tcp": 1, "hosts": 1})},
		plot{title: "UDP request/response, two hosts", x: "percentile", y: "round trip, µs", kind: "rr", log: true, at: only(byPercentile, params{"udp": 1, "hosts": 2})},
	)
	for _, frame := range r.values("latency", "frame") {
		if frame == 64 || frame == 1518 {
			all = append(all, plot{title: fmt.Sprintf("Latency at throughput, %g-byte frames", frame), x: "percentile", y: "one way, µs", kind: "latency", log: true,
				at: only(byPercentile, params{"frame": frame})})
		}
	}
	return append(all,
		plot{title: "TCP streams", x: "", y: "Gbit/s", kind: "tcp", bars: true, at: byStreams},
		plot{title: "ARP answer, at once", x: "percentile", y: "to the reply, µs", kind: "arp", log: true, at: only(byPercentile, params{"paced": 0})},
		plot{title: "Interface up to first answer, median", x: "interfaces at once", y: "ms", kind: "up", log: true, at: by("workloads")},
		plot{title: "Start-up by workloads", x: "workloads", y: "ms", kind: "start", at: by("workloads")},
		plot{title: "Resident memory by workloads", x: "workloads", y: "MB", kind: "memory", at: by("workloads")},
	)
}

// values are those that a parameter has in rows of a kind.
func (r *Report) values(kind, param string) (all []float64) {
	for _, row := range r.Rows {
		if v, ok := row.Params[param]; ok && row.Kind == kind && row.Params["imix"] == 0 && !slices.Contains(all, v) {
			all = append(all, v)
		}
	}
	slices.Sort(all)
	return all
}

// contestants are all of the report, in the order of their rows; the ceiling is not among them.
func (r *Report) contestants() (names []string) {
	for _, row := range r.Rows {
		if row.Contestant != Ceiling && !slices.Contains(names, row.Contestant) {
			names = append(names, row.Contestant)
		}
	}
	return names
}

// chart gathers the rows of a plot; false if there are too few to plot: one category, or none.
func (r *Report) chart(p plot) (chart, bool) {
	c := chart{title: p.title, x: p.x, y: p.y, log: p.log, bars: p.bars, apart: mixed}
	order := map[string]float64{}
	var rows []*Row
	for _, row := range r.Rows {
		if row.Kind != p.kind || row.Median == nil {
			continue
		}
		if name, at, ok := p.at(row); ok {
			order[name] = at
			rows = append(rows, row)
		}
	}
	if len(order) < 2 {
		return c, false
	}
	c.categories = sortedCategories(order)
	for style, name := range r.contestants() {
		c.addSeries(rows, p, name, style)
	}
	c.addSeries(rows, p, Ceiling, -1)
	return c, true
}

func (c *chart) addSeries(rows []*Row, p plot, name string, style int) {
	s := series{name: name, style: style}
	for _, row := range rows {
		if row.Contestant == name {
			category, _, _ := p.at(row)
			s.points = append(s.points, point{at: slices.Index(c.categories, category), median: *row.Median,
				low: row.Spread[0], up: row.Spread[1], unit: row.Unit})
		}
	}
	if len(s.points) == 0 {
		return
	}
	slices.SortFunc(s.points, func(a, b point) int { return a.at - b.at })
	c.series = append(c.series, s)
}
