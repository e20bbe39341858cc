package routes

import (
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"proxyarpd/internal/daemon"
	"proxyarpd/internal/fulltable"
	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
)

// Of a million routes `make routes` measures; the test is for all days.
var (
	size    = flag.Int("routes", 40000, "`number` of routes of the host")
	changes = flag.Int("changes", 30000, "`number` of changes in a burst")
	every   = flag.Duration("every", 500*time.Microsecond, "`time` between the packets that pass meanwhile")
)

// next is what the routes lead to: the other host, and others that nobody asks.
func next(i int) netip.Addr {
	if i%50 == 0 {
		return netip.AddrFrom4([4]byte{192, 168, 1, 16})
	}
	return netip.AddrFrom4([4]byte{192, 168, 1, byte(50 + i%150)})
}

// TestFullTable fills a host's routing table and changes much of it at once,
// while packets pass: first through the kernel, then through proxyarpd.
func TestFullTable(t *testing.T) {
	labtest.Need(t, "ip")
	if *changes > *size {
		t.Fatalf("%d changes of %d routes", *changes, *size)
	}
	b := newBed(t)
	b.prefixes = fulltable.Prefixes(*size+*changes, 1)
	began := time.Now()
	b.batch(t, func(c *batch) {
		for i, p := range b.prefixes[:*size] {
			c.add(create, p, next(i))
		}
	})
	t.Logf("the kernel has %d routes after %v", *size, time.Since(began).Round(time.Millisecond))

	b.sysctl(t, "host0", "net.ipv4.ip_forward", "1")
	b.gateway(t, b.from.MAC)
	b.measure(t, "kernel", nil)
	b.sysctl(t, "host0", "net.ipv4.ip_forward", "0")
	b.run(t, b.from.Node, "ip neigh del 169.254.1.1 dev "+b.from.Peer)

	began = time.Now()
	p := labtest.Start(t, b.Lab, "host0", "--workload", "veth*", "--rp-filter", "0")
	wait := b.Command(t.Context(), "host0", labtest.Binary(t), "status", "--wait", patience.String(), "--control", p.Control)
	if out, err := wait.CombinedOutput(); err != nil {
		t.Fatalf("not ready: %v\n%s", err, out)
	}
	ready := time.Since(began)
	if n := b.status(t, p).Forward.Routes; n < *size {
		t.Fatalf("%d routes are known, the kernel has at least %d", n, *size)
	}
	t.Logf("proxyarpd: ready after %v, CPU %v; %s", ready.Round(time.Millisecond), cpu(t, p), memory(t, p, *size))
	b.measure(t, "proxyarpd", p)
	b.measureResync(t, p)
	t.Logf("proxyarpd: CPU %v; %s", cpu(t, p), memory(t, p, *size))
}

// measure has changes happen, one by one and many at once.
func (b *bed) measure(t *testing.T, who string, p *labtest.Process) {
	t.Helper()
	took := measureChange(t, b.Lab, b.from, b.near, b.far, [2]lab.Pod{b.beside, b.to})
	t.Logf("%s: one change took until a packet went by it p50 %v, p99 %v, longest %v", who,
		took[len(took)/2], took[len(took)*99/100], took[len(took)-1])

	s := startStream(t, b.Lab, b.from, b.to, *every)
	time.Sleep(time.Second) // of packets without a burst, to compare with
	calm := s.stop(t)
	t.Logf("%s: calm: %v", who, calm)

	before := b.known(t, p)
	s = startStream(t, b.Lab, b.from, b.to, *every)
	began := time.Now()
	b.burst(t)
	applied := time.Since(began)
	if p != nil {
		b.await(t, p, before+burstAdds())
	}
	followed := time.Since(began)
	seen := s.stop(t)
	t.Logf("%s: %d changes, made in %v, followed after %v: %v", who, *changes, applied.Round(time.Millisecond), followed.Round(time.Millisecond), seen)
	if p != nil {
		st := b.status(t, p)
		t.Logf("%s: overruns %d, resyncs %d; drops %v", who, st.Kernel.Overruns, st.Kernel.Resyncs, st.Forward.Drops)
		if seen.lost > 0 || seen.doubled > 0 {
			t.Errorf("%s: lost %d, doubled %d", who, seen.lost, seen.doubled)
		}
	}
	b.unburst(t)
	if p != nil {
		b.await(t, p, before)
	}
}

