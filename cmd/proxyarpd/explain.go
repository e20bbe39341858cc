package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"proxyarpd/capture"
	"proxyarpd/capture/cli"
	"proxyarpd/internal/daemon"
	"proxyarpd/internal/explain"
)

const explainLong = `explain says which rule decides about an ARP request (neighbour solicitation) for DST and about a packet
to it, step by step: as this daemon decides, by its own code, and as the kernel would. Where a daemon
runs it is asked, and answers by its tables; where none runs, or flags of run are given, the host is
looked at as a daemon with these flags would see it. Nothing is changed and nothing sent.

The packet is, unless flags say otherwise, one of 84 bytes of UDP with DF set, that the first workload
sends. With --follow the next live packets like it are waited for, and what became of them shown; where
neither protocol nor ports nor TOS are given, ARP requests and solicitations for DST are like it, too.`

const explainExample = `  proxyarpd explain 169.254.1.1                          # why is the gateway answered, or not?
  proxyarpd explain 2001:db8:66::3 --iif cali0 --proto icmp6
  proxyarpd explain 10.66.0.3 --iif cali0 --from 10.65.0.2 --proto tcp --dport 443
  proxyarpd explain 10.66.0.3 --rp-filter 0 --punt 10.66.0.0/16   # what would it be with these flags?
  proxyarpd explain 10.66.0.3 -o json | jq .agree
  proxyarpd explain 10.66.0.3 --follow --timeout 30s   # exit 1 if no such packet comes
  proxyarpd explain 10.66.0.3 --proto tcp --dport 443 --follow -c 5`

// explaining is what the flags of explain say.
type explaining struct {
	question explain.Question
	format   string
	follow   bool
	count    int           // packets to follow
	timeout  time.Duration // for all of them; 0: no end
	file     string
	own      map[string]bool // names of its own flags; the others are run's
}

func newExplain(p *program) *cobra.Command {
	x := &explaining{question: explain.Question{Proto: explain.DefaultProto}}
	own := x.flags()
	x.own = map[string]bool{"control": true, "help": true}
	own.VisitAll(func(f *pflag.Flag) { x.own[f.Name] = true })
	scratch := defaultSettings()
	cmd := &cobra.Command{
		Use:         "explain DST [--iif IF] [--from IP] [flags]",
		Short:       "tell which rule decides about a packet, here and in the kernel",
		Long:        explainLong,
		Example:     explainExample,
		GroupID:     groupLook,
		Annotations: map[string]string{exit0: "explained, whatever the verdict", exit1: "failed, or with --timeout no such packet came; one line on stderr says what"},
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("explain: name one destination address; see proxyarpd explain --help")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if x.question.Dst, err = parseAddress(args[0]); err != nil {
				return usagef("explain: %q: %v", args[0], err)
			}
			if err := x.question.Validate(); err != nil {
				return usagef("explain: %v", err)
			}
			return x.run(cmd, p)
		},
	}
	cmd.Flags().AddFlagSet(own)
	addRunFlags(cmd, scratch.flags(), &x.file, "As a daemon with these flags would decide")
	complete(cmd, "output", words("text", "json"))
	complete(cmd, "iif", interfaces())
	complete(cmd, "timeout", words("10s", "1m"))
	for _, name := range []string{"from", "sport", "dport", "tos", "len", "packets"} {
		complete(cmd, name, words())
	}
	complete(cmd, "proto", words(slices.Sorted(maps.Keys(protocols))...))
	completeRun(cmd)
	return cmd
}

