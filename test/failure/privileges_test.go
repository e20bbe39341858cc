package failure

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
)

// bits is a set of capabilities, as /proc/PID/status shows it.
func bits(capabilities ...int) (set uint64) {
	for _, c := range capabilities {
		set |= 1 << c
	}
	return set
}

// confined fails the test unless every thread of a daemon has exactly these capabilities and no_new_privs.
func confined(t *testing.T, p *labtest.Process, capabilities ...int) {
	t.Helper()
	want := fmt.Sprintf("%016x", bits(capabilities...))
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", p.Cmd.Process.Pid))
	if err != nil || len(tasks) < 2 {
		t.Fatalf("threads: %v, %v", tasks, err)
	}
	seen := 0
	for _, task := range tasks {
		b, err := os.ReadFile(task)
		if err != nil {
			continue // the thread has ended
		}
		seen++
		is := map[string]string{}
		for line := range strings.Lines(string(b)) {
			key, value, _ := strings.Cut(line, ":")
			is[key] = strings.TrimSpace(value)
		}
		for key, want := range map[string]string{"CapPrm": want, "CapEff": want, "CapBnd": want, "CapInh": "0000000000000000", "CapAmb": "0000000000000000", "NoNewPrivs": "1"} {
			if key == "CapBnd" && is["Uid"][0] != '0' {
				continue // it takes CAP_SETPCAP
			}
			if is[key] != want {
				t.Errorf("%s (%s): %s is %s, want %s", task, is["Name"], key, is[key], want)
			}
		}
	}
	if seen < 2 {
		t.Errorf("%d threads", seen)
	}
}

// all that a daemon does after its start, it does without what it gave up: an interface that comes, with a MAC to be
// set and a program to be attached, packets and answers, a capture, rules that appear.
func serves(t *testing.T, l *lab.Lab, p *labtest.Process, forwards bool) {
	t.Helper()
	old := pods(l, 0)[0]
	pod, err := l.AddPod(t.Context(), 0, lab.PodOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.DelPod(pod.Name); err != nil {
			t.Error(err)
		}
	}()
	run(t, l, pod.Node, "arping -c 1 -w 3 -I eth0 169.254.1.1")
	p.AwaitReady(t)
	if got := run(t, l, "host0", "ip -br link show dev "+pod.Iface); !strings.Contains(got, answerMAC) {
		t.Errorf("the new interface: %s", got)
	}
	if !forwards {
		return
	}
	labtest.Warm(t, l, pod.Node, ip(old))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	capture := l.Command(ctx, "host0", labtest.Binary(t), "capture", "--control", p.Control, "-nlc1", "-i", pod.Iface, "icmp[icmptype] == icmp-echo")
	out, errs := new(labtest.Buffer), new(labtest.Buffer)
	capture.Stdout, capture.Stderr = out, errs
	if err := capture.Start(); err != nil {
		t.Fatal(err)
	}
	await(t, "the capture listens", func() bool { return strings.Contains(errs.String(), "listening on") })
	run(t, l, pod.Node, "ping -n -c3 -i0.05 -W2 "+ip(old))
	if err := capture.Wait(); err != nil || !strings.Contains(out.String(), "=> forward") {
		t.Errorf("capture: %v\n%s%s", err, out, errs)
	}
	before := len(status(t, p).Gate.Findings)
	run(t, l, "host0", "tc qdisc add dev "+old.Iface+" root tbf rate 1gbit burst 64k latency 10ms")
	await(t, "the queueing discipline is found", func() bool { return len(status(t, p).Gate.Findings) > before })
	run(t, l, "host0", "tc qdisc del dev "+old.Iface+" root")
	// After a look there is none for twenty times as long as it took: on a busy machine it took seconds.
	if !labtest.Within(4*patience, func() bool { return len(status(t, p).Gate.Findings) == before }) {
		t.Errorf("it is gone, and found still: %+v", status(t, p).Gate)
	}
}

// TestPrivilegesGivenUp: a daemon that root starts keeps what it goes on using, by its engine and by whether it may be
// told another configuration, and that is enough.
func TestPrivilegesGivenUp(t *testing.T) {
	labtest.Need(t, "ip", "tc", "arping", "ping")
	base := []int{unix.CAP_NET_RAW, unix.CAP_NET_ADMIN}
	for _, c := range []struct {
		engine, claim string
		more          []int
	}{
		{"af_packet", "tcx", nil},
		{"af_packet", "clsact", nil},
		{"ebpf", "tcx", []int{unix.CAP_BPF, unix.CAP_PERFMON}},
		{"none", "tcx", nil},
	} {
		t.Run(c.engine+" "+c.claim, func(t *testing.T) {
			t.Parallel()
			l := hosts(t, 1, 1)
			p := serve(t, l, "--engine", c.engine, "--claim", c.claim)[0]
			confined(t, p, append(base, c.more...)...)
			serves(t, l, p, c.engine != "none")
			s := status(t, p).Privileges
			if s.UID != os.Geteuid() || !s.NoNewPrivs || len(s.Capabilities) != len(base)+len(c.more) || !slices.Contains(s.Capabilities, "cap_net_raw") {
				t.Errorf("status: %+v", s)
			}
			p.Stop(t)
		})
	}
}

