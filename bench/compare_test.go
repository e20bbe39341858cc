package bench

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

func rowOf(work, unit string, samples ...float64) *Row {
	return &Row{Work: work, Contestant: Kernel, Unit: unit, Samples: samples}
}

func reportOf(rows ...*Row) *Report {
	r := &Report{Base: Kernel, Rows: rows}
	r.Finish()
	return r
}

func TestCompare(t *testing.T) {
	with := func(r *Row, sent, lost, duplicated uint64) *Row {
		r.Sent, r.Loss, r.Duplicated = sent, lost, duplicated
		return r
	}
	full := func(r *Row) *Row {
		r.Kind = "rate"
		return r
	}
	for _, c := range []struct {
		name     string
		old, now *Row
		want     Verdict
		moved    bool
	}{
		{"the same", rowOf("a", "kpps", 1, 2, 3), rowOf("a", "kpps", 1, 2, 3), Within, false},
		{"spreads overlap", rowOf("a", "kpps", 1, 2, 3), rowOf("a", "kpps", 3, 4, 5), Within, false},
		{"faster", rowOf("a", "kpps", 1, 2, 3), rowOf("a", "kpps", 4, 5, 6), Better, true},
		{"slower", rowOf("a", "kpps", 4, 5, 6), rowOf("a", "kpps", 1, 2, 3), Worse, true},
		{"less time", rowOf("a", "µs", 4, 5, 6), rowOf("a", "µs", 1, 2, 3), Better, true},
		{"more time", rowOf("a", "ns", 1, 2, 3), rowOf("a", "ns", 4, 5, 6), Worse, true},
		{"one sample", rowOf("a", "kpps", 4), rowOf("a", "kpps", 1, 2, 3), Uncertain, false},
		{"new", nil, rowOf("a", "kpps", 1), Appeared, false},
		{"gone", rowOf("a", "kpps", 1), nil, Vanished, false},
		{"fails", rowOf("a", "kpps", 1), rowOf("a", "kpps"), NowFails, true},
		{"works", rowOf("a", "kpps"), rowOf("a", "kpps", 1), NowWorks, false},
		{"never did", rowOf("a", "kpps"), rowOf("a", "kpps"), NeverDid, false},
		{"doubles", with(rowOf("a", "kpps", 1, 2), 100, 0, 0), with(rowOf("a", "kpps", 1, 2), 100, 0, 1), Degraded, true},
		{"loses", with(rowOf("a", "kpps", 1, 2), 1000, 0, 0), with(rowOf("a", "kpps", 1, 2), 1000, 2, 0), Degraded, true},
		{"loses at full load", full(with(rowOf("a", "kpps", 1, 2), 1000, 0, 0)), full(with(rowOf("a", "kpps", 1, 2), 1000, 200, 0)), Within, false},
		{"loses as before", with(rowOf("a", "kpps", 1, 2), 1000, 200, 0), with(rowOf("a", "kpps", 1, 2), 1000, 300, 0), Within, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var old, now []*Row
			if c.old != nil {
				old = append(old, c.old)
			}
			if c.now != nil {
				now = append(now, c.now)
			}
			got := Compare(reportOf(old...), reportOf(now...))
			if len(got.Changes) != 1 || got.Changes[0].Verdict != c.want || (got.Moved() > 0) != c.moved {
				t.Errorf("%+v, %d moved; want %s", got.Changes, got.Moved(), c.want)
			}
			if err := got.Text(&bytes.Buffer{}); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestCompareCircumstances(t *testing.T) {
	old, now := reportOf(), reportOf()
	old.Circumstances = Circumstances{Kernel: "6.1", CPUs: 2, Sysctls: map[string]string{"a": "1", "b": "2"}}
	now.Circumstances = Circumstances{Kernel: "6.6", CPUs: 2, Sysctls: map[string]string{"a": "1"}}
	got := Compare(old, now)
	if want := []string{"b: 2, now none", "kernel: 6.1, now 6.6"}; !slices.Equal(got.Circumstances, want) {
		t.Errorf("%q, want %q", got.Circumstances, want)
	}
	var text bytes.Buffer
	if err := got.Text(&text); err != nil || !strings.Contains(text.String(), "circumstances differ: kernel: 6.1, now 6.6\n") {
		t.Errorf("%v\n%s", err, text.String())
	}
}