func (x *explaining) flags() *pflag.FlagSet {
	fs := pflag.NewFlagSet("explain", pflag.ContinueOnError)
	fs.SortFlags = false
	q := &x.question
	number := func(most int, set func(int)) pflag.Value {
		return &scalar[int]{new(int), func(s string) (int, error) {
			n, err := parseNumber(s)
			switch {
			case err != nil:
			case n < 0 || n > most:
				err = fmt.Errorf("want 0 to %d", most)
			default:
				set(n)
			}
			return n, err
		}, "N"}
	}
	fs.StringVar(&q.IIF, "iif", "", "`IF` that the packet comes in by (default: by its source, or the first workload's)")
	fs.Var(&scalar[netip.Addr]{&q.From, parseAddress, "IP"}, "from", "its source (default: the workload's address, by its route)")
	fs.Lookup("from").DefValue = ""
	fs.Var(&scalar[uint8]{&q.Proto, parseProtocol, "NAME|N"}, "proto", "its protocol")
	fs.Lookup("proto").DefValue = "udp"
	fs.Var(number(65535, func(n int) { q.SPort = uint16(n) }), "sport", "its source port")
	fs.Var(number(65535, func(n int) { q.DPort = uint16(n) }), "dport", "its destination port")
	fs.Var(number(255, func(n int) { q.TOS = uint8(n) }), "tos", "its TOS byte")
	fs.IntVar(&q.Len, "len", explain.DefaultLen, "its length in `BYTES`, with the IP header; DF is set")
	inGroup(fs, "The packet")
	outputFlag(fs, &x.format, "text", "json")
	fs.BoolVar(&x.follow, "follow", false, "then wait for the next live packet like it, and show what became of it (needs a daemon)")
	fs.IntVarP(&x.count, "packets", "c", 1, "with --follow: that many `packets`")
	fs.Var(&scalar[time.Duration]{&x.timeout, parseDuration, "DURATION"}, "timeout", "with --follow: wait no longer")
	fs.Lookup("timeout").DefValue = ""
	inGroup(fs, "Output")
	return fs
}

// protocols are names of /etc/protocols that one may want to ask about.
var protocols = map[string]uint8{"icmp": 1, "ipip": 4, "tcp": 6, "udp": 17, "dccp": 33, "gre": 47, "esp": 50, "ah": 51, "ospf": 89, "sctp": 132, "udplite": 136, "ipv6-icmp": 58, "icmp6": 58}

func parseProtocol(s string) (uint8, error) {
	if n, ok := protocols[strings.ToLower(s)]; ok {
		return n, nil
	}
	n, err := strconv.ParseUint(s, 10, 8)
	if err != nil {
		return 0, fmt.Errorf("want a number up to 255, or %s", oneOf(slices.Sorted(maps.Keys(protocols))))
	}
	return uint8(n), nil
}

// run explains, and follows.
func (x *explaining) run(cmd *cobra.Command, p *program) error {
	ctx, fs := cmd.Context(), cmd.Flags()
	s, err := loadSettings(fs, x.file)
	if err != nil {
		return err
	}
	var what *daemon.Config
	fs.Visit(func(f *pflag.Flag) {
		if !x.own[f.Name] {
			what = &s.Config
		}
	})
	if err := x.checkFollow(fs, what != nil); err != nil {
		return err
	}
	if x.follow {
		if _, err := daemon.Query(ctx, s.Control, 0); err != nil {
			return fmt.Errorf("explain: --follow needs a daemon: %w", err)
		}
	}
	a, err := daemon.Explain(ctx, s.Control, what, x.question)
	if err != nil {
		return fmt.Errorf("explain: %w", err)
	}
	if x.format == "json" {
		err = writeJSON(p.out, a)
	} else {
		err = writeExplanation(p.text(), a)
	}
	if err != nil || !x.follow {
		return err
	}
	return x.followLive(ctx, p, s.Control, fs)
}

// checkFollow finds what does not go together.
func (x *explaining) checkFollow(given *pflag.FlagSet, ofRun bool) error {
	switch {
	case x.follow && ofRun:
		return usagef("explain: --follow shows what the daemon that runs does: leave out the flags of run")
	case !x.follow && (given.Changed("packets") || given.Changed("timeout")):
		return usagef("explain: -c and --timeout are for --follow")
	case x.count < 1:
		return usagef("explain: -c %d: want 1 or more", x.count)
	}
	return nil
}

// followLive captures the next packets that are like the question.
func (x *explaining) followLive(ctx context.Context, p *program, control string, given *pflag.FlagSet) error {
	args := []string{"-n", "-v", "-Q", "in", "-c", strconv.Itoa(x.count), "-i", cmp.Or(x.question.IIF, "any"), "--control", control}
	for _, kind := range capture.Kinds {
		if kind != capture.Queue { // how a wait ends is told, too
			args = append(args, "--reason", kind)
		}
	}
	if x.format == "json" {
		args = append(args, "--verdict", "json")
	}
	c := cli.NewCommand(control)
	if err := c.Flags().Parse(args); err != nil {
		return err
	}
	expression := x.expression(given)
	fmt.Fprintf(p.errw, "waiting for the next packet of: %s\n", expression)
	if x.timeout > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, x.timeout)
		defer stop()
	}
	seen := &counting{w: p.out}
	live := *p
	live.out = seen
	err := runCapture(ctx, &live, c, []string{expression})
	// On a busy machine the time may be over before the capture has begun.
	if (err == nil || errors.Is(err, context.DeadlineExceeded)) && !seen.any && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("explain: no packet like it came within %s", x.timeout)
	}
	return err
}

