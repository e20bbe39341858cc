package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"proxyarpd/internal/daemon"
	"proxyarpd/internal/status"
	"proxyarpd/internal/top"
)

const topLong = `top shows what status shows, as it moves: rates by interface and by verdict. Keys: arrows choose an
interface and enter shows its detail, s changes what is sorted by, h tells the others, q quits. While
the daemon restarts it waits. With --batch it writes text, one look behind the other.`

const topExample = `  proxyarpd top
  proxyarpd top --sort drops --every 5s
  proxyarpd top --batch -n 2 --every 10s   # the second look has the rates of ten seconds`

func newTop(p *program) *cobra.Command {
	o := top.Options{Every: time.Second}
	var (
		path string
		sort string
	)
	cmd := &cobra.Command{
		Use:         "top [--batch [-n N]] [--every DURATION] [--sort rate|drops] [--control PATH]",
		Short:       "status, live: rates by interface and verdict",
		Long:        topLong,
		Example:     topExample,
		GroupID:     groupLook,
		Args:        noArguments,
		Annotations: map[string]string{exit0: "ended by q, SIGTERM or SIGINT, or after -n looks", exit1: "no daemon answers, or there is no terminal"},
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case o.Every < 100*time.Millisecond:
				return usagef("top: --every %s: want 100ms or more", o.Every)
			case cmd.Flags().Changed("looks") && !o.Batch:
				return usagef("top: -n is for --batch")
			case cmd.Flags().Changed("looks") && o.Looks < 1:
				return usagef("top: -n %d: want 1 or more", o.Looks)
			}
			o.Drops = sort == "drops"
			o.Query = func(ctx context.Context) (*status.Status, error) { return daemon.Query(ctx, path, 0) }
			if err := top.Run(cmd.Context(), os.Stdin, os.Stdout, o); err != nil {
				return fmt.Errorf("top: %w", err)
			}
			return nil
		},
	}
	fs := cmd.Flags()
	fs.Var(&scalar[time.Duration]{&o.Every, parseDuration, "DURATION"}, "every", "time between two looks")
	sort = "rate"
	fs.Var(&choice{&sort, []string{"rate", "drops"}}, "sort", "sort interfaces by `what`: rate or drops")
	fs.BoolVarP(&o.Batch, "batch", "b", false, "text, one look behind the other")
	fs.IntVarP(&o.Looks, "looks", "n", 0, "with --batch: end after that many looks")
	fs.StringVar(&path, "control", daemon.DefaultControl, controlUsage)
	complete(cmd, "every", words("1s", "5s", "10s"))
	complete(cmd, "sort", words("rate", "drops"))
	complete(cmd, "looks", words())
	complete(cmd, "control", anyFile())
	return cmd
}
