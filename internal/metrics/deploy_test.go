package metrics

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"proxyarpd/internal/nstest"
)

// Where the files are that go by the metrics.
const (
	rulesFile     = "../../deploy/prometheus/proxyarpd.rules.yml"
	ruleTestsFile = "../../deploy/prometheus/proxyarpd.rules_test.yml"
	dashboardFile = "../../deploy/grafana/proxyarpd.json"
)

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

type rule struct{ Alert, Expr string }

func rules(t *testing.T) (all []rule) {
	t.Helper()
	var file struct{ Groups []struct{ Rules []rule } }
	if err := yaml.Unmarshal(readFile(t, rulesFile), &file); err != nil {
		t.Fatal(err)
	}
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	return all
}

// dashboardQueries are the dashboard's, by panel, with Grafana's variables filled in.
func dashboardQueries(t *testing.T) map[string]string {
	t.Helper()
	var d struct {
		Panels []struct {
			ID      int
			Title   string
			Targets []struct{ Expr string }
		}
		Templating struct {
			List []struct{ Name, Definition string }
		}
	}
	if err := json.Unmarshal(readFile(t, dashboardFile), &d); err != nil {
		t.Fatal(err)
	}
	fill := strings.NewReplacer("$__rate_interval", "5m", "$instance", ".*", "$interface", ".*")
	all := map[string]string{}
	ids := map[int]bool{}
	for _, p := range d.Panels {
		if ids[p.ID] {
			t.Errorf("panel %d is there twice", p.ID)
		}
		ids[p.ID] = true
		for i, q := range p.Targets {
			all[fmt.Sprintf("%s (%d) %d", p.Title, p.ID, i)] = fill.Replace(q.Expr)
		}
	}
	values := regexp.MustCompile(`^label_values\((.*), \w+\)$`)
	for _, v := range d.Templating.List {
		if m := values.FindStringSubmatch(v.Definition); m != nil {
			all["variable "+v.Name] = fill.Replace(m[1])
		}
	}
	if len(all) < 30 {
		t.Fatalf("only %d queries", len(all))
	}
	return all
}

// shownMetrics are the names that a page may have, with their labels.
func shownMetrics(t *testing.T) map[string][]string {
	t.Helper()
	all := map[string][]string{"up": nil}
	for name, f := range parsed(t, collect(aStatus())) {
		var labels []string
		for _, m := range f.Metric {
			for _, l := range m.Label {
				labels = append(labels, l.GetName())
			}
		}
		all[name] = labels
		if f.GetType().String() == "HISTOGRAM" {
			all[name+"_bucket"] = append(labels, "le")
			all[name+"_sum"], all[name+"_count"] = labels, labels
		}
	}
	return all
}

var (
	selectorRE = regexp.MustCompile(`\b(proxyarpd_\w+|process_\w+|up)\b(\{[^}]*\})?`)
	matcherRE  = regexp.MustCompile(`(\w+)\s*(?:=~|!~|!=|=)`)
	groupingRE = regexp.MustCompile(`\b(?:by|without|on|ignoring)\s*\(([^)]*)\)`)
)

// TestDeployedQueries: dashboard and alerts ask for metrics and labels that there are.
func TestDeployedQueries(t *testing.T) {
	metrics := shownMetrics(t)
	target := []string{"instance", "job"}
	queries := dashboardQueries(t)
	for _, r := range rules(t) {
		queries["alert "+r.Alert] = r.Expr
	}
	for where, q := range queries {
		selectors := selectorRE.FindAllStringSubmatch(q, -1)
		if len(selectors) == 0 {
			t.Errorf("%s asks for nothing: %s", where, q)
		}
		var known []string
		for _, s := range selectors {
			labels, there := metrics[s[1]]
			if !there {
				t.Errorf("%s: there is no metric %s", where, s[1])
				continue
			}
			known = append(known, labels...)
			for _, m := range matcherRE.FindAllStringSubmatch(s[2], -1) {
				if !slices.Contains(labels, m[1]) && !slices.Contains(target, m[1]) {
					t.Errorf("%s: %s has no label %s", where, s[1], m[1])
				}
			}
		}
		for _, g := range groupingRE.FindAllStringSubmatch(q, -1) {
			for _, label := range strings.FieldsFunc(g[1], func(r rune) bool { return r == ',' || r == ' ' }) {
				if !slices.Contains(known, label) && !slices.Contains(target, label) {
					t.Errorf("%s: no metric of it has a label %s", where, label)
				}
			}
		}
	}
}

func promtool(t *testing.T, stdin []byte, args ...string) {
	t.Helper()
	nstest.Need(t, "promtool")
	cmd := exec.Command("promtool", args...)
	cmd.Stdin = strings.NewReader(string(stdin))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %v: %v\n%s", args, err, out)
	}
}

// TestPromtool: Prometheus's own tool reads the metrics, the rules and the queries,
// and each alert fires as its test says.
func TestPromtool(t *testing.T) {
	promtool(t, collect(aStatus()), "check", "metrics")
	promtool(t, nil, "check", "rules", rulesFile)
	promtool(t, nil, "test", "rules", ruleTestsFile)
	var asRules struct {
		Groups []struct {
			Name  string
			Rules []map[string]string
		}
	}
	asRules.Groups = make([]struct {
		Name  string
		Rules []map[string]string
	}, 1)
	g := &asRules.Groups[0]
	g.Name = "dashboard"
	for _, q := range dashboardQueries(t) {
		g.Rules = append(g.Rules, map[string]string{"record": fmt.Sprintf("query:%d", len(g.Rules)), "expr": q})
	}
	text, err := yaml.Marshal(&asRules)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "queries.yml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, nil, "check", "rules", file)
}

// TestAlertsTested: each alert has a test in which it fires.
func TestAlertsTested(t *testing.T) {
	tests := string(readFile(t, ruleTestsFile))
	for _, r := range rules(t) {
		if !strings.Contains(tests, `{alertname="`+r.Alert+`"}`) {
			t.Errorf("%s fires in no test", r.Alert)
		}
	}
}
