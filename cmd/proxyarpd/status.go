package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"proxyarpd/internal/daemon"
	"proxyarpd/internal/printable"
	"proxyarpd/internal/status"
)

const statusLong = `status shows what a running daemon does: its interfaces, what is answered there, and every counter
that is not 0. With --wait it waits for the daemon to appear and to be ready: every workload
interface that is up is answered and, unless the engine is none, forwarded.`

const statusExample = `  proxyarpd status
  proxyarpd status --wait 10s
  proxyarpd status -o json | jq .forward.drops`

func newStatus(p *program) *cobra.Command {
	var (
		format string
		wait   time.Duration
		path   string
	)
	cmd := &cobra.Command{
		Use:         "status [-o table|json] [--wait DURATION] [--control PATH]",
		Short:       "tell what a running daemon does",
		Long:        statusLong,
		Example:     statusExample,
		GroupID:     groupLook,
		Args:        noArguments,
		Annotations: map[string]string{exit1: "no daemon answers, or with --wait none was ready in time"},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return showStatus(cmd.Context(), p.text(), path, format, wait)
		},
	}
	outputFlag(cmd.Flags(), &format, "table", "json")
	cmd.Flags().Var(&scalar[time.Duration]{&wait, parseDuration, "DURATION"}, "wait", "wait that long for the daemon to appear and to be ready")
	cmd.Flags().StringVar(&path, "control", daemon.DefaultControl, controlUsage)
	complete(cmd, "output", words("table", "json"))
	complete(cmd, "wait", words("1s", "10s", "1m"))
	complete(cmd, "control", anyFile())
	return cmd
}

// showStatus asks the daemon and prints its answer.
func showStatus(ctx context.Context, out io.Writer, path, format string, wait time.Duration) error {
	s, err := daemon.Query(ctx, path, wait)
	if err != nil {
		return err
	}
	if format == "json" {
		err = writeJSON(out, s)
	} else {
		err = printStatus(out, s)
	}
	if err != nil {
		return err
	}
	if wait > 0 && !s.Ready {
		return fmt.Errorf("%s: not ready after %s: %s", path, wait, s.NotReady)
	}
	return nil
}

