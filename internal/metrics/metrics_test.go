package metrics

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"proxyarpd/internal/status"
	"proxyarpd/internal/status/statustest"
)

func aStatus() *status.Status {
	return &status.Status{Version: "v9", Engine: "af_packet", Claim: "tcx", Ready: true, Uptime: 3, IPv6: true,
		ND: status.ND{Verdicts: map[string]uint64{"answer": 5}, Groups: 4, Joined: 3, Times: &status.Histogram{Bounds: []float64{0.001, 0.01}, Counts: []uint64{3, 2, 1}, Sum: 0.5}}, Process: status.Process{Goroutines: 20, Resident: 30 << 20},
		Workloads: []status.Interface{{Name: "cali1", ARPRequests: 7, ARPReplies: 6, ARPVerdicts: map[string]uint64{"answer": 6, "arp-reply": 1}, Received: 4, Policed: 3, Local: 2, Punted: 1,
			Verdicts: map[string]uint64{"forward": 8, "local": 2}, Drops: map[string]uint64{"IP_INNOROUTES": 1}, IPv6: &status.IPv6{Solicitations: 5, Advertisements: 5}},
			{Name: "cali2", Error: "x"}},
		Uplinks: []status.Interface{{Name: "eth0", Received: 5}}, Left: []status.Left{{Name: "br0"}},
		ARP: status.ARP{Verdicts: map[string]uint64{"answer": 6}, Times: &status.Histogram{Bounds: []float64{0.001, 0.01}, Counts: []uint64{3, 2, 1}, Sum: 0.5}},
		Forward: status.Forward{PacketsIn: 11, PacketsOut: 10, BytesOut: 999, Verdicts: map[string]uint64{"forward": 10, "local": 2}, Drops: map[string]uint64{"IP_INNOROUTES": 1},
			Super: status.Super{Packets: 2, Datagrams: 9}}}
}

func of(s *status.Status) Source {
	return func(context.Context) (*status.Status, bool) { return s, s != nil }
}

// parsed is a page as Prometheus's own parser reads it.
func parsed(t *testing.T, page []byte) map[string]*dto.MetricFamily {
	t.Helper()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(page))
	if err != nil {
		t.Fatalf("%v\n%s", err, page)
	}
	return families
}

func TestPage(t *testing.T) {
	page := collect(aStatus())
	parsed(t, page)
	if problems, err := promlint.New(bytes.NewReader(page)).Lint(); err != nil || len(problems) > 0 {
		t.Errorf("%v: %v", problems, err)
	}
	for _, want := range []string{
		"# HELP proxyarpd_arp_answer_seconds Time from the kernel's receipt of an ARP request until the reply was handed to the interface.\n# TYPE proxyarpd_arp_answer_seconds histogram\n" +
			"proxyarpd_arp_answer_seconds_bucket{le=\"0.001\"} 3\nproxyarpd_arp_answer_seconds_bucket{le=\"0.01\"} 5\nproxyarpd_arp_answer_seconds_bucket{le=\"+Inf\"} 6\n" +
			"proxyarpd_arp_answer_seconds_sum 0.5\nproxyarpd_arp_answer_seconds_count 6\n",
		"proxyarpd_forward_drops_total{reason=\"IP_INNOROUTES\"} 1\n", "proxyarpd_forward_packets_in_total 11\n",
		"proxyarpd_interface_received_frames_total{interface=\"cali1\"} 4\nproxyarpd_interface_received_frames_total{interface=\"cali2\"} 0\nproxyarpd_interface_received_frames_total{interface=\"eth0\"} 5\n",
		"proxyarpd_interface_verdicts_total{interface=\"cali1\",verdict=\"forward\"} 8\n", "proxyarpd_interface_verdicts_total{interface=\"others\",verdict=\"forward\"} 2\n",
		"proxyarpd_interface_drops_total{interface=\"cali1\",reason=\"IP_INNOROUTES\"} 1\n",
		"proxyarpd_interfaces_failed 1\n", "process_resident_memory_bytes ",
	} {
		if !strings.Contains(string(page), want) {
			t.Errorf("no %q in\n%s", want, page)
		}
	}
}

