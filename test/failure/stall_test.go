package failure

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"proxyarpd/internal/daemon"
	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
	"proxyarpd/internal/nstest"
)

// forwarding gives a lab whose kernel forwards, too, or not.
func forwarding(t *testing.T, pods int, on bool) *lab.Lab {
	t.Helper()
	l := hosts(t, 1, pods)
	if on {
		if err := l.SetSysctl("host0", "net.ipv4.ip_forward", "1"); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

func sendSignal(t testing.TB, p *labtest.Process, s syscall.Signal) {
	t.Helper()
	if err := p.Cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// TestKillLosesMilliseconds: where the kernel forwards, a killed daemon costs a
// flow what is under way, however many tc programs are yet to be detached.
func TestKillLosesMilliseconds(t *testing.T) {
	labtest.Need(t, "ip")
	for _, mode := range []string{"--claim=tcx", "--claim=clsact", "--engine=ebpf", "--workers=2"} {
		l := forwarding(t, 8, true)
		all := pods(l, 0)
		var kills []time.Duration // what each cost
		for range 3 {
			p := serve(t, l, mode)[0]
			labtest.Warm(t, l, all[0].Node, ip(all[1]))
			f := startTimed(t, l, all[0], all[1], time.Millisecond, 100_000)
			f.progress(100)
			began := time.Now()
			p.Kill()
			took := time.Since(began)
			f.progress(100)
			a := f.stop()
			t.Logf("%s: dead after %v: %v", mode, took.Round(time.Millisecond), a)
			if a.doubled > 0 {
				t.Errorf("%s: a kill doubles %d", mode, a.doubled)
			}
			kills = append(kills, f.time(a.missing))
		}
		// A thread that waits for a CPU dies no sooner: of three kills the middle one
		// says what one costs.
		if slices.Sort(kills); kills[1] > 2*time.Millisecond || kills[2] > 20*time.Millisecond {
			t.Errorf("%s: kills cost a flow %v", mode, kills)
		}
	}
}

// TestStoppedDaemon: where the kernel forwards it has the traffic of a daemon
// that does not run, and the daemon has it again afterwards.
func TestStoppedDaemon(t *testing.T) {
	labtest.Need(t, "ip")
	l := forwarding(t, 2, true)
	all := pods(l, 0)
	for _, mode := range []string{"--claim=tcx", "--claim=clsact", "--engine=ebpf", "--workers=2"} {
		p := serve(t, l, mode)[0]
		labtest.Warm(t, l, all[0].Node, ip(all[1]))
		f := startTimed(t, l, all[0], all[1], time.Millisecond, 100_000)
		waited := p.WaitedForCPU(t)
		f.progress(200)
		before := status(t, p)
		stalls := before.Forward.Stalls.Count
		c := capturing(t, l, p, "-nc", "200", "-i", "any", "--reason", "reader-stalled")
		sendSignal(t, p, syscall.SIGSTOP)
		stopped := 1000
		if before.Engine == daemon.EngineEBPF { // its programs go on, for a second at most
			stopped = 2000
		}
		f.progress(stopped)
		sendSignal(t, p, syscall.SIGCONT)
		during := status(t, p)
		await(t, "the daemon has the traffic again", func() bool { return !status(t, p).Forward.Stalls.Now })
		had := status(t, p).Forward.Verdicts["forward"]
		await(t, "packets go by the daemon again", func() bool { return status(t, p).Forward.Verdicts["forward"] > had+100 })
		a := f.stop()
		after := status(t, p)
		// On a machine that gives it no CPU it stalls without a stop, too.
		waited = p.WaitedForCPU(t) - waited
		if n := after.Forward.Stalls.Count; n != 1 && waited < 200*time.Millisecond {
			t.Errorf("%s: %d stalls, %d before it was stopped; it waited %v for a CPU", mode, n, stalls, waited)
		}
		punted, dropped := after.Forward.Verdicts["reader-stalled"], after.Forward.Drops["PARP_STALLED"]
		t.Logf("%s: stopped for a second: %v; %+v, %d by the kernel, %d dropped", mode, a, after.Forward.Stalls, punted, dropped)
		if lost := f.time(a.missing); lost > time.Duration(after.Forward.Stalls.Count)*50*time.Millisecond || a.doubled > 0 {
			t.Errorf("%s: %v of the flow lost, %d packets doubled", mode, lost, a.doubled)
		}
		if a.latest > 100*time.Millisecond {
			t.Errorf("%s: a packet came %v late", mode, a.latest)
		}
		if s := during.Forward.Stalls; s.Count <= stalls || !s.Now && before.Engine != daemon.EngineEBPF || s.Lasts < 0.5 {
			t.Errorf("%s: status just after the stop: %+v", mode, s)
		}
		if s := after.Forward.Stalls; s.Now || s.Ago < s.Lasts || s.Lasts < 0.8 {
			t.Errorf("%s: status at the end: %+v", mode, s)
		}
		if punted < 800 || dropped != uint64(len(a.missing)) {
			t.Errorf("%s: %d packets by the kernel, %d dropped of %d lost", mode, punted, dropped, len(a.missing))
		}
		if text := p.Status(t); !strings.Contains(text, fmt.Sprintf("ring not read: %d times, the last ", after.Forward.Stalls.Count)) {
			t.Errorf("%s: status says nothing of it:\n%s", mode, text)
		}
		if n := after.Workloads[0].Punts["reader-stalled"]; n != punted {
			t.Errorf("%s: %d of %s, %d in all", mode, n, after.Workloads[0].Name, punted)
		}
		if code, out, said := c.ended(t); code != 0 || !strings.Contains(out, "=> punt reader-stalled #") {
			t.Errorf("%s: capture: exit %d: %s\n%s", mode, code, said, out)
		}
		balanced(t, p)
		p.Stop(t)
	}
}

// TestShortStop: what waited less than 50 ms is sent.
func TestShortStop(t *testing.T) {
	labtest.Need(t, "ip")
	l := forwarding(t, 2, true)
	all := pods(l, 0)
	p := serve(t, l)[0]
	labtest.Warm(t, l, all[0].Node, ip(all[1]))
	f := startTimed(t, l, all[0], all[1], time.Millisecond, 100_000)
	f.progress(200)
	for range 3 {
		sendSignal(t, p, syscall.SIGSTOP)
		f.progress(5) // less than makes a stall
		sendSignal(t, p, syscall.SIGCONT)
		f.progress(50)
	}
	if s := status(t, p).Forward.Stalls; s.Count != 0 {
		t.Logf("the machine was too busy for a short stop: %+v", s)
	}
	sendSignal(t, p, syscall.SIGSTOP)
	f.progress(35)
	sendSignal(t, p, syscall.SIGCONT)
	f.progress(200)
	a := f.stop()
	s := status(t, p).Forward
	t.Logf("%v; %+v", a, s)
	if uint64(len(a.missing)) != s.Drops["PARP_STALLED"] || a.doubled > 0 || a.latest > 100*time.Millisecond {
		t.Errorf("%d lost of which %d have a reason, %d doubled, the longest way %v", len(a.missing), s.Drops["PARP_STALLED"], a.doubled, a.latest)
	}
}

// TestStopWhereKernelDoesNotForward: there nobody else could have the packets, and
// the daemon sends them when it runs again.
func TestStopWhereKernelDoesNotForward(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ip")
	l := forwarding(t, 2, false)
	all := pods(l, 0)
	p := serve(t, l)[0]
	labtest.Warm(t, l, all[0].Node, ip(all[1]))
	f := startTimed(t, l, all[0], all[1], time.Millisecond, 100_000)
	f.progress(100)
	sendSignal(t, p, syscall.SIGSTOP)
	f.progress(500)
	sendSignal(t, p, syscall.SIGCONT)
	f.progress(100)
	a := f.stop()
	s := status(t, p).Forward
	t.Logf("%v", a)
	if len(a.missing) > 0 || a.doubled > 0 || a.reordered > 0 || s.Stalls.Count > 0 || s.Verdicts["reader-stalled"] > 0 {
		t.Errorf("%v; %+v", a, s)
	}
}

// TestStopAtLoad: a flood fills the ring long before the stall is seen, and a
// batch of it is under way when the daemon is stopped.
func TestStopAtLoad(t *testing.T) {
	labtest.Need(t, "ip")
	l := forwarding(t, 4, true)
	all := pods(l, 0)
	p := serve(t, l)[0]
	labtest.Warm(t, l, all[0].Node, ip(all[1]))
	labtest.Warm(t, l, all[2].Node, ip(all[3]))
	fl := startFlood(t, l, all[2], datagram(t, all[2], ip(all[3])))
	f := startTimed(t, l, all[0], all[1], time.Millisecond, 100_000)
	f.progress(300)
	// A machine that is busy with other things may have stalled the daemon already.
	var before uint64
	await(t, "the daemon has the traffic", func() bool {
		s := status(t, p).Forward.Stalls
		before = s.Count
		return !s.Now
	})
	sendSignal(t, p, syscall.SIGSTOP)
	first := f.number()
	f.progress(1000)
	sendSignal(t, p, syscall.SIGCONT)
	f.progress(300)
	fl.stop()
	a := f.stop()
	s := status(t, p).Forward
	t.Logf("of a flow beside a flood: %v; stalls %d before, %+v after", a, before, s.Stalls)
	lost := 0
	for _, i := range a.missing {
		if i >= first-100 {
			lost++
		}
	}
	if lost > 50+100 { // beside a flood some are lost without a stop
		t.Errorf("%d ms of the flow lost", lost)
	}
	if d := a.latestFrom(first - 100); d > 100*time.Millisecond {
		t.Errorf("a packet came %v late", d)
	}
	if s.Stalls.Count == before {
		t.Error("no stall was seen")
	}
	balanced(t, p)
}

// TestQuotaDoesNotFlap: a daemon that a quota of CPU time stops for 80 of each 100
// ms is seen to stall, but does not change hands each time.
func TestQuotaDoesNotFlap(t *testing.T) {
	labtest.Need(t, "ip")
	l := forwarding(t, 4, true)
	all := pods(l, 0)
	p := serve(t, l)[0]
	limitCPU(t, p, 20)
	labtest.Warm(t, l, all[0].Node, ip(all[1]))
	labtest.Warm(t, l, all[2].Node, ip(all[3]))
	waited := p.WaitedForCPU(t)
	f := startTimed(t, l, all[0], all[1], time.Millisecond, 100_000)
	f.progress(2000)
	light := status(t, p).Forward.Stalls
	waited = p.WaitedForCPU(t) - waited
	fl := startFlood(t, l, all[2], datagram(t, all[2], ip(all[3])))
	began := f.number()
	f.progress(5000)
	fl.stop()
	a := f.stop()
	s := status(t, p).Forward
	t.Logf("20 %% of a CPU: %v; %+v with a packet a ms, for which it waited %v for a CPU, %+v with a flood", a, light, waited, s.Stalls)
	// A daemon that gets a CPU when it wants one, but for a tenth of the two seconds, needs less than the quota.
	if light.Count > 1 && waited < 200*time.Millisecond {
		t.Errorf("%d stalls with a packet a ms", light.Count)
	}
	// 250 ms, 2 s, 16 s: the third outlasts the test.
	if n := s.Stalls.Count; n < 1 && s.Carried == 0 || n > 1+3*uint64(status(t, p).Workers) { // each worker counts its own
		t.Errorf("%d changes to the kernel, %d of them in %d ms of a flood", n, n-light.Count, f.number()-began)
	}
	// Each change may bring what the ring held for 20 ms behind what came later.
	if most := 3 * 50; a.reordered > most || a.doubled > 0 {
		t.Errorf("%d packets out of order, %d doubled", a.reordered, a.doubled)
	}
}

// TestBusyCPUsDoNotFlap: nor does a datapath that waits for its turn among others.
func TestBusyCPUsDoNotFlap(t *testing.T) {
	labtest.Need(t, "ip")
	l := forwarding(t, 2, true)
	all := pods(l, 0)
	p := serve(t, l)[0]
	labtest.Warm(t, l, all[0].Node, ip(all[1]))
	for range 2 * runtime.NumCPU() {
		hog := l.Command(t.Context(), "host0", "sh", "-c", "while :; do :; done")
		if err := hog.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { hog.Process.Kill(); hog.Wait() })
	}
	f := startTimed(t, l, all[0], all[1], time.Millisecond, 100_000)
	f.progress(4000)
	a := f.stop()
	s := status(t, p).Forward
	t.Logf("busy CPUs: %v; %+v", a, s.Stalls)
	// A thread that gets no CPU for 20 ms is one that has stalled; it comes back once,
	// and then for long.
	if n := int(s.Stalls.Count); n > 3 || a.reordered > n*50 || a.doubled > 0 || len(a.missing) > n*50 {
		t.Errorf("%v; %+v", a, s.Stalls)
	}
}

// limitCPU gives a daemon so many percent of a CPU, by a cgroup with a period of
// 100 ms.
func limitCPU(t testing.TB, p *labtest.Process, percent int) {
	t.Helper()
	write := func(file string, value string) error {
		f, err := os.OpenFile(file, os.O_WRONLY, 0) // creates none
		if err == nil {
			_, err = f.WriteString(value)
			f.Close()
		}
		return err
	}
	var err error
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/cpu"} {
		var dir string
		if dir, err = os.MkdirTemp(root, "proxyarpd-test-"); err != nil {
			continue
		}
		if err = write(dir+"/cpu.max", fmt.Sprintf("%d 100000", percent*1000)); err != nil {
			err = write(dir+"/cpu.cfs_quota_us", strconv.Itoa(percent*1000))
		}
		if err == nil {
			err = write(dir+"/cgroup.procs", strconv.Itoa(p.Cmd.Process.Pid))
		}
		if err != nil {
			os.Remove(dir)
			continue
		}
		t.Cleanup(func() {
			await(t, "the cgroup is empty", func() bool {
				_ = write(root+"/cgroup.procs", strconv.Itoa(p.Cmd.Process.Pid))
				return os.Remove(dir) == nil
			})
		})
		return
	}
	nstest.Skip(t, "no cgroup with a quota of CPU time: %v", err)
}
