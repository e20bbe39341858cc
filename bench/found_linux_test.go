package bench

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
	"proxyarpd/internal/nstest"
)

// quickly measures with short trials; the test fails if the run does.
func quickly(t *testing.T, o Options) *Report {
	t.Helper()
	o.Rounds, o.Trial = 1, 100*time.Millisecond
	o.Quick = true
	report, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Rows) == 0 {
		t.Fatal("no rows")
	}
	return report
}

// netns is the name in /run/netns of a lab's node.
func netns(l *lab.Lab, node string) string { return l.Name() + "-" + node }

func TestBetweenFoundNamespaces(t *testing.T) {
	b := testBed(t)
	from, to := b.sender(0), b.receiver(twoHosts)
	kernelForwards(t, b, from, to)
	w := &Between{From: netns(b.Lab, from.Node), To: "/run/netns/" + netns(b.Lab, to.Node), Host: netns(b.Lab, "host0")}
	r := quickly(t, Options{Between: w, Only: []string{"rate", "throughput", "cpu", "latency", "arp", "cold"},
		Commands: []Command{{"idle", "exec sleep 1000"}}})
	if r.Base != AsFound {
		t.Errorf("base %q", r.Base)
	}
	for _, row := range r.Rows {
		switch {
		case row.Method == "cold":
			if row.Median != nil || !strings.Contains(row.Failed, "lab of its own") {
				t.Errorf("%s, %s: %+v", row.Work, row.Contestant, row)
			}
		case row.Kind == "cpu" && row.Failed == othersTookAll: // a busy machine, and a trial of a tenth of a second
		case row.Median == nil && row.Kind != "latency":
			t.Errorf("%s, %s: %s", row.Work, row.Contestant, row.Failed)
		case row.Contestant != AsFound && row.Contestant != "idle":
			t.Errorf("contestant %s", row.Contestant)
		case row.Loss > 0 && row.Kind == "rr" || row.Duplicated+row.Corrupt > 0:
			t.Errorf("%s, %s: %d lost, %d duplicated, %d corrupt", row.Work, row.Contestant, row.Loss, row.Duplicated, row.Corrupt)
		}
	}
	want := fmt.Sprintf("%s (eth0 %s) to /run/netns/%s (eth0 %s), next hop 169.254.1.1, as found", w.From, from.Addr.Addr(), netns(b.Lab, to.Node), to.Addr.Addr())
	if got := r.Circumstances.Topology; got != want {
		t.Errorf("topology %q, want %q", got, want)
	}
	for _, node := range []string{from.Node, to.Node} {
		if _, err := os.Stat("/run/netns/" + netns(b.Lab, node)); err != nil {
			t.Errorf("the namespace is gone: %v", err)
		}
	}
}

func TestBetweenErrors(t *testing.T) {
	l := labtest.New(t, lab.Spec{Form: lab.FormCalico, Hosts: 1})
	pod, host := netns(l, "pod0-0"), netns(l, "host0")
	for _, c := range []struct {
		w    Between
		want string
	}{
		{Between{From: pod, To: "no-such-netns"}, "no network namespace /run/netns/no-such-netns"},
		{Between{From: "/etc/passwd", To: pod}, "/etc/passwd is not a network namespace"},
		{Between{From: pod, To: pod}, "is its own address"},
		{Between{From: host, To: pod, ToAddress: gateway}, "no interface there has the address 169.254.1.1"},
		{Between{From: pod, To: host, FromIf: "eth7"}, "no route to"},
	} {
		_, err := Run(t.Context(), Options{Between: &c.w, Rounds: 1})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.w, err, c.want)
		}
	}
}

// What cannot be measured has rows that say why.
func TestProgramMissing(t *testing.T) {
	if missing := lab.MissingCaps(); len(missing) > 0 {
		nstest.Skip(t, "the lab needs %v", missing)
	}
	t.Setenv("PATH", "")
	for _, row := range quickly(t, Options{Only: []string{"tcp", "cold"}, Engines: []string{"af_packet"}}).Rows {
		if row.Median != nil || !strings.HasSuffix(row.Failed, "is not installed") {
			t.Errorf("%s, %s: %+v", row.Work, row.Contestant, row)
		}
	}
}

// A contestant of the user's own, in the bench's lab: one that forwards, one that forwards nothing, one that ends.
func TestContestantCommand(t *testing.T) {
	labtest.Need(t, "ip")
	if missing := lab.MissingCaps(); len(missing) > 0 {
		nstest.Skip(t, "the lab needs %v", missing)
	}
	marker := fmt.Sprintf("3141%d", os.Getpid()) // seconds to sleep, by which to find it
	forwards := `trap 'ip route del 169.254.1.1; exit' TERM
		ip route add 169.254.1.1 dev ens192 && echo 0 | tee /proc/sys/net/ipv4/neigh/*/proxy_delay >/dev/null &&
		echo 1 >/proc/sys/net/ipv4/conf/all/proxy_arp && echo 1 >/proc/sys/net/ipv4/ip_forward
		[ "$BENCH_HOST" = host0 ] && [ -n "$BENCH_WORKLOADS" ] && sleep ` + marker + ` & wait`
	r := quickly(t, Options{Only: []string{"rate"}, Log: io.Discard, Commands: []Command{
		{"forwards", forwards}, {"idle", "exec sleep " + marker}, {"ends", "echo no licence >&2; exit 3"}}})
	none := func(row *Row) bool { return row.Median != nil && *row.Median == 0 }
	own := []string{"forwards", "idle", "ends"}
	busy := map[string]bool{} // works of which one of the bench's own does nothing in the time of a trial either
	for _, row := range r.Rows {
		busy[row.Work] = busy[row.Work] || !slices.Contains(own, row.Contestant) && none(row)
	}
	checked := 0
	for _, row := range r.Rows {
		if busy[row.Work] && none(row) {
			t.Logf("%s, %s: nothing: the machine is busy", row.Work, row.Contestant)
			if row.Contestant == "forwards" {
				checked++
			}
			continue
		}
		ok := row.Median != nil && *row.Median > 0
		switch row.Contestant {
		case "idle":
			ok = row.Median == nil && strings.Contains(row.Failed, "no traffic passes")
		case "ends":
			ok = row.Median == nil && strings.Contains(row.Failed, "ends on host0 has ended: exit status 3: no licence")
		case "forwards":
			ok = ok && (row.Ratio != nil || busy[row.Work]) && row.Ceiling != nil && row.Sent > 0
			checked++
		}
		if !ok {
			t.Errorf("%s, %s: %+v", row.Work, row.Contestant, row)
		}
	}
	if checked == 0 {
		t.Error("no row of the contestant that forwards")
	}
	if out, _ := os.ReadDir("/proc"); len(out) > 0 {
		for _, e := range out {
			line, _ := os.ReadFile("/proc/" + e.Name() + "/cmdline")
			if strings.Contains(string(line), marker) {
				t.Errorf("process %s is left behind: %q", e.Name(), line)
			}
		}
	}
}
