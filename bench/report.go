package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"
	"time"
)

// Kernel is the contestant that the others are compared with.
const Kernel = "kernel"

// Value is one measured figure of one round.
type Value struct {
	Work string // what was done and what of it was measured: "udp 60 B, 16 flows, 1 sender"
	Unit string
	X    float64
	// Tally, where it was taken, is of the datagrams of the same round.
	Tally *Tally
}

// Row is one figure of one contestant.
type Row struct {
	Work       string     `json:"work"`
	Contestant string     `json:"contestant"`
	Median     float64    `json:"median"`
	Unit       string     `json:"unit"`
	Spread     [2]float64 `json:"spread"`     // lowest, highest
	Ratio      *float64   `json:"ratio"`      // of the medians, to the kernel's; null where there is none
	Difference *float64   `json:"difference"` // of the medians, to the kernel's, in Unit
	Samples    []float64  `json:"samples"`
	Sent       uint64     `json:"sent"` // what loss, duplicated and reordered are of; 0: not counted
	Loss       uint64     `json:"loss"`
	Duplicated uint64     `json:"duplicated"`
	Reordered  uint64     `json:"reordered"`
	Corrupt    uint64     `json:"corrupt"`
	Noise      float64    `json:"noise"` // CPUs that other processes took, in the worst round
	How        string     `json:"how"`
	Failed     string     `json:"failed,omitempty"` // why there is no figure, or not all rounds
}

// Report is a run's outcome.
type Report struct {
	Circumstances Circumstances `json:"circumstances"`
	Rows          []*Row        `json:"rows"`
	Notes         []string      `json:"notes,omitempty"`
}

// Circumstances is what a figure depends on besides the contestants.
type Circumstances struct {
	Began    time.Time         `json:"began"`
	Command  string            `json:"command"`
	Kernel   string            `json:"kernel"`
	CPUs     int               `json:"cpus"`
	Model    string            `json:"cpu_model"`
	Load     string            `json:"load_before"` // /proc/loadavg
	Go       string            `json:"go"`
	Version  string            `json:"proxyarpd"`
	Versions map[string]string `json:"programs,omitempty"`
	Rounds   int               `json:"rounds"`
}

// row finds or makes the row.
func (r *Report) row(work, contestant string) *Row {
	for _, row := range r.Rows {
		if row.Work == work && row.Contestant == contestant {
			return row
		}
	}
	row := &Row{Work: work, Contestant: contestant}
	// Contestants of the same work stand together.
	at := len(r.Rows)
	for i, other := range r.Rows {
		if other.Work == work {
			at = i + 1
		}
	}
	r.Rows = append(r.Rows[:at], append([]*Row{row}, r.Rows[at:]...)...)
	return row
}

// Add takes a round's figures.
func (r *Report) Add(contestant, how string, noise float64, values ...Value) {
	for _, v := range values {
		row := r.row(v.Work, contestant)
		row.Unit, row.How = v.Unit, how
		row.Samples = append(row.Samples, v.X)
		row.Noise = max(row.Noise, noise)
		if v.Tally != nil {
			row.Sent += v.Tally.Sent
			row.Loss += v.Tally.Lost
			row.Duplicated += v.Tally.Duplicated
			row.Reordered += v.Tally.Reordered
			row.Corrupt += v.Tally.Corrupt
		}
	}
}

// Fail says why a contestant has no figure.
func (r *Report) Fail(work, contestant string, err error) {
	row := r.row(work, contestant)
	row.Failed = strings.ReplaceAll(err.Error(), "\n", "; ")
}

// Finish works out medians, spreads and ratios.
func (r *Report) Finish() {
	base := map[string][]float64{}
	for _, row := range r.Rows {
		if row.Contestant == Kernel {
			base[row.Work] = row.Samples
		}
	}
	for _, row := range r.Rows {
		row.Ratio, row.Difference = nil, nil
		if len(row.Samples) == 0 {
			continue
		}
		row.Median, row.Spread = Median(row.Samples), Spread(row.Samples)
		if q := Ratio(row.Samples, base[row.Work]); !math.IsNaN(q) {
			d := row.Median - Median(base[row.Work])
			row.Ratio, row.Difference = &q, &d
		}
	}
}

// JSON writes the report with every sample.
func (r *Report) JSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// noisy is how much of a CPU others may take before a row says so.
const noisy = 0.10

// Text writes the table.
func (r *Report) Text(w io.Writer) error {
	c := r.Circumstances
	fmt.Fprintf(w, "%s, %d CPUs (%s), Linux %s, %s, load before %s\n%s; %d rounds, interleaved; median, lowest to highest, ratio and difference of medians to the kernel's\n",
		c.Began.Format(time.RFC3339), c.CPUs, c.Model, c.Kernel, c.Go, c.Load, c.Version, c.Rounds)
	for name, v := range c.Versions {
		fmt.Fprintf(w, "%s: %s\n", name, v)
	}
	fmt.Fprintln(w)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "WORK\tCONTESTANT\tMEDIAN\tUNIT\tLOWEST\tHIGHEST\tN\tRATIO\tDIFF\tLOST\tDUP\tREORD\tNOTE")
	work := ""
	for _, row := range r.Rows {
		name := row.Work
		if name == work {
			name = ""
		}
		work = row.Work
		if len(row.Samples) == 0 {
			fmt.Fprintf(tw, "%s\t%s\t-\t\t\t\t0\t\t\t\t\t\tnot measured: %s\n", name, row.Contestant, row.Failed)
			continue
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\n", name, row.Contestant, number(row.Median), row.Unit,
			number(row.Spread[0]), number(row.Spread[1]), len(row.Samples), row.ratio(), row.counts(), row.note())
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	r.hows(w)
	for _, n := range r.Notes {
		fmt.Fprintln(w, n)
	}
	return nil
}

// hows tells once how each kind of figure was made.
func (r *Report) hows(w io.Writer) {
	said := map[string]bool{}
	for _, row := range r.Rows {
		if row.How != "" && !said[row.How] {
			said[row.How] = true
			fmt.Fprintf(w, "\n* %s\n", row.How)
		}
	}
}

// ratio is two columns, the ratio and the difference to the kernel.
func (r *Row) ratio() string {
	if r.Ratio == nil || r.Contestant == Kernel {
		return "\t"
	}
	ratio := fmt.Sprintf("%.2f", *r.Ratio)
	if *r.Ratio < 0.1 {
		ratio = fmt.Sprintf("%.2g", *r.Ratio)
	}
	sign := ""
	if *r.Difference > 0 {
		sign = "+"
	}
	return ratio + "\t" + sign + number(*r.Difference)
}

func (r *Row) counts() string {
	if r.Sent == 0 {
		return "\t\t"
	}
	lost := fmt.Sprint(r.Loss)
	if share := float64(r.Loss) / float64(r.Sent); r.Loss > 0 {
		lost = fmt.Sprintf("%.2g %%", 100*share)
	}
	return fmt.Sprintf("%s\t%d\t%d", lost, r.Duplicated, r.Reordered)
}

func (r *Row) note() string {
	var notes []string
	if r.Noise > noisy {
		notes = append(notes, fmt.Sprintf("NOISY: others took up to %.1f CPU", r.Noise))
	}
	if r.Corrupt > 0 {
		notes = append(notes, fmt.Sprintf("%d corrupt", r.Corrupt))
	}
	if r.Failed != "" {
		notes = append(notes, "a round failed: "+r.Failed)
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
