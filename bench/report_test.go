package bench

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"reflect"
	"strings"
	"testing"
)

func testReport() *Report {
	r := &Report{Base: Kernel, Methods: map[string]string{"w": "how"}}
	figures := []Figure{{Work: "a", Kind: "rate", Unit: "kpps", Params: map[string]float64{"frame": 64}}, {Work: "b", Kind: "rr", Unit: "µs"}}
	r.Add(figures, "w", Kernel, 0, []Value{{X: 100}, {Figure: 1, X: 10}})
	r.Add(figures, "w", "af_packet", 0.5, []Value{{X: 80, Tally: &Tally{Sent: 10, Lost: 2, Reordered: 1}}})
	r.Add(figures, "w", Kernel, 0, []Value{{X: 200}, {Figure: 1, X: 10}})
	r.Add(figures, "w", "af_packet", 0, []Value{{X: 100, Tally: &Tally{Sent: 10, Duplicated: 3}}})
	r.Fail(figures[1:], "w", "af_packet", errors.New("no\nway"))
	r.Add(figures, "w", Ceiling, 0, []Value{{X: 900}})
	r.Finish()
	return r
}

func TestReport(t *testing.T) {
	r := testReport()
	if got := len(r.Rows); got != 5 {
		t.Fatalf("%d rows", got)
	}
	a := r.Rows[1]
	if a.Work != "a" || a.Contestant != "af_packet" || *a.Median != 90 || *a.Spread != [2]float64{80, 100} || *a.Ceiling != 900 ||
		*a.Ratio != 0.6 || *a.Difference != -60 || a.Sent != 20 || a.Loss != 2 || a.Duplicated != 3 || a.Reordered != 1 {
		t.Errorf("row %+v", a)
	}
	var text bytes.Buffer
	if err := r.Text(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"not measured: no; way", "0.60", "-60", "10 %", "NOISY: others took up to 0.5 CPU", "NOISY: other processes", "900"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the table has no %q:\n%s", want, text.String())
		}
	}
}

// What scripts rely on, and that reading gives what was written.
func TestJSON(t *testing.T) {
	r := testReport()
	var buf bytes.Buffer
	if err := r.JSON(&buf); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Rows []map[string]any `json:"rows"`
	}
	if err := json.Unmarshal(buf.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	for i, row := range got.Rows {
		for _, key := range []string{"work", "contestant", "unit", "loss", "duplicated", "reordered", "median", "spread", "ratio"} {
			v, ok := row[key]
			if !ok {
				t.Errorf("row %d has no %q: %v", i, key, row)
			}
			measured := r.Rows[i].Median != nil
			switch v.(type) {
			case string:
				ok = key == "work" || key == "contestant" || key == "unit"
			case float64:
				ok = key == "loss" || key == "duplicated" || key == "reordered" || key == "median" && measured || key == "ratio"
			case []any:
				ok = key == "spread" && measured
			case nil:
				ok = (key == "median" || key == "spread") && !measured || key == "ratio"
			}
			if !ok {
				t.Errorf("row %d: %s is %T", i, key, v)
			}
		}
	}
	back, err := ReadReport(&buf)
	if err != nil || !reflect.DeepEqual(back.Rows, r.Rows) {
		t.Errorf("read back: %v", err)
	}
	for _, bad := range []string{"", "{", "[]", `{"rows":[]}`, `{"base":"kernel"}`, `{"base":"kernel","rows":7}`} {
		if _, err := ReadReport(strings.NewReader(bad)); err == nil {
			t.Errorf("%q is taken for a report", bad)
		}
	}
}

// A value that is no number must not spoil the report, which JSON would refuse.
func TestReportInfinite(t *testing.T) {
	r := &Report{Base: Kernel}
	r.Add([]Figure{{Work: "a"}}, "w", Kernel, 0, []Value{{X: math.Inf(1)}})
	r.Add([]Figure{{Work: "b"}}, "w", Kernel, 0, []Value{{X: math.NaN()}})
	r.Finish()
	if err := r.JSON(&bytes.Buffer{}); err != nil || r.Rows[0].Failed == "" || r.Rows[1].Failed == "" {
		t.Errorf("%v: %+v", err, r.Rows)
	}
}

// Whatever a file has: it is refused, or it can be shown and compared.
func FuzzReadReport(f *testing.F) {
	var b bytes.Buffer
	if err := testReport().JSON(&b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte(`{"base":"kernel","rows":[null]}`))
	f.Add([]byte(`{"base":"a","rows":[{"median":1e308,"spread":[-1,1e308],"kind":"rr","params":{"percentile":1,"udp":1,"hosts":1,"paced":0}},` +
		`{"median":0,"spread":[0,5e-324],"kind":"rr","params":{"percentile":2,"udp":1,"hosts":1,"paced":0}}]}`))
	f.Add([]byte(`{"base":"a","rows":[{"median":1e308,"spread":[-1,1e308],"kind":"tcp","params":{"hosts":1}},{"median":-1,"spread":[0,-1],"kind":"tcp","params":{"hosts":1e300}}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := ReadReport(bytes.NewReader(text))
		if err != nil {
			return
		}
		for _, write := range []func(io.Writer) error{r.Text, r.HTML, r.Markdown, Compare(testReport(), r).Text, Compare(r, testReport()).Text} {
			if err := write(io.Discard); err != nil {
				t.Error(err)
			}
		}
	})
}
