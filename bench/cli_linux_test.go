package bench

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
	"proxyarpd/internal/nstest"
)

// A wrong command line is exit 2 and one line.
func TestUsage(t *testing.T) {
	bin := labtest.Binary(t)
	dir := t.TempDir()
	old, bad := filepath.Join(dir, "old.json"), filepath.Join(dir, "bad.json")
	must(t, os.WriteFile(bad, []byte(`{"rows":[]}`), 0o644))
	var b bytes.Buffer
	must(t, reportOf(rowOf("a", "kpps", 1, 2)).JSON(&b))
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

// Figures that moved are exit 1, with a table on stdout.
func TestCompareExit(t *testing.T) {
	bin, dir := labtest.Binary(t), t.TempDir()
	for name, r := range map[string]*Report{"old": reportOf(rowOf("a", "kpps", 1, 2)), "new": reportOf(rowOf("a", "kpps", 3, 4))} {
		var b bytes.Buffer
		must(t, r.JSON(&b))
		must(t, os.WriteFile(filepath.Join(dir, name), b.Bytes(), 0o644))
	}
	cmd := exec.Command(bin, "bench", "compare", filepath.Join(dir, "old"), filepath.Join(dir, "new"))
	out, err := cmd.Output()
	if cmd.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), "better") {
		t.Errorf("%v\n%s", err, out)
	}
}

// An interrupt ends the run, prints what there is, and leaves nothing.
func TestInterrupted(t *testing.T) {
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
	r, err := ReadReport(&out)
	if err != nil || len(r.Rows) < 3 || r.Circumstances.Complete {
		t.Errorf("what there is: %v, %+v", err, r)
	}
	if left, _ := filepath.Glob("/run/netns/" + name + "*"); name == "" || len(left) > 0 {
		t.Errorf("lab %q left %v", name, left)
	}
}
