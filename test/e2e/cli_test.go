package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
)

// TestErrors calls the program wrongly, and where it can't work.
func TestErrors(t *testing.T) {
	t.Parallel()
	l := labtest.New(t, lab.Spec{Hosts: 1, Form: lab.FormSlash32})
	dir := t.TempDir()
	file := func(name, content string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	socket := filepath.Join(dir, "nobody.sock")
	for _, c := range []struct {
		line  string
		code  int
		names string
	}{
		{"", 2, "--help"},
		{"nonsense", 2, "nonsense"},
		{"run --nonsense", 2, "nonsense"},
		{"run nonsense", 2, "nonsense"},
		{"run --engine ebpf --claim none", 2, "--claim"},
		{"run --engine x", 2, "--engine"},
		{"run --claim x", 2, "--claim"},
		{"run --workload [", 2, "--workload"},
		{"run --uplink auto --uplink eth0", 2, "--uplink"},
		{"run --gateway fe80::1 --ipv6=false", 2, "--gateway"},
		{"run --gateway x", 2, "gateway"},
		{"run --proxy 10.20.1.1/24", 2, "10.20.1.1/24"},
		{"run --punt 10.96.0.0/33", 2, "punt"},
		{"run --mac 01:00:5e:00:00:01", 2, "--mac"},
		{"run --mac x", 2, "mac"},
		{"run --keep-mac=perhaps", 2, "keep-mac"},
		{"run --config " + filepath.Join(dir, "none.yaml"), 1, "none.yaml"},
		{"run --config " + file("key.yaml", "workload: veth*\nworkloads: veth*\n"), 2, `line 2: no such key "workloads"`},
		{"run --config " + file("value.yaml", "transit: true\nmac: x\n"), 2, "line 2: mac"},
		{"run --config " + file("list.yaml", "transit: [true, false]\n"), 2, "transit"},
		{"run --config " + file("map.yaml", "punt: {a: b}\n"), 2, "punt"},
		{"run --config " + file("syntax.yaml", "a: [\n"), 2, "syntax.yaml"},
		{"run --config " + file("itself.yaml", "config: x\n"), 2, "config"},
		{"run --control " + dir, 1, dir},
		{"run --control " + filepath.Join(dir, "no", "dir.sock"), 1, "no/dir.sock"},
		{"run --control /" + strings.Repeat("x", 120), 2, "--control"},
		{"status -o xml", 2, "-o"},
		{"status --wait x", 2, "wait"},
		{"status --wait -1s", 2, "--wait"},
		{"status nonsense", 2, "nonsense"},
		{"status --control " + socket, 1, socket},
		{"status --wait 200ms --control " + socket, 1, socket},
	} {
		out, errw, code := exec3(t, l, "host0", labtest.Binary(t), strings.Fields(c.line)...)
		if code != c.code || out != "" || !strings.Contains(errw, c.names) {
			t.Errorf("proxyarpd %s: exit %d, want %d naming %q\n%s%s", c.line, code, c.code, c.names, out, errw)
		}
		if line := errorLine(t, errw); code == 2 && line != strings.TrimSpace(errw) {
			t.Errorf("proxyarpd %s: more than one line: %s", c.line, errw)
		}
	}
}

// TestStatusWait waits in vain, and not.
func TestStatusWait(t *testing.T) {
	t.Parallel()
	l := labtest.New(t, lab.Spec{Hosts: 1, Form: lab.FormSlash32})
	dir, err := os.MkdirTemp("", "parp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "c.sock")
	refused := func(options ...string) time.Duration {
		t.Helper()
		began := time.Now()
		if _, errw, code := exec3(t, l, "host0", labtest.Binary(t), append([]string{"status", "--control", socket}, options...)...); code != 1 {
			t.Errorf("exit %d: %s", code, errw)
		}
		return time.Since(began)
	}
	unwaited := refused()
	if took := refused("--wait", "500ms"); took < 500*time.Millisecond || took > 3*time.Second+10*unwaited {
		t.Errorf("waited %v, not 500ms; without --wait it took %v", took, unwaited)
	}
	// The one who waits comes first.
	waiter := spawn(t, l, "host0", labtest.Binary(t)+" status --wait 10s -o json --control "+socket)
	p := spawn(t, l, "host0", labtest.Binary(t)+" run --workload veth* --control "+socket)
	var s status
	if err := json.Unmarshal([]byte(waiter.end()), &s); err != nil || !s.Ready || waiter.cmd.ProcessState.ExitCode() != 0 {
		t.Errorf("exit %d: %v\n%s", waiter.cmd.ProcessState.ExitCode(), err, waiter.output())
	}
	// A second one in the namespace refuses, whatever its socket.
	_, errw, code := exec3(t, l, "host0", labtest.Binary(t), "run", "--workload", "veth*", "--control", socket+"2")
	if code != 1 || errorLine(t, errw) == "" {
		t.Errorf("a second instance: exit %d: %s", code, errw)
	}
	p.cmd.Process.Signal(syscall.SIGINT)
	p.end()
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("SIGINT: exit %d\n%s", code, p.output())
	}
	if _, err := os.Lstat(socket); err == nil {
		t.Error("the control socket is left behind")
	}
}

// TestStatusNotReady has an interface come that the program can't serve.
func TestStatusNotReady(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ping")
	w := start(t, lab.Spec{Hosts: 1, Form: lab.FormSlash32, PodsPerHost: 2}, "--claim", "none")
	if err := w.SetSysctl("host0", "net.ipv4.conf.default.forwarding", "1"); err != nil {
		t.Fatal(err)
	}
	p, err := w.AddPod(t.Context(), 0, lab.PodOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s := status{}
	await(t, "status tells why "+p.Iface+" is not served", func() bool {
		s = statusOf(t, w.d[0])
		i := s.port(p.Iface)
		return i != nil && i.Error != ""
	})
	if i := s.port(p.Iface); s.Ready || i.Forwards || !strings.Contains(i.Error, "net.ipv4.conf."+p.Iface+".forwarding") {
		t.Errorf("ready %v, %+v", s.Ready, i)
	}
	out, errw, code := exec3(t, w.Lab, "host0", labtest.Binary(t), "status", "--wait", "200ms", "--control", w.d[0].Control)
	if code != 1 || !strings.Contains(errorLine(t, errw), p.Iface) || !strings.Contains(out, p.Iface) {
		t.Errorf("exit %d: %s%s", code, out, errw)
	}
	wantTTL(t, w.Lab, "ns0", ip(pods(w.Lab, 0)[1]), 63) // the others are served
	if err := w.DelPod(p.Name); err != nil {
		t.Fatal(err)
	}
	w.d[0].AwaitReady(t)
}

// TestStatusFields looks for every field that scripts may rely on.
func TestStatusFields(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ping")
	w := start(t, lab.Spec{Form: lab.FormSlash32}, "--engine", "af_packet")
	wantTTL(t, w.Lab, "ns0", "10.20.1.3", 62)
	out := w.d[0].Status(t, "-o", "json")
	var s struct {
		Version   *string
		Engine    *string
		Ready     *bool
		Workloads []map[string]any
		Forward   map[string]any
	}
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		t.Fatal(err)
	}
	if s.Version == nil || *s.Version == "" || s.Engine == nil || *s.Engine != "af_packet" || s.Ready == nil || !*s.Ready || len(s.Workloads) != 1 {
		t.Fatalf("status: %s", out)
	}
	if got, want := s.Workloads[0]["name"], any("veth0"); got != want {
		t.Errorf("name %v", got)
	}
	for _, key := range []string{"mac", "answers"} {
		if s.Workloads[0][key] != answerMAC {
			t.Errorf("%s: %v", key, s.Workloads[0][key])
		}
	}
	if got := fmt.Sprint(s.Workloads[0]["index"]); got != fmt.Sprint(pods(w.Lab, 0)[0].Index) {
		t.Errorf("index %s", got)
	}
	for _, key := range []string{"arp_requests", "arp_replies"} {
		if n, ok := s.Workloads[0][key].(float64); !ok || n < 1 {
			t.Errorf("%s: %v", key, s.Workloads[0][key])
		}
	}
	for _, key := range []string{"packets_in", "packets_out"} {
		if n, ok := s.Forward[key].(float64); !ok || n < 2 {
			t.Errorf("forward.%s: %v", key, s.Forward[key])
		}
	}
	if _, ok := s.Forward["drops"].(map[string]any); !ok {
		t.Errorf("forward.drops: %v", s.Forward["drops"])
	}
	if table := w.d[0].Status(t); !strings.Contains(table, "veth0") || !strings.Contains(table, answerMAC) {
		t.Errorf("table:\n%s", table)
	}
}
