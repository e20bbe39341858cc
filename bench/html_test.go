package bench

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// fullReport has rows for every plot and every line of the tables of docs/BENCH.md.
func fullReport(t *testing.T) *Report {
	t.Helper()
	r := &run{Options: Options{Rounds: 2, Engines: []string{"af_packet", "ebpf"}, Commands: []Command{{`a<b>"&'`, "x"}}},
		report: &Report{Base: Kernel, Methods: map[string]string{}}}
	for _, w := range works() {
		r.report.Methods[w.name] = w.how
		for i, s := range w.plan(r) {
			for j, c := range s.contestants {
				if j == 2 && i == 1 {
					r.report.Fail(s.figures, w.name, c.name(), errors.New("<script>"))
					continue
				}
				for round := range 2 {
					var values []Value
					for k := range s.figures {
						values = append(values, Value{Figure: k, X: float64((1 + k) * (2 + j) * (10 + round)), Tally: &Tally{Sent: 10, Lost: 1}})
					}
					r.report.Add(s.figures, w.name, c.name(), 0, values)
				}
			}
		}
	}
	r.report.Circumstances.Complete = true
	r.report.Finish()
	return r.report
}

func TestHTML(t *testing.T) {
	r := fullReport(t)
	var b bytes.Buffer
	if err := r.HTML(&b); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	for _, bad := range []string{"<script", "src=", "href=", "@import", "url(", "NaN", "Inf", "%!", `a<b>`} {
		if strings.Contains(page, bad) {
			t.Errorf("the page has %q", bad)
		}
	}
	if rest := strings.ReplaceAll(page, "http://www.w3.org/2000/svg", ""); strings.Contains(rest, "://") {
		t.Error("the page refers to something elsewhere")
	}
	if !strings.Contains(page, "prefers-color-scheme: dark") || !strings.Contains(page, "not measured: &lt;script&gt;") {
		t.Error("no dark colours, or no row that says why it is empty")
	}
	charts := regexp.MustCompile(`(?s)<svg.*?</svg>`).FindAllString(page, -1)
	if want := len(r.plots()); len(charts) != want {
		t.Errorf("%d charts of %d plots", len(charts), want)
	}
	for _, c := range charts {
		d := xml.NewDecoder(strings.NewReader(c))
		for {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("not well-formed: %v\n%s", err, c)
			}
		}
	}
	if got := strings.Count(page, "<tr"); got < len(r.Rows) {
		t.Errorf("%d lines for %d rows", got, len(r.Rows))
	}
}

// A report of next to nothing makes a page, too.
func TestHTMLEmpty(t *testing.T) {
	r := &Report{Base: Kernel, Rows: []*Row{{Work: "a", Failed: "no"}}}
	r.Finish()
	var b bytes.Buffer
	if err := r.HTML(&b); err != nil || !strings.Contains(b.String(), "Interrupted") {
		t.Errorf("%v", err)
	}
}

func TestAxes(t *testing.T) {
	for _, high := range []float64{0, 5e-324, 1e-9, 0.3, 1, 7, 99, 100, 101, 12345, 9.99e8} {
		a := linearAxis(high)
		if len(a.ticks) < 3 || len(a.ticks) > 8 || a.ticks[0] != 0 || a.high < high || math.Abs(a.ticks[len(a.ticks)-1]-a.high) > a.high*1e-9 {
			t.Errorf("to %v: %+v", high, a)
		}
		if top, bottom := a.at(a.high), a.at(0); top != marginTop || bottom != marginTop+plotHeight {
			t.Errorf("to %v: drawn from %v to %v", high, top, bottom)
		}
	}
	for _, c := range [][2]float64{{1, 1}, {0.2, 3}, {5, 5000}, {1e-3, 1e6}} {
		a := logAxis(c[0], c[1])
		if a.low > c[0] || a.high < c[1] || len(a.ticks) < 2 || len(a.ticks) > 12 || a.at(0) != marginTop+plotHeight {
			t.Errorf("%v to %v: %+v", c[0], c[1], a)
		}
	}
	for v, want := range map[float64]string{0: "0", 0.2: "0.2", 5000: "5000", 12500: "12.5 k", 2e6: "2 M"} {
		if got := tickLabel(v); got != want {
			t.Errorf("%v is %q, want %q", v, got, want)
		}
	}
}

// The names find room, however many they are.
func TestLegend(t *testing.T) {
	c := chart{categories: []string{"a", "b"}}
	for i := range 12 {
		c.series = append(c.series, series{name: fmt.Sprintf("contestant number %d", i), style: i})
	}
	if c.legendRows() < 2 {
		t.Errorf("%d further rows", c.legendRows())
	}
	c.eachName(func(s series, x, _ int) {
		if x+legendPerLetter*len(s.name) > chartWidth {
			t.Errorf("%s at %d", s.name, x)
		}
	})
}

func TestMarkdown(t *testing.T) {
	r := fullReport(t)
	var b bytes.Buffer
	if err := r.Markdown(&b); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	// Each line of the table is there: the works are named as they are measured.
	for _, l := range slices.Concat(lines, captureLines, recorderLines) {
		if !strings.Contains(text, "| "+l.title+", ") {
			t.Errorf("no line %q", l.title)
		}
	}
	// Each has its rows, and no other's.
	for _, m := range r.Missing() {
		t.Errorf("missing: %s", m)
	}
	r.Rows = slices.DeleteFunc(r.Rows, func(row *Row) bool { return row.Kind == "throughput" && row.Params["frame"] == 512 })
	if m := r.Missing(); len(m) != 1 || !strings.Contains(m[0], "throughput frame=512") {
		t.Errorf("without the rows of 512 bytes these are missing: %q", m)
	}
	columns := 0
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "|") {
			if n := strings.Count(line, "|"); columns != 0 && n != columns {
				t.Errorf("%d columns, not %d: %s", n, columns, line)
			} else {
				columns = n
			}
		} else {
			columns = 0 // of the next table
		}
	}
	for _, want := range []string{"| kernel | kernel-rps | af_packet | ebpf |", "first ping takes", "(1.50 / 1.50 / 1.50)"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}
