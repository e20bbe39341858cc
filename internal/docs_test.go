package internal_test

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"proxyarpd/arpd"
	"proxyarpd/bench"
	"proxyarpd/forward/route"
	"proxyarpd/internal/nstest"
)

// program returns the path of the daemon as `make build` makes it.
func program(t *testing.T) string {
	t.Helper()
	if p := os.Getenv("PROXYARPD_BIN"); p != "" {
		return p
	}
	if testing.Short() {
		nstest.Excused(t, nstest.NotAsked, "builds the program")
	}
	p, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

var buildDir string

var build = sync.OnceValues(func() (string, error) {
	p := filepath.Join(buildDir, "proxyarpd")
	cmd := exec.Command("go", "build", "-trimpath", "-o", p, "proxyarpd/cmd/proxyarpd")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	return p, cmd.Run()
})

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "proxyarpd")
	if err != nil {
		panic(err)
	}
	buildDir = dir
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// The binary runs where there is no C library: FROM scratch, or another one.
func TestStaticBinary(t *testing.T) {
	f, err := elf.Open(program(t))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("the binary has a %v segment: it is not static", p.Type)
		}
	}
}

// No template is executed: what a template names is known when it runs, so that the linker would keep every method of
// every type. cobra has templates, which nobody calls.
func TestNoTemplate(t *testing.T) {
	f, err := elf.Open(program(t))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	symbols, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range symbols {
		if s.Name == "text/template.(*state).evalField" {
			t.Errorf("the binary has %s", s.Name)
		}
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// firstColumn gives the code words that begin the rows of the tables in a part of a file.
func firstColumn(t *testing.T, text, begin, end string) []string {
	t.Helper()
	part := regexp.MustCompile(`(?ms)^` + regexp.QuoteMeta(begin) + `$(.*?)(?:^` + end + `|\z)`).FindStringSubmatch(text)
	if part == nil {
		t.Fatalf("no heading %q", begin)
	}
	var words []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(part[1], -1) {
		words = append(words, m[1])
	}
	return words
}

func sameSet(t *testing.T, what string, documented, inCode []string) {
	t.Helper()
	for _, w := range inCode {
		if !slices.Contains(documented, w) {
			t.Errorf("%s: %s is not documented", what, w)
		}
	}
	for _, w := range documented {
		if !slices.Contains(inCode, w) {
			t.Errorf("%s: %s is documented, but not in the code", what, w)
		}
	}
}

// docs/VERDICTS.md explains each verdict that status can show, and no other, under the heading of its kind.
func TestVerdictsDocumented(t *testing.T) {
	text := read(t, "docs/VERDICTS.md")
	packets := map[route.Kind][]string{}
	for v := range route.NumVerdicts {
		kind := v.Kind()
		if kind != route.KindDrop {
			kind = route.KindForward
		}
		packets[kind] = append(packets[kind], v.String())
	}
	sameSet(t, "packets", firstColumn(t, text, "## Packets", "##"), packets[route.KindForward])
	sameSet(t, "packets dropped", firstColumn(t, text, "### Packets dropped", "##"), packets[route.KindDrop])

	frames := func(notOf func(arpd.Verdict) bool) (others, drops []string) {
		for v := range arpd.NumVerdicts {
			switch {
			case notOf(v):
			case v.Kind() == arpd.KindDrop:
				drops = append(drops, v.String())
			default:
				others = append(others, v.String())
			}
		}
		return others, drops
	}
	others, drops := frames(arpd.Verdict.OnlyND)
	sameSet(t, "ARP", firstColumn(t, text, "## ARP frames", "##"), others)
	sameSet(t, "ARP dropped", firstColumn(t, text, "### ARP frames dropped", "##"), drops)
	others, drops = frames(arpd.Verdict.OnlyARP)
	sameSet(t, "ND", firstColumn(t, text, "## Neighbour discovery", "##"), others)
	sameSet(t, "ND dropped", firstColumn(t, text, "### Solicitations dropped", "##"), drops)
}

// The table of flags in docs/RUN.md is what `run --help` says; the README's has some of them, in the same words of flag
// and default.
func TestFlagsDocumented(t *testing.T) {
	help, err := exec.Command(program(t), "run", "--help").Output()
	if err != nil {
		t.Fatal(err)
	}
	var flags []string
	for _, m := range regexp.MustCompile(`(?m)^ +(?:-[a-z], )?(--[a-z0-9-]+) .* {2}`).FindAllStringSubmatch(string(help), -1) {
		if m[1] != "--help" {
			flags = append(flags, m[1])
		}
	}
	if len(flags) == 0 {
		t.Fatalf("no flag in\n%s", help)
	}
	var documented []string
	full := firstColumn(t, read(t, "docs/RUN.md"), "## Flags of `run`", "##")
	for _, w := range full {
		documented = append(documented, regexp.MustCompile(`^--[a-z0-9-]+`).FindString(w))
	}
	sameSet(t, "flags", documented, flags)
	short := firstColumn(t, read(t, "README.md"), "## Flags", "##")
	for _, w := range short {
		if !slices.Contains(full, w) {
			t.Errorf("README.md has the flag %s, docs/RUN.md has not", w)
		}
	}
	if len(short) < 6 {
		t.Errorf("README.md has the flags %q", short)
	}
}

// The tables of figures in docs/BENCH.md are what docs/bench/report.json says, and have each figure that they are to
// have. The README has some rows of them.
func TestFiguresDocumented(t *testing.T) {
	r, err := bench.ReadReport(strings.NewReader(read(t, "docs/bench/report.json")))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range r.Missing() {
		t.Errorf("docs/bench/report.json: %s", m)
	}
	var want strings.Builder
	if err := r.Markdown(&want); err != nil {
		t.Fatal(err)
	}
	const file, begin, end = "docs/BENCH.md", "<!-- measured -->\n", "<!-- /measured -->"
	_, rest, ok := strings.Cut(read(t, file), begin)
	got, _, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("%s: no figures between %q and %q", file, begin, end)
	}
	if got != want.String() {
		t.Errorf("%s has not the figures of docs/bench/report.json: make bench-table", file)
	}
	excerpt(t, want.String())
}

// excerpt holds the README's few rows to the first of the tables.
func excerpt(t *testing.T, tables string) {
	t.Helper()
	const begin, end = "<!-- measured excerpt -->\n", "<!-- /measured excerpt -->"
	_, rest, ok := strings.Cut(read(t, "README.md"), begin)
	got, _, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("README.md: no figures between %q and %q", begin, end)
	}
	_, first, _ := strings.Cut(tables, "\n\n")
	first, _, _ = strings.Cut(first, "\n\n")
	rows := slices.Collect(strings.Lines(first + "\n"))
	n := 0
	for row := range strings.Lines(got) {
		if n++; !slices.Contains(rows, row) {
			t.Errorf("README.md: not a row of docs/bench/report.json, make bench-table: %s", row)
		}
	}
	if n < 7 { // two are the table's head
		t.Errorf("README.md: %d rows of figures", n)
	}
}

