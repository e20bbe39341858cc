package bench

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
)

// chart is a plot over categories: a line with points for each series, or bars side by side. Whiskers show the spread.
type chart struct {
	title, x, y string
	categories  []string
	series      []series
	log         bool // the y axis
	bars        bool
	apart       string // a category that no line leads to
}

// series is one contestant. Its style is that of its number, the same in all charts of a page.
type series struct {
	name   string
	style  int // -1: the ceiling's
	points []point
}

// point is a figure at a category.
type point struct {
	at              int
	median, low, up float64
	unit            string
}

// The plot's size and margins, in the units of its viewBox; text is 12 units high.
const (
	chartWidth, chartHeight    = 640, 340
	marginLeft, marginRight    = 62, 14
	marginTop, marginBottom    = 40, 46
	plotWidth, plotHeight      = chartWidth - marginLeft - marginRight, chartHeight - marginTop - marginBottom
	styles                     = 7 // that the page's style sheet has
	legendGap, legendPerLetter = 34, 7
	legendRow                  = 18
)

// axis maps values to heights.
type axis struct {
	low, high float64
	log       bool
	ticks     []float64
}

// at is where a value stands, from the top of the image.
func (a axis) at(v float64) float64 {
	low, high := a.low, a.high
	if a.log {
		v, low, high = math.Log10(max(v, a.low)), math.Log10(low), math.Log10(high)
	}
	return marginTop + plotHeight*(1-(v-low)/(high-low))
}

// The ends of what an axis can show, so that no report, wherever it is from, makes one without end.
const least, most = 1e-12, 1e15

// linearAxis begins at 0 and has four to six ticks at 1, 2 or 5 times a power of ten.
func linearAxis(high float64) axis {
	if high <= 0 {
		high = 1
	}
	high = min(max(high, least), most)
	step := math.Pow(10, math.Floor(math.Log10(high/5)))
	for _, f := range []float64{1, 2, 5, 10} {
		if high/(step*f) <= 6 {
			step *= f
			break
		}
	}
	a := axis{high: step * math.Ceil(high/step)}
	for i := range int(math.Round(a.high/step)) + 1 {
		a.ticks = append(a.ticks, step*float64(i))
	}
	return a
}

// logAxis spans whole decades; where these are few it has ticks at 2 and 5, too.
func logAxis(low, high float64) axis {
	low, high = min(max(low, least), most), min(max(high, least), most)
	first, last := math.Floor(math.Log10(low)), math.Ceil(math.Log10(high))
	if last == first {
		last++
	}
	a := axis{low: math.Pow(10, first), high: math.Pow(10, last), log: true}
	for d := first; d <= last; d++ {
		for _, f := range []float64{1, 2, 5} {
			if v := f * math.Pow(10, d); v <= a.high*1.0001 && (f == 1 || last-first <= 2) {
				a.ticks = append(a.ticks, v)
			}
		}
	}
	return a
}

func (c chart) axis() axis {
	low, high := math.Inf(1), 0.0
	for _, s := range c.series {
		for _, p := range s.points {
			high = max(high, p.up)
			if p.low > 0 {
				low = min(low, p.low)
			}
		}
	}
	if c.log && high > 0 {
		return logAxis(min(low, high), high)
	}
	return linearAxis(high)
}

// tickLabel is a number as short as it can be.
func tickLabel(v float64) string {
	switch {
	case v >= 1e6:
		return strings.TrimSuffix(fmt.Sprintf("%.1f", v/1e6), ".0") + " M"
	case v >= 1e4:
		return strings.TrimSuffix(fmt.Sprintf("%.1f", v/1e3), ".0") + " k"
	}
	return fmt.Sprintf("%g", math.Round(v*1e6)/1e6)
}

