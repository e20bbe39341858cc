package soak

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
	"proxyarpd/internal/status"
)

// The short form sees to it that the long one runs: make soak SOAK=20m.
var (
	soakFor  = flag.Duration("soak", 15*time.Second, "for how long TestSoak goes on, at least")
	soakSeed = flag.Uint64("seed", 0, "order of what TestSoak does; 0: another one each time")
)

// settle is for how long after an action has ended its effects may last: the kernel
// asks again for a next hop after a second.
const settle = 1500 * time.Millisecond

// underWay is how long a packet may take where all CPUs are busy.
const underWay = 100 * time.Millisecond

// soak is a lab in which things happen.
type soak struct {
	t      testing.TB
	l      *lab.Lab
	random *rand.Rand
	config string
	args   []string

	daemon *labtest.Process // of host0, with which all happens
	other  *labtest.Process // of host1
	life   life
	lives  []life

	churned []lab.Pod // that came and have not gone
	windows []window
	done    map[string]int
	reload  int
}

// life is what a daemon has counted from its start to its end. One that another takes
// over from goes on.
type life struct {
	ended     string
	first     status.Process // when it was ready
	last      *status.Status
	resident  uint64 // at most
	hasClosed bool   // last was read when nothing was under way
}

// action is something that happens, and what may be lost for it: nothing where
// the window's reason is empty.
type action struct {
	name string
	do   func(*soak) (why string, pods []string)
	able func(*soak) bool // nil: always
	once int              // after the first round it happens once in so many
}

// actions are all that may happen.
var actions = []action{
	{"pods come and go", (*soak).comeAndGo, nil, 1},
	{"link flaps", (*soak).flap, nil, 1},
	{"neighbours are flushed", (*soak).flushNeighbours, nil, 1},
	{"a pod's MAC changes", (*soak).changeMAC, nil, 1},
	{"routes change", (*soak).changeRoutes, nil, 1},
	{"reload", (*soak).reloads, nil, 1},
	{"kill -9", (*soak).kill, nil, 6}, // what lives longer may grow
	{"take-over", (*soak).takeOver, (*soak).canTakeOver, 2},
}

// TestSoak has packets pass for long while all kinds of things happen.
func TestSoak(t *testing.T) {
	labtest.Need(t, "ip", "ping")
	seed := *soakSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-seed %d", seed)
	dir := t.TempDir()
	s := &soak{t: t, l: labtest.New(t, lab.Spec{Form: lab.FormSlash32, Hosts: 2, PodsPerHost: 5}), random: rand.New(rand.NewPCG(seed, 0)),
		config: filepath.Join(dir, "proxyarpd.yaml"), done: map[string]int{}}
	s.write("workload: ['veth*']\n")
	s.args = []string{"--config", s.config}
	s.other = labtest.Daemon(t, s.l, "host1", "--workload", "veth*")
	s.start()
	backlog := watchBacklog(t)

	near, far := labtest.Pods(s.l, 0), labtest.Pods(s.l, 1)
	for _, to := range []lab.Pod{near[1], near[3], far[0]} {
		labtest.Warm(t, s.l, near[0].Node, labtest.IP(to))
	}
	flows := []*flow{
		startFlow(t, s.l, near[0], near[1], time.Millisecond, 2**soakFor+10*time.Minute),  // whose receiver flaps and changes
		startFlow(t, s.l, near[2], far[0], time.Millisecond, 2**soakFor+10*time.Minute),   // off the host
		startFlow(t, s.l, far[1], near[3], 2*time.Millisecond, 2**soakFor+10*time.Minute), // onto it
	}
	s.happen()
	for _, f := range flows {
		f.stop()
	}
	s.close()
	s.windows = append(s.windows, backlog.stop()...)
	slices.SortFunc(s.windows, func(a, b window) int { return a.from.Compare(b.from) })
	s.report(flows)
}

// happen has each action come once, and then again and again, each time in another order.
func (s *soak) happen() {
	end := time.Now().Add(*soakFor)
	able := slices.DeleteFunc(slices.Clone(actions), func(a action) bool { return a.able != nil && !a.able(s) })
	for round := 0; round == 0 || time.Now().Before(end); round++ {
		for _, i := range s.random.Perm(len(able)) {
			if round > 0 && !time.Now().Before(end) {
				return
			}
			if round == 0 || s.random.IntN(able[i].once) == 0 {
				s.act(able[i])
			}
		}
	}
}

func (s *soak) act(a action) {
	w := window{action: a.name, from: time.Now()}
	w.why, w.pods = a.do(s)
	s.done[a.name]++
	w.to = time.Now()
	if w.why != "" {
		w.from, w.to = w.from.Add(-underWay), w.to.Add(settle)
	}
	s.windows = append(s.windows, w)
	s.look(false)
	time.Sleep(time.Duration(s.random.IntN(int(400 * time.Millisecond)))) // packets pass in between
}

