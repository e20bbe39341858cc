package main

import (
	"log/slog"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"

	"proxyarpd/capture/cli"
	"proxyarpd/internal/daemon"
	"proxyarpd/internal/logging"
)

const runLong = `run is the daemon: it answers ARP on the interfaces that lead to workloads, and forwards their
packets by the kernel's routes, rules and neighbours. It stays in the foreground, logs to stderr,
and ends on SIGTERM or SIGINT. It writes no sysctl.

Every flag but --config and --background is also a key of the YAML file that --config names, a list
where it is repeatable; a flag wins over the file. On SIGHUP, and for proxyarpd reload, it reads the
file again and applies what changed; where it can't, it goes on as before. It reads the kernel's
sysctls, too.

With --takeover it takes over from the daemon that runs, for an upgrade of the program for instance.
With --background the command ends when the daemon has started, or taken over, and fails where it has
not.`

const runExample = `  proxyarpd run                                # workloads are cali*, uplinks all other devices with IP
  proxyarpd run --workload 'veth*' --uplink ens3 --proxy 10.65.0.0/16
  proxyarpd run --engine none                  # answer ARP, and leave forwarding to the kernel
  proxyarpd run --punt 10.96.0.0/12            # a service range that kube-proxy translates
  proxyarpd run --config /etc/proxyarpd.yaml --log-level debug
  proxyarpd run --config /etc/proxyarpd.yaml --takeover --background`

func newRun(p *program) *cobra.Command {
	scratch := defaultSettings()
	file, behind := "", false
	cmd := &cobra.Command{
		Use:     "run [--config FILE] [flags]",
		Short:   "answer ARP for workloads and forward their packets",
		Long:    runLong,
		Example: runExample,
		GroupID: groupDaemon,
		Args:    noArguments,
		Annotations: map[string]string{
			exit0: "ended by SIGTERM or SIGINT; with --background: it has started",
			exit1: "could not start, or not go on; one line on stderr says why, and what to do",
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			step := os.Getenv(backgroundStep)
			if behind && step == backgroundOrphan {
				return orphan()
			}
			s, err := loadSettings(cmd.Flags(), file)
			if err != nil {
				return err
			}
			if behind && step != backgroundDaemon {
				return background(cmd.Context())
			}
			// A panic, and SIGABRT, end by that signal: exit status 2 is for a wrong command line, with which a service
			// manager does not try again.
			debug.SetTraceback("crash")
			log := logging.New(p.errw, s.LogFormat, s.LogLevel)
			defer logging.Flush(log)
			caller := daemon.Caller{Log: log, SetLevel: func(l slog.Level) { logging.SetLevel(log, l) }}
			if file != "" {
				caller.File = file
				caller.Reread = func() (daemon.Config, error) {
					s, err := loadSettings(cmd.Flags(), file)
					return s.Config, err
				}
			}
			if behind {
				caller.Started = tellBegun()
			}
			return p.start(cmd.Context(), s.Config, caller)
		},
	}
	cmd.Flags().AddFlagSet(scratch.flags())
	cmd.Flags().StringVar(&file, "config", "", "YAML `FILE` with these flags as keys; a flag wins")
	cmd.Flags().BoolVar(&behind, "background", false, "start in the background: the command ends when the daemon has started, or taken over")
	for _, name := range []string{"config", "background"} {
		cmd.Flags().Lookup(name).Annotations = map[string][]string{cli.FlagGroup: {"Program"}}
	}
	completeRun(cmd)
	return cmd
}
