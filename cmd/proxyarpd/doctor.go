package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"proxyarpd/capture/cli"
	"proxyarpd/internal/daemon"
	"proxyarpd/internal/doctor"
)

const doctorLong = `doctor looks at the host and tells, a finding a line with its cure, what stops, duplicates or bypasses
proxyarpd: capabilities and kernel features, sysctls, rules that forwarding would pass by, programs that
change MACs and routes, somebody else who answers for the gateway, interfaces and routes, and what the
pods have configured, where their namespaces may be entered. It changes nothing; what it sends are ARP
requests and neighbour solicitations for the gateways, on uplinks and from pods. The configuration is
that of the daemon that runs; where none runs, or flags of run are given, they say what one would be
told. Of one kind the first eight findings are printed; -o json has all.`

const doctorExample = `  proxyarpd doctor
  proxyarpd doctor -o json | jq '.findings[] | select(.severity == "error")'
  proxyarpd doctor --engine none               # what would stop a daemon with that flag?
  proxyarpd doctor --bundle report.tar.gz      # all that a bug report needs, without packets`

func newDoctor(p *program) *cobra.Command {
	format, file, bundle := "", "", ""
	scratch := defaultSettings()
	own := pflag.NewFlagSet("doctor", pflag.ContinueOnError)
	cmd := &cobra.Command{
		Use:         "doctor [-o text|json] [--bundle FILE] [flags]",
		Short:       "tell what on this host stops, duplicates or bypasses it, and the cure",
		Long:        doctorLong,
		Example:     doctorExample,
		GroupID:     groupLook,
		Args:        noArguments,
		Annotations: map[string]string{exit0: "looked; no finding is an error", exit1: "one of the findings is an error, or the host could not be looked at"},
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := loadSettings(cmd.Flags(), file)
			if err != nil {
				return err
			}
			if !ofRun(cmd.Flags(), own) {
				s = inForce(cmd.Context(), s)
			}
			found, err := doctor.Examine(cmd.Context(), s.Config)
			if err != nil {
				return fmt.Errorf("doctor: %w", err)
			}
			if bundle != "" {
				if err := writeBundle(cmd, bundle, &s, found); err != nil {
					return fmt.Errorf("doctor: --bundle %s: %w", bundle, err)
				}
			}
			if err := writeFindings(p, format, found); err != nil {
				return err
			}
			if n := doctor.Errors(found); n > 0 {
				return fmt.Errorf("doctor: %d of %d findings are errors", n, len(found))
			}
			return nil
		},
	}
	own.SortFlags = false
	outputFlag(own, &format, "text", "json")
	own.StringVar(&bundle, "bundle", "", "also write an archive (tar.gz) for a bug report to `FILE`: status, tables, sysctls, findings, versions; no packets")
	inGroup(own, "Output")
	cmd.Flags().AddFlagSet(own)
	addRunFlags(cmd, scratch.flags(), &file, "As a daemon with these flags")
	complete(cmd, "output", words("text", "json"))
	complete(cmd, "bundle", files("gz", "tgz"))
	completeRun(cmd)
	return cmd
}

// ofRun reports whether a flag of run was given, but --control.
func ofRun(given, own *pflag.FlagSet) (is bool) {
	given.Visit(func(f *pflag.Flag) { is = is || own.Lookup(f.Name) == nil && f.Name != "control" })
	return is
}

// inForce are the settings of the daemon that listens where s says, or s where none does.
func inForce(ctx context.Context, s settings) settings {
	status, err := daemon.Query(ctx, s.Control, 0)
	if err != nil {
		return s
	}
	of := defaultSettings()
	fs := of.flags()
	for key, values := range status.Config.Values {
		flag := fs.Lookup(key)
		if flag == nil || key == "control" {
			continue
		}
		for _, v := range values {
			if err := flag.Value.Set(v); err != nil {
				return s // of another version
			}
		}
	}
	of.Control = s.Control
	if of.Validate() != nil {
		return s
	}
	return of
}

// addRunFlags gives a command the flags of run by which it sees the host.
func addRunFlags(cmd *cobra.Command, ofRun *pflag.FlagSet, file *string, title string) {
	ofRun.VisitAll(func(f *pflag.Flag) {
		if strings.HasPrefix(f.Name, "log-") { // a daemon's log
			return
		}
		if f.Name != "control" {
			f.Annotations[cli.FlagGroup] = []string{title}
		}
		cmd.Flags().AddFlag(f)
	})
	cmd.Flags().StringVar(file, "config", "", "YAML `FILE` of run")
	cmd.Flags().Lookup("config").Annotations = map[string][]string{cli.FlagGroup: {title}}
}

func writeFindings(p *program, format string, found []doctor.Finding) error {
	if format == "json" {
		return writeJSON(p.out, struct {
			Findings []doctor.Finding `json:"findings"`
		}{found})
	}
	const most = 8 // of one kind; of a thousand pods with one fault the first tell enough
	said, more := map[string]int{}, []string(nil)
	for _, f := range found {
		kind := fmt.Sprintf("%s %s", f.Severity, f.ID)
		if said[kind]++; said[kind] > most {
			if said[kind] == most+1 {
				more = append(more, kind)
			}
			continue
		}
		subject := ""
		if f.Subject != "" {
			subject = f.Subject + ": "
		}
		if _, err := fmt.Fprintf(p.text(), "%s %s: %s%s. Cure: %s\n", f.Severity, f.ID, subject, f.What, f.Cure); err != nil {
			return err
		}
	}
	for _, kind := range more {
		if _, err := fmt.Fprintf(p.text(), "%s: %d more like these; -o json has all\n", kind, said[kind]-most); err != nil {
			return err
		}
	}
	if len(found) == 0 {
		_, err := io.WriteString(p.text(), "nothing was found\n")
		return err
	}
	return nil
}

// writeBundle writes the archive, which may hold what others should not read.
func writeBundle(cmd *cobra.Command, path string, s *settings, found []doctor.Finding) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(doctor.Bundle(cmd.Context(), f, s.Config, found), f.Close())
}
