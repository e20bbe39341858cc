package bench

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"
)

// The contestant that the others are compared with: the kernel in a lab, who is there already between namespaces that
// were found.
const (
	Kernel  = "kernel"
	AsFound = "as found"
	// Ceiling is the contestant that shows what the generator can do.
	Ceiling = "generator"
)

// Figure is one thing that is measured of each contestant.
type Figure struct {
	Work   string // what was done and what of it was measured
	Kind   string // rate, throughput, loss, latency, ...: docs/BENCH.md lists them
	Unit   string
	Params map[string]float64 // what Work says, for programs: frame, flows, senders, percentile, ...
	Base   string             // whom it is compared with; empty: as the others of the report
}

// Value is a figure of one round.
type Value struct {
	Figure int // index of the step's figures
	X      float64
	Skip   string // why there is no X, where that is as it should be
	Note   string
	// Offered, where it is not 0, is how many kpps the generators really sent.
	Offered float64
	Tally   *Tally // of the datagrams of the same trial, where they were counted
}

// Row is one figure of one contestant. Its JSON is described in docs/BENCH.md.
type Row struct {
	Work       string             `json:"work"`
	Contestant string             `json:"contestant"`
	Median     *float64           `json:"median"` // null: not measured, see Failed
	Unit       string             `json:"unit"`
	Spread     *[2]float64        `json:"spread"`     // lowest, highest
	Ratio      *float64           `json:"ratio"`      // of the medians, to the base's; null where there is none
	Difference *float64           `json:"difference"` // of the medians, to the base's, in Unit
	Ceiling    *float64           `json:"ceiling"`    // of rates: the generator's median of the same work
	Samples    []float64          `json:"samples"`
	Offered    []float64          `json:"offered,omitempty"` // kpps that the generators really sent, of each sample
	Sent       uint64             `json:"sent"`              // what the following are of, over all rounds; 0: not counted
	Loss       uint64             `json:"loss"`
	Duplicated uint64             `json:"duplicated"`
	Reordered  uint64             `json:"reordered"`
	Corrupt    uint64             `json:"corrupt"`
	Noise      float64            `json:"noise"` // CPUs that others took, in the worst round
	Kind       string             `json:"kind"`
	Params     map[string]float64 `json:"params,omitempty"`
	Method     string             `json:"method"`         // key of Report.Methods
	Base       string             `json:"base,omitempty"` // the contestant that Ratio is to, where it is not the report's
	Notes      []string           `json:"notes,omitempty"`
	Failed     string             `json:"failed,omitempty"` // why there is no figure, or not of all rounds
}

// Report is a run's outcome.
type Report struct {
	Base          string            `json:"base"` // the contestant that Ratio is to
	Circumstances Circumstances     `json:"circumstances"`
	Noisy         string            `json:"noisy,omitempty"` // what disturbed the run; empty if nothing did
	Rows          []*Row            `json:"rows"`
	Methods       map[string]string `json:"methods"` // how each kind of work was done
	Notes         []string          `json:"notes,omitempty"`
}

// Circumstances is what a figure depends on besides the contestants.
type Circumstances struct {
	Began      time.Time         `json:"began"`
	Took       float64           `json:"took_s"`
	Command    string            `json:"command"`
	Complete   bool              `json:"complete"` // false: interrupted
	Kernel     string            `json:"kernel"`
	CPUs       int               `json:"cpus"`
	Pinning    string            `json:"pinning"`
	Model      string            `json:"cpu_model"`
	Virtual    bool              `json:"virtual_machine"`
	Governor   string            `json:"cpu_governor,omitempty"`
	MemoryMB   int               `json:"memory_mb"`
	Load       string            `json:"load_before"`   // /proc/loadavg
	Others     float64           `json:"others_before"` // CPUs that others took just before
	Go         string            `json:"go"`
	Version    string            `json:"proxyarpd"`
	Programs   map[string]string `json:"programs,omitempty"`
	Rounds     int               `json:"rounds"`
	Family     int               `json:"family,omitempty"` // IP version, 4 or 6; absent: 4
	Trial      string            `json:"trial"`            // and how it differs from RFC 2544's
	Topology   string            `json:"topology"`
	Interfaces map[string]string `json:"interfaces"` // driver, MTU and offloads of those in use
	Sysctls    map[string]string `json:"sysctls"`
}

