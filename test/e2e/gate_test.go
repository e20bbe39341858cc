package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
)

// gateStatus is what `status` says of the host's rules.
type gateStatus struct {
	Gate struct {
		State    string
		Findings []struct{ What, Interface string }
		Looks    uint64
		Took     float64 `json:"looks_seconds"`
	}
}

func gateOf(t testing.TB, p *labtest.Process) (s gateStatus) {
	t.Helper()
	p.StatusJSON(t, &s)
	return s
}

// planted are rules that are made in host0 while it forwards. They drop packets of
// the first pod.
var planted = []struct {
	name  string
	need  []string
	nft   string
	plant []string // + is a blank within a word
	undo  []string
	says  string
	one   bool // it concerns one interface
}{
	{name: "nft", need: []string{"nft"}, nft: "table ip f { chain fw { type filter hook forward priority 0; ip saddr POD drop; }; }",
		undo: []string{"nft delete table ip f"}, says: "nft table ip f chain fw"},
	{name: "nft netdev", need: []string{"nft"}, nft: "table netdev f { chain in { type filter hook ingress device IFACE priority 0; ip saddr POD drop; }; }",
		undo: []string{"nft delete table netdev f"}, says: "netdev f chain in", one: true},
	{name: "iptables-legacy", need: []string{"iptables-legacy"}, plant: []string{"iptables-legacy -A FORWARD -s POD -j DROP"},
		undo: []string{"iptables-legacy -F FORWARD"}, says: "iptables (legacy) table filter chain FORWARD"},
	{name: "tc", need: []string{"tc"}, plant: []string{"tc qdisc add dev IFACE clsact", "tc filter add dev IFACE ingress protocol ip prio 50 bpf da bytecode 1,6+0+0+2"},
		undo: []string{"tc filter del dev IFACE ingress prio 50"}, says: "tc filters at clsact ingress", one: true},
	{name: "xfrm", need: []string{"ip"}, plant: []string{"ip xfrm policy add src POD/32 dst 10.65.0.0/16 dir fwd action block"},
		undo: []string{"ip xfrm policy del src POD/32 dst 10.65.0.0/16 dir fwd"}, says: "ip xfrm policy"},
}

// TestGate plants rules while the daemon forwards. With --on-policy leave packets
// obey them from the notice on, and are forwarded again when they are gone.
func TestGate(t *testing.T) {
	t.Parallel()
	for _, c := range planted {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			labtest.Need(t, append(c.need, "ping")...)
			l := labtest.New(t, lab.Spec{Form: lab.FormCalico})
			labtest.Daemon(t, l, "host1")
			if err := l.SetSysctl("host0", "net.ipv4.ip_forward", "1"); err != nil {
				t.Fatal(err)
			}
			d := labtest.Daemon(t, l, "host0", "--on-policy", "leave")
			here, other, there := pods(l, 0)[0], pods(l, 0)[1], pods(l, 1)[0]
			fill := strings.NewReplacer("POD", ip(here), "IFACE", here.Iface)
			reaches := func(from lab.Pod) bool {
				_, code := try(t, l, from.Node, "ping -c1 -W1 "+ip(there))
				return code == 0
			}
			if !reaches(here) || gateOf(t, d).Gate.State != "clear" {
				t.Fatalf("before: %+v", gateOf(t, d))
			}
			if c.nft != "" {
				file := filepath.Join(t.TempDir(), "rules.nft")
				if err := os.WriteFile(file, []byte(fill.Replace(c.nft)), 0o600); err != nil {
					t.Fatal(err)
				}
				c.plant = []string{"nft -f " + file}
			}
			for _, line := range c.plant {
				args := strings.Fields(fill.Replace(line))
				for i := range args {
					args[i] = strings.ReplaceAll(args[i], "+", " ")
				}
				labtest.Run(t, l, "host0", args[0], args[1:]...)
			}
			await(t, "the rules are noticed", func() bool { return gateOf(t, d).Gate.State == "left" })
			g := gateOf(t, d).Gate
			if len(g.Findings) == 0 || !strings.Contains(g.Findings[0].What, c.says) {
				t.Errorf("findings %+v, want %q", g.Findings, c.says)
			}
			if reaches(here) {
				t.Error("a packet passes the rules by")
			}
			if !reaches(other) {
				t.Error("the kernel does not have what is left to it")
			}
			s := statusOf(t, d)
			if p := s.port(here.Iface); p.Forwards || !strings.Contains(p.Error, "--on-policy leave") {
				t.Errorf("%+v", p)
			}
			if p := s.port(other.Iface); p.Forwards != c.one {
				t.Errorf("another interface: %+v", p)
			}
			if !strings.Contains(d.Stderr(), "rules of this host have appeared") {
				t.Error("the log has no word of it")
			}
			for _, line := range c.undo {
				run(t, l, "host0", fill.Replace(line))
			}
			await(t, "the rules are gone", func() bool { return gateOf(t, d).Gate.State == "clear" })
			d.AwaitReady(t)
			before := statusOf(t, d).Forward.PacketsOut
			if !reaches(here) || statusOf(t, d).Forward.PacketsOut < before+2 {
				t.Error("it is not forwarded again")
			}
		})
	}
}

