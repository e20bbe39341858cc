package bench

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestReport(t *testing.T) {
	r := &Report{}
	r.Add(Kernel, "how", 0, Value{Work: "a", Unit: "kpps", X: 100}, Value{Work: "b", Unit: "µs", X: 10})
	r.Add("af_packet", "how", 0.5, Value{Work: "a", Unit: "kpps", X: 80, Tally: &Tally{Sent: 10, Lost: 2, Reordered: 1}})
	r.Add(Kernel, "how", 0, Value{Work: "a", Unit: "kpps", X: 200})
	r.Add("af_packet", "how", 0, Value{Work: "a", Unit: "kpps", X: 100, Tally: &Tally{Sent: 10, Duplicated: 3}})
	r.Fail("b", "af_packet", errors.New("no\nway"))
	r.Finish()
	if got := len(r.Rows); got != 4 {
		t.Fatalf("%d rows", got)
	}
	a := r.Rows[1]
	if a.Work != "a" || a.Contestant != "af_packet" || a.Median != 90 || a.Spread != [2]float64{80, 100} ||
		*a.Ratio != 0.6 || *a.Difference != -60 || a.Sent != 20 || a.Loss != 2 || a.Duplicated != 3 || a.Reordered != 1 {
		t.Errorf("row %+v", a)
	}
	var text bytes.Buffer
	if err := r.Text(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"not measured: no; way", "0.60", "-60", "10 %", "NOISY: others took up to 0.5 CPU"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the table has no %q:\n%s", want, text.String())
		}
	}
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
	for _, key := range []string{"work", "contestant", "median", "unit", "spread", "ratio", "loss", "duplicated", "reordered"} {
		if _, ok := got.Rows[1][key]; !ok {
			t.Errorf("a row has no %q: %v", key, got.Rows[1])
		}
	}
}
