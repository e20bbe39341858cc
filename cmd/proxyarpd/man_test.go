package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// The manual is made here, so that no program holds what makes it: make generate-man.
// cobra/doc would read the texts as Markdown, where cali* begins emphasis.
var updateMan = flag.Bool("update-man", false, "write deploy/man anew")

const manDir = "../../deploy/man"

// manEscape escapes text for roff: what groff takes for another character, and what would be a request.
func manEscape(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`).Replace(text)
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}

func manName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// manPage is the manual page of a command, from what its help has.
func manPage(cmd *cobra.Command) string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p(`.\" Made by make generate-man from cmd/proxyarpd: change it there.`)
	p(`.TH %s 1 "" proxyarpd "User Commands"`, strings.ToUpper(manEscape(manName(cmd))))
	p(".SH NAME\n%s \\- %s", manEscape(manName(cmd)), manEscape(cmd.Short))
	name, arguments, _ := strings.Cut(usageLine(cmd), cmd.Name()+" ")
	p(".SH SYNOPSIS\n.B %s\n%s", manEscape(strings.TrimSpace(name+cmd.Name())), manEscape(strings.TrimPrefix(arguments, name+cmd.Name())))
	p(".SH DESCRIPTION\n%s", strings.ReplaceAll(manEscape(description(cmd)), "\n\n", "\n.PP\n"))
	var related []string
	if cmd.HasParent() {
		related = append(related, manName(cmd.Parent()))
	}
	if subs := slices.DeleteFunc(slices.Clone(cmd.Commands()), func(c *cobra.Command) bool { return !isListed(c) }); len(subs) > 0 {
		p(".SH COMMANDS")
		for _, c := range subs {
			p(".TP\n.B %s\n%s", manEscape(c.Name()), manEscape(c.Short))
			related = append(related, manName(c))
		}
	}
	p(".SH OPTIONS")
	for _, g := range flagGroups(cmd) {
		if g.title != "Flags" {
			p(".SS %s", manEscape(g.title))
		}
		for _, f := range g.flags {
			head := `\fB\-\-` + manEscape(f.long) + `\fR`
			if f.short != "" {
				head = `\fB\-` + manEscape(f.short) + `\fR, ` + head
			}
			if f.arg != "" {
				head += ` \fI` + manEscape(f.arg) + `\fR`
			}
			p(".TP\n%s\n%s", head, manEscape(f.usage))
		}
	}
	p(".SH EXIT STATUS")
	for code, means := range exitStatus(cmd) {
		p(".TP\n.B %d\n%s", code, manEscape(means))
	}
	if cmd.Example != "" {
		p(".SH EXAMPLES\n.nf\n%s\n.fi", manEscape(cmd.Example))
	}
	if len(related) > 0 {
		p(".SH SEE ALSO")
		for i, r := range related {
			related[i] = ".BR " + manEscape(r) + " (1)"
		}
		p("%s", strings.Join(related, ",\n"))
	}
	return b.String()
}

// The manual in the tree is what the commands say today.
func TestManual(t *testing.T) {
	pages := map[string]string{}
	each(tree(), func(cmd *cobra.Command) {
		if cmd.Name() != "help" {
			pages[manName(cmd)+".1"] = manPage(cmd)
		}
	})
	if *updateMan {
		if err := os.RemoveAll(manDir); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(manDir, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, page := range pages {
			if err := os.WriteFile(filepath.Join(manDir, name), []byte(page), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	there, err := os.ReadDir(manDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range there {
		text, err := os.ReadFile(filepath.Join(manDir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if string(text) != pages[f.Name()] {
			t.Errorf("deploy/man/%s is not what its command says: run make generate-man", f.Name())
		}
	}
	if len(there) != len(pages) {
		t.Errorf("%d pages in deploy/man, for %d commands: run make generate-man", len(there), len(pages))
	}
}