// TestGateWarns: by default the daemon goes on, and says so.
func TestGateWarns(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "nft", "ping")
	l := labtest.New(t, lab.Spec{Form: lab.FormCalico})
	labtest.Daemon(t, l, "host1")
	d := labtest.Daemon(t, l, "host0")
	here, there := pods(l, 0)[0], pods(l, 1)[0]
	labtest.Warm(t, l, here.Node, ip(there))
	flow := labtest.StartFlow(t, l, here, there, 1)
	file := filepath.Join(t.TempDir(), "rules.nft")
	if err := os.WriteFile(file, []byte("table ip f { chain fw { type filter hook forward priority 0; policy drop; }; }"), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, l, "host0", "nft -f "+file)
	await(t, "the rules are noticed", func() bool { return gateOf(t, d).Gate.State == "bypassed" })
	if s := d.Status(t); !strings.Contains(s, "rules of this host that do not apply to what is forwarded: nft table ip f chain fw") {
		t.Errorf("status does not name them:\n%s", s)
	}
	out, _, _ := exec3(t, l, "host0", labtest.Binary(t), "doctor", "--control", d.Control)
	if !strings.Contains(out, "warning policy-bypassed") {
		t.Errorf("doctor: %s", out)
	}
	run(t, l, "host0", "nft delete table ip f")
	await(t, "the rules are gone", func() bool { return gateOf(t, d).Gate.State == "clear" })
	flow.Progress(50)
	if sent, lost, doubled := flow.Stop(); lost+doubled > 0 {
		t.Errorf("of %d datagrams %d lost, %d doubled", sent, lost, doubled)
	}
}

// TestGateBurst: ten thousand changes cost a few looks.
func TestGateBurst(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "nft")
	l := labtest.New(t, lab.Spec{Form: lab.FormCalico})
	d := labtest.Daemon(t, l, "host0")
	var b strings.Builder
	b.WriteString("add table ip6 many\nadd chain ip6 many c\n")
	file := filepath.Join(t.TempDir(), "rules.nft")
	for i := range 10_000 {
		fmt.Fprintf(&b, "add rule ip6 many c ip6 saddr fd00::%x drop\n", i)
	}
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	before, began := gateOf(t, d).Gate, time.Now()
	run(t, l, "host0", "nft -f "+file)
	for i := range 20 { // and some one by one
		run(t, l, "host0", fmt.Sprintf("nft add rule ip6 many c ip6 daddr fd00::%x drop", i))
	}
	await(t, "they are looked at", func() bool { return gateOf(t, d).Gate.Looks > before.Looks })
	after, took := gateOf(t, d).Gate, time.Since(began)
	if most := before.Looks + 3 + uint64(took/(100*time.Millisecond)); after.Looks > most || after.State != "clear" {
		t.Errorf("%d looks in %s, at most %d are due; %s", after.Looks-before.Looks, took, most-before.Looks, after.State)
	}
	if cpu := after.Took - before.Took; cpu > 0.1+0.1*took.Seconds() {
		t.Errorf("looks took %.3f s of %s", cpu, took)
	}
}
