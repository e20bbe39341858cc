package main

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
)

// shellWords splits a line as a shell does, as far as the examples go: quotes, and what ends a command.
func shellWords(line string) (words []string) {
	word, quote, there := "", rune(0), false
	flush := func() {
		if there {
			words = append(words, word)
		}
		word, there = "", false
	}
	for _, c := range line {
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word += string(c)
		case c == '\'' || c == '"':
			quote, there = c, true
		case c == ' ':
			flush()
		case c == '#' && !there, c == '>', c == '|', c == '&':
			flush()
			return words
		default:
			word, there = word+string(c), true
		}
	}
	flush()
	return words
}

// check says what is wrong with a command line; what it names need not be there.
func check(args []string) error {
	root := newRoot(&program{args: nil})
	cmd, rest, err := root.Find(args)
	if err != nil {
		return err
	}
	if err := cmd.ParseFlags(rest); err != nil {
		return err
	}
	if err := cmd.ValidateArgs(cmd.Flags().Args()); err != nil {
		return err
	}
	switch cmd.Name() {
	case "run":
		_, err = loadSettings(cmd.Flags(), "")
	case "exec": // another example within
		if argv := cmd.Flags().Args(); len(argv) < 2 {
			err = errors.New("no command")
		} else if argv[1] == "proxyarpd" {
			err = check(argv[2:])
		}
	case "proxyarpd", "lab":
		if len(cmd.Flags().Args()) > 0 {
			err = errors.New("no such command")
		}
	}
	return err
}

// The examples of each command's help are command lines of it.
func TestExamples(t *testing.T) {
	each(tree(), func(cmd *cobra.Command) {
		for line := range strings.Lines(cmd.Example) {
			words := shellWords(strings.TrimSpace(line))
			if !strings.HasPrefix(line, "  proxyarpd") || !strings.HasPrefix(strings.Join(words, " "), cmd.CommandPath()) {
				t.Errorf("%s: %q", cmd.CommandPath(), line)
			} else if err := check(words[1:]); err != nil {
				t.Errorf("%s: %q: %v", cmd.CommandPath(), line, err)
			}
		}
	})
}

// documented are the command lines of a document's blocks.
var documented = regexp.MustCompile(`(?m)^(?:# |\$ )?(?:sudo )?(?:bin/)?proxyarpd [a-z-].*$`)

// The command lines of the documents are right.
func TestDocumentedCommands(t *testing.T) {
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, file := range append(files, "../../README.md", "../../CONTRIBUTING.md") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for i, block := range strings.Split(string(text), "\n```") {
			if i%2 == 0 {
				continue
			}
			for _, line := range documented.FindAllString(block, -1) {
				words := shellWords(strings.TrimPrefix(strings.TrimPrefix(line, "# "), "$ "))
				at := slices.IndexFunc(words, func(w string) bool { return filepath.Base(w) == "proxyarpd" })
				if slices.Contains(words, "...") || strings.Contains(line, "|") || strings.Contains(line, ", up ") {
					continue // what a command prints, or a form
				}
				found++
				if err := check(words[at+1:]); err != nil {
					t.Errorf("%s: %q: %v", file, line, err)
				}
			}
		}
	}
	if found < 10 {
		t.Errorf("%d command lines found", found)
	}
}

// What stands in deploy is taken by the program of this version.
func TestDeploy(t *testing.T) {
	read := func(name string) string {
		t.Helper()
		text, err := os.ReadFile(filepath.Join("../../deploy", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	unit := read("systemd/proxyarpd.service")
	for _, m := range regexp.MustCompile(`(?m)^Exec[A-Za-z]+=/usr/local/bin/proxyarpd (.*)$`).FindAllStringSubmatch(unit, -1) {
		if err := check(shellWords(m[1])); err != nil {
			t.Errorf("the unit: %s: %v", m[1], err)
		}
	}
	if c := call(t, "run", "--config", "../../deploy/systemd/proxyarpd.yaml"); c.code != 0 {
		t.Errorf("the file of the unit: %s", c.errw)
	}
	var set struct {
		Spec struct {
			Template struct {
				Spec struct {
					Containers []struct {
						Args           []string
						ReadinessProbe struct{ Exec struct{ Command []string } } `yaml:"readinessProbe"`
					}
				}
			}
		}
	}
	if err := yaml.Unmarshal([]byte(read("kubernetes/daemonset.yaml")), &set); err != nil {
		t.Fatal(err)
	}
	if n := len(set.Spec.Template.Spec.Containers); n != 1 {
		t.Fatalf("%d containers", n)
	}
	for _, c := range set.Spec.Template.Spec.Containers {
		for _, line := range [][]string{c.Args, c.ReadinessProbe.Exec.Command[1:]} {
			if err := check(line); err != nil || len(line) == 0 {
				t.Errorf("the DaemonSet: %q: %v", line, err)
			}
		}
	}
}
