// Package cli is the command `proxyarpd capture`: tcpdump's options, and what
// becomes of the packets that they ask for.
package cli

import (
	"fmt"
	"io"
	"os"
	"path"
	"regexp"
	"strings"

	"github.com/spf13/pflag"

	"proxyarpd/capture"
	"proxyarpd/capture/dissect"
	"proxyarpd/capture/pcapfile"
)

// Usage is an error of whoever typed the command line.
type Usage string

func (u Usage) Error() string { return string(u) }

// FlagGroup is the annotation of a flag that names its heading in the help.
const FlagGroup = "group"

// options are what the command line says. Fields have the names of tcpdump's
// options where they have one.
type options struct {
	interfaces []string
	expression string
	count      int
	snap       int
	direction  string
	buffer     int // KiB
	noPromisc  bool

	read, write   string
	rotateSize    string
	rotateSeconds int64
	rotateFiles   int
	perPacket     bool // -U
	lineBuffered  bool // -l
	print         bool
	onlyCount     bool
	list          bool
	listLinkTypes bool
	linkType      string
	dump          int // -d, -dd, -ddd
	noOptimize    bool

	link, absoluteSeq, number, noDomain, noChecksum bool
	numeric, verbose, quiet, stamp                  int
	hex, hexASCII, ascii                            int
	nano                                            bool

	verdict string
	drops   bool
	reasons []string
	summary bool
	last    bool // --last-drops
	control string
	bpfFile string

	expressionFile, precision string

	packetType, fileList, postRotate, stampType         string
	asDot, rawHandles, foreign, listStampTypes, version bool
}

// verdictModes are the values of --verdict.
var verdictModes = []string{"suffix", "line", "json", "off"}

// Choices are the values of the flags that take one of few words, by the flag's name.
func Choices() map[string][]string {
	return map[string][]string{
		"verdict": verdictModes, "direction": {"in", "out", "inout"}, "packet-type": dissect.Types,
		"time-stamp-precision": {"micro", "nano"}, "time-stamp-type": stampTypes[:1],
	}
}

// verdictFlags are those that tcpdump does not have.
func (o *options) verdictFlags(f *pflag.FlagSet, control string) {
	f.StringVar(&o.verdict, "verdict", "suffix", "how to show what became of a packet, a `mode`: suffix, line, json or off")
	f.BoolVar(&o.drops, "drops", false, "only what was dropped")
	f.BoolVar(&o.last, "last-drops", false, "the last drops that the daemon has kept, not what comes; -c takes the newest")
	f.StringArrayVar(&o.reasons, "reason", nil, "only verdicts whose reason or kind the `glob` matches; repeatable")
	f.BoolVar(&o.summary, "summary", false, "no lines, but counts by verdict and interface at the end")
	f.StringVar(&o.control, "control", control, "`path` of the control socket")
	f.StringVar(&o.bpfFile, "bpf-file", "", "instead of an expression, the filter in this `file`, as printed by tcpdump -ddd")
}

