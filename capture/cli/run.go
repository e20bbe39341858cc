package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"proxyarpd/capture"
	"proxyarpd/capture/dissect"
	"proxyarpd/capture/filter"
	"proxyarpd/capture/pcapfile"
)

// Env is what the command needs of the program around it.
type Env struct {
	Out, Err io.Writer
	Daemon   Daemon
	Version  string
	// Counts asks for the counts so far, Flush for what was written to be in
	// the file: tcpdump's SIGUSR1 and SIGUSR2. nil never does.
	Counts, Flush <-chan os.Signal
}

// run is one run of the command.
type run struct {
	Env
	*options
	ctx      context.Context // of Run
	src      source
	selector selector
	sinks    []sink
	live     bool
	verdicts bool     // packets may have one
	cooked   bool     // several interfaces, shown as -i any is
	files    []string // of -V, that are still to be read
	captured atomic.Uint64
	writing  sync.Mutex // held while a packet goes to the sinks
	srcMu    sync.Mutex // held while src is replaced
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
	defer func() { err = errors.Join(err, r.src.close()) }()
	if err := r.openSinks(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { r.source().end() })
	defer stop()
	defer r.attend()()
	return r.loop(ctx)
}

// loadProgram reads --bpf-file.
func (r *run) loadProgram() error {
	r.selector.expression, r.selector.noOptimize = r.expression, r.noOptimize
	if r.bpfFile == "" {
		return nil
	}
	f, err := os.Open(r.bpfFile)
	if err != nil {
		return err
	}
	defer f.Close()
	if r.selector.program, err = filter.ParseProgram(f); err != nil {
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
	i := src.look()
	if r.expression != "" {
		if err := r.selector.check(i, src.r.Interfaces()); err != nil {
			return errors.Join(badExpression(err), src.close())
		}
	}
	if r.printsPackets() {
		if err := r.checkPrintable(i.LinkType); err != nil {
			return errors.Join(err, src.close())
		}
	}
	r.srcMu.Lock()
	r.src, r.verdicts = src, r.verdict != "off"
	r.srcMu.Unlock()
	r.cooked = r.verdicts && ofSeveral(src.r.Section())
	return nil
}

// openFile opens the file of -r, and says what it is.
func (r *run) openFile() (*reading, error) {
	src, err := openFile(r.ctx, r.read)
	if err != nil {
		return nil, err
	}
	i := src.look()
	fmt.Fprintf(r.Err, "reading from file %s, link-type %s, snapshot length %d\n", r.read, i.LinkType, i.SnapLen)
	if err := i.LinkType.Check(); err != nil {
		return nil, errors.Join(err, src.close())
	}
	return src, nil
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
	req := capture.Request{Interfaces: r.interfaces, Filter: r.expression, Snap: r.snap, Drops: r.drops, Reasons: r.reasons, Buffer: r.buffer << 10,
		Promiscuous: !r.noPromisc && !r.several()}
	if r.direction != "inout" {
		req.Direction = r.direction
	}
	s, err := r.Daemon(ctx, r.control, req)
	if bad := capture.BadExpression(""); errors.As(err, &bad) {
		return Usage(bad)
	}
	if err != nil {
		return err
	}
	rep := s.Reply()
	src, err := newReading(s, s, func() {
		_ = s.End()
		time.AfterFunc(endGrace, func() { _ = s.Close() })
	})
	if err != nil {
		return errors.Join(err, s.Close())
	}
	src.ask = s.Ask
	r.src, r.verdicts = src, true
	if !rep.HostTraffic {
		fmt.Fprintln(r.Err, "proxyarpd: no eBPF here: only what the daemon handles is shown, not what it leaves to the kernel")
	}
	r.sayForeign(rep.Foreign)
	r.sayUnmatched(rep.Interfaces)
	r.banner()
	return nil
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

// endGrace is how long a daemon has to say its last.
const endGrace = 5 * time.Second

func (r *run) openSocket() error {
	if r.wantsVerdict() {
		return fmt.Errorf("%s: %w: --drops and --reason need one", r.control, capture.ErrNoDaemon)
	}
	src, there, err := openSocket(r.options)
	if err != nil {
		return err
	}
	r.src = src
	r.sayUnmatched(there)
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
	if src, ok := r.src.(*reading); ok && !r.live && src.r.Format() != pcapfile.Pcapng {
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
	if i, err := net.InterfaceByName(r.interfaces[0]); err == nil && len(i.HardwareAddr) == 0 && i.Flags&net.FlagLoopback == 0 {
		return pcapfile.LinkTypeRaw // a TUN device
	}
	return pcapfile.LinkTypeEthernet
}

// pcapHeader is that of a pcap file to be written: what is copied from a file
// keeps what that one's header says.
func (r *run) pcapHeader() pcapfile.PcapHeader {
	h := pcapfile.PcapHeader{LinkType: r.linkTypeWritten(), SnapLen: uint32(r.snap), Nano: r.nano}
	src, ok := r.src.(*reading)
	if !ok || r.live {
		return h
	}
	h.Whole, h.SnapLen, h.FCS = true, src.look().SnapLen, src.look().FCS
	for _, i := range src.r.Interfaces() {
		h.SnapLen = max(h.SnapLen, i.SnapLen)
	}
	if r.cooked {
		h.SnapLen, h.FCS = h.SnapLen+sll2Len, 0
	}
	return h
}

// linkTypeWritten is the link type of a pcap file.
func (r *run) linkTypeWritten() pcapfile.LinkType {
	if src, ok := r.src.(*reading); ok && !r.live && !r.cooked {
		return src.look().LinkType
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
	var p pcapfile.Packet
	var v capture.Verdict
	failed, judged := false, false // the source failed, not we; a packet had a verdict
	for before := uint64(0); ; {   // the files of -V that have been read
		if r.count > 0 && r.captured.Load()-before >= uint64(r.count) {
			if len(r.files) == 0 {
				break
			}
			if err = r.nextFile(); err != nil {
				break
			}
			before = r.captured.Load()
		}
		if !r.src.ready() {
			if err = r.each(sink.flush); err != nil {
				break
			}
		}
		if err = r.src.next(&p); errors.Is(err, io.EOF) && len(r.files) > 0 && ctx.Err() == nil {
			if err = r.nextFile(); err == nil {
				before = r.captured.Load()
				continue
			}
		}
		if err != nil {
			failed = true
			break
		}
		told := r.judge(&p, &v)
		judged = judged || told != nil
		if !r.live { // else the daemon has sorted
			if told == nil && r.wantsVerdict() || told != nil && !r.asked(told) {
				continue
			}
			if !r.selector.match(&p) {
				continue
			}
		}
		again := r.again(&p)
		if !again {
			r.captured.Add(1)
		}
		if err = r.each(func(s sink) error { return s.packet(&p, told, again) }); err != nil {
			break
		}
	}
	r.finish()
	if failed {
		err = r.over(ctx, err)
	}
	if !r.live && !judged && r.wantsVerdict() && err == nil {
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

// errHungUp says that a daemon's stream ended without its end.
var errHungUp = errors.New("the daemon hung up: it was killed, or has not waited any longer for so slow a reader")

// over says whether a source's end is an error. A daemon's that was not asked
// for is told of.
func (r *run) over(ctx context.Context, err error) error {
	if src, ok := r.src.(*reading); ok && r.live {
		if reason := src.reason(); reason != "" {
			return fmt.Errorf("%s: %s", strings.Join(r.interfaces, ", "), reason)
		}
		if !src.whole() {
			return errHungUp
		}
		if ctx.Err() == nil {
			fmt.Fprintln(r.Err, "proxyarpd: the daemon ends, and the capture with it")
		}
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

// judge reads the verdict from a packet's comments; nil if there is none, or
// nobody wants to know: what goes to a file alone goes there as it is.
func (r *run) judge(p *pcapfile.Packet, v *capture.Verdict) *capture.Verdict {
	if r.verdict == "off" && !r.wantsVerdict() || r.live && r.write != "" && !r.print {
		return nil
	}
	for _, c := range p.Comments {
		var ok bool
		if *v, ok = capture.ParseComment(string(c)); ok {
			return v
		}
	}
	return nil
}

// again reports whether a packet has been there before, when it began to wait.
// Who asked for how it ended alone has not seen it then.
func (r *run) again(p *pcapfile.Packet) bool {
	return slices.ContainsFunc(p.Comments, capture.IsAgain) && (r.live || r.asked(&capture.Verdict{Kind: capture.Queue}))
}

// asked reports whether a verdict is one of --drops and --reason.
func (r *run) asked(v *capture.Verdict) bool {
	if r.drops && v.Kind != capture.Drop {
		return false
	}
	return len(r.reasons) == 0 || slices.ContainsFunc(r.reasons, func(g string) bool {
		a, _ := path.Match(g, v.Reason)
		b, _ := path.Match(g, v.Kind)
		return a && v.Reason != "" || b
	})
}

// finish has a live source say its last: what it lost.
func (r *run) finish() {
	if !r.live {
		return
	}
	r.src.end()
	var p pcapfile.Packet
	for r.src.next(&p) == nil {
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
	fmt.Fprintln(r.Err, strings.Join(r.counts(r.src.statistics()), "\n"))
}

// counts are the parts of what tcpdump says of its counts.
func (r *run) counts(c counts) []string {
	captured := r.captured.Load()
	received := max(c.received, captured)
	all := []string{fmt.Sprintf("%d packet%s captured", captured, plural(captured)), fmt.Sprintf("%d packet%s received by filter", received, plural(received)),
		fmt.Sprintf("%d packet%s dropped by kernel", c.dropped, plural(c.dropped))}
	if c.lost > 0 {
		all = append(all, fmt.Sprintf("%d packet%s not recorded: the reader was too slow", c.lost, plural(c.lost)))
	}
	return all
}

func plural(n uint64) string {
	if n == 1 {
		return ""
	}
	return "s"
}