// The README is short, and its first screen says how to see and to test the program.
func TestReadme(t *testing.T) {
	lines := strings.Split(read(t, "README.md"), "\n")
	if len(lines) > 200 {
		t.Errorf("README.md has %d lines, want less than 200", len(lines)-1)
	}
	for _, want := range []string{"make demo", "make test", "Debian 12", "Go 1.", "root"} {
		if !strings.Contains(strings.Join(lines[:24], "\n"), want) {
			t.Errorf("README.md: no %q in the first screen", want)
		}
	}
}

// What the documents link to is there, headings included.
func TestLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^():]+)\)`)
	documents := []string{"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"}
	inDocs, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range inDocs {
		documents = append(documents, "docs/"+filepath.Base(d))
	}
	n := 0
	for _, d := range documents {
		for _, m := range link.FindAllStringSubmatch(read(t, d), -1) {
			n++
			file, heading, _ := strings.Cut(m[1], "#")
			to := d
			if file != "" {
				to = filepath.Join(filepath.Dir(d), file)
			}
			if _, err := os.Stat(filepath.Join(root, to)); err != nil {
				t.Errorf("%s: %v", d, err)
			} else if heading != "" && !slices.Contains(headings(read(t, to)), heading) {
				t.Errorf("%s: %s has no heading %s", d, to, heading)
			}
		}
	}
	if n < 30 {
		t.Errorf("%d links", n)
	}
}

// headings gives the headings of a document as links name them.
func headings(text string) (all []string) {
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
		kept := regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		all = append(all, strings.ReplaceAll(kept, " ", "-"))
	}
	return all
}