// TestEveryCounter: what is counted is shown.
func TestEveryCounter(t *testing.T) {
	s, numbers := statustest.Filled()
	shown := map[float64]bool{}
	for line := range strings.Lines(string(collect(s))) {
		fields := strings.Fields(line)
		v, _ := strconv.ParseFloat(fields[len(fields)-1], 64)
		shown[v] = true
	}
	// A workload announces nothing, and an uplink has no other's workload; the rest is in other metrics, or status alone. The process is looked at anew.
	without := []string{"Workloads.UplinkClaims", "Workloads.Egress.Device", "Workloads.Egress.Qdisc", "Uplinks.Egress.Device", "Uplinks.Egress.Qdisc",
		"Uplinks.ARPUnrouted", "Uplinks.AddressTwice", "Workloads.Unlearned", "Uplinks.Unlearned", "ARP.Unrouted", "ARP.Defended", "ND.Unrouted", "ND.Defended", "Process.Heap", "Process.Live", "Process.Unused"}
	for path, n := range numbers {
		if shown := shown[float64(n)]; shown == slices.Contains(without, path[1:]) {
			t.Errorf("%s: shown is %v", path, shown)
		}
	}
}

// An uplink that is answered on has what a workload has, and what is announced there.
func TestUplinks(t *testing.T) {
	s := aStatus()
	s.Uplinks = append(s.Uplinks, status.Interface{Name: "eth1", Answers: "02:00:00:00:00:01", ARPReplies: 9, UplinkClaims: 2,
		Announced: &status.Announced{Held: 3, Waiting: 1, Taken: 5, Released: 2, Sent: 9, Failed: 1}})
	page := collect(s)
	parsed(t, page)
	for _, want := range []string{
		"proxyarpd_arp_replies_total{interface=\"cali1\"} 6\nproxyarpd_arp_replies_total{interface=\"cali2\"} 0\nproxyarpd_arp_replies_total{interface=\"eth1\"} 9\n",
		"proxyarpd_uplink_claims_total{interface=\"eth1\"} 2\n", "proxyarpd_announced_addresses{interface=\"eth1\"} 3\n", "proxyarpd_announced_addresses_waiting{interface=\"eth1\"} 1\n",
		"proxyarpd_announced_addresses_total{interface=\"eth1\",change=\"taken\"} 5\nproxyarpd_announced_addresses_total{interface=\"eth1\",change=\"released\"} 2\n",
		"proxyarpd_announcements_total{interface=\"eth1\",result=\"sent\"} 9\nproxyarpd_announcements_total{interface=\"eth1\",result=\"failed\"} 1\n", "proxyarpd_unannounced_total 0\n",
	} {
		if !strings.Contains(string(page), want) {
			t.Errorf("no %q in\n%s", want, page)
		}
	}
	var sum status.Interface
	add(&sum, &s.Uplinks[1])
	if add(&sum, &s.Uplinks[1]); sum.Announced == nil || *sum.Announced != (status.Announced{Held: 6, Waiting: 2, Taken: 10, Released: 4, Sent: 18, Failed: 2}) || sum.UplinkClaims != 4 {
		t.Errorf("%+v", sum)
	}
}

// A name may be any bytes, and is what it is.
func TestEscaping(t *testing.T) {
	s := aStatus()
	name := "a\"b\\c\nd"
	s.Workloads[0].Name, s.Workloads[1].Name = name, "x\xff"
	for _, m := range parsed(t, collect(s))["proxyarpd_arp_requests_total"].Metric {
		if got := m.Label[0].GetValue(); got != name && got != "x\ufffd" {
			t.Errorf("%q", got)
		}
	}
}

