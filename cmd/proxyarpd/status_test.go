package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"proxyarpd/internal/daemon"
	"proxyarpd/internal/status"
	"proxyarpd/internal/status/statustest"
)

// answering is the path of a control socket where each question has the same answer.
func answering(t *testing.T, answer string) (path string, asked chan string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "c.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	asked = make(chan string, 16)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			line, _ := bufio.NewReader(conn).ReadString('\n')
			asked <- line
			_, _ = conn.Write([]byte(answer + "\n"))
			conn.Close()
		}
	}()
	return path, asked
}

const statusAnswer = `{"status": {"version": "v9", "workers": 2, "engine": "af_packet", "claim": "tcx", "ready": READY, "not_ready": "cali2: no MAC", "uptime_seconds": 61.4,
"workloads": [{"name": "cali1", "index": 3, "mac": "ee:ee:ee:ee:ee:ee", "answers": "ee:ee:ee:ee:ee:ee", "arp_requests": 7, "arp_replies": 6, "arp_unrouted": 5, "arp_defended": 1, "received": 4, "policed": 3, "local": 2, "punted": 1, "forwards": true, "up": true,
 "ipv6": {"forwards": true, "answers": "ee:ee:ee:ee:ee:ee", "solicitations": 30, "advertisements": 20, "unrouted": 2, "defended": 3}},
{"name": "cali\u001b2", "index": 4, "mac": "", "error": "refused\u0007", "ipv6": {"why": "not served: a reason"}}, {"name": "cali3", "index": 5, "up": true, "answers": "ee:ee:ee:ee:ee:ee", "ipv6": {"why": "not served: a reason"}}],
"uplinks": [{"name": "ens3", "index": 2, "mac": "02:00:5e:00:53:01", "received": 9, "up": true}], "left": [{"name": "br0", "why": "a bridge"}],
"forward": {"packets_in": 11, "packets_out": 10, "bytes_out": 999, "routes": 9, "nice": -20, "super_packets": {"packets": 3, "datagrams": 70}, "verdicts": {"forward": 10, "local": 1}, "drops": {"IP_INNOROUTES": 1},
"stalls": {"count": 2, "now": false, "ago_seconds": 61.5, "lasts_seconds": 1.25}},
"arp": {"verdicts": {"answer": 6}, "defended": 1}, "nd": {"verdicts": {"answer": 20, "nd-probe-dad": 1}, "defended": 3, "groups": 4, "groups_joined": 4}, "kernel": {"neighbours_learned": 2}, "descriptors": {"in_use": 41, "needed": 81, "limit": 1024}, "privileges": {"uid": 0, "capabilities": ["cap_net_admin", "cap_net_raw"], "no_new_privs": true}, "control": {"evicted": 1, "refused": 2}}}`

const statusTable = `proxyarpd v9, engine af_packet, claim tcx, up 1m1s, ready

INTERFACE  INDEX  ROLE      MAC                ANSWERS            IP
cali1      3      workload  ee:ee:ee:ee:ee:ee  ee:ee:ee:ee:ee:ee  4 6
cali\x1b2  4      workload                     -                  down
cali3      5      workload                     ee:ee:ee:ee:ee:ee  4
ens3       2      uplink    02:00:5e:00:53:01  -                  -
cali\x1b2: refused\a
IPv6 on cali\x1b2, cali3: not served: a reason
br0: a bridge

INTERFACE  ARP REQ  REPLY  ND SOL  ADV  DEFENDED  UNROUTED  RECEIVED  POLICED  LOCAL  PUNTED
cali1      7        6      30      20   4         7         4         3        2      1
ens3       0        0      0       0    0         0         9         0        0      0

forwarding: 11 packets in, 10 out, 999 bytes out, 9 routes
ring not read: 2 times, the last 1m1.5s ago, for 1.25s; 0 packets went by the kernel meanwhile, 0 of those that were in the ring were dropped
datapath: 2 workers, nice -20, 70 datagrams left as 3 super-packets
verdicts: forward 10, local 1
drops: IP_INNOROUTES 1
arp: answer 6; 1 of the answers to address probes
neighbour discovery: answer 20, nd-probe-dad 1; 3 of the answers to duplicate address detection; 4 groups joined
neighbours: learned 2
descriptors: 41 in use, 81 needed at most, limit 1024
privileges: uid 0, cap_net_admin, cap_net_raw; no_new_privs
control clients: 1 evicted, 2 refused
`

func TestStatus(t *testing.T) {
	oneLine := func(ready string) string {
		return strings.ReplaceAll(strings.Replace(statusAnswer, "READY", ready, 1), "\n", "")
	}
	ready, asked := answering(t, oneLine("true"))
	notReady, _ := answering(t, oneLine("false"))
	if c := call(t, "status", "--control", ready); c.code != 0 || c.errw != "" || c.out != statusTable {
		t.Errorf("exit %d: %s\n%s", c.code, c.errw, c.out)
	}
	if q := <-asked; !strings.Contains(q, `"status"`) {
		t.Errorf("asked: %s", q)
	}
	for _, flag := range []string{"-ojson", "--output=json"} {
		c := call(t, "status", flag, "--control", ready)
		var s struct {
			Version   string
			Workloads []struct{ Name string }
		}
		if err := json.Unmarshal([]byte(c.out), &s); err != nil || s.Version != "v9" || s.Workloads[1].Name != "cali\x1b2" || !strings.HasPrefix(c.out, "{\n  \"version\": \"v9\",\n") {
			t.Errorf("%s: %v\n%s", flag, err, c.out)
		}
	}
	// Who does not wait is shown what there is; who waits in vain is, too, and fails.
	for _, c := range []struct {
		path  string
		args  []string
		code  int
		state string
	}{
		{ready, []string{"--wait", "1s"}, 0, ", ready\n"},
		{notReady, nil, 0, ", not ready: cali2: no MAC\n"},
		{notReady, []string{"--wait", "1s"}, 1, ", not ready: cali2: no MAC\n"},
	} {
		got := call(t, append([]string{"status", "--control", c.path}, c.args...)...)
		want := ""
		if c.code != 0 {
			want = "proxyarpd: " + c.path + ": not ready after 1s: cali2: no MAC\n"
		}
		if got.code != c.code || got.errw != want || !strings.Contains(got.out, c.state) {
			t.Errorf("%v: exit %d: %s\n%s", c.args, got.code, got.errw, got.out)
		}
	}
	nobody := filepath.Join(t.TempDir(), "none.sock")
	if c := call(t, "status", "--control", nobody); c.code != exitFailed || c.out != "" || !strings.Contains(c.errw, nobody) {
		t.Errorf("nobody there: %+v", c)
	}
}

