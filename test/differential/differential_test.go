package differential

import (
	"encoding/json"
	"flag"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"proxyarpd/internal/lab/labtest"
)

var (
	seedFlag   = flag.Uint64("seed", 0, "of the frames; 0: another one each time")
	framesFlag = flag.Int("frames", 1200, "how many frames, for each world")
	totalFlag  = flag.Int("total", 0, "at least so many frames of each family, over all its worlds, in place of -frames")
	worldFlag  = flag.String("world", "", "only this one")
	replayFlag = flag.String("replay", "", "CLASS:INDEX of one frame to send alone")
	showFlag   = flag.Int("show", 20, "how many differing frames to show")
)

func init() {
	flag.StringVar(&engine, "engine", engine, "of the daemon: af_packet or ebpf; kernel: no daemon, two kernels are compared")
}

func TestDifferential(t *testing.T) {
	t.Parallel()
	var four, six atomic.Int64 // frames that were compared
	t.Cleanup(func() {         // when all worlds are done
		t.Logf("%d frames of IPv4, %d of IPv6", four.Load(), six.Load())
		if n := min(four.Load(), six.Load()); n < int64(*totalFlag) && *worldFlag == "" {
			t.Errorf("%d frames of a family, want %d", n, *totalFlag)
		}
	})
	each := func(w *world) int {
		n := len(worlds)
		if w.ipv6 {
			n = len(worlds6)
		}
		return max(*framesFlag, *totalFlag*110/100/n) // a world has a few less than it is asked for
	}
	eachWorld(t, slices.Concat(worlds, worlds6), func(t *testing.T, p *pair, seed uint64) {
		frames := schedule(seed, p.w, each(p.w))
		if *replayFlag != "" {
			frames = []*Frame{replayed(t, seed, p.w)}
		}
		compare(t, p, seed, frames)
		if p.w.ipv6 {
			six.Add(int64(len(frames)))
		} else {
			four.Add(int64(len(frames)))
		}
		if p.daemon != nil && *replayFlag == "" {
			explained(t, p, seed)
		}
	})
}

// seedOf is the seed that is asked for, or another one each time.
func seedOf() uint64 {
	if *seedFlag != 0 {
		return *seedFlag
	}
	return uint64(time.Now().UnixNano()) & 0xffffffff
}

// eachWorld calls fn with the hosts of each of the worlds that is asked for, on a thread
// that keeps its CPU.
func eachWorld(t *testing.T, all []world, fn func(t *testing.T, p *pair, seed uint64)) {
	seed := seedOf()
	t.Logf("seed %d", seed)
	for i := range all {
		w := &all[i]
		if *worldFlag != "" && *worldFlag != w.name {
			continue
		}
		t.Run(w.name, func(t *testing.T) {
			t.Parallel() // most of the time of a world is its making
			if w.ipv6 && engine != noEngine {
				labtest.NeedIPv6(t)
			}
			p := setUp(t, w)
			runtime.LockOSThread() // and the thread ends with the test
			if err := pin(); err != nil {
				t.Fatal(err)
			}
			fn(t, p, seed)
		})
	}
}

func (p *pair) status(t *testing.T, args ...string) string {
	if p.daemon == nil {
		return "no daemon runs"
	}
	return p.daemon.Status(t, args...)
}

// carried checks that an engine that carries has done so: else the test would
// compare the other one.
func (p *pair) carried(t *testing.T) {
	t.Helper()
	if p.daemon == nil {
		return
	}
	var s struct {
		Forward struct {
			In      uint64 `json:"packets_in"`
			Carried uint64 `json:"carried"`
		} `json:"forward"`
	}
	if err := json.Unmarshal([]byte(p.daemon.Status(t, "-o", "json")), &s); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d of %d frames carried", s.Forward.Carried, s.Forward.In)
	if n := s.Forward.Carried; n > 0 && engine != "ebpf" || n == 0 && engine == "ebpf" && (p.w.name == "strict" || p.w.name == "v6") && *replayFlag == "" {
		t.Errorf("engine %s carried %d frames", engine, n)
	}
}

func replayed(t *testing.T, seed uint64, w *world) *Frame {
	name, number, _ := strings.Cut(*replayFlag, ":")
	index, err := strconv.Atoi(number)
	if err != nil {
		t.Fatalf("-replay %s: want CLASS:INDEX", *replayFlag)
	}
	for _, c := range w.classes() {
		if c.name == name {
			return generate(seed, w, c, index)
		}
	}
	t.Fatalf("-replay %s: no such class", *replayFlag)
	return nil
}

func compare(t *testing.T, p *pair, seed uint64, frames []*Frame) {
	x := newExchange(p)
	began := time.Now()
	results, err := x.run(frames)
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	type tally struct{ frames, equal, out, excused int }
	counts := map[string]*tally{}
	excuses, errors := map[string]int{}, map[string]int{}
	all, shown := tally{}, 0
	markLimited(results)
	for _, r := range results {
		c := counts[r.frame.Class]
		if c == nil {
			c = &tally{}
			counts[r.frame.Class] = c
		}
		c.frames++
		c.out += len(r.kernel)
		for _, o := range r.kernel {
			if k, _ := classify(o.frame, p.own); k != report {
				continue
			}
			if typ, code, ok := errorOf(o.frame); ok {
				errors[fmt.Sprintf("%d/%d", typ, code)]++
			}
		}
		name, ok := "", false
		switch {
		case r.equal():
			c.equal++
		default:
			if name, ok = excused(p.w, r); ok {
				c.excused++
				excuses[name]++
				break
			}
			t.Fail()
			if shown++; shown <= *showFlag {
				t.Logf("differs: -seed %d -world %s -replay %s:%d\n%s", seed, p.w.name, r.frame.Class, r.frame.Index, show(r, *replayFlag != ""))
			}
		}
		if *replayFlag != "" {
			t.Logf("%s\n%s", show(r, true), p.status(t, "-o", "json"))
		}
	}
	var b strings.Builder
	for _, c := range p.w.classes() {
		if n := counts[c.name]; n != nil {
			fmt.Fprintf(&b, "  %-12s %6d frames %6d out %6d equal %4d listed %4d differ\n", c.name, n.frames, n.out, n.equal, n.excused, n.frames-n.equal-n.excused)
			all.frames, all.out, all.equal, all.excused = all.frames+n.frames, all.out+n.out, all.equal+n.equal, all.excused+n.excused
		}
	}
	t.Logf("seed %d, world %s, %v\n%s  %d frames, %d packets out, %.3f %% equal, %d listed %v, %d differ\n  ICMP errors of the kernel by type and code: %v", seed, p.w.name, took.Round(time.Millisecond), b.String(),
		all.frames, all.out, 100*float64(all.equal)/float64(all.frames), all.excused, excuses, all.frames-all.equal-all.excused, errors)
	if t.Failed() {
		t.Log(p.status(t))
	}
	p.carried(t)
	for i, s := range x.strays {
		if i < *showFlag {
			t.Errorf("from nowhere: %s", s)
		}
	}
	for a, n := range x.answers {
		if n != 0 {
			t.Errorf("answers of the hosts themselves: %+d by the kernel's: %s", n, a)
		}
	}
}
