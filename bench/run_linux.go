package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	"proxyarpd/internal/lab"
)

// Options say what to measure.
type Options struct {
	Binary  string   // the program under test
	Version string   // of this program
	Engines []string // of the program under test, each a contestant
	Family  int      // 4 (also 0) or 6: the IP version of what is sent
	Only    []string // of Works; empty means all, or with Quick those of the main table
	Rounds  int
	Quick   bool          // shorter trials, fewer cases: the main table in about a minute
	Trial   time.Duration // 0: 2 s, with Quick 0.4 s
	// Calm is how long to wait, before each trial, for the other processes
	// of the machine to let it be. A trial that was disturbed all the same
	// is made again, twice at most, and the least disturbed one counts.
	Calm     time.Duration
	Args     []string  // further arguments of proxyarpd run
	Commands []Command // contestants of the user's own
	Between  *Between  // nil: in a lab
	Log      io.Writer // progress
}

// Command is a contestant that is a shell command.
type Command struct{ Name, Line string }

// DefaultTrial is a trial's length, that of --quick second.
var DefaultTrial = [2]time.Duration{2 * time.Second, 400 * time.Millisecond}

// work is one kind of measurement.
type work struct {
	name, how string
	program   string // that it needs
	// plan says what will be done, before anything is.
	plan func(*run) []*step
	// bed makes the lab that it needs; nil: the shared one will do.
	bed   func(*run) (*bed, error)
	quick bool // belongs to the main table
}

func works() []work {
	return []work{
		{name: "rate", how: rateHow, plan: (*run).rate, quick: true},
		{name: "throughput", how: throughputHow, plan: (*run).throughput, quick: true},
		{name: "loss", how: lossHow, plan: (*run).loss},
		{name: "cpu", how: cpuHow, plan: (*run).cpu, quick: true},
		{name: "workloads", how: workloadsHow, plan: (*run).workloads, bed: (*run).bulkBedWithSenders},
		{name: "latency", how: latencyHow, plan: (*run).latency, quick: true},
		{name: "tcp", how: tcpHow, plan: (*run).tcp, program: "iperf3", quick: true},
		{name: "cold", how: coldHow, plan: (*run).cold, program: "ping", quick: true},
		{name: "arp", how: arpHow, plan: (*run).arp, quick: true},
		{name: "flood", how: floodHow, plan: (*run).flood},
		{name: "up", how: upHow, plan: (*run).up, bed: (*run).bulkBed},
		{name: "capture", how: captureHow, plan: (*run).capture, program: "tcpdump"},
		{name: "mem", how: memHow, plan: (*run).mem, bed: (*run).bulkBed},
	}
}

// Works lists what can be measured.
func Works() (names []string) {
	for _, w := range works() {
		names = append(names, w.name)
	}
	return names
}

// foundWorks are those that can be done between two namespaces that were found.
var foundWorks = []string{"rate", "throughput", "loss", "cpu", "latency", "tcp", "arp"}

// run is one run of the program.
type run struct {
	ctx context.Context
	Options
	report   *Report
	dir      string
	lab      *bed // of most works, made by the first that asks
	progress progress
	restless int                // trials in a row before which the machine did not get quiet
	ceilings map[string]float64 // frames a second, by sizes
}

// Validate says what of the options cannot be.
func (o *Options) Validate() error {
	for _, name := range o.Only {
		if !slices.Contains(Works(), name) {
			return fmt.Errorf("no work %q: there are %s", name, strings.Join(Works(), ", "))
		}
	}
	names := append([]string{Kernel, "kernel-rps", AsFound, Ceiling}, o.Engines...)
	for _, c := range o.Commands {
		switch {
		case c.Name == "" || c.Line == "":
			return fmt.Errorf("contestant %q: want NAME=COMMAND", c.Name+"="+c.Line)
		case slices.Contains(names, c.Name):
			return fmt.Errorf("contestant %q: the name is taken", c.Name)
		}
		names = append(names, c.Name)
	}
	switch {
	case o.Family != 0 && o.Family != familyIPv4 && o.Family != familyIPv6:
		return fmt.Errorf("family %d: want 4 or 6", o.Family)
	case o.Rounds < 1:
		return fmt.Errorf("%d rounds: want 1 or more", o.Rounds)
	case o.Trial < 0 || o.Trial > 0 && o.Trial < 100*time.Millisecond || o.Trial > 10*time.Minute:
		return fmt.Errorf("trial %v: want 100ms to 10m", o.Trial)
	case o.Calm < 0:
		return fmt.Errorf("calm %v: want 0 or more", o.Calm)
	case o.Between != nil && len(o.Commands) > 0 && o.Between.Host == "":
		return errors.New("a contestant between two namespaces: say in which it runs with --host NETNS")
	}
	return nil
}

