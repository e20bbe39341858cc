package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/spf13/pflag"

	"proxyarpd/capture"
	"proxyarpd/capture/dissect"
	"proxyarpd/capture/filter"
	"proxyarpd/capture/pcapfile"
	"proxyarpd/capture/source"
)

// Env is what the command needs of the program around it.
type Env struct {
	Out, Err io.Writer
	Version  string
	// Counts asks for the counts so far, Flush for what was written to be in
	// the file: tcpdump's SIGUSR1 and SIGUSR2. nil never does.
	Counts, Flush <-chan os.Signal
}

// run is one run of the command.
type run struct {
	Env
	*options
	ctx       context.Context // of Run
	src       source.Source
	file      *source.File   // src of -r and -V; else nil
	program   *filter.Filter // of --bpf-file
	sinks     []sink
	unwritten error  // of a flush while src waited
	judged    uint64 // packets with a verdict in files of -V that have been read
	live      bool
	recorder  *capture.Recorder // of --last-drops
	verdicts  bool              // packets may have one
	cooked    bool              // several interfaces, shown as -i any is
	files     []string          // of -V, that are still to be read
	captured  atomic.Uint64
	writing   sync.Mutex // held while a packet goes to the sinks
	srcMu     sync.Mutex // held while src is replaced
}

// Command is `proxyarpd capture`, for one run.
type Command struct {
	options options
	flags   *pflag.FlagSet
}

// NewCommand makes the command. control is the default of --control.
func NewCommand(control string) *Command {
	c := new(Command)
	c.flags = c.options.flags(control)
	return c
}

// Flags are the command's: tcpdump's and its own. The caller parses them before Run.
func (c *Command) Flags() *pflag.FlagSet { return c.flags }

// Run is the command; expression is what stands behind the options. An error that is a Usage is the caller's fault.
// When ctx ends, the summary is printed and the result is nil.
func (c *Command) Run(ctx context.Context, expression []string, env Env) (err error) {
	o := &c.options
	if err := o.complete(c.flags, expression); err != nil {
		return err
	}
	r := &run{Env: env, options: o, ctx: ctx}
	switch {
	case o.version:
		r.printVersion()
		return nil
	case o.list:
		return r.listInterfaces()
	}
	if err := r.nameNumbers(); err != nil {
		return err
	}
	switch {
	case o.listLinkTypes:
		return r.listTypes()
	case o.listStampTypes:
		r.listStamps()
		return nil
	}
	if err := r.loadProgram(); err != nil {
		return err
	}
	if o.dump > 0 {
		return r.dumpFilter()
	}
	if err := r.compile(); err != nil {
		return err
	}
	if err := r.open(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.src.Close()) }()
	if err := r.openSinks(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { r.source().Stop() })
	defer stop()
	defer r.attend()()
	return r.loop(ctx)
}

// loadProgram reads --bpf-file.
func (r *run) loadProgram() error {
	if r.bpfFile == "" {
		return nil
	}
	f, err := os.Open(r.bpfFile)
	if err != nil {
		return err
	}
	defer f.Close()
	if r.program, err = filter.ParseProgram(f); err != nil {
		return fmt.Errorf("%s: %w", r.bpfFile, err)
	}
	return nil
}

// compile finds errors of the expression before anything is opened.
func (r *run) compile() error {
	if r.read != "" || r.fileList != "" {
		return nil
	}
	if _, err := filter.CompileLive(r.expression); err != nil {
		return badExpression(err)
	}
	return nil
}

// badExpression says what is wrong with an expression.
func badExpression(err error) error { return Usage(filter.Words(err)) }

// open finds out where packets come from.
func (r *run) open(ctx context.Context) error {
	if r.fileList != "" {
		var err error
		if r.files, err = readFileList(r.fileList); err != nil {
			return err
		}
		r.read, r.files = r.files[0], r.files[1:]
	}
	if r.read != "" {
		return r.openRead()
	}
	r.live = true
	if len(r.interfaces) == 0 {
		r.interfaces = []string{capture.Any}
	}
	r.cooked = r.several()
	if err := r.checkLinkType(); err != nil {
		return err
	}
	err := r.openDaemon(ctx)
	if errors.Is(err, capture.ErrNoDaemon) {
		return r.openSocket()
	}
	return err
}