func (o *options) flags(control string) *pflag.FlagSet {
	f := pflag.NewFlagSet("capture", pflag.ContinueOnError)
	f.SetInterspersed(true) // also behind the expression, as with tcpdump
	f.SortFlags = false
	f.SetOutput(io.Discard)
	f.Usage = func() {}
	o.verdictFlags(f, control)
	f.VisitAll(func(flag *pflag.Flag) { flag.Annotations = map[string][]string{FlagGroup: {"Verdicts"}} })
	f.StringArrayVarP(&o.interfaces, "interface", "i", nil, "capture on this `interface`: a name, a glob, or any; repeatable")
	f.IntVarP(&o.count, "packets", "c", 0, "end after that many `packets`")
	f.IntVarP(&o.snap, "snapshot-length", "s", 0, "`bytes` of each packet to keep; 0: 262144")
	f.StringVarP(&o.direction, "direction", "Q", "inout", "packets of this `direction`: in, out or inout")
	f.IntVarP(&o.buffer, "buffer-size", "B", 0, "`KiB` of packets that may wait to be printed or written")
	f.BoolVarP(&o.noPromisc, "no-promiscuous-mode", "p", false, "do not put the interface into promiscuous mode")
	f.StringVarP(&o.read, "read", "r", "", "read packets from this `file`, - is standard input")
	f.StringVarP(&o.write, "write", "w", "", "write packets to this `file`, - is standard output; pcapng, or pcap where there are no verdicts or the name ends in .pcap")
	f.StringVarP(&o.rotateSize, "file-size", "C", "", "with -w: begin a new file after that `size` (millions of bytes)")
	f.Int64VarP(&o.rotateSeconds, "rotate-seconds", "G", 0, "with -w: begin a new file after that many `seconds`; the name is a format of strftime(3)")
	f.IntVarP(&o.rotateFiles, "file-count", "W", 0, "with -C or -G: how many `files`")
	f.BoolVarP(&o.perPacket, "packet-buffered", "U", false, "with -w: write each packet as it comes")
	f.BoolVarP(&o.lineBuffered, "line-buffered", "l", false, "write each line as it comes")
	f.BoolVar(&o.print, "print", false, "print packets also with -w")
	f.BoolVar(&o.onlyCount, "count", false, "with -r: print how many packets there are")
	f.BoolVarP(&o.list, "list-interfaces", "D", false, "list the interfaces")
	f.BoolVarP(&o.listLinkTypes, "list-data-link-types", "L", false, "list the link types of the interface")
	f.StringVarP(&o.linkType, "linktype", "y", "", "link `type`: with -d that of the filter; else the one that the interface has")
	f.CountVarP(&o.dump, "dump-filter", "d", "print the compiled filter; twice as C, three times as numbers")
	f.BoolVarP(&o.link, "link-level", "e", false, "print the link-level header")
	f.CountVarP(&o.numeric, "numeric", "n", "no names for addresses and ports")
	f.CountVarP(&o.verbose, "verbose", "v", "more of it; up to three times")
	f.CountVarP(&o.quiet, "quick", "q", "less of it")
	f.CountVarP(&o.stamp, "timestamp", "t", "none; -tt seconds since 1970, -ttt since the packet before, -tttt with date, -ttttt since the first")
	f.CountVarP(&o.hex, "hex", "x", "dump in hex; -xx with link-level header")
	f.CountVarP(&o.hexASCII, "hex-ascii", "X", "dump in hex and ASCII; -XX with link-level header")
	f.CountVarP(&o.ascii, "ascii", "A", "dump in ASCII; -AA with link-level header")
	f.BoolVarP(&o.absoluteSeq, "absolute-tcp-sequence-numbers", "S", false, "TCP sequence numbers as they are")
	f.BoolVarP(&o.number, "number", "#", false, "number the packets")
	f.BoolVarP(&o.noDomain, "no-domain", "N", false, "host names without their domain")
	f.BoolVarP(&o.noChecksum, "dont-verify-checksums", "K", false, "do not verify checksums")
	f.BoolVar(&o.nano, "nano", false, "print nanoseconds")
	o.tcpdumpFlags(f)
	f.StringVarP(&o.expressionFile, "expression-file", "F", "", "read the expression from this `file`")
	f.StringVar(&o.precision, "time-stamp-precision", "", "`unit` of the time stamps that are printed: micro or nano")
	f.Bool("micro", false, "print microseconds")
	f.Bool("immediate-mode", false, "for tcpdump's sake: packets are always told of at once")
	f.BoolVarP(&o.noOptimize, "no-optimize", "O", false, "with -d or -r: leave the filter as it was generated")
	f.StringP("relinquish-privileges", "Z", "", "for tcpdump's sake: the `user` does not change")
	f.VisitAll(func(flag *pflag.Flag) {
		if flag.Annotations == nil {
			flag.Annotations = map[string][]string{FlagGroup: {"tcpdump's options"}}
		}
	})
	return f
}

// complete takes what stands behind the options, and finds what does not go together. f has been parsed.
func (o *options) complete(f *pflag.FlagSet, expression []string) error {
	switch o.precision {
	case "", "micro":
	case "nano":
		o.nano = true
	default:
		return Usage(fmt.Sprintf("--time-stamp-precision %s: want micro or nano", o.precision))
	}
	if o.stamp > 5 {
		return Usage("only -t, -tt, -ttt, -tttt, and -ttttt are supported")
	}
	o.expression = strings.Join(expression, " ")
	if o.expressionFile != "" { // it goes before what stands on the command line, as with tcpdump
		text, err := readExpression(o.expressionFile)
		if err != nil {
			return err
		}
		o.expression = text
	}
	return o.check(f)
}

// maxExpression bounds a file with an expression, bytes.
const maxExpression = 64 << 10

func readExpression(name string) (string, error) {
	r := io.Reader(os.Stdin)
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return "", fmt.Errorf("can't %w", err)
		}
		defer file.Close()
		r = file
	}
	text, err := io.ReadAll(io.LimitReader(r, maxExpression+1))
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	if len(text) > maxExpression {
		return "", fmt.Errorf("%s: longer than %d bytes", name, maxExpression)
	}
	return strings.TrimSpace(comments.ReplaceAllString(string(text), " ")), nil
}

// comments reach from a # to the end of the line.
var comments = regexp.MustCompile("#[^\n]*")

// maxBuffer is the most that -B may ask for, KiB.
const maxBuffer = 1 << 20