// look reads the daemon's counters, which must go on. closed says that nothing is
// under way.
func (s *soak) look(closed bool) {
	st := new(status.Status)
	s.daemon.StatusJSON(s.t, st)
	if before := s.life.last; before != nil {
		for what, n := range map[string][2]uint64{"packets_in": {before.Forward.PacketsIn, st.Forward.PacketsIn}, "packets_out": {before.Forward.PacketsOut, st.Forward.PacketsOut},
			"ARP answers": {before.ARP.Verdicts["answer"], st.ARP.Verdicts["answer"]}} {
			if n[1] < n[0] {
				s.t.Errorf("%s went from %d to %d", what, n[0], n[1])
			}
		}
	} else {
		s.life.first = st.Process
	}
	s.life.last, s.life.hasClosed = st, closed
	s.life.resident = max(s.life.resident, st.Process.Resident)
}

// start begins a life.
func (s *soak) start() {
	s.daemon = labtest.Daemon(s.t, s.l, "host0", s.args...)
	s.life = life{}
	s.look(false)
}

// ends ends a life.
func (s *soak) ends(how string) {
	s.life.ended = how
	s.lives = append(s.lives, s.life)
}

// close ends the last one, when all that was under way has ended.
func (s *soak) close() {
	labtest.Await(s.t, "nothing is under way", func() bool {
		st := new(status.Status)
		s.daemon.StatusJSON(s.t, st)
		return st.Forward.InRing == 0 && st.Forward.Waiting == 0
	})
	s.look(true)
	s.ends("stopped")
	s.daemon.Stop(s.t)
}

