package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"proxyarpd/internal/daemon"
)

const reloadLong = `reload has a running daemon read its configuration file again and apply what changed, without a lost
packet or answer, and tells what that was. Where the file is wrong, or the daemon can't do what it
says, reload exits with status 1 and the reason, and nothing has changed. A flag that the daemon was
given goes on winning over the file. The daemon reads the kernel's sysctls again, too.`

const reloadExample = `  proxyarpd reload
  proxyarpd reload --control /run/other.sock`

func newReload(p *program) *cobra.Command {
	path := ""
	cmd := &cobra.Command{
		Use:         "reload [--control PATH]",
		Short:       "have a running daemon read its configuration again",
		Long:        reloadLong,
		Example:     reloadExample,
		GroupID:     groupDaemon,
		Args:        noArguments,
		Annotations: map[string]string{exit0: "what the file says is in force", exit1: "no daemon answers, or it refuses: nothing has changed"},
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := daemon.Reload(cmd.Context(), path)
			if err != nil {
				return err
			}
			return printReload(p.text(), r)
		},
	}
	cmd.Flags().StringVar(&path, "control", daemon.DefaultControl, controlUsage)
	complete(cmd, "control", anyFile())
	return cmd
}

func printReload(out io.Writer, r *daemon.Reloaded) error {
	var err error
	switch {
	case r.File == "":
		_, err = fmt.Fprintln(out, "the daemon has no --config: only the sysctls are read again")
	case len(r.Changes) == 0:
		_, err = fmt.Fprintf(out, "%s: no change\n", r.File)
	}
	for _, c := range r.Changes {
		if _, err := fmt.Fprintln(out, c); err != nil {
			return err
		}
	}
	return err
}