// svg draws the chart. All text in it is escaped.
func (c chart) svg() string {
	var b strings.Builder
	a := c.axis()
	more := legendRow * c.legendRows() // above what one row takes
	fmt.Fprintf(&b, `<svg viewBox="0 %d %d %d" role="img" aria-label="%s" xmlns="http://www.w3.org/2000/svg">`+"\n",
		-more, chartWidth, chartHeight+more, html.EscapeString(c.title))
	for _, t := range a.ticks {
		y := a.at(t)
		fmt.Fprintf(&b, `<line class="grid" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/>`, marginLeft, chartWidth-marginRight, y, y)
		fmt.Fprintf(&b, `<text class="tick" x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n", marginLeft-6, y+4, tickLabel(t))
	}
	fmt.Fprintf(&b, `<line class="axis" x1="%d" x2="%d" y1="%d" y2="%d"/>`+"\n", marginLeft, chartWidth-marginRight, marginTop+plotHeight, marginTop+plotHeight)
	for i, name := range c.categories {
		fmt.Fprintf(&b, `<text class="tick" x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n", c.center(i), marginTop+plotHeight+17, html.EscapeString(name))
	}
	fmt.Fprintf(&b, `<text class="label" x="%d" y="%d" text-anchor="middle">%s</text>`, marginLeft+plotWidth/2, chartHeight-6, html.EscapeString(c.x))
	middle := marginTop + plotHeight/2
	fmt.Fprintf(&b, `<text class="label" transform="rotate(-90 14 %d)" x="14" y="%d" text-anchor="middle">%s</text>`+"\n", middle, middle, html.EscapeString(c.y))
	c.legend(&b)
	for i, s := range c.series {
		c.draw(&b, a, s, i)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// center is the middle of a category's share of the width.
func (c chart) center(i int) float64 {
	return marginLeft + plotWidth*(float64(i)+0.5)/float64(len(c.categories))
}

func (s series) class() string {
	if s.style < 0 {
		return "s-ceiling"
	}
	return fmt.Sprintf("s%d", s.style%styles)
}

// legendRows is how many rows the names need besides the first.
func (c chart) legendRows() (rows int) {
	c.eachName(func(_ series, _, row int) { rows = row })
	return rows
}

// eachName says where the names stand: side by side, in as many rows as it takes.
func (c chart) eachName(do func(s series, x, row int)) {
	x, row := marginLeft, 0
	for _, s := range c.series {
		width := legendGap + legendPerLetter*len([]rune(s.name))
		if x+width > chartWidth && x > marginLeft {
			x, row = marginLeft, row+1
		}
		do(s, x, row)
		x += width
	}
}

func (c chart) legend(b *strings.Builder) {
	above := c.legendRows()
	c.eachName(func(s series, x, row int) {
		y := 15 - legendRow*(above-row)
		fmt.Fprintf(b, `<g class="%s">`, s.class())
		if c.bars {
			fmt.Fprintf(b, `<rect class="bar" x="%d" y="%d" width="14" height="12"/>`, x, y-6)
		} else {
			fmt.Fprintf(b, `<line class="line" x1="%d" x2="%d" y1="%d" y2="%d"/>`, x-2, x+16, y, y)
			s.marker(b, float64(x+7), float64(y))
		}
		fmt.Fprintf(b, `</g><text class="legend" x="%d" y="%d">%s</text>`+"\n", x+20, y+4, html.EscapeString(s.name))
	})
}

// marker differs by style, so that colours are not all there is to tell series apart.
func (s series) marker(b *strings.Builder, x, y float64) {
	switch s.style {
	case 0:
		fmt.Fprintf(b, `<circle class="mark" cx="%.1f" cy="%.1f" r="4"/>`, x, y)
	case 1:
		fmt.Fprintf(b, `<rect class="mark" x="%.1f" y="%.1f" width="7" height="7"/>`, x-3.5, y-3.5)
	case 2:
		fmt.Fprintf(b, `<path class="mark" d="M%.1f %.1fl5 8.5h-10z"/>`, x, y-5)
	case 3:
		fmt.Fprintf(b, `<path class="mark" d="M%.1f %.1fl5 5l-5 5l-5 -5z"/>`, x, y-5)
	case -1:
		fmt.Fprintf(b, `<path class="line" d="M%.1f %.1fh8"/>`, x-4, y)
	default:
		fmt.Fprintf(b, `<path class="mark" d="M%.1f %.1fl5 -8.5h-10z"/>`, x, y+5)
	}
}

func (c chart) draw(b *strings.Builder, a axis, s series, n int) {
	const gap = 0.8 // of a category's share that its bars take
	share := plotWidth / float64(len(c.categories))
	width := share * gap / float64(len(c.series))
	// Whiskers of the same category stand side by side.
	shift := (float64(n) - float64(len(c.series)-1)/2) * min(8, share/float64(len(c.series)+1))
	if c.bars {
		shift = (float64(n) - float64(len(c.series)-1)/2) * width
	}
	fmt.Fprintf(b, `<g class="%s">`, s.class())
	if !c.bars {
		var path []string
		for _, p := range s.points {
			if c.categories[p.at] != c.apart {
				path = append(path, fmt.Sprintf("%.1f,%.1f", c.center(p.at)+shift, a.at(p.median)))
			}
		}
		fmt.Fprintf(b, `<polyline class="line" points="%s"/>`, strings.Join(path, " "))
	}
	for _, p := range s.points {
		x, y := c.center(p.at)+shift, a.at(p.median)
		fmt.Fprintf(b, `<g><title>%s, %s: %s %s (%s to %s)</title>`, html.EscapeString(s.name), html.EscapeString(c.categories[p.at]),
			number(p.median), html.EscapeString(p.unit), number(p.low), number(p.up))
		if c.bars {
			fmt.Fprintf(b, `<rect class="bar" x="%.1f" y="%.1f" width="%.1f" height="%.1f"/>`, x-width/2, y, max(width-2, 1), max(marginTop+plotHeight-y, 0))
			fmt.Fprintf(b, `<line class="over" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/>`, x-1, x-1, a.at(p.low), a.at(p.up))
		} else {
			fmt.Fprintf(b, `<line class="whisker" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/>`, x, x, a.at(p.low), a.at(p.up))
			s.marker(b, x, y)
		}
		b.WriteString("</g>")
	}
	b.WriteString("</g>\n")
}

// sortedCategories are the names by their order.
func sortedCategories(order map[string]float64) []string {
	names := make([]string, 0, len(order))
	for name := range order {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		if d := order[a] - order[b]; d != 0 {
			return int(math.Copysign(1, d))
		}
		return strings.Compare(a, b)
	})
	return names
}