func TestPrintStalls(t *testing.T) {
	var out strings.Builder
	f := &daemon.ForwardStatus{Verdicts: map[string]uint64{"reader-stalled": 7}, Drops: map[string]uint64{"PARP_STALLED": 3}}
	printStalls(&out, f)
	f.Stalls = daemon.StallStatus{Count: 1, Now: true, Ago: 0.5, Lasts: 0.5}
	printStalls(&out, f)
	const want = "ring not read: 1 times, and now, for 500ms: the kernel has the traffic where it forwards; 7 packets went by the kernel meanwhile, 3 of those that were in the ring were dropped\n"
	if out.String() != want {
		t.Errorf("%q", out.String())
	}
}

// TestManyInterfaces: of a reason that many have a line is told, and what counts nothing is left out.
func TestManyInterfaces(t *testing.T) {
	s := &daemon.Status{Ready: true, IPv6: true}
	for i := range 1000 {
		s.Workloads = append(s.Workloads, daemon.Interface{Name: fmt.Sprintf("cali%011d", i), Index: 10000 + i, MAC: "ee:ee:ee:ee:ee:ee", Answers: "ee:ee:ee:ee:ee:ee", Forwards: true, Up: true, IPv6: &status.IPv6{Why: "not served: x"}})
	}
	s.Workloads[500].IPv6 = &status.IPv6{Answers: "ee:ee:ee:ee:ee:ee", Solicitations: 7}
	var out strings.Builder
	if err := printStatus(&out, s); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\nIPv6 on cali00000000000, cali00000000001, cali00000000002, cali00000000003 and 995 more: not served: x\n", "\n\nINTERFACE        ND SOL\ncali00000000500  7\n\nforwarding: "} {
		if strings.Count(out.String(), want) != 1 {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	for line := range strings.Lines(out.String()) {
		if strings.HasPrefix(line, "cali") && len(line) > 81 {
			t.Errorf("wider than 80 columns: %s", line)
		}
	}
}

// TestEveryCounter: what is counted is in the table, for an interface or for all.
func TestEveryCounter(t *testing.T) {
	s, numbers := statustest.Filled()
	var out strings.Builder
	if err := printStatus(&out, s); err != nil {
		t.Fatal(err)
	}
	w, u := &s.Workloads[0], &s.Uplinks[0]
	for _, sum := range []uint64{w.ARPUnrouted + w.IPv6.Unrouted, w.ARPDefended + w.IPv6.Defended, u.ARPUnrouted + u.IPv6.Unrouted, u.ARPDefended + u.IPv6.Defended} {
		if !strings.Contains(out.String(), fmt.Sprint(sum)) {
			t.Errorf("a sum of both families, %d, is not shown", sum)
		}
	}
	// What is a sum of others, or told in other words, or by -o json, metrics and top alone.
	without := []string{"Workloads.ARPUnrouted", "Workloads.ARPDefended", "Workloads.IPv6.Unrouted", "Workloads.IPv6.Defended", "Uplinks.ARPUnrouted", "Uplinks.ARPDefended", "Uplinks.IPv6.Unrouted", "Uplinks.IPv6.Defended",
		"Workloads.ForeignAnswers", "Uplinks.ForeignAnswers", "Workloads.AddressTwice", "Uplinks.AddressTwice", "Workloads.UplinkClaims", "Uplinks.UplinkClaims", "Workloads.Unlearned", "Uplinks.Unlearned", "ARP.Unrouted", "ND.Unrouted",
		"Workloads.Egress.Device", "Workloads.Egress.Qdisc", "Uplinks.Egress.Device", "Uplinks.Egress.Qdisc", "Workloads.Announced.Taken", "Workloads.Announced.Released", "Workloads.Announced.Sent", "Workloads.Announced.Failed",
		"ARP.Carried", "ND.Carried", "Forward.InRing", "Forward.Rebuilt", "Forward.Returned", "Kernel.Events", "Kernel.Overruns", "Kernel.Resyncs", "Kernel.Malformed", "Kernel.Resolved", "Kernel.Refused", "Kernel.NoneQueued",
		"Process.Goroutines", "Process.Resident", "Process.Heap", "Process.Live", "Process.Unused", "Gate.Changes", "Gate.Looks"}
	for path, n := range numbers {
		if shown := strings.Contains(out.String(), fmt.Sprint(n)); shown == slices.Contains(without, path[1:]) {
			t.Errorf("%s: shown is %v", path, shown)
		}
	}
	if t.Failed() {
		t.Log(out.String())
	}
}
