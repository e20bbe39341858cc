package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// Groups of commands in the help.
const (
	groupDaemon  = "daemon"
	groupLook    = "look"
	groupMeasure = "measure"
	groupLab     = "lab"
	groupOther   = "other"
)

const rootLong = `proxyarpd answers ARP for the gateway that workloads have but no interface owns,
and forwards their packets by the kernel's routing table, in userspace.`

// newRoot makes the tree of commands.
func newRoot(p *program) *cobra.Command {
	cobra.EnableCommandSorting = false // the order is that of newRoot
	showVersion := false
	root := &cobra.Command{
		Use:           "proxyarpd COMMAND [flags] [arguments]",
		Short:         "answer ARP for workloads and forward their packets",
		Long:          rootLong,
		Example:       rootExample,
		SilenceErrors: true, // main says them
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs, // RunE names the one that is no command
		RunE: func(cmd *cobra.Command, args []string) error {
			if showVersion && len(args) == 0 {
				return printVersion(p)
			}
			return noCommand(cmd, args)
		},
	}
	root.Flags().BoolVar(&showVersion, "version", false, "print the version")
	root.SetOut(p.text())
	root.SetErr(p.errw)
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) { writeHelp(cmd.OutOrStdout(), cmd) })
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return flagError(cmd, p.args, err) })
	root.AddGroup(
		&cobra.Group{ID: groupDaemon, Title: "Daemon"},
		&cobra.Group{ID: groupLook, Title: "Look"},
		&cobra.Group{ID: groupMeasure, Title: "Measure"},
		&cobra.Group{ID: groupLab, Title: "Lab"},
		&cobra.Group{ID: groupOther, Title: "Other"},
	)
	root.CompletionOptions.DisableDefaultCmd = true // there is our own
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	help := newHelp()
	root.SetHelpCommand(help)
	root.AddCommand(help)
	for _, c := range called(p.args) {
		root.AddCommand(c.make(p))
	}
	addHelpFlags(root)
	return root
}

// commands are those of the program but help, in the order of its help.
var commands = []namedCommand{
	{"run", newRun},
	{"status", newStatus},
	{"top", newTop},
	{"reload", newReload},
	{"capture", newCapture},
	{"explain", newExplain},
	{"doctor", newDoctor},
	{"bench", newBench},
	{"lab", newLab},
	{"completion", newCompletion},
	{"version", newVersion},
}

type namedCommand struct {
	name string
	make func(*program) *cobra.Command
}

// called are the commands that are needed: the one that is called, for a daemon would hold the flags of all others as
// long as it lives (0.2 MB). Where none is, all are: for help, suggestions and completion.
func called(args []string) []namedCommand {
	for _, c := range commands {
		if len(args) > 0 && args[0] == c.name {
			return []namedCommand{c}
		}
	}
	return commands
}

const rootExample = `  proxyarpd run                    # workloads are cali*, uplinks all other devices with IP
  proxyarpd status --wait 10s
  proxyarpd capture -ni any --drops
  proxyarpd help run`

// title is how errors call a command: by its names without the program's.
func title(cmd *cobra.Command) string {
	return strings.TrimPrefix(strings.TrimPrefix(cmd.CommandPath(), cmd.Root().Name()), " ")
}

// prefixed is text about a command.
func prefixed(cmd *cobra.Command, text string) string {
	if t := title(cmd); t != "" {
		return t + ": " + text
	}
	return text
}

// noCommand is the error of a command that needs another behind it.
func noCommand(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return unknownCommand(cmd, args[0])
	}
	return usagef("%s; see %s --help", prefixed(cmd, "no command given: "+strings.Join(commandNames(cmd), ", ")), cmd.CommandPath())
}

func unknownCommand(cmd *cobra.Command, name string) error {
	text := prefixed(cmd, fmt.Sprintf("no command %q", name))
	if near := nearest(name, commandNames(cmd)); near != "" {
		return usagef("%s: did you mean %s?", text, near)
	}
	return usagef("%s; see %s --help", text, cmd.CommandPath())
}

// commandNames are those that the help shows.
func commandNames(cmd *cobra.Command) (names []string) {
	for _, c := range cmd.Commands() {
		if isListed(c) {
			names = append(names, c.Name())
		}
	}
	return names
}

// noArguments is the Args of a command without any.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	text := prefixed(cmd, fmt.Sprintf("unexpected argument %q", args[0]))
	if near := nearest(args[0], commandNames(cmd)); near != "" {
		return usagef("%s: did you mean %s?", text, near)
	}
	return usagef("%s; see %s --help", text, cmd.CommandPath())
}

func newHelp() *cobra.Command {
	return &cobra.Command{
		Use:     "help [COMMAND]",
		Short:   "explain a command and its flags",
		GroupID: groupOther,
		RunE: func(cmd *cobra.Command, args []string) error {
			at := cmd.Root()
			for _, name := range args {
				next, _, err := at.Find([]string{name})
				if err != nil || next == at {
					return unknownCommand(at, name)
				}
				at = next
			}
			return at.Help()
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
			at, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			var names []cobra.Completion
			for _, c := range at.Commands() {
				if isListed(c) && strings.HasPrefix(c.Name(), typed) {
					names = append(names, cobra.CompletionWithDesc(c.Name(), c.Short))
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
	}
}

func newVersion(p *program) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "print the version",
		GroupID: groupOther,
		Args:    noArguments,
		RunE:    func(*cobra.Command, []string) error { return printVersion(p) },
	}
}

func printVersion(p *program) error {
	_, err := fmt.Fprintln(p.text(), "proxyarpd", versionString())
	return err
}
