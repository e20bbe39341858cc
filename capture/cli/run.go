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
	"syscall"
	"time"

	"proxyarpd/capture"
	"proxyarpd/capture/dissect"
	"proxyarpd/capture/filter"
	"proxyarpd/capture/pcapfile"
)

// Env is what the command needs of the program around it.
type Env struct {
	Out, Err io.Writer
	Daemon   Daemon
	Control  string // default of --control
	Version  string
}

// run is one run of the command.
type run struct {
	Env
	*options
	src      source
	selector selector
	sinks    []sink
	live     bool
	verdicts bool // packets may have one
	cooked   bool // several interfaces, shown as -i any is
	captured uint64
}

// Run is the command. An error that is a Usage is the caller's fault; ErrHelp
// says that the help was printed. When ctx ends, the summary is printed and the
// result is nil.
func Run(ctx context.Context, args []string, env Env) (err error) {
	o, err := parse(args, env.Control, env.Out)
	if err != nil {
		return err
	}
	r := &run{Env: env, options: o}
	switch {
	case o.list:
		return r.listInterfaces()
	case o.listLinkTypes:
		return r.listTypes()
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
	stop := context.AfterFunc(ctx, r.src.end)
	defer stop()
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
	if _, err := filter.Compile(r.expression, filter.Ethernet); err != nil && r.read == "" {
		return badExpression(err)
	}
	return nil
}

// badExpression says where an expression is wrong.
func badExpression(err error) error {
	return Usage("can't parse filter expression: " + strings.TrimPrefix(err.Error(), "filter: "))
}

// open finds out where packets come from.
func (r *run) open(ctx context.Context) error {
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
	r.src, r.verdicts = src, r.verdict != "off"
	r.cooked = r.verdicts && ofSeveral(src.r.Section())
	return nil
}

// openFile opens the file of -r, and says what it is.
func (r *run) openFile() (*reading, error) {
	src, err := openFile(r.read)
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
			return strings.Contains(names, " ") || isPattern(names)
		}
	}
	return false
}

func (r *run) openDaemon(ctx context.Context) error {
	req := capture.Request{Interfaces: r.interfaces, Filter: r.expression, Snap: r.snap, Drops: r.drops, Reasons: r.reasons, Buffer: r.buffer << 10}
	if r.direction != "inout" {
		req.Direction = r.direction
	}
	s, err := r.Daemon(ctx, r.control, req)
	if err != nil {
		return err
	}
	rep := s.Reply()
	for _, name := range r.interfaces {
		if !isPattern(name) && !slices.Contains(rep.Interfaces, name) {
			return errors.Join(fmt.Errorf("%s: No such device exists", name), s.Close())
		}
	}
	src, err := newReading(s, s, func() {
		_ = s.End()
		time.AfterFunc(endGrace, func() { _ = s.Close() })
	})
	if err != nil {
		return errors.Join(err, s.Close())
	}
	r.src, r.verdicts = src, true
	if !rep.HostTraffic {
		fmt.Fprintln(r.Err, "proxyarpd: no eBPF here: only what the daemon handles is shown, not what it leaves to the kernel")
	}
	r.sayForeign(rep.Foreign)
	r.banner()
	return nil
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
		return fmt.Errorf("%s: %w: --drops, --reason, --summary and --verdict json need one", r.control, capture.ErrNoDaemon)
	}
	src, err := openSocket(r.options)
	if err != nil {
		return err
	}
	r.src = src
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
		r.sinks = append(r.sinks, &summary{w: r.Out})
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
		f, err := newFile(r.options, pcapng, r.cooked, r.pcapHeader(), r.section(), r.src)
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
	for r.count == 0 || r.captured < uint64(r.count) {
		if !r.src.ready() {
			if err = r.each(sink.flush); err != nil {
				break
			}
		}
		if err = r.src.next(&p); err != nil {
			failed = true
			break
		}
		told := r.judge(&p, &v)
		judged = judged || told != nil
		if !r.live { // else the daemon has sorted
			if told == nil && r.wantsVerdict() && r.verdict != "json" && !r.summary || told != nil && !r.asked(told) {
				continue
			}
			if !r.selector.match(&p) {
				continue
			}
		}
		r.captured++
		if err = r.each(func(s sink) error { return s.packet(&p, told) }); err != nil {
			break
		}
	}
	r.finish()
	if failed {
		err = r.over(ctx, err)
	}
	if !r.live && !judged && (r.drops || len(r.reasons) > 0) && err == nil {
		fmt.Fprintf(r.Err, "proxyarpd: %s: no packet has a verdict\n", printable(r.read))
	}
	if errors.Is(err, pcapfile.ErrFileLimit) {
		fmt.Fprintln(r.Err, "Maximum file limit reached:", r.rotateFiles)
		err = nil
	}
	err = errors.Join(err, r.closeSinks(err))
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
		if !src.whole() {
			return errHungUp
		}
		if ctx.Err() == nil {
			fmt.Fprintln(r.Err, "proxyarpd: the daemon ends, and the capture with it")
		}
	}
	if errors.Is(err, io.EOF) || ctx.Err() != nil && errors.Is(err, os.ErrClosed) {
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
			fmt.Fprintf(r.Out, "%d packet%s\n", r.captured, plural(r.captured))
		}
		return
	}
	if ctx.Err() != nil && (r.write != "-") {
		fmt.Fprintln(r.Out) // tcpdump's, in case a line was not finished
	}
	var c counts
	switch s := r.src.(type) {
	case *reading:
		c = s.statistics()
	case *socket:
		c = s.statistics()
	}
	fmt.Fprintf(r.Err, "%d packet%s captured\n", r.captured, plural(r.captured))
	fmt.Fprintf(r.Err, "%d packet%s received by filter\n", max(c.received, r.captured), plural(max(c.received, r.captured)))
	fmt.Fprintf(r.Err, "%d packet%s dropped by kernel\n", c.dropped, plural(c.dropped))
	if c.lost > 0 {
		fmt.Fprintf(r.Err, "%d packet%s not recorded: the reader was too slow\n", c.lost, plural(c.lost))
	}
}

func plural(n uint64) string {
	if n == 1 {
		return ""
	}
	return "s"
}