// check finds what does not go together.
func (o *options) check(f *pflag.FlagSet) error {
	bad := func(format string, args ...any) error { return Usage(fmt.Sprintf(format, args...)) }
	switch o.direction {
	case "in", "out", "inout":
	default:
		return bad("unknown capture direction %q: want in, out or inout", o.direction)
	}
	if f.Changed("file-size") {
		if _, err := pcapfile.ParseFileSize(o.rotateSize); err != nil {
			return bad("%v", err)
		}
	}
	known := false
	for _, m := range verdictModes {
		known = known || m == o.verdict
	}
	switch {
	case !known:
		return bad("--verdict %q: want %s", o.verdict, strings.Join(verdictModes, ", "))
	case o.snap < 0 || o.snap > pcapfile.MaxSnapLen:
		return bad("invalid snaplen %d (must be >= 0 and <= %d)", o.snap, pcapfile.MaxSnapLen)
	case f.Changed("packets") && o.count <= 0:
		return bad("invalid packet count %d", o.count)
	case f.Changed("buffer-size") && (o.buffer <= 0 || o.buffer > maxBuffer):
		return bad("invalid packet buffer size %d", o.buffer)
	case o.version:
		return nil
	case f.Changed("file-count") && o.rotateFiles <= 0:
		return bad("invalid number of output files %d", o.rotateFiles)
	case o.rotateSeconds < 0:
		return bad("invalid number of seconds %d", o.rotateSeconds)
	case o.read != "" && len(o.interfaces) > 0:
		return bad("-i and -r exclude each other")
	case o.last && (o.read != "" || o.fileList != ""):
		return bad("--last-drops asks a daemon: it excludes -r and -V")
	case o.onlyCount && o.read == "" && o.fileList == "":
		return bad("--count is for -r")
	case o.write == "" && (o.rotateSize != "" || o.rotateSeconds != 0 || o.rotateFiles != 0):
		return bad("-C, -G and -W are for -w")
	case o.bpfFile != "" && o.expression != "":
		return bad("--bpf-file and an expression exclude each other")
	case o.summary && (o.write != "" || o.onlyCount):
		return bad("--summary prints counts alone: it excludes -w and --count")
	}
	if o.linkType != "" {
		if _, known := pcapfile.LinkTypeNamed(o.linkType); !known {
			return bad("invalid data link type %s", printable(o.linkType))
		}
	}
	if err := o.checkTcpdump(f); err != nil {
		return err
	}
	if err := o.checkPrinting(f); err != nil {
		return err
	}
	if o.perPacket { // -U is of what is printed, too
		o.lineBuffered = true
	}
	for _, g := range append(append([]string{}, o.interfaces...), o.reasons...) {
		if _, err := path.Match(g, ""); err != nil {
			return bad("%q: %v", g, err)
		}
	}
	if o.snap == 0 {
		o.snap = pcapfile.MaxSnapLen
	}
	return nil
}

// How packets are printed as text; what is none of that has no such options.
var (
	textOnly    = []string{"timestamp", "hex", "hex-ascii", "ascii", "number"}
	packetsOnly = append([]string{"link-level", "quick", "absolute-tcp-sequence-numbers", "no-domain", "dont-verify-checksums", "print", "packet-type",
		"asdot", "raw-handles", "foreign-numeric", "nano", "time-stamp-precision"}, textOnly...)
)

// checkPrinting refuses options of what is not printed.
func (o *options) checkPrinting(f *pflag.FlagSet) error {
	refuse := func(what string, options []string) error {
		for _, name := range options {
			if f.Changed(name) {
				typed := "--" + name
				if letter := f.Lookup(name).Shorthand; letter != "" {
					typed = "-" + letter
				}
				return Usage(fmt.Sprintf("%s does not go with %s", typed, what))
			}
		}
		return nil
	}
	switch {
	case o.summary && (o.verdict == "line" || o.verdict == "off"):
		return Usage("--verdict " + o.verdict + " does not go with --summary: it prints no packets")
	case o.summary:
		return refuse("--summary: it prints no packets", packetsOnly)
	case o.write != "" && !o.print && (o.verdict == "line" || o.verdict == "json"):
		return Usage("--verdict " + o.verdict + " is for what is printed: add --print to -w")
	case o.verdict == "json" && o.write == "":
		return refuse("--verdict json: a packet is an object of fields, its time has nanoseconds", append([]string{"nano", "time-stamp-precision"}, textOnly...))
	case o.verdict == "json":
		return refuse("--verdict json: a packet is an object of fields", textOnly)
	}
	return nil
}

// wantsVerdict reports whether something was asked for that only a daemon, or
// a file with verdicts, can tell.
func (o *options) wantsVerdict() bool { return o.drops || len(o.reasons) > 0 || o.last }

// several reports whether packets of more than one interface are shown.
func (o *options) several() bool {
	return capture.Several(o.interfaces)
}