// Run measures, and returns what there is even where it fails.
func Run(ctx context.Context, o Options) (_ *Report, err error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	if o.Trial == 0 {
		o.Trial = DefaultTrial[0]
		if o.Quick {
			o.Trial = DefaultTrial[1]
		}
	}
	if o.Family == 0 {
		o.Family = familyIPv4
	}
	if missing := lab.MissingCaps(); len(missing) > 0 {
		return nil, fmt.Errorf("bench: network namespaces need %s: run it as root", strings.Join(missing, " and "))
	}
	if err := lab.Sweep(); err != nil { // what a killed run has left
		return nil, err
	}
	r := &run{ctx: ctx, Options: o, report: &Report{Base: Kernel, Methods: map[string]string{}}, ceilings: map[string]float64{}}
	if o.Between != nil {
		r.report.Base = AsFound
		if r.lab, err = o.Between.open(o.Family == familyIPv6); err != nil {
			return nil, err
		}
		r.report.Notes = append(r.report.Notes, "Between namespaces that were found nothing is dropped on purpose, so the generator's ceiling is not known.")
	}
	// Measuring threads make raw system calls, each keeping a P for itself.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(runtime.NumCPU() + maxSenders() + 8))
	if r.dir, err = os.MkdirTemp("", "proxyarpd-bench"); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	defer func() {
		if r.lab != nil {
			err = errors.Join(err, r.lab.Close())
		}
		err = errors.Join(err, os.RemoveAll(r.dir))
	}()
	r.circumstances()
	r.report.Notes = append(r.report.Notes, r.familyNotes()...)
	err = r.all()
	r.report.Circumstances.Complete = err == nil
	r.report.Circumstances.Took = time.Since(r.report.Circumstances.Began).Seconds()
	r.report.Finish()
	return r.report, err
}

// planned is a work with its steps.
type planned struct {
	work
	steps []*step
}

func (r *run) all() error {
	var plan []planned
	for _, w := range works() {
		if len(r.Only) > 0 && !slices.Contains(r.Only, w.name) || len(r.Only) == 0 && r.Quick && !w.quick {
			continue
		}
		p := planned{w, w.plan(r)}
		r.report.Methods[w.name] = w.how
		for _, s := range p.steps {
			s.method = w.name
			if s.rounds == 0 {
				s.rounds = r.Rounds
			}
			r.progress.plan(s)
		}
		plan = append(plan, p)
	}
	r.logf("%d works, about %v", len(plan), r.progress.left().Round(time.Second))
	for _, p := range plan {
		if err := r.work(p); err != nil {
			return err
		}
	}
	return nil
}