// TestPrivilegesOfReloads: with a configuration file it may be told any, and then can do it.
func TestPrivilegesOfReloads(t *testing.T) {
	labtest.Need(t, "ip", "tc", "arping", "ping")
	t.Parallel()
	l := hosts(t, 1, 1)
	file := filepath.Join(t.TempDir(), "proxyarpd.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte("workload: [veth*]\n"+text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("")
	p := labtest.Daemon(t, l, "host0", "--config", file)
	every := []int{unix.CAP_NET_RAW, unix.CAP_NET_ADMIN, unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_SYS_NICE}
	for _, engine := range []string{"none", "ebpf", "af_packet"} {
		write(fmt.Sprintf("engine: %s\nnice: -7\n", engine))
		run(t, l, "host0", labtest.Binary(t)+" reload --control "+p.Control)
		confined(t, p, every...)
		serves(t, l, p, engine != "none")
		if s := status(t, p); s.Engine != engine || engine != "none" && s.Forward.Nice != -7 {
			t.Errorf("engine %s, nice %d after a reload to %s", s.Engine, s.Forward.Nice, engine)
		}
	}
	// A port that takes a capability which the daemon has given up is refused with a word.
	write("metrics: 127.0.0.1:80\n")
	if out, code := labtest.Try(t, l, "host0", labtest.Binary(t)+" reload --control "+p.Control); code != 1 || !strings.Contains(out, "CAP_NET_BIND_SERVICE") {
		t.Errorf("exit status %d: %s", code, out)
	}
}

// forAll reports whether all users may open a device, as udev has it.
func forAll(t *testing.T, device string) bool {
	t.Helper()
	info, err := os.Stat(device)
	return err == nil && info.Mode().Perm()&0o006 == 0o006
}

// TestUnprivilegedUser: another user than root, with ambient capabilities, runs it: socket, state, metrics and all. It
// may be asked by root and by that user, by nobody else.
func TestUnprivilegedUser(t *testing.T) {
	labtest.Need(t, "ip", "tc", "arping", "ping", "setpriv", "curl")
	const user, stranger = 65530, 65531
	as := func(uid int, line string) string {
		return fmt.Sprintf("setpriv --reuid %d --regid %d --clear-groups -- %s", uid, uid, line)
	}
	l := hosts(t, 1, 1)
	dir, err := os.MkdirTemp("", "parp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chown(dir, user, user); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	binary := labtest.Binary(t)
	caps := "+net_raw,+net_admin,+bpf,+perfmon,+sys_nice"
	wrapped(t, "setpriv", "--reuid", strconv.Itoa(user), "--regid", strconv.Itoa(user), "--groups", "0", "--inh-caps", caps, "--ambient-caps", caps)
	for _, engine := range []string{"af_packet", "ebpf"} {
		t.Run(engine, func(t *testing.T) {
			before := traces(t, l, "host0")
			control := filepath.Join(dir, "c.sock")
			p := labtest.Start(t, l, "host0", "--workload", "veth*", "--engine", engine, "--metrics", "9477", "--control", control, "--state-dir", filepath.Join(dir, "state"))
			p.Control = control
			p.AwaitReady(t)
			want := []int{unix.CAP_NET_RAW, unix.CAP_NET_ADMIN}
			if engine == "ebpf" {
				want = append(want, unix.CAP_BPF, unix.CAP_PERFMON)
			}
			confined(t, p, want...)
			serves(t, l, p, true)
			s := status(t, p)
			if s.Privileges.UID != user || s.Claim != "tcx" || s.Relay == "" && forAll(t, "/dev/net/tun") || s.Forward.Nice != -20 {
				t.Errorf("privileges %+v, claim %s, relay %q, nice %d\n%s", s.Privileges, s.Claim, s.Relay, s.Forward.Nice, p.Stderr())
			}
			if out := run(t, l, "host0", "curl -sf http://127.0.0.1:9477/readyz -w %{http_code}"); !strings.Contains(out, strconv.Itoa(http.StatusOK)) {
				t.Errorf("metrics: %s", out)
			}
			ask := binary + " status --control " + control
			run(t, l, "host0", as(user, ask))
			if out, code := labtest.Try(t, l, "host0", as(stranger, ask)); code != 1 || !strings.Contains(out, "permission denied") {
				t.Errorf("another user: exit status %d: %s", code, out)
			}
			// Who passes the mode, because somebody has changed it, does not pass the check of who has connected.
			if err := os.Chmod(control, 0o666); err != nil {
				t.Fatal(err)
			}
			if out, code := labtest.Try(t, l, "host0", as(stranger, ask)); code != 1 {
				t.Errorf("another user, where the socket's mode lets it in: exit status %d: %s", code, out)
			}
			if s := status(t, p); s.Control.Refused == 0 {
				t.Error("the client that was refused is not counted")
			}
			p.Stop(t)
			same(t, "after a daemon of another user", traces(t, l, "host0"), before)
		})
	}
}