func (r *run) openRead() error {
	src, err := r.openFile()
	if err != nil {
		return err
	}
	if err := r.selectFrom(src); err != nil {
		return errors.Join(asUsage(err), src.Close())
	}
	if r.printsPackets() {
		if err := r.checkPrintable(src.LinkType()); err != nil {
			return errors.Join(err, src.Close())
		}
	}
	r.srcMu.Lock()
	r.src, r.file, r.verdicts = src, src, r.verdict != "off"
	r.srcMu.Unlock()
	if r.ctx.Err() != nil { // who was told to stop was the file before
		src.Stop()
	}
	r.cooked = r.verdicts && ofSeveral(src.Section())
	return nil
}

// selectFrom has a file give what the expression, or --bpf-file, selects.
func (r *run) selectFrom(src *source.File) error {
	switch {
	case r.program != nil:
		src.SetProgram(r.program)
	case r.expression != "":
		return src.SetFilter(r.expression, filter.Options{NoOptimize: r.noOptimize})
	}
	return nil
}

// asUsage makes of an error about an expression one of whoever typed it.
func asUsage(err error) error {
	if bad := capture.BadExpression(""); errors.As(err, &bad) {
		return Usage(bad)
	}
	return err
}

// openFile opens the file of -r, and says what it is.
func (r *run) openFile() (*source.File, error) {
	o := r.sourceOptions()
	o.Filter, o.SnapLen, o.Direction = "", 0, pcapfile.DirectionUnknown // a file has its own
	src, err := source.OpenFile(r.ctx, r.read, o)
	if err != nil {
		return nil, err
	}
	i := src.First()
	fmt.Fprintf(r.Err, "reading from file %s, link-type %s, snapshot length %d\n", r.read, i.LinkType, i.SnapLen)
	if err := i.LinkType.Check(); err != nil {
		return nil, errors.Join(err, src.Close())
	}
	return src, nil
}

// sourceOptions are the options in the terms of sources.
func (r *run) sourceOptions() source.Options {
	o := source.Options{Interfaces: r.interfaces, Filter: r.expression, SnapLen: r.snap, Drops: r.drops, Reasons: r.reasons,
		Buffer: r.buffer << 10, NoPromiscuous: r.noPromisc, Idle: r.idle}
	if r.last {
		if o.LastDrops = r.count; r.count == 0 {
			o.LastDrops = math.MaxInt32
		}
	}
	switch r.direction {
	case "in":
		o.Direction = pcapfile.Inbound
	case "out":
		o.Direction = pcapfile.Outbound
	}
	// What a daemon sends to a file alone goes there as it is.
	o.NoVerdicts = r.verdict == "off" && !r.wantsVerdict() || r.live && r.write != "" && !r.print
	return o
}

// idle is called when there is no packet: what was printed is to be seen.
func (r *run) idle() error {
	r.unwritten = r.each(sink.flush)
	return r.unwritten
}

// printsPackets reports whether packets are printed: they are not where they are
// written or counted alone.
func (r *run) printsPackets() bool {
	return !r.summary && !r.onlyCount && (r.write == "" || r.print)
}

// checkPrintable returns an error for a link type whose packets can't be printed.
func (o *options) checkPrintable(t pcapfile.LinkType) error {
	if dissect.Prints(uint16(t)) {
		return nil
	}
	return fmt.Errorf("%s: packets of link-type %s are not printed here; -w and --count take them", printable(o.read), t)
}

// Files that were captured on several interfaces say so in their section: their
// packets are shown as they were when they were captured.
const interfacesComment = "interfaces="

