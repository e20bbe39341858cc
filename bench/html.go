package bench

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

//go:embed report.html
var pageText string

var page = template.Must(template.New("report").Parse(pageText))

// HTML writes a page that needs nothing else: circumstances, plots and all rows.
func (r *Report) HTML(w io.Writer) error {
	data := struct {
		*Report
		Title         string
		Facts, Detail [][2]string
		Charts        []htmlChart
		Works         []htmlWork
	}{Report: r, Title: "proxyarpd bench, " + r.Circumstances.Began.Format(time.DateOnly), Facts: r.facts(), Detail: r.detail()}
	for _, p := range r.plots() {
		if c, ok := r.chart(p); ok {
			data.Charts = append(data.Charts, htmlChart{c.title, template.HTML(c.svg())})
		}
	}
	data.Works = r.htmlWorks()
	if err := page.Execute(w, data); err != nil {
		return fmt.Errorf("bench: write the page: %w", err)
	}
	return nil
}

type htmlChart struct {
	Title string
	SVG   template.HTML
}

// htmlWork is a table of one kind of work.
type htmlWork struct {
	Name, How string
	Rows      []htmlRow
}

type htmlRow struct {
	First                                                                    bool // of its work
	Work, Contestant, Median, Unit, Spread, Ratio, Ceiling, Lost, Dup, Reord string
	Note                                                                     string
	Failed                                                                   bool
}

func (r *Report) htmlWorks() (works []htmlWork) {
	last := ""
	for _, row := range r.Rows {
		if len(works) == 0 || works[len(works)-1].Name != row.Method {
			works = append(works, htmlWork{Name: row.Method, How: r.Methods[row.Method]})
		}
		h := htmlRow{First: row.Work != last, Work: row.Work, Contestant: row.Contestant, Median: "-", Unit: row.Unit, Note: row.note()}
		last = row.Work
		if row.Median == nil {
			h.Note, h.Failed = "not measured: "+row.Failed, true
		} else {
			h.Median, h.Spread = number(*row.Median), number(row.Spread[0])+" to "+number(row.Spread[1])
			h.Ratio, _, _ = strings.Cut(row.comparison(r.Base), "\t")
			h.Ceiling = row.ceiling()
			counts := strings.Split(row.counts(), "\t")
			h.Lost, h.Dup, h.Reord = counts[0], counts[1], counts[2]
		}
		w := &works[len(works)-1]
		w.Rows = append(w.Rows, h)
	}
	return works
}

// facts are the circumstances that everybody wants to know.
func (r *Report) facts() [][2]string {
	c := r.Circumstances
	machine := fmt.Sprintf("%d CPUs, %s, %d MB", c.CPUs, c.Model, c.MemoryMB)
	if c.Virtual {
		machine += ", a virtual machine"
	}
	return [][2]string{
		{"Machine", machine},
		{"Kernel", "Linux " + c.Kernel},
		{"Program", "proxyarpd " + c.Version + ", " + c.Go},
		{"Topology", c.Topology},
		{"Rounds", fmt.Sprintf("%d, contestants turn by turn; the median counts, whiskers show the lowest and the highest", c.Rounds)},
		{"Trials", c.Trial},
		{"Load before", fmt.Sprintf("%s; others took %.2f CPUs", c.Load, c.Others)},
		{"Took", (time.Duration(c.Took) * time.Second).String()},
	}
}

// detail is the rest of them.
func (r *Report) detail() [][2]string {
	c := r.Circumstances
	all := [][2]string{{"Command", c.Command}, {"Pinning", c.Pinning}, {"CPU governor", orNone(c.Governor)}}
	for what, m := range map[string]map[string]string{"Interface, ": c.Interfaces, "": c.Sysctls, "Program, ": c.Programs} {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			all = append(all, [2]string{what + k, m[k]})
		}
	}
	slices.SortFunc(all, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
	return all
}
