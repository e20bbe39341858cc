package failure

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"proxyarpd/internal/instance"
	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
)

// programs tells what TCX programs a node's interfaces have.
func programs(t testing.TB, l *lab.Lab, node string) (all []string) {
	t.Helper()
	if err := l.Do(node, func() error {
		ifs, err := net.Interfaces()
		if err != nil {
			return err
		}
		for _, i := range ifs {
			q, err := link.QueryPrograms(link.QueryOptions{Target: i.Index, Attach: ebpf.AttachTCXIngress})
			if err != nil {
				return err
			}
			for range q.Programs {
				all = append(all, "tcx ingress "+i.Name)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

func same(t testing.TB, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n%s\nas it was found:\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestSIGTERMAtLoad ends a daemon that forwards as much as it can.
func TestSIGTERMAtLoad(t *testing.T) {
	labtest.Need(t, "ip", "tc", "iperf3")
	for _, mode := range []string{"tcx", "clsact"} {
		l := hosts(t, 1, 4)
		all := pods(l, 0)
		run(t, l, "host0", "ip neigh add 10.20.1.77 lladdr 02:00:00:00:00:77 dev "+all[0].Iface+" nud permanent")
		before := traces(t, l, "host0")
		p := serve(t, l, "--claim", mode)[0]
		if during := traces(t, l, "host0"); slices.Equal(before, during) || !strings.Contains(strings.Join(during, "\n"), answerMAC) {
			t.Fatalf("%s: the daemon has left no trace to be taken away:\n%s", mode, strings.Join(during, "\n"))
		}
		server := l.Command(t.Context(), all[3].Node, "iperf3", "-s", "-1")
		client := l.Command(t.Context(), all[2].Node, "iperf3", "-c", ip(all[3]), "-t", "60")
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		run(t, l, all[3].Node, "sh -c true")
		await(t, "iperf3 listens", func() bool { return strings.Contains(run(t, l, all[3].Node, "cat /proc/net/tcp6"), ":1451 ") })
		if err := client.Start(); err != nil {
			t.Fatal(err)
		}
		f := startFlood(t, l, all[0], datagram(t, all[0], ip(all[1])))
		had := status(t, p).Forward.PacketsOut
		await(t, "50000 packets at load", func() bool { return status(t, p).Forward.PacketsOut > had+50000 })

		began := time.Now()
		p.Cmd.Process.Signal(syscall.SIGTERM)
		err := p.Wait(t)
		took := time.Since(began)
		flooded := f.stop()
		client.Process.Kill()
		server.Process.Kill()
		client.Wait()
		server.Wait()
		t.Logf("%s: ended %v after SIGTERM; %d frames of flood", mode, took.Round(time.Millisecond), flooded)
		if err != nil || took > 2*time.Second {
			t.Errorf("%s: %v after %v, want exit status 0 within 2 s\n%s", mode, err, took, p.Stderr())
		}
		same(t, mode+": after SIGTERM", traces(t, l, "host0"), before)
		if _, err := os.Lstat(p.Control); err == nil {
			t.Errorf("%s: %s is still there", mode, p.Control)
		}
	}
}

// TestKillAtLoad: where the kernel forwards, too, it goes on where a killed
// daemon stopped, and the next daemon puts back what the killed one changed.
func TestKillAtLoad(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ip", "tc")
	for _, mode := range []string{"tcx", "clsact"} {
		l := hosts(t, 1, 2)
		all := pods(l, 0)
		before := traces(t, l, "host0")
		if err := l.SetSysctl("host0", "net.ipv4.ip_forward", "1"); err != nil {
			t.Fatal(err)
		}
		p := serve(t, l, "--claim", mode)[0]
		labtest.Warm(t, l, all[0].Node, ip(all[1]))
		f := labtest.StartPaced(t, l, all[0], all[1], 20)
		f.Progress(5000)
		arrived, began := f.Next(), time.Now()
		p.Kill()
		dead, took := f.Sent(), time.Since(began)
		f.Progress(5000)
		sent, missing, doubled := f.StopMissing()
		t.Logf("%s: kill -9 with 20 packets a ms: dead after %v; of %d %d lost, %d doubled, longest silence %v", mode, took, sent, len(missing), doubled, f.Gap())
		if len(missing) > 20*100 || doubled > 0 {
			t.Errorf("%s: %d packets lost, %d doubled", mode, len(missing), doubled)
		}
		// What the ring holds goes with it, and what comes while the kernel ends the process.
		if n := len(missing); n > 0 && (missing[0] < arrived || missing[n-1] > dead) {
			t.Errorf("%s: %d to %d are lost, but before %d all had arrived, and from %d on the process was dead", mode, missing[0], missing[n-1], arrived, dead)
		}
		if tcx := programs(t, l, "host0"); len(tcx) > 0 {
			t.Errorf("%s: left attached: %v", mode, tcx)
		}
		if len(records(t, l, "host0")) == 0 {
			t.Errorf("%s: no record of what there is to put back", mode)
		}

		// One that is to leave MACs alone puts them back at once.
		keep := serve(t, l, "--claim", mode, "--keep-mac")[0]
		if out := run(t, l, "host0", "ip -br link"); strings.Contains(out, answerMAC) {
			t.Errorf("%s: --keep-mac after a kill leaves the MACs of the killed one:\n%s", mode, out)
		}
		keep.Stop(t)
		same(t, mode+": after a kill, a start and an end", traces(t, l, "host0"), before)

		// One that changes them again adopts them, and still knows the first ones.
		for range 3 {
			serve(t, l, "--claim", mode)[0].Kill()
		}
		last := serve(t, l, "--claim", mode)[0]
		run(t, l, all[0].Node, "ping -n -c1 -W2 "+ip(all[1]))
		last.Stop(t)
		same(t, mode+": after several kills", traces(t, l, "host0"), before)
	}
}

// TestRestartAtLoad: what a restart costs, with the kernel standing in and
// without.
func TestRestartAtLoad(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ip")
	// Between daemons the pods' frames are the host's only where its MAC is the
	// answered one by itself, as Calico makes it.
	kernelToo := labtest.New(t, lab.Spec{Form: lab.FormCalico, Hosts: 1, PodsPerHost: 2})
	if err := kernelToo.SetSysctl("host0", "net.ipv4.ip_forward", "1"); err != nil {
		t.Fatal(err)
	}
	const perMS = 10
	restarts := func(l *lab.Lab) (sent, lost int, gap, down time.Duration) {
		all := pods(l, 0)
		again := func() *labtest.Process {
			return labtest.Daemon(t, l, "host0", "--workload", "veth*", "--workload", "cali*")
		}
		p := again()
		labtest.Warm(t, l, all[0].Node, ip(all[1]))
		f := labtest.StartPaced(t, l, all[0], all[1], perMS)
		for range 3 {
			f.Progress(1000)
			began := time.Now()
			p.Stop(t)
			p = again()
			down = max(down, time.Since(began))
			f.Progress(1000)
		}
		sent, lost, doubled := f.Stop()
		t.Logf("ip_forward %v: 3 restarts with %d packets a ms: of %d %d lost, longest silence %v, a restart took %v", l == kernelToo, perMS, sent, lost, f.Gap(), down)
		if doubled > 0 {
			t.Errorf("%d packets doubled", doubled)
		}
		return sent, lost, f.Gap(), down
	}
	if sent, lost, _, _ := restarts(kernelToo); lost > 3*perMS*20 {
		t.Errorf("%d of %d packets lost although the kernel stood in", lost, sent)
	}
	if _, _, gap, down := restarts(hosts(t, 1, 2)); gap > down+500*time.Millisecond {
		t.Errorf("silence of %v with restarts of %v: as long as a question that the kernel has forgotten", gap, down)
	}
}

// TestLabDownAfterKill: `lab down` is the other way to have nothing left.
func TestLabDownAfterKill(t *testing.T) {
	t.Parallel()
	name := fmt.Sprintf("palab-down-%d", os.Getpid())
	labtest.New(t, lab.Spec{Form: lab.FormSlash32, Hosts: 1}) // skips where none can be made
	l, err := lab.New(t.Context(), lab.Spec{Name: name, Form: lab.FormSlash32, Hosts: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	p := serve(t, l)[0]
	var ns instance.Netns
	if err := l.Do("host0", func() (err error) { ns, err = instance.CurrentNetns(); return err }); err != nil {
		t.Fatal(err)
	}
	p.Kill()
	if len(recordsOf(t, ns)) == 0 {
		t.Fatal("a killed daemon has left no record")
	}
	if out, err := exec.CommandContext(labtest.Soon(t), labtest.Binary(t), "lab", "down", "--name", name).CombinedOutput(); err != nil {
		t.Fatalf("lab down: %v\n%s", err, out)
	}
	left := recordsOf(t, ns)
	for _, pattern := range []string{"/run/netns/" + name + "*", "/run/proxyarpd/lab-" + name + "*"} {
		found, _ := filepath.Glob(pattern)
		left = append(left, found...)
	}
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
