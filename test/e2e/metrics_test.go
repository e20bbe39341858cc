package e2e

import (
	"context"
	"io"
	"net"
	"net/http"
	"os/exec"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
)

// scrape gets a page from within a namespace.
func scrape(t *testing.T, l *lab.Lab, url string) (code int, page string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, addr string) (conn net.Conn, err error) {
		err = l.Do("host0", func() error {
			conn, err = new(net.Dialer).DialContext(ctx, network, addr)
			return err
		})
		return conn, err
	}}}
	r, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(b)
}

// sum adds the samples of a metric.
func sum(t *testing.T, page, name string) (total float64) {
	t.Helper()
	seen := false
	for line := range strings.Lines(page) {
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), name)
		if !ok || rest == "" || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		v, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
		if err != nil {
			t.Errorf("%s: %v", line, err)
		}
		seen, total = true, total+v
	}
	if !seen {
		t.Errorf("no %s", name)
	}
	return total
}

// TestMetrics: what Prometheus is shown adds up with the status.
func TestMetrics(t *testing.T) {
	t.Parallel()
	l := labtest.New(t, lab.Spec{Hosts: 1, Form: lab.FormCalico, PodsPerHost: 2})
	d := labtest.Daemon(t, l, "host0", "--metrics", "9477")
	from, to := labtest.Pods(l, 0)[0], labtest.Pods(l, 0)[1]
	labtest.Run(t, l, from.Node, "ping", "-c", "5", "-i", "0.05", "-W", "5", labtest.IP(to))
	_, _ = labtest.Output(t, l, from.Node, "ping", "-c", "2", "-i", "0.1", "-W", "1", "203.0.113.1") // no route: dropped, and told
	type counted struct {
		Workloads []struct {
			Requests uint64 `json:"arp_requests"`
			Replies  uint64 `json:"arp_replies"`
		}
		ARP     struct{ Carried uint64 }
		Forward struct {
			In    uint64 `json:"packets_in"`
			Out   uint64 `json:"packets_out"`
			Drops map[string]uint64
		}
	}
	var s, after counted
	var code int
	var page string
	await(t, "a page while nothing is counted", func() bool {
		s, after = counted{}, counted{}
		d.StatusJSON(t, &s)
		code, page = scrape(t, l, "http://127.0.0.1:9477/metrics")
		d.StatusJSON(t, &after)
		return reflect.DeepEqual(s, after)
	})
	if code != 200 {
		t.Fatalf("%d: %s", code, page)
	}
	var requests, replies uint64
	for _, w := range s.Workloads {
		requests, replies = requests+w.Requests, replies+w.Replies
	}
	for name, want := range map[string]uint64{
		"proxyarpd_forward_packets_in_total": s.Forward.In, "proxyarpd_forward_packets_out_total": s.Forward.Out,
		`proxyarpd_forward_drops_total{reason="IP_INNOROUTES"}`: s.Forward.Drops["IP_INNOROUTES"],
		"proxyarpd_arp_requests_total":                          requests, "proxyarpd_arp_replies_total": replies,
		"proxyarpd_ready": 1,
	} {
		if got := sum(t, page, name); got != float64(want) || want == 0 {
			t.Errorf("%s: %v, the status says %d", name, got, want)
		}
	}
	// Nobody times what a program answers, which may be all.
	if got := sum(t, page, "proxyarpd_arp_answer_seconds_count"); got != float64(replies-s.ARP.Carried) || got == 0 && s.ARP.Carried == 0 {
		t.Errorf("%v answers timed of %d, %d of them by a program", got, replies, s.ARP.Carried)
	}
	for interfaces, all := range map[string]string{"proxyarpd_interface_verdicts_total": "proxyarpd_forward_verdicts_total", "proxyarpd_interface_drops_total": "proxyarpd_forward_drops_total"} {
		if a, b := sum(t, page, interfaces), sum(t, page, all); a != b || a == 0 {
			t.Errorf("%s: %v, of all interfaces %v", interfaces, a, b)
		}
	}
	if n := sum(t, page, `proxyarpd_interface_drops_total{interface="`+from.Iface+`",reason="IP_INNOROUTES"}`); n != 2 {
		t.Errorf("%v drops from the pod", n)
	}
	if _, err := exec.LookPath("promtool"); err == nil {
		check := exec.Command("promtool", "check", "metrics")
		check.Stdin = strings.NewReader(page)
		if out, err := check.CombinedOutput(); err != nil {
			t.Errorf("promtool: %v\n%s", err, out)
		}
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		if code, text := scrape(t, l, "http://127.0.0.1:9477"+path); code != 200 || text != "ok\n" {
			t.Errorf("%s: %d %s", path, code, text)
		}
	}
	out, errw, code := exec3(t, l, "host0", labtest.Binary(t), "run", "--metrics", "x")
	if code != 2 || out != "" || !strings.Contains(errw, "--metrics") {
		t.Errorf("--metrics x: exit %d\n%s", code, errw)
	}
	// Where the address is taken the daemon does not start.
	taken := labtest.New(t, lab.Spec{Hosts: 1, Form: lab.FormCalico, PodsPerHost: 1})
	if err := taken.Do("host0", func() error {
		listener, err := net.Listen("tcp", "127.0.0.1:9477")
		if err == nil {
			t.Cleanup(func() { _ = listener.Close() })
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if out, errw, code := exec3(t, taken, "host0", labtest.Binary(t), "run", "--metrics", "9477", "--control", d.Control+".2"); code != 1 || out != "" || !strings.Contains(errw, "9477") {
		t.Errorf("an address that is taken: exit %d\n%s", code, errw)
	}
}