// work does one work. It returns an error only if the run is over; else the rows say what went wrong.
func (r *run) work(p planned) (err error) {
	fail := func(err error) error {
		if r.ctx.Err() != nil {
			return context.Cause(r.ctx)
		}
		r.logf("%s: %v", p.name, err)
		for _, s := range p.steps {
			for _, c := range s.contestants {
				r.report.Fail(s.figures, s.method, c.name(), err)
			}
			r.progress.skip(s)
		}
		return nil
	}
	if r.Between != nil && !slices.Contains(foundWorks, p.name) {
		return fail(errors.New("takes a lab of its own, which is not made with --from and --to"))
	}
	if p.program != "" {
		if _, err := exec.LookPath(p.program); err != nil {
			return fail(fmt.Errorf("the program %s is not installed", p.program))
		}
	}
	b, err := r.bed(p.work)
	if err != nil {
		return fail(err)
	}
	if p.work.bed != nil {
		defer func() { err = errors.Join(err, b.Close()) }()
	}
	for _, s := range p.steps {
		if err := r.take(b, s); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) bed(w work) (*bed, error) {
	if w.bed != nil {
		return w.bed(r)
	}
	if r.lab == nil {
		b, err := r.newBed(podsPerHost())
		if err != nil {
			return nil, err
		}
		r.lab = b
	}
	if len(r.report.Circumstances.Interfaces) == 0 {
		r.surroundings(r.lab)
	}
	return r.lab, nil
}

func (r *run) newBed(pods int) (*bed, error) {
	l, err := lab.New(r.ctx, lab.Spec{Form: lab.FormCalico, Hosts: 2, PodsPerHost: pods})
	if err != nil {
		return nil, err
	}
	r.logf("lab %s is up", l.Name())
	b := &bed{Lab: l, bin: r.Binary, dir: r.dir, ipv6: r.Family == familyIPv6}
	if b.ipv6 && pods > 0 && !b.Pods()[0].Addr.IsValid() {
		return nil, errors.Join(errors.New("bench: the kernel does no IPv6"), b.Close())
	}
	return b, nil
}

// step is one comparison: who takes part, and what is measured of each.
type step struct {
	method      string // the work's name
	figures     []Figure
	contestants []contestant
	hosts       []int
	rounds      int // 0: as the run's
	pairs       func(*bed) [][2]lab.Pod
	turn        time.Duration      // about what a turn takes, besides what all take
	alone       time.Duration      // the same of the generator alone, where that is another
	prepare     func(b *bed) error // once, before the first turn
	measure     func(b *bed, c contestant) ([]Value, error)
}

// take lets the contestants take turns. A contestant that fails once is out.
func (r *run) take(b *bed, s *step) error {
	if s.prepare != nil {
		if err := s.prepare(b); err != nil {
			if r.ctx.Err() != nil {
				return context.Cause(r.ctx)
			}
			r.logf("%s: %v", s.figures[0].Work, err)
			for _, c := range s.contestants {
				r.report.Fail(s.figures, s.method, c.name(), err)
			}
			r.progress.skip(s)
			return nil
		}
	}
	out := map[contestant]bool{}
	for round := range s.rounds {
		for _, c := range s.contestants {
			if !out[c] {
				if err := r.turn(b, s, c, round); err != nil {
					if r.ctx.Err() != nil {
						return context.Cause(r.ctx)
					}
					out[c] = true
					r.logf("%s: %s: %v", s.figures[0].Work, c.name(), err)
					r.report.Fail(s.figures, s.method, c.name(), err)
				}
			}
			r.progress.done += s.cost(c)
		}
	}
	return nil
}

func (r *run) turn(b *bed, s *step, c contestant, round int) (err error) {
	turnBefore, turnBegan := others(), time.Now()
	if err := c.start(r.ctx, b, s.hosts...); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	if _, drops := c.(*dropper); !drops && s.pairs != nil {
		if err := b.settle(r.ctx, c, s.pairs(b)); err != nil {
			if d, ok := c.(*daemon); ok && r.ctx.Err() == nil {
				r.logf("%s", d.state(r.ctx, b))
			}
			return err
		}
	}
	const tries = 3
	var best []Value
	least := math.Inf(1)
	for try := 1; ; try++ {
		calm := r.quiet()
		if r.ctx.Err() != nil {
			return context.Cause(r.ctx)
		}
		before, began := others(), time.Now()
		values, err := s.measure(b, c)
		if err == nil {
			err = alive(c)
		}
		if err != nil {
			return err
		}
		took := time.Since(began)
		if took < 200*time.Millisecond { // too short to be judged by the clock's ticks, or the start was what counts
			before, took = turnBefore, time.Since(turnBegan)
		}
		noise := others().since(before, took)
		if noise < least { // what was measured has no say in it
			best, least = values, noise
		}
		again := noise > noisy && calm && try < tries
		verdict := ""
		if again {
			verdict = ", made again"
		}
		r.logf("%s %s, round %d: %s (others: %.2f CPU%s)", r.progress.String(), c.name(), round+1, brief(s.figures, values), noise, verdict)
		if !again {
			r.report.Add(s.figures, s.method, c.name(), least, best)
			return nil
		}
	}
}

// patience is how many trials in a row are waited for in vain.
const patience = 5

// quiet waits for the machine to be so, and says whether it is. Where it never is, that is said once and not waited for
// any more: the run shall end.
func (r *run) quiet() bool {
	if r.Calm == 0 || r.restless == patience {
		return false
	}
	if awaitQuiet(r.ctx, r.Calm) {
		r.restless = 0
		return true
	}
	if r.restless++; r.restless == patience {
		r.report.Notes = append(r.report.Notes, "The machine did not get quiet, so that it was not waited for any more.")
		r.logf("the machine does not get quiet: measuring at once")
	}
	return false
}

func (r *run) logf(format string, args ...any) {
	if r.Log != nil {
		fmt.Fprintf(r.Log, format+"\n", args...)
	}
}

// brief is a line of progress.
func brief(figures []Figure, values []Value) string {
	const most = 2
	var line []string
	for _, v := range values {
		if v.Skip == "" {
			line = append(line, fmt.Sprintf("%s: %s %s", figures[v.Figure].Work, number(v.X), figures[v.Figure].Unit))
		}
	}
	if more := len(line) - most; more > 0 {
		line = append(line[:most], fmt.Sprintf("and %d more", more))
	}
	return strings.Join(line, "; ")
}

// interval is a measuring time, which the end of the run cuts short.
func (r *run) interval(d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-r.ctx.Done():
		return context.Cause(r.ctx)
	}
}
