package failure

import (
	"encoding/json"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
	of "proxyarpd/internal/status"
)

// The short form is for each run of the tests. What docs/RUN.md tells of is
// go test ./test/failure -run TestChurn$ -v -churn 1000 -changes 100000.
var (
	churnInterfaces = flag.Int("churn", 30, "how many interfaces TestChurn makes and removes in each of its three rounds")
	churnRoutes     = flag.Int("changes", 6000, "how many routes TestChurn changes in each of its three rounds")
)

// TestChurn makes and removes interfaces in a row, and adds, changes and deletes
// routes, three times the same. After each the daemon's tables are the kernel's, and
// what it takes itself has not grown since the first.
func TestChurn(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ip")
	const rounds = 3
	l := hosts(t, 2, 2)
	stable := pods(l, 0)
	p := serve(t, l)[0]
	calm := rss(t, p)
	ping := startPing(t, l, stable[0], ip(stable[1]), 5*time.Millisecond)
	var first of.Process
	var files int
	for round := range rounds {
		began := time.Now()
		if err := l.Do("host0", func() error { return comeAndGo(*churnInterfaces, 1) }); err != nil {
			t.Fatal(err)
		}
		interfaces := time.Since(began)
		began = time.Now()
		changeRoutes(t, l, *churnRoutes)
		routes := time.Since(began)
		sameTables(t, l, p)
		s := status(t, p)
		t.Logf("round %d: %d interfaces in %v, %d changes of routes in %v; overruns %d, resyncs %d; %d descriptors, %+v", round+1, *churnInterfaces, interfaces.Round(time.Millisecond),
			*churnRoutes, routes.Round(time.Millisecond), s.Kernel.Overruns, s.Kernel.Resyncs, s.Descriptors.InUse, s.Process)
		if round == 0 {
			first, files = s.Process, s.Descriptors.InUse
		}
	}
	undisturbed(t, "beside it", ping.stop(t))
	const stays = 5 // MB
	// Who asks for the status keeps the daemon from being calm.
	busy, after := rss(t, p), 0.0
	if !labtest.Within(patience, func() bool { after = rss(t, p); return after <= calm+stays }) {
		t.Errorf("resident memory is %.1f MB, before it %.1f MB", after, calm)
	}
	t.Logf("resident memory: %.1f MB before, %.1f MB behind it, %.1f MB then", calm, busy, after)
	var last *of.Status
	same := func() bool {
		last = status(t, p)
		return last.Descriptors.InUse <= files && last.Process.Goroutines <= first.Goroutines+2
	}
	if !labtest.Within(patience, same) {
		t.Errorf("%d descriptors (first %d), %+v (first %+v)", last.Descriptors.InUse, files, last.Process, first)
	}
	if s := alive(t, p); s.Kernel.Malformed > 0 || len(s.Workloads) != len(stable) {
		t.Errorf("%d messages of the kernel were not understood; %d workloads", s.Kernel.Malformed, len(s.Workloads))
	}
	balanced(t, p)
}

// changeRoutes makes n changes: a third of them additions, then each route
// leads elsewhere, and all but a few are deleted.
func changeRoutes(t testing.TB, l *lab.Lab, n int) {
	t.Helper()
	const stay = 16
	var b strings.Builder
	for _, change := range []string{"add %s via 192.168.1.16 dev ens192", "replace %s dev ens192 scope link", "delete %s"} {
		for i := range n / 3 {
			if strings.HasPrefix(change, "delete") && i < stay {
				continue
			}
			fmt.Fprintf(&b, "route "+change+"\n", churned(i))
		}
	}
	for i := range stay { // another round may add them
		fmt.Fprintf(&b, "route replace unreachable %s metric 7\nroute delete %s metric 0\n", churned(i), churned(i))
	}
	cmd := l.Command(labtest.Soon(t), "host0", "ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(b.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ip -batch: %v\n%s", err, out)
	}
}

func churned(i int) string { return fmt.Sprintf("100.%d.%d.%d/32", 64+i>>16, i>>8&255, i&255) }

// sameTables holds the daemon's tables against the kernel's dumps: how many routes
// there are, which interfaces, and where packets go, as both say.
func sameTables(t testing.TB, l *lab.Lab, p *labtest.Process) {
	t.Helper()
	var known, inKernel []string
	same := func() bool {
		s := status(t, p)
		routes := kernelRoutes(t, l)
		known, inKernel = []string{fmt.Sprint(s.Forward.Routes, " routes")}, []string{fmt.Sprint(routes, " routes")}
		for _, i := range slices.Concat(s.Workloads, s.Uplinks) {
			known = append(known, i.Name)
		}
		for line := range strings.Lines(run(t, l, "host0", "ip -br link")) {
			if name, _, _ := strings.Cut(strings.Fields(line)[0], "@"); name != "lo" && name != s.Relay {
				inKernel = append(inKernel, name)
			}
		}
		slices.Sort(known)
		slices.Sort(inKernel)
		return slices.Equal(known, inKernel)
	}
	if !labtest.Within(patience, same) {
		t.Fatalf("the daemon has %v, the kernel %v", known, inKernel)
	}
	for _, i := range []int{0, 1, 15, 16, 17, *churnRoutes / 6, *churnRoutes/3 - 1} {
		dst := strings.TrimSuffix(churned(i), "/32")
		var told struct {
			Forward, Kernel struct{ Verdict, Out, Nexthop string }
		}
		out := run(t, l, "host0", labtest.Binary(t)+" explain --control "+p.Control+" -o json "+dst)
		if err := json.Unmarshal([]byte(out), &told); err != nil {
			t.Fatal(err)
		}
		_, failed := labtest.Try(t, l, "host0", "ip route get "+dst)
		if there := told.Forward.Verdict == "forward"; there != (failed == 0) {
			t.Errorf("%s: the daemon says %+v, ip route get ends with %d", dst, told.Forward, failed)
		}
	}
}

// kernelRoutes is how many routes of both families host0 has, without those that lead nobody on: to
// ::1, link-local addresses and groups.
func kernelRoutes(t testing.TB, l *lab.Lab) (n int) {
	t.Helper()
	n = strings.Count(run(t, l, "host0", "ip -4 route show table all"), "\n")
	for line := range strings.Lines(run(t, l, "host0", "ip -6 route show table all")) {
		if !strings.HasPrefix(line, "local ::1 ") && !strings.Contains(line, "fe80:") && !strings.Contains(line, "ff00::/8") {
			n++
		}
	}
	return n
}
