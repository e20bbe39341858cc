package bench

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Text writes the table.
func (r *Report) Text(w io.Writer) error {
	r.heading(w)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "WORK\tCONTESTANT\tMEDIAN\tUNIT\tLOWEST\tHIGHEST\tN\tRATIO\tDIFF\tCEILING\tLOST\tDUP\tREORD\tNOTE")
	work := ""
	for _, row := range r.Rows {
		name := row.Work
		if name == work {
			name = ""
		}
		work = row.Work
		if row.Median == nil {
			fmt.Fprintf(tw, "%s\t%s\t-\t%s\t\t\t0\t\t\t\t\t\t\tnot measured: %s\n", name, row.Contestant, row.Unit, row.Failed)
			continue
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\n", name, row.Contestant, number(*row.Median), row.Unit,
			number(row.Spread[0]), number(row.Spread[1]), len(row.Samples), row.comparison(r.Base), row.ceiling(), row.counts(), row.note())
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(r.Methods)) {
		fmt.Fprintf(w, "\n* %s: %s\n", name, r.Methods[name])
	}
	for _, n := range r.Notes {
		fmt.Fprintf(w, "\n%s\n", n)
	}
	return nil
}

func (r *Report) heading(w io.Writer) {
	c := r.Circumstances
	fmt.Fprintf(w, "%s: %d CPUs (%s), Linux %s, %s, proxyarpd %s, load before %s\n",
		c.Began.Format(time.RFC3339), c.CPUs, c.Model, c.Kernel, c.Go, c.Version, c.Load)
	fmt.Fprintf(w, "%s; %d rounds, contestants turn by turn; trials of %s\n", c.Topology, c.Rounds, c.Trial)
	fmt.Fprintf(w, "median, lowest to highest; ratio and difference of medians to %s\n", r.Base)
	if r.Noisy != "" {
		fmt.Fprintf(w, "NOISY: %s: trust ratios more than figures, and neither much\n", r.Noisy)
	}
	if !c.Complete {
		fmt.Fprintln(w, "INTERRUPTED: not all was measured")
	}
	fmt.Fprintln(w)
}

// comparison is two columns, the ratio and the difference to the base.
func (row *Row) comparison(base string) string {
	if row.Ratio == nil || row.Contestant == cmp.Or(row.Base, base) {
		return "\t"
	}
	ratio := fmt.Sprintf("%.2f", *row.Ratio)
	if *row.Ratio < 0.1 {
		ratio = fmt.Sprintf("%.2g", *row.Ratio)
	}
	sign := ""
	if *row.Difference > 0 {
		sign = "+"
	}
	return ratio + "\t" + sign + number(*row.Difference)
}

func (row *Row) ceiling() string {
	if row.Ceiling == nil || row.Contestant == Ceiling {
		return ""
	}
	return number(*row.Ceiling)
}

func (row *Row) counts() string {
	if row.Sent == 0 {
		return "\t\t"
	}
	lost := fmt.Sprint(row.Loss)
	if row.Loss > 0 {
		lost = fmt.Sprintf("%.2g %%", 100*float64(row.Loss)/float64(row.Sent))
	}
	return fmt.Sprintf("%s\t%d\t%d", lost, row.Duplicated, row.Reordered)
}

func (row *Row) note() string {
	var notes []string
	if row.Noise > noisy {
		notes = append(notes, fmt.Sprintf("NOISY: others took up to %.1f CPU", row.Noise))
	}
	if row.Corrupt > 0 {
		notes = append(notes, fmt.Sprintf("%d CORRUPT", row.Corrupt))
	}
	notes = append(notes, row.Notes...)
	if row.Failed != "" {
		notes = append(notes, "a round failed: "+row.Failed)
	}
	return strings.Join(notes, "; ")
}

// number prints three to four digits that mean something.
func number(x float64) string {
	switch a := math.Abs(x); {
	case a >= 100:
		return fmt.Sprintf("%.0f", x)
	case a >= 10:
		return fmt.Sprintf("%.1f", x)
	default:
		return fmt.Sprintf("%.2f", x)
	}
}
