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

	"golang.org/x/sys/unix"

	"proxyarpd/internal/lab"
)

// Options say what to measure.
type Options struct {
	Binary string   // the program under test
	Only   []string // of Works; empty means all
	Rounds int
	Quick  bool // shorter trials, fewer cases
	// Calm is how long to wait, before each trial, for the other processes
	// of the machine to let it be. A trial that was disturbed all the same
	// is made again, twice at most, and the least disturbed one counts.
	Calm time.Duration
	Args []string  // further arguments of proxyarpd run
	Log  io.Writer // progress
}

type work struct {
	name string
	run  func(*run) error
}

var works = []work{
	{"rate", (*run).rate}, {"latency", (*run).latency}, {"tcp", (*run).tcp}, {"cold", (*run).cold},
	{"arp", (*run).arp}, {"flood", (*run).flood}, {"up", (*run).up}, {"mem", (*run).mem},
}

// Works lists what can be measured.
func Works() (names []string) {
	for _, w := range works {
		names = append(names, w.name)
	}
	return names
}

// run is one run of the program.
type run struct {
	ctx context.Context
	Options
	report *Report
	dir    string
	lab    *bed // of most works, made by the first that asks
}

// Run measures, and returns what there is even where it fails.
func Run(ctx context.Context, o Options) (_ *Report, err error) {
	r := &run{ctx: ctx, Options: o, report: &Report{}}
	for _, name := range o.Only {
		if !slices.Contains(Works(), name) {
			return nil, fmt.Errorf("bench: no work %q: there are %s", name, strings.Join(Works(), ", "))
		}
	}
	if missing := lab.MissingCaps(); len(missing) > 0 {
		return nil, fmt.Errorf("bench: the lab needs %s", strings.Join(missing, " and "))
	}
	if r.Rounds < 1 {
		return nil, fmt.Errorf("bench: %d rounds: want 1 or more", r.Rounds)
	}
	// Measuring threads make raw system calls, each keeping a P for itself.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(runtime.NumCPU() + 8))
	r.circumstances()
	if r.dir, err = os.MkdirTemp("", "proxyarpd-bench"); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	defer func() {
		if r.lab != nil {
			err = errors.Join(err, r.lab.Close())
		}
		err = errors.Join(err, os.RemoveAll(r.dir))
	}()
	for _, w := range works {
		if len(o.Only) > 0 && !slices.Contains(o.Only, w.name) {
			continue
		}
		began := time.Now()
		if err := w.run(r); err != nil {
			if ctx.Err() != nil {
				err = context.Cause(ctx)
				r.report.Finish()
				return r.report, err
			}
			r.report.Fail(w.name, "-", err)
		}
		r.logf("%s: done in %.0f s", w.name, time.Since(began).Seconds())
	}
	r.report.Finish()
	return r.report, ctx.Err()
}

func (r *run) logf(format string, args ...any) {
	if r.Log != nil {
		fmt.Fprintf(r.Log, format+"\n", args...)
	}
}

// podsPerHost: two senders, a receiver, a bystander.
const podsPerHost = 4

// bed makes the lab that most works share, or returns it.
func (r *run) bed() (*bed, error) {
	if r.lab != nil {
		return r.lab, nil
	}
	b, err := r.newBed(podsPerHost)
	if err == nil {
		r.lab = b
	}
	return b, err
}

func (r *run) newBed(pods int) (*bed, error) {
	l, err := lab.New(r.ctx, lab.Spec{Form: lab.FormCalico, Hosts: 2, PodsPerHost: pods})
	if err != nil {
		return nil, err
	}
	return &bed{Lab: l, bin: r.Binary, dir: r.dir}, nil
}

func (r *run) proxyarpd() *daemon { return &daemon{engine: "af_packet", args: r.Args} }

// turns is one comparison: who takes part, and what is measured of each.
type turns struct {
	work        string // for messages
	how         string
	contestants []contestant
	hosts       []int
	rounds      int // 0: as the run's
	pairs       [][2]lab.Pod
	measure     func(contestant) ([]Value, error)
}

// take lets the contestants take turns. A contestant that fails once is out.
func (r *run) take(b *bed, t turns) error {
	out := map[contestant]bool{}
	if t.rounds == 0 {
		t.rounds = r.Rounds
	}
	for round := range t.rounds {
		for _, c := range t.contestants {
			if out[c] {
				continue
			}
			if err := r.turn(b, t, c, round); err != nil {
				if r.ctx.Err() != nil {
					return err
				}
				out[c] = true
				r.logf("%s: %s: %v", t.work, c.name(), err)
				r.report.Fail(t.work, c.name(), err)
			}
		}
	}
	return nil
}

func (r *run) turn(b *bed, t turns, c contestant, round int) (err error) {
	turnBefore, turnBegan := others(), time.Now()
	if err := c.start(r.ctx, b, t.hosts...); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	if _, drops := c.(*dropper); !drops {
		if err := b.settle(r.ctx, t.pairs...); err != nil {
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
		calm := r.Calm == 0 || awaitQuiet(r.ctx, r.Calm)
		if r.ctx.Err() != nil {
			return context.Cause(r.ctx)
		}
		before, began := others(), time.Now()
		values, err := t.measure(c)
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
		again := noise > noisy && calm && r.Calm > 0 && try < tries
		verdict := ""
		if again {
			verdict = ", made again"
		}
		r.logf("round %d %s: %s (others: %.2f CPU%s)", round+1, c.name(), brief(values), noise, verdict)
		if !again {
			r.report.Add(c.name(), t.how, least, best...)
			return nil
		}
	}
}

// brief is a line of progress.
func brief(values []Value) string {
	const most = 4
	var line []string
	for i, v := range values {
		if i == most {
			line = append(line, fmt.Sprintf("and %d more", len(values)-most))
			break
		}
		line = append(line, fmt.Sprintf("%s: %s %s", v.Work, number(v.X), v.Unit))
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

func (r *run) circumstances() {
	c := Circumstances{Began: time.Now(), Command: strings.Join(os.Args, " "), CPUs: runtime.NumCPU(),
		Go: runtime.Version(), Rounds: r.Rounds, Versions: map[string]string{}}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		c.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		c.Load = strings.TrimSpace(string(b))
	}
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
				c.Model = strings.TrimSpace(v)
				break
			}
		}
	}
	if out, err := exec.Command(r.Binary, "--version").Output(); err == nil {
		c.Version = strings.TrimSpace(string(out))
	}
	if out, err := exec.Command("iperf3", "--version").Output(); err == nil {
		c.Versions["iperf3"], _, _ = strings.Cut(string(out), "\n")
	}
	r.report.Circumstances = c
}
