package e2e

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
)

// calicoSettings is what Calico and its operators write on a host: the kernel
// would forward, and answer ARP for, everything.
func calicoSettings(t *testing.T, l *lab.Lab) {
	t.Helper()
	for _, host := range []string{"host0", "host1"} {
		set := []string{"net.ipv4.ip_forward"}
		for _, p := range l.Pods() {
			if host == "host0" && p.Host == 0 || host == "host1" && p.Host == 1 {
				set = append(set, "net.ipv4.conf."+p.Iface+".proxy_arp", "net.ipv4.conf."+p.Iface+".forwarding",
					"net.ipv4.conf."+p.Iface+".route_localnet")
			}
		}
		for _, key := range set {
			if err := l.SetSysctl(host, key, "1"); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// stalled is how many frames the daemons dropped because they had not run for a
// while, in which the kernel forwarded.
func (w *world) stalled(t *testing.T) (frames uint64) {
	t.Helper()
	for _, d := range w.d {
		frames += statusOf(t, d).Forward.Drops["PARP_STALLED"]
	}
	return frames
}

// eachOnce is labtest.EachOnce, but for what a daemon could not send in time on a
// busy machine.
func (w *world) eachOnce(t *testing.T, from, to lab.Pod, n int) {
	t.Helper()
	const joined = 64 // datagrams of a frame, at most
	before := w.stalled(t)
	lost, doubled := labtest.Count(t, w.Lab, from, to, n)
	if late := int(w.stalled(t) - before); lost > late*joined || doubled > 0 {
		t.Errorf("%s to %s: of %d datagrams %d are lost, %d frames of them late, and %d arrive more than once", from.Name, to.Name, n, lost, late, doubled)
	}
}

// TestOnceAndOnlyOnce counts numbered packets where the kernel could forward
// them too, and where it could not, by each way of taking them from it.
func TestOnceAndOnlyOnce(t *testing.T) {
	const packets = 10000
	for _, c := range []struct {
		name, claim, says string
		calico            bool
	}{
		{"Calico's settings, tcx", "tcx", "tcx", true},
		{"Calico's settings, clsact", "clsact", "clsact", true},
		{"Calico's settings, auto", "auto", "tcx", true},
		{"forwarding 0, tcx", "tcx", "tcx", false},
		{"forwarding 0, clsact", "clsact", "clsact", false},
		{"forwarding 0, no claim", "none", "none", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := labtest.New(t, lab.Spec{Form: lab.FormCalico})
			if c.calico {
				calicoSettings(t, l)
			}
			w := &world{Lab: l}
			w.daemons(t, "--claim", c.claim)
			mine, others := pods(l, 0), pods(l, 1)
			wantTTL(t, l, mine[0].Node, ip(others[0]), 62)
			wantTTL(t, l, mine[0].Node, ip(mine[1]), 63)
			wantTTL(t, l, mine[0].Node, host0IP, 64)
			before := statusOf(t, w.d[0])
			w.eachOnce(t, mine[0], others[0], packets)
			w.eachOnce(t, mine[0], mine[1], packets)
			after := statusOf(t, w.d[0])
			if w.stalled(t) > 0 {
				return // on a busy machine, where the kernel then has some of the packets
			}
			if after.Claim != c.says {
				t.Errorf("claim %s, want %s", after.Claim, c.says)
			}
			// All of them by userspace, none by the kernel but what it had while the daemon did not get a CPU.
			punted := after.Forward.Verdicts["reader-stalled"] - before.Forward.Verdicts["reader-stalled"]
			if n := after.Forward.PacketsOut - before.Forward.PacketsOut + punted; n < 2*packets || n > 2*packets+100 {
				t.Errorf("%d packets out for %d sent, %d of them by the kernel", n, 2*packets, punted)
			}
			if len(after.Forward.Drops) != 0 {
				t.Errorf("drops: %v", after.Forward.Drops)
			}
		})
	}
}

// TestNoClaimWhereKernelForwards refuses to be the second who forwards.
func TestNoClaimWhereKernelForwards(t *testing.T) {
	t.Parallel()
	l := labtest.New(t, lab.Spec{Form: lab.FormCalico})
	calicoSettings(t, l)
	for _, p := range l.Pods() {
		if p.Host == 1 { // only here one interface forwards, and no other does
			continue
		}
		if err := l.SetSysctl("host0", "net.ipv4.conf."+p.Iface+".forwarding", "0"); err != nil {
			t.Fatal(err)
		}
	}
	for _, host := range []string{"host0", "host1"} {
		p := labtest.Start(t, l, host, "--claim", "none")
		if err := p.Wait(t); err == nil {
			t.Errorf("%s: it runs", host)
		}
		message := errorLine(t, p.Stderr())
		if !strings.Contains(message, "net.ipv4.conf.") || !strings.Contains(message, ".forwarding=0") || p.Cmd.ProcessState.ExitCode() != 1 {
			t.Errorf("%s: exit %d: %s", host, p.Cmd.ProcessState.ExitCode(), message)
		}
	}
	// ARP alone bothers nobody.
	labtest.Daemon(t, l, "host1", "--claim", "none", "--engine", "none")
	labtest.Daemon(t, l, "host0", "--claim", "none", "--engine", "none")
}

// TestForwardingTurnedOn has somebody write the sysctl while the program runs.
func TestForwardingTurnedOn(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ping")
	for _, claim := range []string{"none", "auto"} {
		w := start(t, lab.Spec{Hosts: 1, Form: lab.FormSlash32, PodsPerHost: 2}, "--claim", claim)
		from, to := pods(w.Lab, 0)[0], pods(w.Lab, 0)[1]
		wantTTL(t, w.Lab, from.Node, ip(to), 63)
		forwarding := func(value string) {
			t.Helper()
			if err := w.SetSysctl("host0", "net.ipv4.ip_forward", value); err != nil {
				t.Fatal(err)
			}
			kernels := value == "1" && claim == "none"
			await(t, "forwarding "+value+" is noticed", func() bool {
				s := statusOf(t, w.d[0])
				i, j := s.port(from.Iface), s.port(to.Iface)
				return i.Forwards != kernels && j.Forwards != kernels
			})
		}
		for range 3 {
			forwarding("1")
			labtest.EachOnce(t, w.Lab, from, to, 1000)
			s := statusOf(t, w.d[0])
			if message := s.port(from.Iface).Error; (claim == "none") != strings.Contains(message, ".forwarding=0") {
				t.Errorf("--claim %s: error %q", claim, message)
			}
			forwarding("0")
			labtest.EachOnce(t, w.Lab, from, to, 1000)
			w.d[0].AwaitReady(t)
		}
	}
}

// errorLine is the one line in which a program says why it ended.
func errorLine(t testing.TB, stderr string) string {
	t.Helper()
	var found []string
	for line := range strings.Lines(stderr) {
		if strings.HasPrefix(line, "proxyarpd: ") {
			found = append(found, strings.TrimSpace(line))
		}
	}
	if len(found) != 1 || !strings.HasSuffix(strings.TrimSpace(stderr), found[0]) {
		t.Fatalf("want one line of error, the last:\n%s", stderr)
	}
	return found[0]
}

// TestWritesNoSysctl compares all of IPv4's settings, those that a new MAC or a
// changed interface could touch included.
func TestWritesNoSysctl(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ping")
	for _, calico := range []bool{false, true} {
		l := labtest.New(t, lab.Spec{Form: lab.FormSlash32})
		if calico {
			calicoSettings(t, l)
		}
		before := ipv4Sysctls(t, l, "host0")
		w := &world{Lab: l}
		w.daemons(t)
		wantTTL(t, l, "ns0", "10.20.1.3", 62)
		compare := func(when string) {
			t.Helper()
			after := ipv4Sysctls(t, l, "host0")
			maps.DeleteFunc(after, func(key, _ string) bool { return strings.Contains(key, "/proxyarpd0/") }) // its own device's
			if len(after) != len(before) || len(after) < 100 {
				t.Errorf("%s: %d sysctls, before %d", when, len(after), len(before))
			}
			for key, value := range before {
				if after[key] != value && filepath.Base(key) != "tcp_mem" && filepath.Base(key) != "udp_mem" {
					t.Errorf("%s: %s is %q, was %q", when, key, after[key], value)
				}
			}
		}
		compare("while it runs")
		w.d[0].Stop(t)
		compare("after its end")
	}
}

// TestReadOnlyProcSys runs the program where nobody can write a sysctl.
func TestReadOnlyProcSys(t *testing.T) {
	labtest.Need(t, "unshare", "mount", "ping")
	bin := labtest.Binary(t)
	wrapper := filepath.Join(t.TempDir(), "proxyarpd")
	script := "#!/bin/sh\nexec unshare --mount sh -c 'mount --bind /proc/sys /proc/sys && mount -o remount,ro,bind /proc/sys || exit 3\n" +
		"if echo 0 2>/dev/null > /proc/sys/net/ipv4/ip_forward; then echo proc/sys can be written >&2; exit 3; fi\n" +
		"exec " + bin + " \"$@\"' sh \"$@\"\n"
	if err := os.WriteFile(wrapper, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PROXYARPD_BIN", wrapper)
	for _, claim := range []string{"auto", "none"} {
		w := start(t, lab.Spec{Form: lab.FormSlash32, PodsPerHost: 2}, "--claim", claim)
		wantTTL(t, w.Lab, "ns0", "10.20.1.3", 62)
		wantTTL(t, w.Lab, "ns0", "10.20.1.4", 63)
		wantTTL(t, w.Lab, "ns0", host0IP, 64)
		p, err := w.AddPod(t.Context(), 0, lab.PodOptions{})
		if err != nil {
			t.Fatal(err)
		}
		wantTTL(t, w.Lab, p.Node, "10.20.1.3", 62)
	}
}
