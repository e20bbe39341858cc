package bench

import (
	_ "embed"
	"fmt"
	"html"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// pageHead is the page up to its body's text, with TITLE for the title.
//
//go:embed report.html
var pageHead string

// htmlPage is a page that is being written. A template would be shorter, but with html/template the linker keeps every
// method of every type: 3 MB of the program, of which the daemon would hold one.
type htmlPage struct{ b strings.Builder }

// printf appends markup; what args hold is text, and is escaped unless it is of the type markup.
func (p *htmlPage) printf(format string, args ...any) {
	for i, a := range args {
		if s, ok := a.(string); ok {
			args[i] = html.EscapeString(s)
		}
	}
	fmt.Fprintf(&p.b, format, args...)
}

// markup is HTML as it is.
type markup string

// HTML writes a page that needs nothing else: circumstances, plots and all rows.
func (r *Report) HTML(w io.Writer) error {
	p := new(htmlPage)
	title := "proxyarpd bench, " + r.Circumstances.Began.Format(time.DateOnly)
	p.b.WriteString(strings.Replace(pageHead, "TITLE", html.EscapeString(title), 1))
	p.printf("<h1>%s</h1>\n", title)
	if noisy := r.Noisy; noisy != "" {
		p.printf("<p class=\"alarm\">Noisy: %s. Trust ratios more than figures, and neither much.</p>\n", noisy)
	}
	if !r.Circumstances.Complete {
		p.printf("<p class=\"alarm\">Interrupted: not all was measured.</p>\n")
	}
	p.facts(r.facts())
	p.printf("\n<details><summary>All circumstances</summary><div class=\"scroll\">")
	p.facts(r.detail())
	p.printf("</div></details>\n")
	p.charts(r)
	for row := range r.Rows {
		p.row(r, row)
	}
	if len(r.Rows) > 0 {
		p.printf("</tbody></table></div>\n")
	}
	for _, note := range r.Notes {
		p.printf("<p>%s</p>\n", note)
	}
	p.printf("</main>\n</body>\n</html>\n")
	if _, err := io.WriteString(w, p.b.String()); err != nil {
		return fmt.Errorf("bench: write the page: %w", err)
	}
	return nil
}

// facts appends a table of names and values.
func (p *htmlPage) facts(facts [][2]string) {
	p.printf("<table>")
	for _, f := range facts {
		p.printf("<tr><th>%s</th><td>%s</td></tr>", f[0], f[1])
	}
	p.printf("</table>")
}

func (p *htmlPage) charts(r *Report) {
	head := "<h2>Plots</h2>\n<div class=\"charts\">\n"
	tail := ""
	for _, plot := range r.plots() {
		if c, ok := r.chart(plot); ok {
			p.printf("%s<figure><figcaption>%s</figcaption>\n%s</figure>\n", markup(head), c.title, markup(c.svg()))
			head, tail = "", "</div>\n"
		}
	}
	p.b.WriteString(tail)
}

// row appends row i. Rows of one method are a table, whose head is the method.
func (p *htmlPage) row(r *Report, i int) {
	row := r.Rows[i]
	newMethod := i == 0 || r.Rows[i-1].Method != row.Method
	if newMethod {
		if i > 0 {
			p.printf("</tbody></table></div>\n")
		}
		p.printf("<h2>%s</h2>\n<p class=\"how\">%s</p>\n<div class=\"scroll\"><table>\n", row.Method, r.Methods[row.Method])
		p.printf("<thead><tr><th>work</th><th>contestant</th><th class=\"n\">median</th><th>unit</th><th class=\"n\">lowest to highest</th>"+
			"<th class=\"n\">ratio to %s</th><th class=\"n\">ceiling</th><th class=\"n\">lost</th><th class=\"n\">doubled</th><th class=\"n\">reordered</th>"+
			"<th>note</th></tr></thead>\n<tbody>\n", r.Base)
	}
	if i == 0 || r.Rows[i-1].Work != row.Work {
		p.printf("<tr class=\"first\"><td class=\"work\">%s</td>", row.Work)
	} else {
		p.printf("<tr><td class=\"work\"></td>")
	}
	median, spread, ratio, ceiling, note, class := "-", "", "", "", row.note(), "note"
	counts := []string{"", "", ""} // lost, doubled, reordered
	if row.Median == nil {
		note, class = "not measured: "+row.Failed, "note failed"
	} else {
		median, spread = number(*row.Median), number(row.Spread[0])+" to "+number(row.Spread[1])
		ratio, _, _ = strings.Cut(row.comparison(r.Base), "\t")
		ceiling, counts = row.ceiling(), strings.Split(row.counts(), "\t")
	}
	p.printf("<td class=\"who\">%s</td><td class=\"n\">%s</td><td>%s</td>", row.Contestant, median, row.Unit)
	for _, cell := range []string{spread, ratio, ceiling, counts[0], counts[1], counts[2]} {
		p.printf("<td class=\"n\">%s</td>", cell)
	}
	p.printf("<td class=\"%s\">%s</td></tr>\n", class, note)
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
