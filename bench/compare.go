package bench

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

// Comparison is what is different between two reports.
type Comparison struct {
	Circumstances []string // that differ
	Changes       []Change // of all rows that are in either
}

// Change is one row of two reports.
type Change struct {
	Work, Contestant, Unit string
	Old, New               *Row // nil: not in that report
	Verdict                Verdict
}

// Verdict is what became of a figure.
type Verdict string

// The verdicts. A figure has moved if the spreads of the two reports have nothing in common; with one sample each that
// is any difference at all, and so it is said to be uncertain instead.
const (
	Within    Verdict = "within its spread"
	Better    Verdict = "better"
	Worse     Verdict = "worse"
	Uncertain Verdict = "one sample only"
	Appeared  Verdict = "only in the new one"
	Vanished  Verdict = "only in the old one"
	NowFails  Verdict = "not measured any more"
	NowWorks  Verdict = "measured now"
	NeverDid  Verdict = "measured in neither"
	Degraded  Verdict = "loses, doubles, reorders or corrupts more"
)

// lowerIsBetter are the units of which less is better; of the others more is.
var lowerIsBetter = []string{"µs", "ms", "ns", "MB", "%", "segments", "descriptors"}

// Compare compares two reports row by row.
func Compare(old, now *Report) Comparison {
	var c Comparison
	c.Circumstances = differences(old, now)
	seen := map[[2]string]bool{}
	find := func(r *Report, key [2]string) *Row {
		for _, row := range r.Rows {
			if row.Work == key[0] && row.Contestant == key[1] {
				return row
			}
		}
		return nil
	}
	for _, row := range slices.Concat(now.Rows, old.Rows) {
		key := [2]string{row.Work, row.Contestant}
		if seen[key] {
			continue
		}
		seen[key] = true
		ch := Change{Work: row.Work, Contestant: row.Contestant, Unit: row.Unit, Old: find(old, key), New: find(now, key)}
		ch.Verdict = judge(ch.Old, ch.New)
		c.Changes = append(c.Changes, ch)
	}
	return c
}

func judge(old, now *Row) Verdict {
	switch {
	case old == nil:
		return Appeared
	case now == nil:
		return Vanished
	case old.Median == nil && now.Median == nil:
		return NeverDid
	case old.Median == nil:
		return NowWorks
	case now.Median == nil:
		return NowFails
	case degraded(old, now):
		return Degraded
	case old.Spread[1] >= now.Spread[0] && now.Spread[1] >= old.Spread[0]:
		return Within
	case len(old.Samples) < 2 || len(now.Samples) < 2:
		return Uncertain
	case (*now.Median < *old.Median) == slices.Contains(lowerIsBetter, now.Unit):
		return Better
	}
	return Worse
}

// degraded says whether something came twice or corrupt that did not before, or more came late or was lost, tenfold at
// least. What is lost at full load is only what was offered beyond the rate, and a late one of 100,000 is a flow that
// moved to another CPU.
func degraded(old, now *Row) bool {
	share := func(n uint64, r *Row) float64 {
		if r.Sent == 0 {
			return 0
		}
		return float64(n) / float64(r.Sent)
	}
	grown := func(before, after, least float64) bool { return after > least && after > 10*before }
	if !strings.HasPrefix(now.Kind, "rate") && now.Kind != "loss" && grown(share(old.Loss, old), share(now.Loss, now), 1e-3) {
		return true
	}
	if old.Sent == 0 {
		return false
	}
	return old.Duplicated == 0 && now.Duplicated > 0 || old.Corrupt == 0 && now.Corrupt > 0 ||
		grown(share(old.Reordered, old), share(now.Reordered, now), 1e-5)
}

// moved says whether the verdict is one that an exit code is for.
func (v Verdict) moved() bool {
	switch v {
	case Better, Worse, NowFails, Degraded:
		return true
	}
	return false
}

// Moved counts the figures that moved beyond their spread, got lost, or came with more loss, duplicates and the like.
func (c Comparison) Moved() (n int) {
	for _, ch := range c.Changes {
		if ch.Verdict.moved() {
			n++
		}
	}
	return n
}

// differences names what of the circumstances is not the same.
func differences(old, now *Report) (all []string) {
	differ := func(what string, a, b any) {
		if a != b {
			all = append(all, fmt.Sprintf("%s: %v, now %v", what, a, b))
		}
	}
	a, b := old.Circumstances, now.Circumstances
	differ("base", old.Base, now.Base)
	differ("kernel", a.Kernel, b.Kernel)
	differ("CPUs", a.CPUs, b.CPUs)
	differ("CPU", a.Model, b.Model)
	differ("pinning", a.Pinning, b.Pinning)
	differ("governor", a.Governor, b.Governor)
	differ("memory, MB", a.MemoryMB, b.MemoryMB)
	differ("Go", a.Go, b.Go)
	differ("proxyarpd", a.Version, b.Version)
	differ("rounds", a.Rounds, b.Rounds)
	differ("trials", a.Trial, b.Trial)
	differ("topology", a.Topology, b.Topology)
	differ("noise", orNone(old.Noisy), orNone(now.Noisy))
	differ("complete", a.Complete, b.Complete)
	for what, m := range map[string][2]map[string]string{"": {a.Sysctls, b.Sysctls}, "interface ": {a.Interfaces, b.Interfaces}, "program ": {a.Programs, b.Programs}} {
		keys := map[string]bool{}
		for k := range m[0] {
			keys[k] = true
		}
		for k := range m[1] {
			keys[k] = true
		}
		for k := range keys {
			differ(what+k, orNone(m[0][k]), orNone(m[1][k]))
		}
	}
	slices.Sort(all)
	return all
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// Text writes what is different; rows that are within their spread are only counted.
func (c Comparison) Text(w io.Writer) error {
	for _, d := range c.Circumstances {
		fmt.Fprintf(w, "circumstances differ: %s\n", d)
	}
	counts := map[Verdict]int{}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "WORK\tCONTESTANT\tOLD\tNEW\tUNIT\tCHANGE\tVERDICT")
	for _, ch := range c.Changes {
		counts[ch.Verdict]++
		if ch.Verdict == Within || ch.Verdict == NeverDid {
			continue
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", ch.Work, ch.Contestant, ch.Old.withSpread(), ch.New.withSpread(), ch.Unit, ch.percent(), ch.Verdict)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	for _, v := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintf(w, "%d %s\n", counts[v], v)
	}
	return nil
}

// withSpread is the median with its spread.
func (row *Row) withSpread() string {
	if row == nil || row.Median == nil {
		return "-"
	}
	return fmt.Sprintf("%s (%s-%s)", number(*row.Median), number(row.Spread[0]), number(row.Spread[1]))
}

func (c Change) percent() string {
	if c.Old == nil || c.New == nil || c.Old.Median == nil || c.New.Median == nil || *c.Old.Median == 0 {
		return ""
	}
	return fmt.Sprintf("%+.0f %%", 100*(*c.New.Median / *c.Old.Median - 1))
}
