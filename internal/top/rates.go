// Package top shows a daemon's status as it moves: rates by interface and verdict,
// in a terminal or as plain text.
//
// It draws with a few sequences that every terminal of today knows (ECMA-48), and
// golang.org/x/term has the terminal's mode and size. tcell and bubbletea would
// cost each process of the program, the daemon too, 1 and 2.6 MB of resident memory.
package top

import (
	"cmp"
	"slices"
	"time"

	"proxyarpd/internal/status"
)

// sample is a status and when it was taken.
type sample struct {
	*status.Status
	at time.Time
}

// counter is a number that grows, and how fast, a second.
type counter struct {
	name  string
	total uint64
	rate  float64
}

// row is an interface's numbers.
type row struct {
	*status.Interface
	role                                             string
	announced, conflicts                             []counter
	in, forwarded, dropped, left, arp, nd            counter
	verdicts, drops, arpVerdicts, ndVerdicts, frames []counter
}

// view is what is shown of two samples.
type view struct {
	now    sample
	rated  bool // there was a sample before, of the same daemon
	total  []counter
	drops  []counter
	arp    []counter
	nd     []counter
	in     counter
	out    counter
	bytes  counter
	lost   counter
	rows   []row
	before time.Duration
}

// since compares two samples; before may have no Status. Rates are 0 where the
// daemon is another one.
func since(before, now sample) *view {
	v := &view{now: now}
	old := before.Status
	if v.rated = old != nil && old.PID == now.PID && old.Uptime < now.Uptime; !v.rated {
		old = &status.Status{}
	}
	v.before = now.at.Sub(before.at)
	r := rater{v.rated, v.before.Seconds()}
	f, g := &now.Forward, &old.Forward
	v.in, v.out = r.count("in", f.PacketsIn, g.PacketsIn), r.count("out", f.PacketsOut, g.PacketsOut)
	v.bytes = r.count("bytes", f.BytesOut, g.BytesOut)
	v.total, v.drops = r.counts(f.Verdicts, g.Verdicts), r.counts(f.Drops, g.Drops)
	v.lost = sum("drops", v.drops)
	v.arp, v.nd = r.counts(now.ARP.Verdicts, old.ARP.Verdicts), r.counts(now.ND.Verdicts, old.ND.Verdicts)
	interfaces := map[int]*status.Interface{}
	for _, all := range [][]status.Interface{old.Workloads, old.Uplinks} {
		for i := range all {
			interfaces[all[i].Index] = &all[i]
		}
	}
	add := func(all []status.Interface, role string) {
		for i := range all {
			was := interfaces[all[i].Index]
			if was == nil {
				was = &status.Interface{}
			}
			v.rows = append(v.rows, r.row(&all[i], was, role))
		}
	}
	add(now.Workloads, "workload")
	add(now.Uplinks, "uplink")
	return v
}

// rater makes rates over so many seconds.
type rater struct {
	rated   bool
	seconds float64
}

func (r rater) count(name string, now, before uint64) counter {
	c := counter{name: name, total: now}
	if r.rated && now > before && r.seconds > 0 {
		c.rate = float64(now-before) / r.seconds
	}
	return c
}

// counts are those of a map, the fastest first.
func (r rater) counts(now, before map[string]uint64) []counter {
	all := make([]counter, 0, len(now))
	for name, n := range now {
		all = append(all, r.count(name, n, before[name]))
	}
	slices.SortFunc(all, func(a, b counter) int {
		return cmp.Or(cmp.Compare(b.rate, a.rate), cmp.Compare(b.total, a.total), cmp.Compare(a.name, b.name))
	})
	return all
}

func sum(name string, all []counter) counter {
	c := counter{name: name}
	for _, o := range all {
		c.total, c.rate = c.total+o.total, c.rate+o.rate
	}
	return c
}