// row finds or makes the row of a figure; contestants of the same work stand together.
func (r *Report) row(f Figure, method, contestant string) *Row {
	at := len(r.Rows)
	for i, row := range r.Rows {
		if row.Work != f.Work {
			continue
		}
		if row.Contestant == contestant {
			return row
		}
		at = i + 1
	}
	row := &Row{Work: f.Work, Kind: f.Kind, Unit: f.Unit, Params: f.Params, Base: f.Base, Method: method, Contestant: contestant, Samples: []float64{}}
	r.Rows = slices.Insert(r.Rows, at, row)
	return row
}

// Add takes one contestant's figures of a round. A figure that is among none of the values gets a row that says so, but
// for the ceiling, which is one figure's alone.
func (r *Report) Add(figures []Figure, method, contestant string, noise float64, values []Value) {
	given := map[int]bool{}
	for _, v := range values {
		given[v.Figure] = true
		row := r.row(figures[v.Figure], method, contestant)
		row.add(v, noise)
	}
	for i, f := range figures {
		if !given[i] && contestant != Ceiling {
			r.row(f, method, contestant).fail("no value came of it")
		}
	}
}

func (row *Row) add(v Value, noise float64) {
	if v.Note != "" && !slices.Contains(row.Notes, v.Note) {
		row.Notes = append(row.Notes, v.Note)
	}
	switch {
	case v.Skip != "":
		row.fail(v.Skip)
		return
	case math.IsNaN(v.X) || math.IsInf(v.X, 0):
		row.fail("the value is beyond what can be measured")
		return
	}
	row.Samples = append(row.Samples, v.X)
	row.Noise = max(row.Noise, noise)
	if v.Offered > 0 {
		row.Offered = append(row.Offered, v.Offered)
	}
	if v.Tally != nil {
		row.Sent += v.Tally.Sent
		row.Loss += v.Tally.Lost
		row.Duplicated += v.Tally.Duplicated
		row.Reordered += v.Tally.Reordered
		row.Corrupt += v.Tally.Corrupt
	}
}

func (row *Row) fail(why string) { row.Failed = strings.ReplaceAll(why, "\n", "; ") }

// Fail says why a contestant has none of the figures, or not of all rounds.
func (r *Report) Fail(figures []Figure, method, contestant string, err error) {
	for i, f := range figures {
		if i == 0 || contestant != Ceiling {
			r.row(f, method, contestant).fail(err.Error())
		}
	}
}

// Finish works out medians, spreads, ratios and ceilings, and says whether the run was disturbed.
func (r *Report) Finish() {
	base, ceiling := map[string][]float64{}, map[string][]float64{}
	for _, row := range r.Rows {
		switch row.Contestant {
		case cmp.Or(row.Base, r.Base):
			base[row.Work] = row.Samples
		case Ceiling:
			ceiling[row.Work] = row.Samples
		}
	}
	disturbed, worst := 0, 0.0
	for _, row := range r.Rows {
		row.Median, row.Spread, row.Ratio, row.Difference, row.Ceiling = nil, nil, nil, nil, nil
		if row.Noise > noisy {
			disturbed++
			worst = max(worst, row.Noise)
		}
		if len(row.Samples) == 0 {
			continue
		}
		median, spread := Median(row.Samples), Spread(row.Samples)
		row.Median, row.Spread = &median, &spread
		if row.Unit == "kpps" {
			row.Ceiling = finite(Median(ceiling[row.Work]))
		}
		if row.Ratio = finite(Ratio(row.Samples, base[row.Work])); row.Ratio != nil {
			row.Difference = finite(median - Median(base[row.Work]))
		}
	}
	r.Noisy = ""
	if disturbed > 0 {
		r.Noisy = fmt.Sprintf("other processes or the hypervisor took up to %.1f CPUs during %d of %d rows", worst, disturbed, len(r.Rows))
	} else if r.Circumstances.Others > noisy {
		r.Noisy = fmt.Sprintf("other processes took %.1f CPUs before the run", r.Circumstances.Others)
	}
}

func finite(x float64) *float64 {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return nil
	}
	return &x
}

// JSON writes the report with every sample.
func (r *Report) JSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// ReadReport reads what JSON has written.
func ReadReport(from io.Reader) (*Report, error) {
	r := &Report{}
	if err := json.NewDecoder(from).Decode(r); err != nil {
		return nil, fmt.Errorf("not a report of proxyarpd bench: %w", err)
	}
	if r.Base == "" || r.Rows == nil {
		return nil, errors.New("not a report of proxyarpd bench: no base or no rows")
	}
	for i, row := range r.Rows {
		if row == nil || (row.Median == nil) != (row.Spread == nil) {
			return nil, fmt.Errorf("not a report of proxyarpd bench: row %d has no figure, or half of one", i)
		}
	}
	return r, nil
}

// noisy is how much of a CPU others may take before a row says so.
const noisy = 0.10
