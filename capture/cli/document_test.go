package cli

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"proxyarpd/internal/nstest"
)

// optionRE finds options as they are written between backquotes: -i, --count, alone or with an argument.
var optionRE = regexp.MustCompile(`(--?)([A-Za-z#][a-z-]*)`)

// inDocument are tcpdump's options that docs/CAPTURE.md speaks of, those that it says are there and those that it says are
// refused, as they are typed.
func inDocument(t *testing.T) (there, refused []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "CAPTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?s)\nOf tcpdump's options there are (.*?)\n\n\| tcpdump \| here \|\n\|---\|---\|\n(.*?)\n\n`).FindStringSubmatch(string(text))
	if m == nil {
		t.Fatal("docs/CAPTURE.md does not list tcpdump's options")
	}
	list, _, ok := strings.Cut(strings.Join(strings.Fields(m[1]), " "), "with tcpdump's meaning")
	if !ok {
		t.Fatal("docs/CAPTURE.md: the list of options has no end")
	}
	there = optionRE.FindAllString(list, -1)
	for row := range strings.Lines(m[2] + "\n") {
		cells := strings.SplitN(row, "|", 4)
		name := optionRE.FindString(cells[1])
		if strings.HasPrefix(strings.TrimSpace(cells[2]), "refused: ") {
			refused = append(refused, name)
		} else {
			there = append(there, name)
		}
	}
	return there, refused
}

// TestDocumentedOptions: docs/CAPTURE.md lists each of tcpdump's options that there is, and each that is refused, and no other.
func TestDocumentedOptions(t *testing.T) {
	there, refused := inDocument(t)
	o := &options{}
	f := o.flags("")
	known := func(typed string) bool {
		name, long := strings.CutPrefix(typed, "--")
		if long {
			return f.Lookup(name) != nil || name == "help" // of every command
		}
		return f.ShorthandLookup(typed[1:]) != nil || typed == "-h"
	}
	for _, typed := range slices.Concat(there, refused) {
		if !known(typed) {
			t.Errorf("%s is in docs/CAPTURE.md, and unknown", typed)
		}
	}
	for _, r := range refusals {
		if !slices.Contains(refused, "-"+r.letter) {
			t.Errorf("-%s is refused, and docs/CAPTURE.md does not say so", r.letter)
		}
	}
	if len(refused) != len(refusals) {
		t.Errorf("docs/CAPTURE.md has %v refused", refused)
	}
	f.VisitAll(func(flag *pflag.Flag) {
		if typed := "-" + flag.Shorthand; flag.Shorthand != "" && !slices.Contains(there, typed) && !slices.Contains(refused, typed) {
			t.Errorf("docs/CAPTURE.md does not list %s", typed)
		}
	})
	for _, typed := range refused {
		args := []string{typed, "x"}
		if _, err := parse(args, "", io.Discard); err == nil || !strings.HasPrefix(err.Error(), typed+" is refused: ") {
			t.Errorf("%s: %v", typed, err)
		}
	}
}

// TestTcpdumpOptions: each option that the installed tcpdump's help names is in docs/CAPTURE.md.
func TestTcpdumpOptions(t *testing.T) {
	help, err := exec.Command("tcpdump", "--help").CombinedOutput()
	if err != nil {
		nstest.Skip(t, "needs tcpdump: %v", err)
	}
	there, refused := inDocument(t)
	listed := append(there, refused...)
	var wanted []string
	for _, m := range regexp.MustCompile(`[\s\[](-[A-Za-z]|--[a-z][a-z-]*)\b`).FindAllStringSubmatch(strings.Split(string(help), "Usage:")[1], -1) {
		wanted = append(wanted, m[1])
	}
	cluster := regexp.MustCompile(`\[-([A-Za-z#]+)\]`).FindStringSubmatch(string(help))
	if cluster == nil {
		t.Fatalf("%s", help)
	}
	for _, c := range cluster[1] {
		wanted = append(wanted, "-"+string(c))
	}
	if len(wanted) < 40 {
		t.Fatalf("%d options in\n%s", len(wanted), help)
	}
	for _, typed := range wanted {
		if !slices.Contains(listed, typed) {
			t.Errorf("docs/CAPTURE.md does not list %s", typed)
		}
	}
}