// expression selects the packets that are like the question, by what was given.
func (x *explaining) expression(given *pflag.FlagSet) string {
	q := &x.question
	packet, request := []string{"ip dst host " + q.Dst.String()}, []string{"arp[6:2] = 1 and arp dst host " + q.Dst.String()}
	proto, tos := "ip proto %v", "ip[1] = %v"
	if q.Dst.Is6() {
		// The target stands behind the message's first eight bytes.
		packet, request = []string{"ip6 dst host " + q.Dst.String()}, []string{"icmp6 and ip6[40] = 135"}
		target := q.Dst.As16()
		for at := 0; at < len(target); at += 4 {
			request = append(request, fmt.Sprintf("ip6[%d:4] = 0x%x", 48+at, target[at:at+4]))
		}
		proto, tos = "ip6 proto %v", "ip6[0:2] & 0xff0 = %v << 4"
	}
	if given.Changed("from") {
		packet = append(packet, "src host "+q.From.String())
		if q.Dst.Is6() {
			request = append(request, "ip6 src host "+q.From.String())
		} else {
			request = append(request, "arp src host "+q.From.String())
		}
	}
	described := false
	add := func(flag, format string, value any) {
		if given.Changed(flag) {
			described = true
			packet = append(packet, fmt.Sprintf(format, value))
		}
	}
	add("proto", proto, q.Proto)
	add("sport", "src port %v", q.SPort)
	add("dport", "dst port %v", q.DPort)
	add("tos", tos, q.TOS)
	if described {
		return strings.Join(packet, " and ")
	}
	return "(" + strings.Join(packet, " and ") + ") or (" + strings.Join(request, " and ") + ")"
}

// counting tells whether something was written. A capture writes packets alone.
type counting struct {
	w   io.Writer
	any bool
}

func (c *counting) Write(b []byte) (int, error) {
	c.any = c.any || len(strings.TrimSpace(string(b))) > 0
	return c.w.Write(b)
}

// writeExplanation prints an answer for people.
func writeExplanation(out io.Writer, a *explain.Answer) error {
	w := &strings.Builder{}
	q := &a.Question
	value := func(s *string) string {
		if s == nil {
			return "unknown"
		}
		return *s
	}
	verdict := func(v, reason *string) string {
		if reason != nil {
			return value(v) + " " + *reason
		}
		return value(v)
	}
	step := func(what, says string) { fmt.Fprintf(w, "  %-24s  %s\n", what, says) }
	fmt.Fprintf(w, "as decided by %s\n", a.View)
	if a.Refused != "" {
		fmt.Fprintf(w, "which would not start here: %s\n", a.Refused)
	}
	request := "ARP request"
	if q.Dst.Is6() {
		request = "neighbour solicitation"
	}
	fmt.Fprintf(w, "\n%s by %s: who has %s, tell %s\n", request, q.IIF, q.Dst, q.From)
	for _, s := range a.ARP.Steps {
		step(s.Rule, s.Says)
	}
	fmt.Fprintf(w, "  => %s\n", verdict(a.ARP.Verdict, a.ARP.Reason))
	step("the kernel", a.Kernel.ARP)
	fmt.Fprintf(w, "\npacket by %s: %s > %s, protocol %d, %d bytes\n", q.IIF, q.From, q.Dst, q.Proto, q.Len)
	for _, s := range a.Forward.Steps {
		step(s.What, s.Says)
	}
	fmt.Fprintf(w, "  => %s\n", verdict(a.Forward.Verdict, a.Forward.Reason))
	fmt.Fprint(w, "\nthe same packet in the kernel\n")
	for _, s := range a.Kernel.Steps {
		step(s.What, s.Says)
	}
	fmt.Fprintf(w, "  => %s\n", verdict(a.Kernel.Verdict, a.Kernel.Reason))
	if a.Agree {
		fmt.Fprint(w, "\nboth agree\n")
	} else {
		fmt.Fprint(w, "\nthey differ\n")
		for _, why := range a.Differs {
			fmt.Fprintf(w, "  %s\n", why)
		}
	}
	_, err := io.WriteString(out, w.String())
	return err
}