func (r rater) row(i, was *status.Interface, role string) row {
	w := row{Interface: i, role: role}
	w.verdicts, w.drops, w.arpVerdicts = r.counts(i.Verdicts, was.Verdicts), r.counts(i.Drops, was.Drops), r.counts(i.ARPVerdicts, was.ARPVerdicts)
	w.frames = []counter{r.count("received", i.Received, was.Received), r.count("carried", i.Carried, was.Carried), r.count("policed", i.Policed, was.Policed),
		r.count("local", i.Local, was.Local), r.count("punted", i.Punted, was.Punted)}
	w.in = sum("in", w.frames)
	w.left = sum("left", w.frames[3:])
	w.dropped = sum("drops", w.drops)
	w.arp = r.count("arp", i.ARPRequests, was.ARPRequests)
	six, was6 := i.ND(), was.ND()
	w.nd = r.count("nd", six.Solicitations, was6.Solicitations)
	w.ndVerdicts = r.counts(six.Verdicts, was6.Verdicts)
	if six.Solicitations > 0 || len(w.ndVerdicts) > 0 {
		w.ndVerdicts = append([]counter{r.count("solicitations", six.Solicitations, was6.Solicitations)}, w.ndVerdicts...)
	}
	if i.ARPRequests > 0 || len(w.arpVerdicts) > 0 {
		w.arpVerdicts = append([]counter{w.arp}, w.arpVerdicts...)
		w.arpVerdicts[0].name = "requests"
	}
	if e := i.Egress; e != nil {
		old := was.Egress
		if old == nil {
			old = &status.EgressDrops{}
		}
		w.frames = append(w.frames, r.count("dropped at the egress: device", e.Device, old.Device), r.count("dropped at the egress: qdisc", e.Qdisc, old.Qdisc))
	}
	more := func(to []counter, name string, now, before uint64) []counter {
		if now == 0 {
			return to
		}
		return append(to, r.count(name, now, before))
	}
	w.arpVerdicts = more(more(w.arpVerdicts, "answers to address probes", i.ARPDefended, was.ARPDefended), "answers to unrouted", i.ARPUnrouted, was.ARPUnrouted)
	w.arpVerdicts = more(w.arpVerdicts, "askers left out of neighbours", i.Unlearned, was.Unlearned)
	w.ndVerdicts = more(more(w.ndVerdicts, "answers to DAD", six.Defended, was6.Defended), "answers to unrouted", six.Unrouted, was6.Unrouted)
	if a := i.Announced; a != nil {
		old := was.Announced
		if old == nil {
			old = &status.Announced{}
		}
		w.announced = []counter{{name: "addresses held", total: uint64(a.Held)}, {name: "not in full yet", total: uint64(a.Waiting)}, r.count("taken", a.Taken, old.Taken), r.count("released", a.Released, old.Released),
			r.count("announcements", a.Sent, old.Sent), r.count("not sent", a.Failed, old.Failed)}
	}
	w.conflicts = more(more(more(nil, "foreign answers", i.ForeignAnswers, was.ForeignAnswers), "address twice", i.AddressTwice, was.AddressTwice), "uplink claims", i.UplinkClaims, was.UplinkClaims)
	for _, c := range w.verdicts {
		if c.name == "forward" {
			w.forwarded = c
		}
	}
	return w
}

// order is what rows are sorted by.
type order int

const (
	byRate order = iota
	byDrops
	byName
	orders
)

var orderNames = [orders]string{byRate: "rate", byDrops: "drops", byName: "name"}

// sort sorts the rows: the most first.
func (v *view) sort(by order) {
	slices.SortStableFunc(v.rows, func(a, b row) int {
		names := cmp.Compare(a.Name, b.Name)
		switch by {
		case byDrops:
			return cmp.Or(cmp.Compare(b.dropped.rate, a.dropped.rate), cmp.Compare(b.dropped.total, a.dropped.total), names)
		case byRate:
			return cmp.Or(cmp.Compare(b.in.rate, a.in.rate), cmp.Compare(b.arp.rate+b.nd.rate, a.arp.rate+a.nd.rate), cmp.Compare(b.in.total, a.in.total), names)
		}
		return names
	})
}
