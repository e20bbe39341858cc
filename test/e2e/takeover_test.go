package e2e

import (
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
	"proxyarpd/internal/nstest"
)

// TestTakeover has a daemon taken over again and again, by successors with another
// configuration and engine as well, one of which has to give up when it reads already, under traffic of one packet a
// millisecond in three directions and a thousand requests for the gateway a second: none
// is lost or doubled, counters go on, and the MACs stay.
func TestTakeover(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ip")
	l := labtest.New(t, lab.Spec{Form: lab.FormCalico})
	labtest.Daemon(t, l, "host1")
	p := labtest.Daemon(t, l, "host0")
	here, there := pods(l, 0), pods(l, 1)
	for _, to := range []lab.Pod{there[0], here[1]} {
		labtest.Warm(t, l, here[0].Node, ip(to))
	}
	asks := startAsker(listen(t, l, here[1].Node, "eth0", unix.ETH_P_ARP), ip(here[1]))
	flows := map[string]*labtest.Flow{
		"out":    labtest.StartFlow(t, l, here[0], there[0], 1),
		"in":     labtest.StartFlow(t, l, there[0], here[0], 1),
		"within": labtest.StartFlow(t, l, here[0], here[1], 1),
	}
	if here[0].Addr6.IsValid() {
		six := pods6(t, l, 0)
		labtest.Warm(t, l, six[0].Node, ip(six[1]))
		flows["within, IPv6"] = labtest.StartFlow(t, l, six[0], six[1], 1)
	}
	stalled := statusOf(t, p).Forward.Drops["PARP_STALLED"]
	overflowed := nstest.BacklogDrops(t)
	for _, args := range [][]string{
		nil,
		{"--engine", "ebpf", "--punt", "10.96.0.0/12"},
		{"--engine", "ebpf", "--gateway", "169.254.1.1", "--gateway", "10.20.9.9"},
		{"--metrics", "127.0.0.1:9477"},
		{"--metrics", "127.0.0.1:9477", "--proxy", "10.20.0.0/16"}, // by the same socket
		{"--metrics", "192.0.2.1:9477"},                            // which is none of this host's
		nil,
	} {
		before := statusOf(t, p)
		next := p.Successor(t, args...)
		if strings.Contains(strings.Join(args, " "), "192.0.2.1") {
			if err := next.Wait(t); err == nil || !strings.Contains(next.Stderr(), "--takeover: --metrics 192.0.2.1:9477") {
				t.Errorf("%v: %v\n%s", args, err, next.Stderr())
			}
			if !strings.Contains(p.Stderr(), "this daemon goes on") {
				t.Errorf("%v: the running daemon says nothing\n%s", args, p.Stderr())
			}
			next = p
		} else if err := p.Wait(t); err != nil {
			t.Fatalf("%v: the daemon that was taken over: %v\n%s\nits successor:\n%s", args, err, p.Stderr(), next.Stderr())
		}
		next.AwaitReady(t)
		now := statusOf(t, next)
		if now.Forward.PacketsIn < before.Forward.PacketsIn || (now.PID == before.PID) != (p == next) || !now.Ready ||
			now.ARP.Verdicts["answer"] < before.ARP.Verdicts["answer"] || now.Kernel.Learned < before.Kernel.Learned {
			t.Errorf("%v: the status was %+v, and is %+v", args, before, now)
		}
		if p == next {
			continue
		}
		for _, f := range flows {
			f.Progress(50)
		}
		if got := linkMAC(t, l, "host0", here[0].Iface); got != answerMAC {
			t.Errorf("%v: %s has %s", args, here[0].Iface, got)
		}
		if scraped := run(t, l, "host0", "cat /proc/net/tcp"); strings.Contains(scraped, "0100007F:2505") != strings.Contains(strings.Join(args, " "), "9477") {
			t.Errorf("%v: metrics:\n%s", args, scraped)
		}
		p = next
	}
	all := 0
	for name, f := range flows {
		sent, missing, doubled := f.StopMissing()
		if all += len(missing); len(missing)+doubled > 0 {
			t.Logf("%s: of %d datagrams %d lost, %d doubled", name, sent, len(missing), doubled)
		}
		if doubled > 0 {
			t.Errorf("%s: %d doubled", name, doubled)
		}
	}
	if stalled = statusOf(t, p).Forward.Drops["PARP_STALLED"] - stalled; uint64(all) > stalled+nstest.BacklogDrops(t)-overflowed {
		t.Errorf("%d datagrams lost; %+v\n%s", all, statusOf(t, p).Forward, p.Stderr())
	}
	if asked, lost := asks.stop(); lost > 0 || asked == 0 {
		t.Errorf("of %d requests %d not answered", asked, lost)
	}
	if strings.Contains(p.Stderr(), "ERROR") {
		t.Errorf("errors:\n%s", p.Stderr())
	}
}

// TestTakeoverForms takes over where interfaces are attached to by clsact, keep their MACs,
// or are answered only, and of several workers: nothing is lost, and the end leaves the
// host as it was.
func TestTakeoverForms(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"clsact":        {"--claim", "clsact"},
		"keep-mac":      {"--keep-mac"},
		"none":          {"--engine", "none"},
		"workers":       {"--workers", "3"},
		"other workers": {"--workers", "3"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			labtest.Need(t, "ip")
			l := labtest.New(t, lab.Spec{Form: lab.FormCalico})
			here := pods(l, 0)
			if name == "none" {
				if err := l.SetSysctl("host0", "net.ipv4.ip_forward", "1"); err != nil {
					t.Fatal(err)
				}
			}
			p := labtest.Daemon(t, l, "host0", args...)
			labtest.Warm(t, l, here[0].Node, ip(here[1]))
			asks := startAsker(listen(t, l, here[1].Node, "eth0", unix.ETH_P_ARP), ip(here[1]))
			flow := labtest.StartFlow(t, l, here[0], here[1], 1)
			for i := range 2 {
				if name == "other workers" {
					args = []string{"--workers", strconv.Itoa(i + 1)}
				}
				next := p.Successor(t, args...)
				if err := p.Wait(t); err != nil {
					t.Fatalf("taken over: %v\n%s\n%s", err, p.Stderr(), next.Stderr())
				}
				next.AwaitReady(t)
				flow.Progress(50)
				if s := statusOf(t, next); name == "other workers" && s.Workers != i+1 {
					t.Errorf("%d workers, want %d", s.Workers, i+1)
				}
				p = next
			}
			overflowed := nstest.BacklogDrops(t)
			if sent, missing, doubled := flow.StopMissing(); uint64(len(missing)) > nstest.BacklogDrops(t)-overflowed || doubled > 0 {
				t.Errorf("of %d datagrams %d lost, %d doubled", sent, len(missing), doubled)
			}
			if asked, lost := asks.stop(); lost > 0 || asked == 0 {
				t.Errorf("of %d requests %d not answered", asked, lost)
			}
			if strings.Contains(p.Stderr(), "ERROR") {
				t.Errorf("errors:\n%s", p.Stderr())
			}
			p.Stop(t)
			if got := linkMAC(t, l, "host0", here[0].Iface); got != here[0].MAC {
				t.Errorf("%s has %s after the end, and had %s", here[0].Iface, got, here[0].MAC)
			}
			if left := run(t, l, "host0", "tc qdisc show"); strings.Contains(left, "clsact") {
				t.Errorf("left behind: %s", left)
			}
			if left := run(t, l, "host0", "ip -br link show"); strings.Contains(left, "proxyarpd") {
				t.Errorf("left behind: %s", left)
			}
		})
	}
}
