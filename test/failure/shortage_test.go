package failure

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"proxyarpd/internal/daemon"
	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
)

// batch has iproute2 do many things in a node.
func batch(t testing.TB, l *lab.Lab, node string, lines ...string) {
	t.Helper()
	cmd := l.Command(labtest.Soon(t), node, "ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ip -batch: %v\n%s", err, out)
	}
}

// refusedOnes are the workloads that are not forwarded for, with the reason.
func refusedOnes(s *daemon.Status) map[string]string {
	all := map[string]string{}
	for _, i := range s.Workloads {
		if i.Error != "" || !i.Forwards {
			all[i.Name] = i.Error
		}
	}
	return all
}

// TestFewDescriptors: interfaces that find none are refused for that reason, the
// control socket answers meanwhile, and when some are free they are served.
func TestFewDescriptors(t *testing.T) {
	labtest.Need(t, "ip", "prlimit")
	const limit, more = 128, 60
	l := hosts(t, 1, 2)
	if err := l.SetSysctl("host0", "net.ipv4.ip_forward", "1"); err != nil { // a claim is needed then
		t.Fatal(err)
	}
	wrapped(t, "prlimit", fmt.Sprintf("--nofile=%d", limit))
	p := serve(t, l, "--uplink", "ens192")[0]
	before := alive(t, p).Descriptors
	if before.Limit != limit || before.InUse == 0 || before.InUse > before.Needed {
		t.Errorf("descriptors %+v, with a limit of %d", before, limit)
	}
	var add, del []string
	for i := range more {
		add = append(add, fmt.Sprintf("link add vethn%d type veth peer name pn%d", i, i), fmt.Sprintf("link set vethn%d up", i), fmt.Sprintf("link set pn%d up", i))
	}
	batch(t, l, "host0", add...)
	var s *daemon.Status
	await(t, "all are known, and some refused", func() bool {
		s = status(t, p)
		refused := refusedOnes(s)
		return len(s.Workloads) == more+2 && len(refused) > 0 && !slices.Contains(collect(refused), "")
	})
	for name, why := range refusedOnes(s) {
		if !strings.Contains(why, "descriptors") || !strings.Contains(why, "LimitNOFILE") {
			t.Errorf("%s: %q", name, why)
		}
		del = append(del, name)
	}
	if s.Ready || s.Descriptors.Needed <= limit || s.Descriptors.InUse > limit-controlPlaces {
		t.Errorf("ready %v, %+v", s.Ready, s.Descriptors)
	}
	if n := strings.Count(p.Stderr(), "descriptors may run out"); n != 1 && n != 2 {
		t.Errorf("warned %d times", n)
	}
	t.Logf("%d of %d refused; %+v", len(del), more, s.Descriptors)
	// Idle clients take what is left, and do not keep others out.
	for range 2 * controlPlaces {
		dial(t, p)
	}
	if c := status(t, p).Control; c.Evicted == 0 {
		t.Errorf("idle clients: %+v", c)
	}
	// Those that were served go: there is room for the others.
	kept := del
	del = nil
	for i := range more {
		if name := fmt.Sprintf("vethn%d", i); !slices.Contains(kept, name) {
			del = append(del, "link del "+name)
		}
	}
	batch(t, l, "host0", del...)
	await(t, "all are served", func() bool {
		s = status(t, p)
		return s.Ready && len(refusedOnes(s)) == 0 && len(s.Workloads) == len(kept)+2
	})
	run(t, l, pods(l, 0)[0].Node, "ping -n -c1 -W2 "+ip(pods(l, 0)[1]))
	for line := range strings.Lines(p.Stderr()) {
		if strings.Contains(line, "requires") { // a feature that the kernel is said to lack
			t.Errorf("log: %s", line)
		}
	}
}

// controlPlaces is how many clients of the control socket are served at a time.
const controlPlaces = 16

func collect(m map[string]string) (all []string) {
	for _, v := range m {
		all = append(all, v)
	}
	return all
}

// TestNoDescriptors: a limit that a daemon can't live with is an error that names
// it, one that leaves it half done is in its status; whatever it is, clients that
// say nothing do not end the daemon, and it puts the MACs back.
func TestNoDescriptors(t *testing.T) {
	labtest.Need(t, "prlimit")
	l := hosts(t, 1, 1)
	enough := 48
	if os.Getenv("PROXYARPD_ENGINE") == daemon.EngineEBPF {
		enough = 56
	}
	for limit := 16; limit <= 80; limit += 8 {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			wrapped(t, "prlimit", fmt.Sprintf("--nofile=%d", limit))
			p := labtest.Start(t, l, "host0", "--workload", "veth*", "--workers", "1")
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() {
				ended <- p.Wait(t)
				cancel()
			}()
			defer p.Cmd.Process.Kill()
			if _, err := tryStatus(ctx, t, l, p, "--wait", "5s"); err != nil && ctx.Err() != nil {
				if limit >= enough {
					t.Errorf("%d descriptors are not enough: %s", limit, p.Stderr())
				}
				if err := <-ended; err == nil || !strings.Contains(p.Stderr(), "limit") && !strings.Contains(p.Stderr(), "too many open files") {
					t.Errorf("ended: %v, %s", err, p.Stderr())
				}
				return
			} else if err != nil { // it goes on trying, and says why
				for name, why := range refusedOnes(status(t, p)) {
					if !strings.Contains(why, "LimitNOFILE") {
						t.Errorf("%s: %q", name, why)
					}
				}
			}
			for range 40 {
				if c, err := net.Dial("unix", p.Control); err == nil {
					t.Cleanup(func() { c.Close() })
				}
			}
			if s := status(t, p); s.Descriptors.Limit != limit {
				t.Errorf("%+v", s.Descriptors)
			}
			p.Cmd.Process.Signal(syscall.SIGTERM)
			if err := <-ended; err != nil {
				t.Errorf("after SIGTERM: %v\n%s", err, p.Stderr())
			}
		})
	}
}
