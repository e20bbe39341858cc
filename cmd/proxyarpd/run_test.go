package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"proxyarpd/internal/daemon"
)

func parse(args ...string) (daemon.Config, error) {
	cfg := daemon.Default()
	_, err := parseRun(&cfg, args, io.Discard)
	return cfg, err
}

// A list has so many values and no more, whoever gives them, and a file that can
// hold them so many bytes.
func TestBounds(t *testing.T) {
	flags := func(n int) (all []string) {
		for i := range n {
			all = append(all, fmt.Sprintf("--workload=cali%d", i))
		}
		return all
	}
	file := func(text string) []string {
		t.Helper()
		f, err := os.CreateTemp(t.TempDir(), "")
		if err == nil {
			_, err = f.WriteString(text)
		}
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		return []string{"--config", f.Name()}
	}
	list := func(key, value string, n int) string { return key + ":\n" + strings.Repeat("- "+value+"\n", n) }
	for name, c := range map[string]struct {
		args []string
		want string // "": fine
	}{
		"flags":             {flags(maxValues), ""},
		"a flag too many":   {flags(maxValues + 1), "more than 4096 values"},
		"a list":            {file(list("workload", "cali*", maxValues)), ""},
		"a value too many":  {file(list("workload", "cali*", maxValues+1)), "more than 4096 values"},
		"prefixes":          {file(list("punt", "203.0.113.111/32", maxValues) + list("proxy", "203.0.113.111/32", maxValues)), ""},
		"a prefix too many": {file(list("punt", "203.0.113.111/32", maxValues+1)), "more than 4096 values"},
		"a million globs":   {file(list("workload", "cali1", 1e6)), "larger than 524288 bytes"},
		"spaces":            {file(strings.Repeat(" ", maxConfig+1)), "larger than"},
		"without an end":    {[]string{"--config", "/dev/zero"}, "larger than"},
		"deep":              {file(strings.Repeat("[", maxConfig)), "max depth"},
		"a directory":       {[]string{"--config", t.TempDir()}, "is a directory"},
		"none":              {[]string{"--config", t.TempDir() + "/none"}, "no such file"},
	} {
		cfg, err := parse(c.args...)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if c.want == "" && len(cfg.Workloads) != maxValues && len(cfg.Punt) != maxValues {
			t.Errorf("%s: %d globs, %d prefixes", name, len(cfg.Workloads), len(cfg.Punt))
		}
		if usage := usageError(""); strings.Contains(c.want, "than") && !errors.As(err, &usage) {
			t.Errorf("%s: no usage error: %v", name, err)
		}
	}
}