// section is what a file says of itself.
func (r *run) section() *pcapfile.Section {
	s := &pcapfile.Section{Application: application + " " + r.Version}
	if len(r.interfaces) > 0 {
		s.Comments = []string{interfacesComment + strings.Join(r.interfaces, " ")}
	}
	return s
}

const application = "proxyarpd"

func ofSeveral(s pcapfile.Section) bool {
	if !strings.HasPrefix(s.Application, application) {
		return false
	}
	for _, c := range s.Comments {
		if names, ok := strings.CutPrefix(c, interfacesComment); ok {
			return strings.Contains(names, " ") || capture.IsPattern(names)
		}
	}
	return false
}

func (r *run) openDaemon(ctx context.Context) error {
	src, err := source.Dial(ctx, r.control, r.sourceOptions())
	if err != nil {
		return asUsage(err)
	}
	r.src, r.verdicts = src, true
	rep := src.Reply()
	if r.last {
		r.recorder = rep.Recorder
		return r.checkRecorder()
	}
	if !rep.HostTraffic {
		fmt.Fprintln(r.Err, "proxyarpd: no eBPF here: only what the daemon handles is shown, not what it leaves to the kernel")
	}
	r.sayForeign(rep.Foreign)
	r.sayUnmatched(rep.Interfaces)
	r.banner()
	return nil
}

// checkRecorder refuses a daemon that does not know --last-drops, and would show what comes.
func (r *run) checkRecorder() error {
	if r.recorder == nil {
		return errors.Join(fmt.Errorf("%s: the daemon is older than this command, and keeps no drops", r.control), r.src.Close())
	}
	return nil
}

// tellRecorder says what there was beside what has been shown.
func (r *run) tellRecorder() {
	shown := r.captured.Load()
	fmt.Fprintf(r.Err, "%d drop%s shown, of %d kept, of %d since the daemon's start\n", shown, plural(shown), r.recorder.Kept, r.recorder.Recorded)
	for _, reason := range slices.Sorted(maps.Keys(r.recorder.Unseen)) {
		fmt.Fprintf(r.Err, "%d more dropped before the daemon had them: %s\n", r.recorder.Unseen[reason], printable(reason))
	}
}

// sayUnmatched tells of globs that no interface matches so far.
func (r *run) sayUnmatched(there []string) {
	for _, g := range r.interfaces {
		if g == capture.Any || !capture.IsPattern(g) || slices.ContainsFunc(there, func(name string) bool { ok, _ := path.Match(g, name); return ok }) {
			continue
		}
		fmt.Fprintf(r.Err, "proxyarpd: %s: no interface matches; waiting for one\n", printable(g))
	}
}

// sayForeign tells of interfaces that the daemon does not serve.
func (r *run) sayForeign(names []string) {
	const most = 8
	if len(names) == 0 || r.verdict == "off" {
		return
	}
	more := ""
	if len(names) > most {
		more = fmt.Sprintf(" and %d more", len(names)-most)
		names = names[:most]
	}
	fmt.Fprintf(r.Err, "proxyarpd: no verdicts on %s%s: not served by the daemon\n", printable(strings.Join(names, ", ")), more)
}

func (r *run) openSocket() error {
	if r.wantsVerdict() {
		return fmt.Errorf("%s: %w: --drops, --reason and --last-drops need one", r.control, capture.ErrNoDaemon)
	}
	src, err := source.OpenLive(r.sourceOptions())
	if err != nil {
		return asUsage(err)
	}
	r.src = src
	r.sayUnmatched(src.There())
	if r.verdict != "off" {
		fmt.Fprintf(r.Err, "proxyarpd: %s: %v: captured from a packet socket, without verdicts\n", r.control, capture.ErrNoDaemon)
	}
	r.banner()
	return nil
}

// banner is what tcpdump says before the first packet.
func (r *run) banner() {
	if r.write == "" && r.verbose == 0 && !r.summary {
		fmt.Fprintln(r.Err, "proxyarpd: verbose output suppressed, use -v[v]... for full protocol decode")
	} else {
		fmt.Fprint(r.Err, "proxyarpd: ")
	}
	fmt.Fprintf(r.Err, "listening on %s, link-type %s, snapshot length %d bytes\n", strings.Join(r.interfaces, ", "), r.linkType(), r.snap)
}