// writeJSON is -o json.
func writeJSON(out io.Writer, v any) error {
	enc := json.NewEncoder(printable.NewJSONWriter(out))
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// printStatus writes the table.
func printStatus(out io.Writer, s *daemon.Status) error {
	state := "ready"
	if !s.Ready {
		state = "not ready: " + s.NotReady
	}
	fmt.Fprintf(out, "proxyarpd %s, engine %s, claim %s, up %s, %s\n\n", s.Version, s.Engine, s.Claim,
		(time.Duration(s.Uptime * float64(time.Second))).Round(time.Second), state)
	if err := printInterfaces(out, s); err != nil {
		return err
	}
	carried := ""
	if s.Forward.Carried > 0 {
		carried = fmt.Sprintf(" (%d carried)", s.Forward.Carried)
	}
	fmt.Fprintf(out, "\nforwarding: %d packets in, %d out%s, %d bytes out, %d routes\n",
		s.Forward.PacketsIn, s.Forward.PacketsOut, carried, s.Forward.BytesOut, s.Forward.Routes)
	printStalls(out, &s.Forward)
	if e := s.Forward.Egress; e != nil && e.Device+e.Qdisc > 0 {
		fmt.Fprintf(out, "dropped at the egress: %d by devices, %d by queueing disciplines\n", e.Device, e.Qdisc)
	}
	if s.Engine != daemon.EngineNone {
		fmt.Fprintf(out, "datapath: %s, nice %d%s\n", workers(s.Workers), s.Forward.Nice, joined(&s.Forward.Super))
	}
	printCounts(out, "verdicts", s.Forward.Verdicts)
	printCounts(out, "drops", s.Forward.Drops)
	printAnswers(out, "arp", s.ARP.Verdicts, s.ARP.Defended, "address probes")
	printAnswers(out, "neighbour discovery", s.ND.Verdicts, s.ND.Defended, "duplicate address detection", groupsOf(&s.ND)...)
	printAnnounced(out, s)
	printCommonest(out, s.Forward.Commonest)
	printCounts(out, "neighbours", neighbourCounts(&s.Kernel))
	fmt.Fprintf(out, "descriptors: %d in use, %d needed at most, limit %d\n", s.Descriptors.InUse, s.Descriptors.Needed, s.Descriptors.Limit)
	printPrivileges(out, &s.Privileges)
	printConflicts(out, s.Conflicts, time.Now())
	printGate(out, &s.Gate)
	printConfig(out, &s.Config, time.Now())
	if s.Control.Evicted+s.Control.Refused > 0 {
		fmt.Fprintf(out, "control clients: %d evicted, %d refused\n", s.Control.Evicted, s.Control.Refused)
	}
	return nil
}

func printPrivileges(out io.Writer, p *status.Privileges) {
	capabilities := strings.Join(p.Capabilities, ", ")
	if capabilities == "" {
		capabilities = "no capability"
	}
	for _, more := range []struct {
		is   bool
		name string
	}{{p.NoNewPrivs, "no_new_privs"}, {p.Seccomp, "seccomp"}} {
		if more.is {
			capabilities += "; " + more.name
		}
	}
	fmt.Fprintf(out, "privileges: uid %d, %s\n", p.UID, capabilities)
}

// printConflicts names who claims addresses that are not its own.
func printConflicts(out io.Writer, all []status.Conflict, now time.Time) {
	for i, c := range all {
		const most = 8
		if i == most {
			fmt.Fprintf(out, "and %d more conflicts\n", len(all)-most)
			return
		}
		says := "claims the gateway's address " + c.Address
		switch {
		case c.Kind == "uplink-claim":
			says = fmt.Sprintf("claims the address %s, which is routed to %s %s", c.Address, cmp.Or(c.Other, "a workload"), c.OtherMAC)
		case c.Other != "":
			says = fmt.Sprintf("uses the address %s, which is routed to %s %s", c.Address, c.Other, c.OtherMAC)
		}
		fmt.Fprintf(out, "%s: %s %s: %d times, the last %s ago\n", c.Interface, c.MAC, strings.TrimSpace(says), c.Count, now.Sub(c.Last).Round(time.Second))
	}
}

// printAnnounced tells of the addresses that are answered for on uplinks, and announced.
func printAnnounced(out io.Writer, s *status.Status) {
	for _, i := range s.Uplinks {
		a := i.Announced
		if a == nil {
			continue
		}
		fmt.Fprintf(out, "announced on %s: %d addresses, %d taken, %d released, %d announcements", i.Name, a.Held, a.Taken, a.Released, a.Sent)
		if a.Waiting > 0 {
			fmt.Fprintf(out, ", %d addresses not in full yet", a.Waiting)
		}
		if a.Failed > 0 {
			fmt.Fprintf(out, ", %d not sent", a.Failed)
		}
		fmt.Fprintln(out)
	}
	if n := s.ARP.Unannounced; n > 0 {
		fmt.Fprintf(out, "no room to announce: %d times\n", n)
	}
}

// printGate names the host's rules that are passed by.
func printGate(out io.Writer, g *status.Gate) {
	for _, f := range g.Findings {
		says := "rules of this host that do not apply to what is forwarded"
		switch {
		case f.Left && f.IPv6:
			says = "IPv6 is left to the kernel, for its rules"
		case f.Left:
			says = "left to the kernel, for its rules"
		}
		fmt.Fprintf(out, "%s: %s\n", says, f.What)
	}
	if g.Unknown != "" {
		fmt.Fprintf(out, "rules of this host can't be told: %s\n", g.Unknown)
	}
}

// printConfig says which configuration is in force, and whether another one was
// refused since.
func printConfig(out io.Writer, c *status.Config, now time.Time) {
	ago := func(at time.Time) time.Duration { return now.Sub(at).Round(time.Second) }
	if c.File != "" {
		fmt.Fprintf(out, "configuration: %s, read %s ago\n", c.File, ago(c.Read))
	}
	if r := c.Refused; r != nil {
		fmt.Fprintf(out, "reload refused %s ago: %s\n", ago(r.At), r.Why)
	}
}

func workers(n int) string {
	if n == 1 {
		return "1 worker"
	}
	return fmt.Sprintf("%d workers", n)
}

// printCommonest names the drops that were most frequent, and where they were.
func printCommonest(out io.Writer, drops []daemon.Drop) {
	const most = 5
	if len(drops) == 0 {
		return
	}
	var parts []string
	for _, d := range drops[:min(len(drops), most)] {
		text := d.Reason
		if d.ARP {
			text = "ARP " + text
		} else if d.ND {
			text = "ND " + text
		}
		if d.Interface != "" {
			text += " from " + d.Interface
		}
		parts = append(parts, fmt.Sprintf("%s %d", text, d.Count))
	}
	fmt.Fprintf(out, "commonest drops: %s; capture --last-drops shows the last\n", strings.Join(parts, ", "))
}

// printStalls says when the kernel had the traffic because the daemon did not run,
// and what that has cost.
func printStalls(out io.Writer, f *daemon.ForwardStatus) {
	s := f.Stalls
	if s.Count == 0 {
		return
	}
	state := fmt.Sprintf("the last %s ago, for %s", seconds(s.Ago), seconds(s.Lasts))
	if s.Now {
		state = fmt.Sprintf("and now, for %s: the kernel has the traffic where it forwards", seconds(s.Lasts))
	}
	fmt.Fprintf(out, "ring not read: %d times, %s; %d packets went by the kernel meanwhile, %d of those that were in the ring were dropped\n",
		s.Count, state, f.Verdicts["reader-stalled"], f.Drops["PARP_STALLED"])
}

func seconds(s float64) time.Duration {
	return (time.Duration(s * float64(time.Second))).Round(time.Millisecond)
}

// joined tells of super-packets, if there were any.
func joined(s *daemon.SuperStatus) string {
	if s.Packets == 0 {
		return ""
	}
	return fmt.Sprintf(", %d datagrams left as %d super-packets", s.Datagrams, s.Packets)
}

// neighbourCounts is what became of those who asked, in the kernel's neighbour table.
func neighbourCounts(k *daemon.KernelStatus) map[string]uint64 {
	m := map[string]uint64{"learned": k.Learned, "unlearned": k.Unlearned, "unwritten": k.Unwritten, "put-back": k.PutBack}
	maps.DeleteFunc(m, func(_ string, n uint64) bool { return n == 0 })
	return m
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func printCounts(out io.Writer, title string, m map[string]uint64) {
	if len(m) > 0 {
		fmt.Fprintf(out, "%s: %s\n", title, counts(m))
	}
}

func counts(m map[string]uint64) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf("%s %d", k, m[k]))
	}
	return strings.Join(parts, ", ")
}