// measureResync makes changes while the daemon is stopped, so that it has lost
// what the kernel told of them, and sees what comes of packets while it reads
// everything anew.
func (b *bed) measureResync(t *testing.T, p *labtest.Process) {
	t.Helper()
	b.run(t, "host1", "ip route add blackhole "+lastOfBurst[0].String())
	before := b.status(t, p)
	if err := p.Cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	b.burst(t)
	if err := p.Cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	s := startStream(t, b.Lab, b.from, b.to, *every)
	refused := b.startRefused(t)
	b.await(t, p, before.Forward.Routes+burstAdds())
	followed := time.Since(began)
	seen, errors := s.stop(t), refused()
	after := b.status(t, p)
	t.Logf("proxyarpd: %d changes lost, known again after %v: %v; %s", *changes, followed.Round(time.Millisecond), seen, memory(t, p, *size))
	switch {
	case after.Kernel.Overruns == before.Kernel.Overruns:
		t.Error("nothing was lost: the test shows nothing")
	case seen.lost > 0 || seen.doubled > 0:
		t.Errorf("lost %d, doubled %d", seen.lost, seen.doubled)
	case errors > 0:
		t.Errorf("%d packets to a new route were answered with unreachable", errors)
	}
}

// startRefused sends to a destination that one of the last changes of a burst adds,
// and has the function that it gives say how often that was refused.
func (b *bed) startRefused(t testing.TB) func() int {
	t.Helper()
	out := labtest.DialUDP(t, b.Lab, b.from.Node, netip.AddrPortFrom(lastOfBurst[0].Addr(), streamPort))
	end, refused := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-end:
				out.Close()
				refused <- n
				return
			case <-tick.C:
			}
			if _, err := out.Write([]byte("?")); err != nil { // of an ICMP error about an earlier one
				n++
			}
		}
	}()
	return func() int { close(end); return <-refused }
}

// burst deletes, adds and changes a third of its routes each.
func (b *bed) burst(t testing.TB) {
	b.batch(t, func(c *batch) {
		for i := range *changes {
			switch {
			case i%3 == 0:
				c.del(b.prefixes[i])
			case i%3 == 1:
				c.add(create, b.prefixes[*size+i], next(i))
			default:
				c.add(change, b.prefixes[i], next(i+1))
			}
		}
		for _, p := range lastOfBurst {
			c.add(create, p, next(0))
		}
	})
}

// lastOfBurst tell by their presence that a burst has been followed: before it
// ends there are never as many routes.
var lastOfBurst = []netip.Prefix{netip.MustParsePrefix("10.255.0.1/32"), netip.MustParsePrefix("10.255.0.2/32"), netip.MustParsePrefix("10.255.0.3/32")}

// burstAdds is how many routes more there are after a burst.
func burstAdds() int { return len(lastOfBurst) - (*changes+2)/3 + (*changes+1)/3 }

// unburst makes the routes what they were.
func (b *bed) unburst(t testing.TB) {
	b.batch(t, func(c *batch) {
		for i := range *changes {
			switch {
			case i%3 == 1:
				c.del(b.prefixes[*size+i])
			default:
				c.add(change, b.prefixes[i], next(i))
			}
		}
		for _, p := range lastOfBurst {
			c.del(p)
		}
	})
}

// bed is two hosts; the first one's way of forwarding is measured.
type bed struct {
	*lab.Lab
	from, beside, to lab.Pod // two pods of the first host, one of the other
	near, far        *netlink.Route
	uplink           int // index in the first host
	prefixes         []netip.Prefix
}

