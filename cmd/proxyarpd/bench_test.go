package main

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"proxyarpd/bench"
	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
	"proxyarpd/internal/nstest"
)

// reportOf is a report with one figure of these samples.
func reportOf(samples ...float64) *bench.Report {
	r := &bench.Report{Base: bench.Kernel, Rows: []*bench.Row{{Work: "a", Contestant: bench.Kernel, Unit: "kpps", Samples: samples}}}
	r.Finish()
	return r
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A wrong command line is exit 2 and one line.
func TestBenchUsage(t *testing.T) {
	bin := labtest.Binary(t)
	dir := t.TempDir()
	old, bad := filepath.Join(dir, "old.json"), filepath.Join(dir, "bad.json")
	must(t, os.WriteFile(bad, []byte(`{"rows":[]}`), 0o644))
	var b bytes.Buffer
	must(t, reportOf(1, 2).JSON(&b))
	must(t, os.WriteFile(old, b.Bytes(), 0o644))
	for _, c := range []struct {
		args string
		code int
	}{
		{"--nonsense", 2}, {"nonsense", 2}, {"-o xml", 2}, {"--only nonsense", 2}, {"--rounds 0", 2}, {"--trial 1ms", 2},
		{"--trial 0s", 2}, {"--trial 1h", 2}, {"--calm -1s", 2}, {"--contestant x", 2}, {"--contestant =x", 2}, {"--contestant kernel=x", 2},
		{"--contestant a=x --contestant a=y", 2}, {"--from a", 2}, {"--to a", 2}, {"--host a", 2}, {"--to-address 10.0.0.1", 2},
		{"--from a --to b --to-address x", 2}, {"--from a --to b --to-address ::1", 2}, {"--from a --to b --contestant m=x", 2},
		{"--bin /no/such/file", 1}, {"--html /no/such/dir/page.html", 1}, {"compare", 2}, {"compare a", 2}, {"compare a b c", 2}, {"compare --x a b", 2},
		{"compare /no/such /file", 1}, {"compare " + bad + " " + old, 1}, {"compare " + old + " " + old, 0},
		{"html", 2}, {"html " + bad, 1}, {"html " + old, 0}, {"table " + old, 0}, {"table a b", 2},
		{"--help", 0}, {"compare --help", 0},
	} {
		var out, errw bytes.Buffer
		cmd := exec.Command(bin, append([]string{"bench"}, strings.Fields(c.args)...)...)
		cmd.Stdout, cmd.Stderr = &out, &errw
		_ = cmd.Run()
		if got := cmd.ProcessState.ExitCode(); got != c.code {
			t.Errorf("bench %s: exit %d, want %d: %s", c.args, got, c.code, errw.String())
		}
		line := errw.String()
		oneLine := strings.HasPrefix(line, "proxyarpd: ") && strings.Count(line, "\n") == 1
		if c.code != 0 && (!oneLine || out.Len() > 0) || c.code == 0 && (line != "" || out.Len() == 0) {
			t.Errorf("bench %s: stdout %q, stderr %q", c.args, out.String(), line)
		}
	}
}

// What the flags of bench ask for.
func TestBenchOptions(t *testing.T) {
	for line, want := range map[string]func(o bench.Options) bool{
		"": func(o bench.Options) bool {
			return o.Rounds == 3 && o.Calm == 20*time.Second && !o.Quick && o.Between == nil && o.Log != nil
		},
		"--quick -q":            func(o bench.Options) bool { return o.Calm == 0 && o.Quick && o.Log == nil },
		"--calm 1s":             func(o bench.Options) bool { return o.Calm == time.Second },
		"--calm 0":              func(o bench.Options) bool { return o.Calm == 0 },
		"--quick --calm 3s":     func(o bench.Options) bool { return o.Calm == 3*time.Second },
		"--only rate,arp":       func(o bench.Options) bool { return slices.Equal(o.Only, []string{"rate", "arp"}) },
		"--run-args=--mac=x":    func(o bench.Options) bool { return slices.Equal(o.Args, []string{"--mac=x"}) },
		"--rounds 5 --trial 1s": func(o bench.Options) bool { return o.Rounds == 5 && o.Trial == time.Second },
		"--contestant a=x=y": func(o bench.Options) bool {
			return len(o.Commands) == 1 && o.Commands[0] == bench.Command{Name: "a", Line: "x=y"}
		},
		"--bin /bin/sh":           func(o bench.Options) bool { return o.Binary == "/bin/sh" },
		"-o json --from a --to b": func(o bench.Options) bool { return o.Between != nil && o.Between.From == "a" && o.Between.To == "b" },
	} {
		c := call(t, append([]string{"bench"}, strings.Fields(line)...)...)
		if c.code != 0 || c.measured == nil || !want(*c.measured) || !slices.Equal(c.measured.Engines, []string{"af_packet", "ebpf"}) || c.out == "" {
			t.Errorf("bench %s: exit %d: %s%+v", line, c.code, c.errw, c.measured)
		}
	}
}

// Figures that moved are exit 1, with a table on stdout; and which of the two is the old one counts.
func TestBenchCompareExit(t *testing.T) {
	dir := t.TempDir()
	old, now := filepath.Join(dir, "old"), filepath.Join(dir, "new")
	for name, r := range map[string]*bench.Report{old: reportOf(1, 2), now: reportOf(3, 4)} {
		var b bytes.Buffer
		must(t, r.JSON(&b))
		must(t, os.WriteFile(name, b.Bytes(), 0o644))
	}
	for _, c := range []struct{ a, b, says string }{{old, now, "better"}, {now, old, "worse"}} {
		got := call(t, "bench", "compare", c.a, c.b)
		if got.code != 1 || !strings.Contains(got.out, c.says) || got.errw != "proxyarpd: bench compare: 1 figures moved beyond their spread\n" {
			t.Errorf("exit %d: %s\n%s", got.code, got.errw, got.out)
		}
	}
}

// An interrupt ends the run, prints what there is, and leaves nothing.
func TestBenchInterrupted(t *testing.T) {
	if missing := lab.MissingCaps(); len(missing) > 0 {
		nstest.Skip(t, "the lab needs %v", missing)
	}
	var out bytes.Buffer
	cmd := exec.Command(labtest.Binary(t), "bench", "--only", "rate", "--calm", "0", "--trial", "300ms", "-o", "json")
	cmd.Stdout = &out
	progress, err := cmd.StderrPipe()
	must(t, err)
	must(t, cmd.Start())
	name, lines := "", bufio.NewScanner(progress)
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), "lab "); ok {
			name, _, _ = strings.Cut(rest, " ")
		}
		if strings.Contains(lines.Text(), "af_packet, round 1") {
			break
		}
	}
	must(t, cmd.Process.Signal(syscall.SIGINT))
	go io.Copy(io.Discard, progress)
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 1 {
		t.Errorf("exit %d, want 1", code)
	}
	r, err := bench.ReadReport(&out)
	if err != nil || len(r.Rows) < 3 || r.Circumstances.Complete {
		t.Errorf("what there is: %v, %+v", err, r)
	}
	if left, _ := filepath.Glob("/run/netns/" + name + "*"); name == "" || len(left) > 0 {
		t.Errorf("lab %q left %v", name, left)
	}
}