// mayHaveVerdicts reports whether what is written may have verdicts: from a
// daemon it has, from a file if that is of the format that has room for them.
func (r *run) mayHaveVerdicts() bool {
	if r.file != nil && r.file.Format() != pcapfile.Pcapng {
		return false
	}
	return r.verdicts && r.verdict != "off"
}

// checkLinkType returns an error if -y names another type than the interface's.
func (r *run) checkLinkType() error {
	if t := r.options.linkType; t != "" && !strings.EqualFold(t, r.linkType().Name()) {
		return Usage(fmt.Sprintf("%s is not one of the DLTs supported by this device: it has %s", printable(t), r.linkType().Name()))
	}
	return nil
}

// linkType is that of what is shown, or written as pcap.
func (r *run) linkType() pcapfile.LinkType {
	if r.cooked {
		return pcapfile.LinkTypeLinuxSLL2
	}
	return source.LinkTypeOf(r.interfaces[0])
}

// pcapHeader is that of a pcap file to be written: what is copied from a file
// keeps what that one's header says.
func (r *run) pcapHeader() pcapfile.PcapHeader {
	h := pcapfile.PcapHeader{LinkType: r.linkTypeWritten(), SnapLen: uint32(r.snap), Nano: r.nano}
	if r.file == nil {
		return h
	}
	first := r.file.First()
	h.Whole, h.SnapLen, h.FCS = true, first.SnapLen, first.FCS
	for _, i := range r.file.Interfaces() {
		h.SnapLen = max(h.SnapLen, i.SnapLen)
	}
	if r.cooked {
		h.SnapLen, h.FCS = h.SnapLen+sll2Len, 0
	}
	return h
}

// linkTypeWritten is the link type of a pcap file.
func (r *run) linkTypeWritten() pcapfile.LinkType {
	if r.file != nil && !r.cooked {
		return r.file.LinkType()
	}
	return r.linkType()
}

func (r *run) openSinks() error {
	if r.summary {
		r.sinks = append(r.sinks, &summary{w: r.Out, json: r.verdict == "json"})
		return nil
	}
	if r.onlyCount {
		return nil
	}
	if r.write != "" {
		pcapng := r.wantsPcapng(r.mayHaveVerdicts())
		if r.verdicts && !pcapng && r.live && r.verdict != "off" {
			fmt.Fprintf(r.Err, "proxyarpd: %s: a pcap file has no verdicts; for those, let the name end in .pcapng\n", r.write)
		}
		f, err := newFile(r.options, pcapng, r.cooked, r.pcapHeader(), r.section(), r.src, r.rotated)
		if err != nil {
			return err
		}
		r.sinks = append(r.sinks, f)
	}
	if r.write == "" || r.print {
		r.sinks = append(r.sinks, newText(r.options, r.Out, r.cooked))
	}
	return nil
}

// loop takes packets to the sinks until there are no more.
func (r *run) loop(ctx context.Context) (err error) {
	failed := false              // the source, not we
	for before := uint64(0); ; { // the files of -V that have been read
		if r.count > 0 && r.captured.Load()-before >= uint64(r.count) {
			if len(r.files) == 0 {
				break
			}
			if err = r.nextFile(); err != nil {
				break
			}
			before = r.captured.Load()
		}
		_, info, e := r.src.ZeroCopyReadPacketData()
		if e != nil {
			if errors.Is(e, io.EOF) && len(r.files) > 0 && ctx.Err() == nil {
				if e = r.nextFile(); e == nil {
					before = r.captured.Load()
					continue
				}
			}
			err, failed = e, r.unwritten == nil
			break
		}
		if err = r.deliver(source.AncillaryOf(info)); err != nil {
			break
		}
	}
	r.finish()
	if failed {
		err = r.over(ctx, err)
	}
	if !r.live && r.judged+r.src.Statistics().Verdicts == 0 && r.wantsVerdict() && err == nil {
		fmt.Fprintf(r.Err, "proxyarpd: %s: no packet has a verdict\n", printable(r.read))
	}
	full := errors.Is(err, pcapfile.ErrFileLimit) // which is how it is to end
	if full {
		fmt.Fprintln(r.Err, "Maximum file limit reached:", r.rotateFiles)
	}
	err = errors.Join(err, r.closeSinks(err))
	if full && errors.Is(err, pcapfile.ErrFileLimit) {
		err = nil
	}
	if !errors.Is(err, syscall.EPIPE) { // else nobody reads that either, as with tcpdump
		r.conclude(ctx)
	}
	return err
}