func newBed(t *testing.T) *bed {
	t.Helper()
	b := &bed{Lab: labtest.New(t, lab.Spec{Form: lab.FormSlash32, Hosts: 2, PodsPerHost: 2})}
	for _, p := range b.Pods() {
		switch {
		case p.Host == 0 && p.N == 0:
			b.from = p
		case p.Host == 0:
			b.beside = p
		case p.N == 0:
			b.to = p
		}
	}
	b.sysctl(t, "host1", "net.ipv4.ip_forward", "1")
	b.run(t, "host1", fmt.Sprintf("ip route add %v dev %s", moving, b.to.Iface))
	for _, p := range []lab.Pod{b.beside, b.to} {
		b.run(t, p.Node, fmt.Sprintf("ip addr add %v/32 dev lo", moving))
		b.run(t, p.Node, "ip link set lo up")
	}
	err := b.Do("host0", func() error {
		l, err := netlink.LinkByName("ens192")
		if err == nil {
			b.uplink = l.Attrs().Index
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	dst := &net.IPNet{IP: moving.AsSlice(), Mask: net.CIDRMask(32, 32)}
	b.near = &netlink.Route{Dst: dst, LinkIndex: b.beside.Index, Scope: netlink.SCOPE_LINK}
	b.far = &netlink.Route{Dst: dst, Gw: net.IPv4(192, 168, 1, 16).To4()}
	return b
}

// gateway has the first pod take the MAC for its gateway's.
func (b *bed) gateway(t testing.TB, mac string) {
	t.Helper()
	b.run(t, b.from.Node, "ip neigh replace 169.254.1.1 lladdr "+mac+" dev "+b.from.Peer)
}

func (b *bed) sysctl(t testing.TB, node, key, value string) {
	t.Helper()
	if err := b.SetSysctl(node, key, value); err != nil {
		t.Fatal(err)
	}
}

// run runs a command, given as one line without quotes, in a node.
func (b *bed) run(t testing.TB, node, line string) string {
	t.Helper()
	return labtest.Line(t, b.Lab, node, line)
}

func (b *bed) status(t testing.TB, p *labtest.Process) *daemon.Status {
	t.Helper()
	s := new(daemon.Status)
	p.StatusJSON(t, s)
	return s
}

// known is how many routes the daemon follows.
func (b *bed) known(t testing.TB, p *labtest.Process) int {
	if p == nil {
		return 0
	}
	return b.status(t, p).Forward.Routes
}

// await waits until a burst is known as a whole: its last change adds or
// deletes one route more than the others do.
func (b *bed) await(t testing.TB, p *labtest.Process, want int) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); b.known(t, p) != want; <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("%d routes are known after %v, not %d", b.known(t, p), patience, want)
		}
	}
}

// memory says what the daemon has of it, now and at most.
func memory(t testing.TB, p *labtest.Process, routes int) string {
	t.Helper()
	kb := map[string]int{}
	for line := range strings.Lines(procFile(t, p, "status")) {
		if f := strings.Fields(line); len(f) == 3 {
			kb[f[0]], _ = strconv.Atoi(f[1])
		}
	}
	return fmt.Sprintf("memory %.1f MB, at most %.1f MB: %d bytes a route", float64(kb["VmRSS:"])/1024, float64(kb["VmHWM:"])/1024, kb["VmRSS:"]*1024/routes)
}

// cpu is the CPU time that the daemon has taken.
func cpu(t testing.TB, p *labtest.Process) time.Duration {
	t.Helper()
	stat := procFile(t, p, "stat")
	f := strings.Fields(stat[strings.LastIndexByte(stat, ')')+2:])
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * time.Second / 100 // USER_HZ
}

func procFile(t testing.TB, p *labtest.Process, name string) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", p.Cmd.Process.Pid, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
