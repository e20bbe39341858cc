package e2e

import (
	"cmp"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
	"proxyarpd/internal/nstest"
	"proxyarpd/internal/wire"
)

// engine is the one under test.
func engine() string { return cmp.Or(os.Getenv("PROXYARPD_ENGINE"), "af_packet") }

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

// asker asks again and again, one request at a time.
type asker struct {
	quit            chan struct{}
	done            sync.WaitGroup
	asked, answered int
	lost            int
}

// startAsker asks for the gateway.
func startAsker(s *station, tell string) *asker {
	return startAskerOf(s, s.whoHas(gateway, tell).frame(), func(f wire.Ethernet) bool { return wire.ARP(f.Payload()).Op() == wire.ARPReply })
}

// startAskerOf sends a frame again and again, which has answers for which is holds.
func startAskerOf(s *station, ask []byte, is func(wire.Ethernet) bool) *asker {
	a := &asker{quit: make(chan struct{})}
	a.done.Go(func() {
		// What comes behind all that was asked for is too much.
		defer func() {
			for s.next(100*time.Millisecond, is) != nil {
				a.answered++
			}
		}()
		for {
			select {
			case <-a.quit:
				return
			case <-time.After(time.Millisecond):
			}
			s.send(ask)
			a.asked++
			if s.next(patience, is) == nil {
				a.lost++
			} else {
				a.answered++
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

// once is stop for who wants each request to have had one answer; before are the
// backlogs' drops when it began.
func (a *asker) once(t *testing.T, what string, before uint64) {
	t.Helper()
	asked, lost := a.stop()
	if t.Logf("%s: %d requests", what, asked); asked == 0 || nstest.Unexplained(t, lost, asked, before) > 0 || a.answered != asked-lost {
		t.Errorf("%s: of %d requests %d not answered, %d answers in all", what, asked, lost, a.answered)
	}
}

// step is a reload: the file, and a line that the answer has.
type step struct{ text, says string }

// underTraffic carries out steps under traffic of one packet a millisecond in three
// directions and requests for the gateway: no packet and no answer is lost or
// doubled. after is called behind each.
func (c *configured) underTraffic(steps []step, after func(step)) {
	c.t.Helper()
	t, l := c.t, c.l
	here, there := pods(l, 0), pods(l, 1)
	for _, to := range []lab.Pod{there[0], here[1]} {
		labtest.Warm(t, l, here[0].Node, ip(to))
	}
	for _, s := range steps {
		stalled, overflowed := statusOf(t, c.Process).Forward.Drops["PARP_STALLED"], nstest.BacklogDrops(t)
		asks := startAsker(listen(t, l, here[1].Node, "eth0", unix.ETH_P_ARP), ip(here[1]))
		flows := map[string]*labtest.Flow{
			"out":    labtest.StartPaced(t, l, here[0], there[0], 1),
			"in":     labtest.StartPaced(t, l, there[0], here[0], 1),
			"within": labtest.StartPaced(t, l, here[0], here[1], 1),
		}
		out, errw, code := c.reload(s.text)
		if code != 0 || !strings.Contains(out, s.says+"\n") {
			t.Errorf("%q: exit %d: %s%s; want %q", s.text, code, out, errw, s.says)
		}
		c.AwaitReady(t)
		all := 0
		for name, f := range flows {
			f.Progress(50)
			sent, missing, doubled := f.StopMissing()
			if all += len(missing); len(missing)+doubled > 0 {
				t.Logf("%s: %s: of %d datagrams %d lost, %d doubled", s.says, name, sent, len(missing), doubled)
			}
			if doubled > 0 {
				t.Errorf("%s: %s: %d doubled", s.says, name, doubled)
			}
		}
		// A machine that gives the thread no CPU for 50 ms loses what the ring held then
		// where the kernel forwards, reload or not: each of those is counted. What other
		// tests flood a CPU's backlog with is lost before anybody sees it.
		if stalled = statusOf(t, c.Process).Forward.Drops["PARP_STALLED"] - stalled; uint64(all) > stalled+nstest.BacklogDrops(t)-overflowed {
			t.Errorf("%s: %d datagrams lost; %+v", s.says, all, statusOf(t, c.Process).Forward)
		}
		if asked, lost := asks.stop(); nstest.Unexplained(t, lost, asked, overflowed) > 0 || asked == 0 {
			t.Errorf("%s: of %d requests %d not answered", s.says, asked, lost)
		}
		if after != nil {
			after(s)
		}
	}
}

// TestReload changes one key after another.
func TestReload(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ip")
	l := labtest.New(t, lab.Spec{Form: lab.FormCalico, PodsPerHost: 3})
	labtest.Daemon(t, l, "host1")
	c := startConfigured(t, l, "host0", "engine: "+engine()+"\n")
	here := pods(l, 0)
	first, third := here[0], here[2]
	base := "engine: " + engine() + "\n"
	steps := []step{
		{base + "proxy: [10.20.0.0/16]\n", "proxy: none -> 10.20.0.0/16"},
		{base + "proxy: [10.20.0.0/16]\ngateway: [169.254.1.1, 10.20.9.9]\n", "gateway: 169.254.1.1, fe80::ecee:eeff:feee:eeee -> 169.254.1.1, 10.20.9.9, fe80::ecee:eeff:feee:eeee"},
		{base + "rp-filter: 2\n", "rp-filter: 1 -> 2"},
		{base + "transit: true\n", "transit: false -> true"},
		{base + "punt: [10.96.0.0/12]\n", "punt: none -> 10.96.0.0/12"},
		{base + "bypass-policy: true\n", "bypass-policy: false -> true"},
		{base + "nice: 0\nlog-level: debug\nmetrics: 127.0.0.1:9477\n", "nice: -20 -> 0"},
		{base + "mac: 02:00:5e:00:53:07\n", "mac: ee:ee:ee:ee:ee:ee -> 02:00:5e:00:53:07"},
		{base + "keep-mac: true\n", "mac: 02:00:5e:00:53:07 -> ee:ee:ee:ee:ee:ee"},
		{base, "keep-mac: true -> false"},
		{base + "workload: [cali*, '!" + third.Iface + "']\n", "workload: cali* -> cali*, !" + third.Iface},
		{base + "uplink: [ens*]\n", "uplink: auto -> ens*"},
		{base + "uplink: [auto, '!docker*']\n", "uplink: ens* -> auto, !docker*"},
	}
	if os.Getenv("PROXYARPD_WORKERS") == "" { // else the command line says how many
		steps = append(steps, []step{
			{base + "workers: 3\n", "workers: auto -> 3"},
			{base + "workers: 2\n", "workers: 3 -> 2"},
			{base + "workers: 4\n", "workers: 2 -> 4"},
			{base, "workers: 4 -> auto"},
		}...)
	}
	c.underTraffic(steps, func(s step) {
		switch {
		case strings.Contains(s.text, "mac: 02"):
			if got := linkMAC(t, l, "host0", first.Iface); got != "02:00:5e:00:53:07" {
				t.Errorf("%s: the interface has %s", s.says, got)
			}
		case strings.Contains(s.text, "keep-mac"):
			if got := linkMAC(t, l, "host0", first.Iface); got != first.MAC {
				t.Errorf("%s: the interface has %s, and had %s", s.says, got, first.MAC)
			}
		case strings.Contains(s.text, "!cali"):
			if got := linkMAC(t, l, "host0", third.Iface); got != third.MAC {
				t.Errorf("%s: the interface has %s, and had %s", s.says, got, third.MAC)
			}
			now := statusOf(t, c.Process)
			if p := now.port(third.Iface); p.Answers != "" {
				t.Errorf("%s is answered still", third.Iface)
			}
		case strings.Contains(s.text, "metrics"):
			if got := run(t, l, "host0", "cat /proc/net/tcp"); !strings.Contains(got, "0100007F:2505") {
				t.Errorf("%s: nobody listens for scrapes:\n%s", s.says, got)
			}
		}
	})
	var s configStatus
	c.StatusJSON(t, &s)
	if s.Config.Reloads == 0 || s.Config.Refused != nil || s.Config.File != c.file || s.Config.Values["engine"][0] != engine() {
		t.Errorf("status: %+v", s.Config)
	}
}

// TestReloadEngine exchanges the engine and the programs, however they are
// attached. What was counted stays.
func TestReloadEngine(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"tcx", "clsact"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			labtest.Need(t, "ip")
			l := labtest.New(t, lab.Spec{Form: lab.FormCalico})
			labtest.Daemon(t, l, "host1")
			c := startConfigured(t, l, "host0", "engine: af_packet\n", "--claim", how)
			if err := l.SetSysctl("host0", "net.ipv4.ip_forward", "1"); err != nil { // for --engine none
				t.Fatal(err)
			}
			var before status
			steps := []step{
				{"engine: ebpf\n", "engine: af_packet -> ebpf"},
				{"engine: ebpf\npunt: [10.96.0.0/12]\ngateway: [169.254.1.1, 10.20.9.9]\n", "punt: none -> 10.96.0.0/12"},
				{"engine: af_packet\n", "engine: ebpf -> af_packet"},
			}
			if how == "tcx" { // with a clsact qdisc that comes or goes the kernel itself drops what is being sent
				steps = append(steps, step{"engine: none\n", "engine: af_packet -> none"}, step{"engine: ebpf\n", "engine: none -> ebpf"},
					step{"engine: none\n", "engine: ebpf -> none"}, step{"engine: af_packet\n", "engine: none -> af_packet"})
			}
			c.underTraffic(steps, func(s step) {
				now := statusOf(t, c.Process)
				if "engine: "+now.Engine+"\n" != s.text && !strings.Contains(s.text, "punt") {
					t.Errorf("%s: engine %s", s.says, now.Engine)
				}
				f, b := &now.Forward, &before.Forward
				if f.PacketsIn < b.PacketsIn || f.PacketsOut < b.PacketsOut || f.Carried < b.Carried || f.Verdicts["forward"] < b.Verdicts["forward"] {
					t.Errorf("%s: counters went back: %+v, and before %+v", s.says, f, b)
				}
				if s.text == "engine: ebpf\n" && f.Carried == b.Carried {
					t.Errorf("%s: nothing is carried", s.says)
				}
				before = now
			})
		})
	}
}

// TestReloadRefused: a file that is wrong, and one that says what can't be,
// change nothing. The answer, the log and the status say why.
func TestReloadRefused(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ip", "nft")
	l := labtest.New(t, lab.Spec{Form: lab.FormCalico})
	labtest.Daemon(t, l, "host1")
	good := "engine: " + engine() + "\nproxy: [10.20.0.0/16]\n"
	c := startConfigured(t, l, "host0", good, "--rp-filter", "2")
	run(t, l, "host0", "nft add table inet f")
	here, there := pods(l, 0)[0], pods(l, 1)[0]
	labtest.Warm(t, l, here.Node, ip(there))
	flow := labtest.StartFlow(t, l, here, there, 1)
	status := func() (s configStatus) { c.StatusJSON(t, &s); return s }
	before := status()
	after := before
	busy := listenTCP(t, l, "host0")
	for _, wrong := range []struct{ text, why string }{
		{good + "proxys: [10.0.0.0/8]\n", "line 3: no such key \"proxys\": did you mean proxy?"},
		{"proxy: [10.0.0.0/8, 10.0.0.1/8]\n", "line 1: proxy 10.0.0.1/8 has host bits"},
		{"mac: [a\n", "did not find expected"},
		{"workload: []\n", "line 1: workload: an empty list"},
		{"transit: 7\nproxy: [11.0.0.0/8]\n", "line 1: transit: \"7\": want true or false"},
		{"engine: " + engine() + "\ntransit: true\ncontrol: /run/other.sock\n", ""}, // --control is on the command line
		{"transit: true\nstate-dir: /run/other\n", "state-dir can't change while the daemon runs"},
		{"transit: true\nclaim: clsact\n", "claim can't change while the daemon runs"},
		{"transit: true\nmetrics: " + busy + "\n", "address already in use"},
		{"transit: true\nengine: dpdk\n", "line 2: engine \"dpdk\": want auto, af_packet, ebpf or none"},
	} {
		out, errw, code := c.reload(wrong.text)
		if wrong.why == "" {
			if code != 0 || out != "proxy: 10.20.0.0/16 -> none\ntransit: false -> true\n" {
				t.Errorf("%q: exit %d: %s%s", wrong.text, code, out, errw)
			}
			if _, errw, code := c.reload(good); code != 0 {
				t.Fatal(errw)
			}
			continue
		}
		if code != 1 || !strings.Contains(errw, wrong.why) || strings.Count(errw, "\n") != 1 {
			t.Errorf("%q: exit %d: %s%s; want %q", wrong.text, code, out, errw, wrong.why)
		}
		after = status()
		if r := after.Config.Refused; r == nil || !strings.Contains(r.Why, wrong.why) || !reflect.DeepEqual(after.Config.Values, before.Config.Values) {
			t.Errorf("%q: status %+v", wrong.text, after.Config)
		}
	}
	if got := after.Config.Values["rp-filter"]; len(got) != 1 || got[0] != "2" {
		t.Errorf("rp-filter %v, and the flag says 2", got)
	}
	if s := c.Status(t); !strings.Contains(s, "reload refused ") {
		t.Errorf("status does not say so:\n%s", s)
	}
	// SIGHUP does the same.
	c.write(good + "nonsense: 1\n")
	hangup(t, c.Process)
	if !strings.Contains(c.Stderr(), "no such key \\\"nonsense\\\"") {
		t.Errorf("SIGHUP: no word of the wrong key:\n%s", c.Stderr())
	}
	c.write(good + "transit: true\n")
	hangup(t, c.Process)
	after = status()
	if after.Config.Values["transit"][0] != "true" || after.Config.Refused != nil {
		t.Errorf("SIGHUP: %+v", after.Config)
	}
	flow.Progress(50)
	if sent, lost, doubled := flow.Stop(); lost+doubled > 0 {
		t.Errorf("of %d datagrams %d lost, %d doubled", sent, lost, doubled)
	}
}

// TestReloadPolicy: forwarding that begins by a reload is refused where rules of
// the host would be passed by, as at the start.
func TestReloadPolicy(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "nft")
	l := labtest.New(t, lab.Spec{Form: lab.FormCalico})
	c := startConfigured(t, l, "host0", "engine: none\n")
	file := filepath.Join(t.TempDir(), "rules.nft")
	if err := os.WriteFile(file, []byte("table ip f { chain fw { type filter hook forward priority 0; ip saddr 10.9.9.9 drop; }; }"), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, l, "host0", "nft -f "+file)
	if _, errw, code := c.reload("engine: af_packet\n"); code != 1 || !strings.Contains(errw, "forwarding would bypass") {
		t.Errorf("exit %d: %s", code, errw)
	}
	if out, errw, code := c.reload("engine: af_packet\nbypass-policy: true\n"); code != 0 {
		t.Errorf("exit %d: %s%s", code, out, errw)
	}
	if _, errw, code := c.reload("engine: af_packet\n"); code != 1 || !strings.Contains(errw, "forwarding would bypass") {
		t.Errorf("without --bypass-policy: exit %d: %s", code, errw)
	}
	run(t, l, "host0", "nft flush ruleset")
	if out, errw, code := c.reload("engine: af_packet\n"); code != 0 {
		t.Errorf("exit %d: %s%s", code, out, errw)
	}
	c.AwaitReady(t)
	if out, errw, code := exec3(t, l, "host0", labtest.Binary(t), "reload", "--control", c.Control); code != 0 || out != c.file+": no change\n" {
		t.Errorf("exit %d: %s%s", code, out, errw)
	}
}

// listenTCP takes a port of the node's loopback address, and names it.
func listenTCP(t *testing.T, l *lab.Lab, node string) string {
	t.Helper()
	var address string
	if err := l.Do(node, func() error {
		s, err := net.Listen("tcp", "127.0.0.1:0")
		if err == nil {
			t.Cleanup(func() { s.Close() })
			address = s.Addr().String()
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return address
}
