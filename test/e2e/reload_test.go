package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
	"proxyarpd/internal/wire"
)

// configured is a daemon with a configuration file.
type configured struct {
	*labtest.Process
	t    *testing.T
	l    *lab.Lab
	file string
}

func startConfigured(t *testing.T, l *lab.Lab, node, text string, flags ...string) *configured {
	t.Helper()
	c := &configured{t: t, l: l, file: filepath.Join(t.TempDir(), "proxyarpd.yaml")}
	c.write(text)
	c.Process = labtest.Daemon(t, l, node, append([]string{"--config", c.file}, flags...)...)
	return c
}

func (c *configured) write(text string) {
	c.t.Helper()
	if err := os.WriteFile(c.file, []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// reload has the daemon take what the file is to be, and gives what it said.
func (c *configured) reload(text string) (out, errw string, code int) {
	c.t.Helper()
	c.write(text)
	return exec3(c.t, c.l, c.Node, labtest.Binary(c.t), "reload", "--control", c.Control)
}

// configStatus is what `status` says of the configuration.
type configStatus struct {
	Config struct {
		File    string
		Reloads int
		Refused *struct{ Why string }
		Values  map[string][]string
	}
}

// asker asks for the gateway again and again, one request at a time.
type asker struct {
	quit        chan struct{}
	done        sync.WaitGroup
	asked, lost int
}

func startAsker(s *station, tell string) *asker {
	a := &asker{quit: make(chan struct{})}
	a.done.Go(func() {
		for {
			select {
			case <-a.quit:
				return
			case <-time.After(time.Millisecond):
			}
			s.send(s.whoHas(gateway, tell).frame())
			a.asked++
			if s.next(time.Second, func(f wire.Ethernet) bool { return wire.ARP(f.Payload()).Op() == wire.ARPReply }) == nil {
				a.lost++
			}
		}
	})
	return a
}

func (a *asker) stop() (asked, lost int) {
	close(a.quit)
	a.done.Wait()
	return a.asked, a.lost
}

// TestReload changes one key after another, under traffic of one packet a
// millisecond in three directions and requests for the gateway: no packet and no
// answer is lost or doubled.
func TestReload(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ip")
	l := labtest.New(t, lab.Spec{Form: lab.FormCalico, PodsPerHost: 3})
	labtest.Daemon(t, l, "host1")
	c := startConfigured(t, l, "host0", "engine: af_packet\n")
	here, there := pods(l, 0), pods(l, 1)
	if err := l.SetSysctl("host0", "net.ipv4.ip_forward", "1"); err != nil { // for --engine none
		t.Fatal(err)
	}
	for _, to := range []lab.Pod{there[0], here[1]} {
		labtest.Warm(t, l, here[0].Node, ip(to))
	}
	third := here[2].Iface
	// The lines of a file, and what the answer says of them.
	base := "engine: af_packet\n"
	for _, step := range []struct{ add, says string }{
		{"proxy: [10.20.0.0/16]\n", "proxy: none -> 10.20.0.0/16"},
		{"proxy: [10.20.0.0/16]\ngateway: [169.254.1.1, 10.20.9.9]\n", "gateway: 169.254.1.1 -> 169.254.1.1, 10.20.9.9"},
		{"rp-filter: 2\n", "rp-filter: 1 -> 2"},
		{"transit: true\n", "transit: false -> true"},
		{"punt: [10.96.0.0/12]\n", "punt: none -> 10.96.0.0/12"},
		{"punt: [10.96.0.0/12, 10.112.0.0/12]\n", "punt: 10.96.0.0/12 -> 10.96.0.0/12, 10.112.0.0/12"},
		{"bypass-policy: true\n", "bypass-policy: false -> true"},
		{"nice: 0\n", "nice: -20 -> 0"},
		{"metrics: 127.0.0.1:9477\n", "metrics: none -> 127.0.0.1:9477"},
		{"verbose: true\n", "verbose: false -> true"},
		{"mac: 02:00:5e:00:53:07\n", "mac: ee:ee:ee:ee:ee:ee -> 02:00:5e:00:53:07"},
		{"keep-mac: true\n", "mac: 02:00:5e:00:53:07 -> ee:ee:ee:ee:ee:ee"},
		{"", "keep-mac: true -> false"},
		{"workload: [cali*, '!" + third + "']\n", "workload: cali* -> cali*, !" + third},
		{"uplink: [ens*]\n", "uplink: auto -> ens*"},
		{"uplink: [auto, '!docker*']\n", "uplink: ens* -> auto, !docker*"},
		{"engine: ebpf\n", "engine: af_packet -> ebpf"},
		{"engine: ebpf\npunt: [10.96.0.0/12]\ngateway: [169.254.1.1, 10.20.9.9]\n", "punt: none -> 10.96.0.0/12"},
		{"engine: none\n", "engine: ebpf -> none"},
		{"engine: ebpf\n", "engine: none -> ebpf"},
		{"", "engine: ebpf -> af_packet"},
		{"engine: none\n", "engine: af_packet -> none"},
		{"", "engine: none -> af_packet"},
	} {
		if strings.Contains(step.add, "engine: ") {
			step.add = strings.TrimPrefix(step.add, base)
		} else {
			step.add = base + step.add
		}
		asks := startAsker(listen(t, l, here[1].Node, "eth0", unix.ETH_P_ARP), ip(here[1]))
		flows := map[string]*labtest.Flow{
			"out":    labtest.StartFlow(t, l, here[0], there[0], 1),
			"in":     labtest.StartFlow(t, l, there[0], here[0], 1),
			"within": labtest.StartFlow(t, l, here[0], here[1], 1),
		}
		out, errw, code := c.reload(step.add)
		if code != 0 || !strings.Contains(out, step.says+"\n") {
			t.Errorf("%q: exit %d: %s%s; want %q", step.add, code, out, errw, step.says)
		}
		c.AwaitReady(t)
		for name, f := range flows {
			f.Progress(f.Got() + 50)
			sent, lost, doubled := f.Stop()
			if lost+doubled > 0 {
				t.Errorf("%s: %s: of %d datagrams %d lost, %d doubled", step.says, name, sent, lost, doubled)
			}
		}
		if asked, lost := asks.stop(); lost > 0 || asked == 0 {
			t.Errorf("%s: of %d requests %d not answered", step.says, asked, lost)
		}
		switch {
		case strings.Contains(step.add, "mac: 02"):
			if got := linkMAC(t, l, "host0", here[0].Iface); got != "02:00:5e:00:53:07" {
				t.Errorf("%s: the interface has %s", step.says, got)
			}
		case strings.Contains(step.add, "keep-mac"):
			if got := linkMAC(t, l, "host0", here[0].Iface); got != here[0].MAC {
				t.Errorf("%s: the interface has %s, and had %s", step.says, got, here[0].MAC)
			}
		case strings.Contains(step.add, "!cali"):
			if got := linkMAC(t, l, "host0", third); got != here[2].MAC {
				t.Errorf("%s: the interface has %s, and had %s", step.says, got, here[2].MAC)
			}
			s := statusOf(t, c.Process)
			if s.port(third).Answers != "" {
				t.Errorf("%s is answered still", third)
			}
		}
	}
	var s configStatus
	c.StatusJSON(t, &s)
	if s.Config.Reloads == 0 || s.Config.Refused != nil || s.Config.File != c.file || s.Config.Values["engine"][0] != "af_packet" {
		t.Errorf("status: %+v", s.Config)
	}
}