// The series are bounded, and what is beyond is counted.
func TestManyInterfaces(t *testing.T) {
	s := aStatus()
	s.Workloads = nil
	s.Forward.Verdicts = map[string]uint64{"forward": 3*(mostInterfaces+50) + 7} // of some that have gone
	for i := range mostInterfaces + 50 {
		s.Workloads = append(s.Workloads, status.Interface{Name: fmt.Sprintf("cali%d", i), ARPRequests: 2, ARPVerdicts: map[string]uint64{"answer": 2},
			Verdicts: map[string]uint64{"forward": 3}})
	}
	for _, f := range parsed(t, collect(s)) {
		want := 2.0 * (mostInterfaces + 50)
		switch f.GetName() {
		case "proxyarpd_arp_requests_total":
		case "proxyarpd_interface_verdicts_total":
			want = 3*(mostInterfaces+50) + 7
		default:
			continue
		}
		sum := 0.0
		for _, m := range f.Metric {
			sum += m.Counter.GetValue()
		}
		if len(f.Metric) != mostInterfaces+1 || sum != want {
			t.Errorf("%s: %d series, sum %v", f.GetName(), len(f.Metric), sum)
		}
	}
}

func TestServer(t *testing.T) {
	s := aStatus()
	var now *status.Status = s
	server, err := Listen("0", func(context.Context) (*status.Status, bool) { return now, now != nil }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx) }()
	if a := server.Addr().String(); !strings.HasPrefix(a, "127.0.0.1:") {
		t.Errorf("a port alone is at %s", a)
	}
	get := func(path string) (int, string) {
		t.Helper()
		r, err := http.Get("http://" + server.Addr().String() + path)
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
	for _, c := range []struct {
		path string
		code int
		text string
		edit func()
	}{
		{"/metrics", 200, `proxyarpd_build_info{version="v9",goversion="go`, func() {}},
		{"/metrics", 200, "process_resident_memory_bytes", func() {}},
		{"/healthz", 200, "ok", func() {}},
		{"/readyz", 200, "ok", func() {}},
		{"/", 404, "", func() {}},
		{"/readyz", 503, "not ready: because", func() { s.Ready, s.NotReady = false, "because" }},
		{"/healthz", 200, "ok", func() {}},
		{"/healthz", 503, "does not answer", func() { now = nil }},
		{"/metrics", 503, "", func() {}},
	} {
		c.edit()
		if code, text := get(c.path); code != c.code || !strings.Contains(text, c.text) {
			t.Errorf("%s: %d, want %d with %q\n%s", c.path, code, c.code, c.text, text)
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestAddress(t *testing.T) {
	for in, want := range map[string]string{"9100": "127.0.0.1:9100", ":9100": "127.0.0.1:9100", "0.0.0.0:9100": "0.0.0.0:9100", "[::1]:9100": "[::1]:9100", "": "", "x": "", "a:b:c": "", "1.2.3.4:": "", ":99999": ""} {
		if got, err := Address(in); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
}

// Whoever speaks no HTTP, too much of it, or nothing at all holds up nobody.
func TestBadClients(t *testing.T) {
	server, err := Listen("0", of(aStatus()), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx) }()
	for text, want := range map[string]string{
		"GET / HTTP/1.1\r\n\r\n": "HTTP/1.1 404 ", "POST /metrics HTTP/1.1\r\n\r\n": "HTTP/1.1 405 ", "HEAD /metrics HTTP/1.0\n\n": "HTTP/1.1 200 ",
		"nonsense\r\n\r\n": "HTTP/1.1 400 ", "GET /metrics HTTP/2\r\n\r\n": "HTTP/1.1 400 ", "GET /metrics?x=y HTTP/1.1\r\nHost: a\r\n\r\n": "HTTP/1.1 200 ",
		"GET /metrics HTTP/1.1\r\n" + strings.Repeat("a: b\r\n", mostRequest/6+1): "HTTP/1.1 400 ",
	} {
		conn, err := net.Dial("tcp", server.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		go func() { _, _ = io.WriteString(conn, text) }()
		b := make([]byte, len(want))
		if _, err := io.ReadFull(conn, b); err != nil || string(b) != want {
			t.Errorf("%.40q: %q, %v", text, b, err)
		}
		_ = conn.Close()
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func FuzzReadRequest(f *testing.F) {
	f.Add([]byte("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		method, target, err := readRequest(bytes.NewReader(b))
		if err == nil && (target == "" || target[0] != '/' || strings.ContainsAny(method+target, " \n")) {
			t.Errorf("%q: %q %q", b, method, target)
		}
	})
}
