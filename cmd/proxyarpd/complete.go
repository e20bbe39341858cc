package main

import (
	"net"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"proxyarpd/forward/claim"
	"proxyarpd/internal/daemon"
	"proxyarpd/internal/logging"
)

const completionLong = `completion prints the shell's part of the completion of commands, flags and values. What can be
completed is asked of the program itself, so the script need not be made again for a new version.`

const completionExample = `  proxyarpd completion bash > /etc/bash_completion.d/proxyarpd
  proxyarpd completion zsh > /usr/local/share/zsh/site-functions/_proxyarpd
  proxyarpd completion fish > ~/.config/fish/completions/proxyarpd.fish`

func newCompletion(p *program) *cobra.Command {
	shells := []string{"bash", "zsh", "fish"}
	return &cobra.Command{
		Use:       "completion bash|zsh|fish",
		Short:     "print the completion script of a shell",
		Long:      completionLong,
		Example:   completionExample,
		GroupID:   groupOther,
		ValidArgs: shells,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("completion: name one shell: %s", oneOf(shells))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			switch root := cmd.Root(); args[0] {
			case "bash":
				return root.GenBashCompletionV2(p.out, true)
			case "zsh":
				return root.GenZshCompletion(p.out)
			case "fish":
				return root.GenFishCompletion(p.out, true)
			}
			return usagef("completion: no script for %q: there are those for %s", args[0], oneOf(shells))
		},
	}
}

// complete says how the value of a flag of cmd is completed. Where nothing says so nothing is proposed.
func complete(cmd *cobra.Command, flag string, how cobra.CompletionFunc) {
	if err := cmd.RegisterFlagCompletionFunc(flag, begun(how)); err != nil {
		panic(err) // there is no such flag: each start would show it
	}
}

// begun leaves of what how proposes the words that begin as what is typed.
func begun(how cobra.CompletionFunc) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		all, directive := how(cmd, args, typed)
		if directive&(cobra.ShellCompDirectiveFilterFileExt|cobra.ShellCompDirectiveFilterDirs) != 0 {
			return all, directive
		}
		return slices.DeleteFunc(slices.Clone(all), func(w cobra.Completion) bool { return !strings.HasPrefix(w, typed) }), directive
	}
}

// words completes a fixed list.
func words(of ...string) cobra.CompletionFunc {
	return cobra.FixedCompletions(of, cobra.ShellCompDirectiveNoFileComp)
}

// files completes names of files that end so.
func files(extensions ...string) cobra.CompletionFunc {
	return cobra.FixedCompletions(extensions, cobra.ShellCompDirectiveFilterFileExt)
}

// anyFile leaves it to the shell.
func anyFile() cobra.CompletionFunc {
	return cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault)
}

// interfaces completes names of interfaces, and what else the flag takes.
func interfaces(more ...string) cobra.CompletionFunc {
	return func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
		all, _ := net.Interfaces()  // without them there is nothing to complete
		names := slices.Clone(more) // which the next call has, too
		for _, i := range all {
			names = append(names, i.Name)
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// netnsNames completes the names that ip netns has.
func netnsNames(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	entries, _ := os.ReadDir("/run/netns")
	var names []cobra.Completion
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, cobra.ShellCompDirectiveDefault // a path will do, too
}

func completeRun(cmd *cobra.Command) {
	complete(cmd, "workload", interfaces("cali*"))
	complete(cmd, "uplink", interfaces(daemon.UplinkAuto))
	complete(cmd, "engine", words(append([]string{daemon.EngineAuto, daemon.EngineNone}, daemon.Forwarders()...)...))
	complete(cmd, "rp-filter", words("0\toff", "1\tstrict", "2\tloose"))
	complete(cmd, "on-policy", words(daemon.PolicyWarn, daemon.PolicyLeave))
	complete(cmd, "claim", words(string(claim.Auto), string(claim.TCX), string(claim.Clsact), string(claim.None)))
	complete(cmd, "workers", words(workersAuto, "1", "2"))
	complete(cmd, "nice", words("-20\tthe most CPU time", "0\tas other processes"))
	complete(cmd, "control", anyFile())
	complete(cmd, "metrics", words("127.0.0.1:9477"))
	complete(cmd, "state-dir", cobra.FixedCompletions(nil, cobra.ShellCompDirectiveFilterDirs))
	complete(cmd, "config", files("yaml", "yml"))
	if cmd.Flags().Lookup("log-level") != nil { // a daemon's alone
		complete(cmd, "log-format", words(logging.Text, logging.JSON))
		complete(cmd, "log-level", words(levels...))
	}
}
