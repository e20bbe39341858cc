package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"proxyarpd/internal/doctor"
)

// TestInForce: where a daemon runs its configuration counts, but for where it listens.
func TestInForce(t *testing.T) {
	t.Parallel()
	s := defaultSettings()
	path, _ := answering(t, `{"status": {"config": {"values": {"gateway": ["169.254.1.1", "fe80::1"], "workload": ["tap*", "!tap0"], "engine": ["none"], "ipv6": ["true"], "punt": [], "control": ["/elsewhere"], "of-a-later-version": ["x"]}}}}`)
	s.Control = path
	if of := inForce(t.Context(), s); fmt.Sprintf("%v %v %v %v", of.Gateways, of.Workloads, of.Engine, of.Uplinks) != "[169.254.1.1 fe80::1] [tap* !tap0] none [auto]" || of.Control != path {
		t.Errorf("%+v", of)
	}
	for _, answer := range []string{`{"status": {"config": {"values": {"gateway": ["x"]}}}}`, `{"status": {"config": {"values": {"engine": ["x"]}}}}`, `{}`} {
		s.Control, _ = answering(t, answer)
		if of := inForce(t.Context(), s); fmt.Sprint(of) != fmt.Sprint(s) {
			t.Errorf("%s: %+v", answer, of)
		}
	}
}

// TestFindings: of one kind a few are printed, and all in JSON.
func TestFindings(t *testing.T) {
	t.Parallel()
	found := []doctor.Finding{{ID: "b", Severity: doctor.Error, What: "w", Cure: "c"}}
	for i := range 20 {
		found = append(found, doctor.Finding{ID: "a", Severity: doctor.Warning, Subject: fmt.Sprintf("cali%d", i), What: "w", Cure: "c"})
	}
	var out bytes.Buffer
	p := &program{out: &out}
	if err := writeFindings(p, "text", found); err != nil {
		t.Fatal(err)
	}
	if text := out.String(); strings.Count(text, "\n") != 10 || !strings.HasPrefix(text, "error b: w. Cure: c\nwarning a: cali0: w. Cure: c\n") || !strings.HasSuffix(text, "warning a: 12 more like these; -o json has all\n") {
		t.Errorf("%s", text)
	}
	out.Reset()
	if err := writeFindings(p, "json", found); err != nil || strings.Count(out.String(), `"id"`) != 21 {
		t.Errorf("%v\n%s", err, out.String())
	}
}
