package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"proxyarpd/capture/cli"
)

// Annotations of commands: what an exit code means there, else what it means everywhere.
const (
	exit0 = "exit 0"
	exit1 = "exit 1"
)

// exitStatus is what the exit codes of a command mean.
func exitStatus(cmd *cobra.Command) [3]string {
	return [3]string{
		cmp.Or(cmd.Annotations[exit0], "done"),
		cmp.Or(cmd.Annotations[exit1], "failed; one line on stderr says what, and what to do"),
		"wrong usage: the command line, or the file that it names",
	}
}

// writeHelp is what --help prints.
func writeHelp(w io.Writer, cmd *cobra.Command) {
	fmt.Fprintf(w, "%s\n\nusage: %s\n", description(cmd), usageLine(cmd))
	for _, g := range append(cmd.Groups(), &cobra.Group{Title: "Commands"}) {
		head := g.Title
		for _, c := range cmd.Commands() {
			if isListed(c) && c.GroupID == g.ID {
				section(w, &head)
				fmt.Fprintf(w, "  %-10s  %s\n", c.Name(), c.Short)
			}
		}
	}
	groups := flagGroups(cmd)
	width := 0
	for _, g := range groups {
		for _, f := range g.flags {
			width = max(width, len(f.head()))
		}
	}
	for _, g := range groups {
		head := g.title
		section(w, &head)
		for _, f := range g.flags {
			fmt.Fprintf(w, "  %-*s  %s\n", width, f.head(), wrap(f.usage, max(100-width-4, 40), width+4))
		}
	}
	if cmd.Example != "" {
		fmt.Fprintf(w, "\nExamples\n%s\n", cmd.Example)
	}
	fmt.Fprint(w, "\nExit status\n")
	for code, means := range exitStatus(cmd) {
		fmt.Fprintf(w, "  %d  %s\n", code, means)
	}
}

// isListed reports whether the help names a command: all but those that shells call.
func isListed(c *cobra.Command) bool { return !c.Hidden }

// section writes a heading once.
func section(w io.Writer, head *string) {
	if *head != "" {
		fmt.Fprintf(w, "\n%s\n", *head)
		*head = ""
	}
}

// description is what a command does, in sentences if it has some.
func description(cmd *cobra.Command) string { return cmp.Or(cmd.Long, cmd.Short) }

// usageLine is the command's line of arguments, behind the names of those above it.
func usageLine(cmd *cobra.Command) string {
	if cmd.HasParent() {
		return cmd.Parent().CommandPath() + " " + cmd.Use
	}
	return cmd.Use
}

// flagDoc is a flag as the help and the manual have it.
type flagDoc struct {
	short, long string // without dashes
	arg         string // "": it takes none
	usage       string
}

func (f flagDoc) head() string {
	s := "    --" + f.long
	if f.short != "" {
		s = "-" + f.short + ", --" + f.long
	}
	if f.arg != "" {
		s += " " + f.arg
	}
	return s
}

type flagGroup struct {
	title string
	flags []flagDoc
}

// flagGroups are the command's flags under their headings, in the order in which they are defined.
func flagGroups(cmd *cobra.Command) (groups []*flagGroup) {
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		name := "Flags"
		if a := f.Annotations[cli.FlagGroup]; len(a) > 0 {
			name = a[0]
		}
		at := 0
		for at < len(groups) && groups[at].title != name {
			at++
		}
		if at == len(groups) {
			groups = append(groups, &flagGroup{title: name})
		}
		groups[at].flags = append(groups[at].flags, document(f))
	})
	return groups
}

func document(f *pflag.Flag) flagDoc {
	d := flagDoc{short: f.Shorthand, long: f.Name}
	d.arg, d.usage = pflag.UnquoteUsage(f)
	if f.NoOptDefVal != "" { // a switch, or one that counts
		d.arg = ""
	}
	d.arg = strings.ToUpper(d.arg)
	switch f.DefValue {
	case "", "false", "0", "0s", "[]":
	default:
		d.usage += " (default " + f.DefValue + ")"
	}
	return d
}

// wrap breaks text into lines of so many characters, those behind the first indented.
func wrap(text string, width, indent int) string {
	var b strings.Builder
	column := 0
	for _, word := range strings.Fields(text) {
		switch {
		case column == 0:
		case column+1+len(word) > width:
			b.WriteString("\n" + strings.Repeat(" ", indent))
			column = 0
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += len(word)
	}
	return b.String()
}

// helpFlag is --help of a command: the help, whatever stands behind it.
type helpFlag struct{}

func (helpFlag) String() string   { return "false" }
func (helpFlag) Set(string) error { return pflag.ErrHelp }
func (helpFlag) Type() string     { return "bool" }
func (helpFlag) IsBoolFlag() bool { return true }

// addHelpFlags gives each command its --help, last of its flags.
func addHelpFlags(cmd *cobra.Command) {
	cmd.Flags().SortFlags = false
	f := cmd.Flags().VarPF(helpFlag{}, "help", "h", "print this text")
	f.NoOptDefVal = "true"
	if groups := flagGroups(cmd); len(groups) > 1 {
		f.Annotations = map[string][]string{cli.FlagGroup: {groups[len(groups)-2].title}}
	}
	for _, c := range cmd.Commands() {
		addHelpFlags(c)
	}
}
