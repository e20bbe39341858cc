package failure

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
)

// TestScan has a pod send to thousands of addresses that nobody has, beyond an
// uplink: each is a next hop to be resolved.
func TestScan(t *testing.T) {
	labtest.Need(t, "ip")
	const length = 6 * time.Second // the kernel's table gives up entries after five
	l := hosts(t, 2, 2)
	near, far := pods(l, 0), pods(l, 1)
	p := serve(t, l)[0]
	run(t, l, "host0", "ip route add 10.99.0.0/16 dev ens192")
	across := startPing(t, l, near[1], ip(far[0]), 10*time.Millisecond)
	run(t, l, near[1].Node, "ping -n -c1 -W2 "+ip(far[0]))
	before := rss(t, p)
	// As fast as a port scanner, with a burst now and then.
	var targets [][]byte
	for n := range 1 << 16 {
		targets = append(targets, datagram(t, near[0], fmt.Sprintf("10.99.%d.%d", n>>8, n&255)))
	}
	f := startFlood(t, l, near[0], targets...)
	most, began := 0.0, time.Now()
	tick := time.NewTicker(100 * time.Millisecond)
	for ; time.Since(began) < length; <-tick.C {
		most = max(most, rss(t, p))
	}
	tick.Stop()
	// A next hop that is not known yet, in the midst of all those that are not.
	fresh, err := l.AddPod(t.Context(), 0, lab.PodOptions{})
	if err != nil {
		t.Fatal(err)
	}
	began = time.Now()
	run(t, l, near[1].Node, "ping -n -c5 -i0.2 -W3 "+ip(fresh))
	t.Logf("five pings of a new pod took %v", time.Since(began))
	sent := f.stop()
	seen := across.stop(t)
	s := status(t, p)
	t.Logf("%d packets to 65536 addresses in %v: memory %.1f MB before, %.1f at most; asked %d, refused %d, overflow %d; drops %v",
		sent, length, before, most, s.Kernel.Resolved, s.Kernel.Refused, s.Kernel.NoneQueued, s.Forward.Drops)
	undisturbed(t, "beside the scan", seen)
	if most > before+40 {
		t.Errorf("memory grew from %.1f to %.1f MB", before, most)
	}
	run(t, l, near[0].Node, "ping -n -c2 -i0.1 -W2 "+ip(far[0])) // the scanner itself
	alive(t, p)
	await(t, "all that waited has ended", func() bool { s := status(t, p); return s.Forward.PacketsIn == endsOf(s) })
}

// TestRouteBurst adds routes faster than they can be followed: the kernel's
// messages are lost (ENOBUFS), and all is read again.
func TestRouteBurst(t *testing.T) {
	labtest.Need(t, "ip")
	const routes = 50000
	l := hosts(t, 2, 1)
	from, to := pods(l, 0)[0], pods(l, 1)[0]
	p := serve(t, l)[0]
	batch := func(verb string, first, n int) string {
		var b strings.Builder
		for i := first; i < first+n; i++ {
			fmt.Fprintf(&b, "route %s 100.%d.%d.%d/32 via 192.168.1.16 dev ens192\n", verb, 64+i>>16, i>>8&255, i&255)
		}
		return b.String()
	}
	apply := func(text string) {
		t.Helper()
		cmd := l.Command(labtest.Soon(t), "host0", "ip", "-batch", "-")
		cmd.Stdin = strings.NewReader(text)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("ip -batch: %v\n%s", err, out)
		}
	}
	known := func() int { return status(t, p).Forward.Routes }
	inKernel := func() int { return kernelRoutes(t, l) }
	if a, b := known(), inKernel(); a != b {
		t.Fatalf("%d routes known, the kernel has %d: they are counted differently", a, b)
	}
	follows := func(what string, began time.Time) {
		t.Helper()
		want := inKernel()
		await(t, what+": "+strconv.Itoa(want)+" routes are known", func() bool { return known() == want })
		s := status(t, p)
		t.Logf("%s: %d routes known after %v; overruns %d, resyncs %d; memory %.1f MB", what, want, time.Since(began).Round(time.Millisecond),
			s.Kernel.Overruns, s.Kernel.Resyncs, rss(t, p))
	}

	ping := startPing(t, l, from, ip(to), 5*time.Millisecond)
	began := time.Now()
	apply(batch("add", 0, routes))
	follows("a burst", began)
	undisturbed(t, "50000 routes added", ping.stop(t))
	run(t, l, from.Node, "ping -n -c1 -W2 "+ip(to))

	// The same with a program that does not get to read at all.
	if err := p.Cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	began = time.Now()
	apply(batch("del", 0, routes/2) + batch("add", routes, 2000))
	if err := p.Cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	follows("a burst while stopped", began)
	if s := status(t, p); s.Kernel.Overruns == 0 {
		t.Error("the socket was not overrun: the test shows nothing")
	}
	run(t, l, from.Node, "ping -n -c1 -W2 "+ip(to))

	ping = startPing(t, l, from, ip(to), 5*time.Millisecond)
	began = time.Now()
	apply(batch("del", routes/2, routes/2+2000))
	follows("all deleted", began)
	undisturbed(t, "27000 routes deleted", ping.stop(t))
	alive(t, p)
}