// over says whether a source's end is an error. A daemon's that was not asked
// for is told of.
func (r *run) over(ctx context.Context, err error) error {
	if _, daemon := r.src.(*source.Stream); daemon && !r.last && errors.Is(err, io.EOF) && ctx.Err() == nil {
		fmt.Fprintln(r.Err, "proxyarpd: the daemon ends, and the capture with it")
	}
	if errors.Is(err, io.EOF) || ctx.Err() != nil && (errors.Is(err, os.ErrClosed) || !r.live) {
		return nil
	}
	return err
}

// closeSinks closes all, whatever becomes of the others. What failed before
// says nothing new.
func (r *run) closeSinks(failed error) (err error) {
	for _, s := range r.sinks {
		if e := s.close(); err == nil && (failed == nil || e != nil && e.Error() != failed.Error()) {
			err = e
		}
	}
	return err
}

// deliver takes a packet to the sinks.
func (r *run) deliver(a *source.Ancillary) error {
	if !a.Again {
		r.captured.Add(1)
	}
	if len(r.sinks) == 0 {
		return nil
	}
	r.writing.Lock()
	defer r.writing.Unlock()
	for _, s := range r.sinks {
		if err := s.packet(&a.Packet, a.Verdict, a.Again); err != nil {
			return err
		}
	}
	return nil
}

// each does something with all sinks.
func (r *run) each(do func(sink) error) error {
	r.writing.Lock()
	defer r.writing.Unlock()
	for _, s := range r.sinks {
		if err := do(s); err != nil {
			return err
		}
	}
	return nil
}

// finish has a live source say its last: what it lost.
func (r *run) finish() {
	if !r.live {
		return
	}
	r.src.Stop()
	for {
		if _, _, err := r.src.ZeroCopyReadPacketData(); err != nil {
			return
		}
	}
}

// conclude prints tcpdump's last lines.
func (r *run) conclude(ctx context.Context) {
	if !r.live {
		if r.onlyCount {
			fmt.Fprintf(r.Out, "%d packet%s\n", r.captured.Load(), plural(r.captured.Load()))
		}
		return
	}
	if ctx.Err() != nil && (r.write == "" || r.print) && r.verdict != "json" && !r.summary {
		fmt.Fprintln(r.Out) // tcpdump's, in case a line was not finished
	}
	if r.last {
		r.tellRecorder()
		return
	}
	fmt.Fprintln(r.Err, strings.Join(r.counts(r.src.Statistics()), "\n"))
}

// counts are the parts of what tcpdump says of its counts.
func (r *run) counts(c source.Statistics) []string {
	captured := r.captured.Load()
	received := max(c.Received, captured)
	all := []string{fmt.Sprintf("%d packet%s captured", captured, plural(captured)), fmt.Sprintf("%d packet%s received by filter", received, plural(received)),
		fmt.Sprintf("%d packet%s dropped by kernel", c.Dropped, plural(c.Dropped))}
	if c.Lost > 0 {
		all = append(all, fmt.Sprintf("%d packet%s not recorded: the reader was too slow", c.Lost, plural(c.Lost)))
	}
	return all
}

func plural(n uint64) string {
	if n == 1 {
		return ""
	}
	return "s"
}