func (s *soak) write(text string) {
	if err := os.WriteFile(s.config, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// receiver is the pod that flaps and changes.
func (s *soak) receiver() lab.Pod { return labtest.Pods(s.l, 0)[1] }

func (s *soak) comeAndGo() (string, []string) {
	const most = 6
	if n := len(s.churned); n > 0 && (n >= most || s.random.IntN(2) == 0) {
		i := s.random.IntN(n)
		if err := s.l.DelPod(s.churned[i].Name); err != nil {
			s.t.Fatal(err)
		}
		s.churned = slices.Delete(s.churned, i, i+1)
	}
	all, err := s.l.AddPods(s.t.Context(), 0, 1+s.random.IntN(2), lab.PodOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	s.churned = append(s.churned, all...)
	for _, pod := range all { // its first packet must come through, and back
		labtest.Run(s.t, s.l, pod.Node, "ping", "-n", "-c1", "-W5", labtest.IP(labtest.Pods(s.l, 1)[2]))
	}
	return "", nil
}

func (s *soak) flap() (string, []string) {
	pod := s.receiver()
	for range 1 + s.random.IntN(3) {
		labtest.Line(s.t, s.l, "host0", "ip link set "+pod.Iface+" down")
		time.Sleep(time.Duration(s.random.IntN(int(20 * time.Millisecond))))
		// The kernel drops the routes of a link that goes down; Calico's Felix puts them back.
		labtest.Line(s.t, s.l, "host0", "ip link set "+pod.Iface+" up")
		labtest.Line(s.t, s.l, "host0", "ip route replace "+labtest.IP(pod)+"/32 dev "+pod.Iface+" scope link")
	}
	return "a link was down", []string{pod.Name}
}

func (s *soak) flushNeighbours() (string, []string) {
	for _, pod := range labtest.Pods(s.l, 0)[:4] {
		labtest.Line(s.t, s.l, "host0", "ip neigh flush dev "+pod.Iface)
	}
	labtest.Line(s.t, s.l, "host0", "ip neigh flush dev ens192")
	return "", nil
}

func (s *soak) changeMAC() (string, []string) {
	pod := s.receiver()
	mac := fmt.Sprintf("02:00:5e:%02x:%02x:%02x", s.random.IntN(256), s.random.IntN(256), s.random.IntN(256))
	labtest.Line(s.t, s.l, pod.Node, "ip link set "+pod.Peer+" address "+mac)
	labtest.Line(s.t, s.l, pod.Node, "ping -n -c5 -i0.2 -W5 "+labtest.IP(labtest.Pods(s.l, 0)[0])) // it asks for the gateway, and is learnt, perhaps behind the first answer
	return "a MAC was another", []string{pod.Name}
}

func (s *soak) changeRoutes() (string, []string) {
	for _, verb := range []string{"add", "replace", "delete"} {
		var b strings.Builder
		for i := range 500 {
			fmt.Fprintf(&b, "route %s 100.64.%d.%d/32 via 192.168.1.16 dev ens192\n", verb, i>>8, i&255)
		}
		cmd := s.l.Command(labtest.Soon(s.t), "host0", "ip", "-batch", "-")
		cmd.Stdin = strings.NewReader(b.String())
		if out, err := cmd.CombinedOutput(); err != nil {
			s.t.Fatalf("ip -batch: %v\n%s", err, out)
		}
	}
	return "", nil
}

func (s *soak) reloads() (string, []string) {
	texts := []string{"workload: ['veth*']\nengine: ebpf\n", "workload: ['veth*']\nnice: -10\nproxy: [10.77.0.0/16]\n", "workload: ['veth*']\ngateway: [169.254.1.1, 169.254.1.2]\nlog-level: warn\n",
		"workload: ['veth*']\nrp-filter: 2\npunt: [10.96.0.0/12]\n"}
	s.write(texts[s.reload%len(texts)])
	s.reload++
	labtest.Run(s.t, s.l, "host0", labtest.Binary(s.t), "reload", "--control", s.daemon.Control)
	return "", nil
}

// kill costs what comes until the next daemon is ready. What the ring held is lost
// too, and what was under way to it.
func (s *soak) kill() (string, []string) {
	s.look(false)
	s.daemon.Kill()
	s.ends("kill -9")
	s.start()
	return "the daemon was killed", nil
}

// canTakeOver reports whether the program under test can.
func (s *soak) canTakeOver() bool {
	return strings.Contains(labtest.Run(s.t, s.l, "host0", labtest.Binary(s.t), "run", "--help"), "--takeover")
}

// takeOver has a new daemon take the place of the one that runs, which then ends by itself.
func (s *soak) takeOver() (string, []string) {
	old := s.daemon
	next := labtest.Start(s.t, s.l, "host0", slices.Concat(s.args, []string{"--takeover", "--control", old.Control})...)
	next.Control = old.Control
	if err := old.Wait(s.t); err != nil {
		s.t.Errorf("the daemon that was taken over from: %v\n%s", err, old.Stderr())
	}
	next.AwaitReady(s.t)
	s.daemon = next
	return "", nil
}

// report tells what happened, and fails the test for what has no explanation.
func (s *soak) report(flows []*flow) {
	t := s.t
	for _, name := range slices.Sorted(maps.Keys(s.done)) {
		t.Logf("%4d times: %s", s.done[name], name)
	}
	for i, l := range s.lives {
		f := &l.last.Forward
		t.Logf("daemon %d, %.0f s, %s: %d in, %d out, verdicts %v, drops %v, returned %d, waiting %d; ARP %v; overruns %d; memory %d MB at most, live heap %d to %d KB, goroutines %d to %d, descriptors %d",
			i+1, l.last.Uptime, l.ended, f.PacketsIn, f.PacketsOut, f.Verdicts, f.Drops, f.Returned, f.Waiting, l.last.ARP.Verdicts, l.last.Kernel.Overruns,
			l.resident>>20, l.first.Live>>10, l.last.Process.Live>>10, l.first.Goroutines, l.last.Process.Goroutines, l.last.Descriptors.InUse)
		if f.Drops["PARP_NOT_SPECIFIED"] > 0 || l.last.Kernel.Malformed > 0 {
			t.Errorf("daemon %d: drops %v, %d messages of the kernel were not understood", i+1, f.Drops, l.last.Kernel.Malformed)
		}
		if grown := int(l.last.Process.Goroutines) - int(l.first.Goroutines); grown > 8 {
			t.Errorf("daemon %d: %d goroutines more than at its start", i+1, grown)
		}
		if l.last.Process.Live > l.first.Live+16<<20 || l.resident > 96<<20 {
			t.Errorf("daemon %d: memory has grown: %+v, at its start %+v", i+1, l.last.Process, l.first)
		}
		if !l.hasClosed {
			continue
		}
		if ends := labtest.Ends(f); f.PacketsIn != ends {
			t.Errorf("daemon %d: %d packets in, and %d verdicts", i+1, f.PacketsIn, ends)
		}
		if out := f.Verdicts["forward"] + f.Verdicts["originate"]; f.PacketsOut != out {
			t.Errorf("daemon %d: %d packets out, %d were forwarded or made", i+1, f.PacketsOut, out)
		}
	}
	there := new(status.Status)
	s.other.StatusJSON(t, there)
	for _, f := range flows {
		a := f.account(s.windows)
		counted, reasons := s.countedDrops(f, there)
		t.Logf("%s; drops of packets that came in where it does, by the daemons' counters: %v", a.tell(s.windows), reasons)
		if n := uint64(len(a.unexplained)); n > counted {
			t.Errorf("%s: %d lost packets have no explanation: %d drops are counted", f.name, n-counted, counted)
		}
		if a.doubled > 0 || f.failed > 0 {
			t.Errorf("%s: %d came twice, %d could not be sent", f.name, a.doubled, f.failed)
		}
	}
}

// countedDrops are those of packets that came in where a flow does, on both hosts, of all
// lives.
func (s *soak) countedDrops(f *flow, there *status.Status) (sum uint64, reasons map[string]uint64) {
	reasons = map[string]uint64{}
	add := func(st *status.Status, host int) {
		ports := st.Uplinks
		if f.from.Host == host {
			ports = slices.DeleteFunc(slices.Clone(st.Workloads), func(i status.Interface) bool { return i.Name != f.from.Iface })
		}
		for _, i := range ports {
			for reason, n := range i.Drops {
				reasons[reason] += n
				sum += n
			}
		}
	}
	for _, l := range s.lives {
		add(l.last, 0)
	}
	if f.from.Host == 1 || f.to.Host == 1 {
		add(there, 1)
	}
	return sum, reasons
}
