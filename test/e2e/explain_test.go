package e2e

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
)

// explanation is what scripts read.
type explanation struct {
	ARP     struct{ Verdict, Reason *string }
	Forward struct {
		Verdict, Reason, Route, Out, Nexthop, MAC, ICMP *string
		MTU                                             *int
		Rule                                            *struct {
			Priority uint32
			Table    *uint32
		}
	}
	Kernel struct{ Verdict, Reason, Out, Nexthop *string }
	Agree  *bool
}

func explained(t *testing.T, l *lab.Lab, args ...string) (e explanation) {
	t.Helper()
	out, errw, code := exec3(t, l, "host0", labtest.Binary(t), append([]string{"explain", "-o", "json"}, args...)...)
	if code != 0 || errw != "" {
		t.Fatalf("explain %v: exit %d\n%s", args, code, errw)
	}
	if err := json.Unmarshal([]byte(out), &e); err != nil {
		t.Fatalf("explain %v: %v\n%s", args, err, out)
	}
	for _, key := range []string{"arp", "forward", "kernel", "agree", "verdict", "reason", "rule", "route", "out", "nexthop", "mac", "mtu", "icmp"} {
		if !strings.Contains(out, `"`+key+`": `) {
			t.Errorf("explain %v: no %q", args, key)
		}
	}
	return e
}

func is(t *testing.T, what string, got *string, want string) {
	t.Helper()
	switch {
	case got == nil && want != "":
		t.Errorf("%s: null, want %s", what, want)
	case got != nil && *got != want:
		t.Errorf("%s: %s, want %q", what, *got, want)
	}
}

// A question is answered with a daemon and without one alike, and as the packet fares.
func TestExplain(t *testing.T) {
	t.Parallel()
	l := labtest.New(t, lab.Spec{Hosts: 2, Form: lab.FormCalico, PodsPerHost: 2})
	near, far := labtest.Pods(l, 0)[0], labtest.Pods(l, 1)[0]
	dst, gateway := labtest.IP(far), "169.254.1.1"
	control := "/nowhere/s"
	for _, live := range []bool{false, true} {
		if live {
			control = labtest.Daemon(t, l, "host0").Control
			labtest.Daemon(t, l, "host1")
			labtest.Run(t, l, near.Node, "ping", "-c", "1", "-W", "5", dst)
		}
		e := explained(t, l, gateway, "--control", control)
		is(t, "arp", e.ARP.Verdict, "answer")
		is(t, "arp reason", e.ARP.Reason, "")
		is(t, "to the gateway", e.Forward.Reason, "IP_INNOROUTES")
		is(t, "ICMP", e.Forward.ICMP, "3/0")

		e = explained(t, l, dst, "--control", control, "--from", labtest.IP(near))
		is(t, "arp", e.ARP.Reason, "arp-not-proxied")
		want := map[bool]string{true: "forward", false: "queue"}[live]
		is(t, "forward", e.Forward.Verdict, want)
		is(t, "reason", e.Forward.Reason, "")
		is(t, "kernel", e.Kernel.Verdict, "drop") // its forwarding is 0
		if r := e.Forward.Rule; r == nil || r.Priority != 32766 || r.Table == nil || *r.Table != 254 {
			t.Errorf("rule %+v", r)
		}
		if e.Forward.MTU == nil || *e.Forward.MTU != 1500 || (e.Forward.MAC != nil) != live || e.Agree == nil || *e.Agree {
			t.Errorf("%+v", e.Forward)
		}
		e = explained(t, l, dst, "--control", control, "--len", "1600")
		is(t, "too long", e.Forward.Reason, "PKT_TOO_BIG")
		is(t, "too long", e.Forward.ICMP, "3/4")
		e = explained(t, l, dst, "--control", control, "--from", "203.0.113.9", "--iif", near.Iface)
		is(t, "spoofed", e.Forward.Reason, "IP_RPFILTER")
		e = explained(t, l, dst, "--control", control, "--punt", dst+"/32", "--proxy", dst+"/32") // whatever the daemon has
		is(t, "punted", e.Forward.Verdict, "punt")
		is(t, "proxied", e.ARP.Verdict, "answer")
	}
	if err := l.SetSysctl("host0", "net/ipv4/conf/all/forwarding", "1"); err != nil {
		t.Fatal(err)
	}
	if e := explained(t, l, dst, "--control", control); e.Agree == nil || !*e.Agree {
		t.Errorf("the kernel forwards too, and they differ: %+v", e)
	}
	follow := func(args ...string) (*labtest.Buffer, <-chan error) {
		t.Helper()
		cmd := l.Command(labtest.Soon(t), "host0", labtest.Binary(t), append([]string{"explain", "--control", control, "--follow"}, args...)...)
		var out labtest.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- cmd.Wait() }()
		return &out, done
	}
	listens := func(out *labtest.Buffer) {
		t.Helper()
		labtest.Await(t, "the capture", func() bool { return strings.Contains(out.String(), "listening on") })
	}
	// A packet may be lost on the way, in a CPU's backlog.
	sending := func(done <-chan error, node, line string) error {
		for {
			try(t, l, node, line)
			select {
			case err := <-done:
				return err
			case <-time.After(100 * time.Millisecond):
			}
		}
	}
	shown := func(out *labtest.Buffer) string { // behind the explanation
		_, live, _ := strings.Cut(out.String(), "waiting for the next packet")
		return live
	}
	out, done := follow("--proto", "icmp", "-c", "2", dst)
	listens(out)
	if err := sending(done, near.Node, "ping -c 3 -i 0.2 -W 5 "+dst); err != nil || strings.Count(shown(out), "ICMP echo request") != 2 || strings.Count(shown(out), "=> forward") != 2 || !strings.Contains(shown(out), "rule 32766") {
		t.Errorf("the next packets were not shown: %v\n%s", err, out.String())
	}
	// Of one that waits the end is shown, which is what became of it.
	labtest.Run(t, l, "host0", "ip", "route", "add", "10.99.0.9", "dev", labtest.Pods(l, 0)[1].Iface)
	out, done = follow("10.99.0.9")
	listens(out)
	if err := sending(done, near.Node, "ping -c 1 -W 1 10.99.0.9"); err != nil || !strings.Contains(shown(out), "=> drop NEIGH_FAILED") || strings.Contains(shown(out), "=> queue") {
		t.Errorf("a packet that waits: %v\n%s", err, out.String())
	}
	// A question about an address is one about ARP, too.
	out, done = follow(gateway, "-o", "json")
	listens(out)
	if err := sending(done, near.Node, "arping -c 1 -w 2 -I "+near.Peer+" "+gateway); err != nil || !strings.Contains(out.String(), `"verdict":"answer"`) {
		t.Errorf("a request for the gateway: %v\n%s", err, out.String())
	}
	out, done = follow("192.0.2.77", "--timeout", "200ms")
	if err := <-done; err == nil || !strings.Contains(out.String(), "no packet like it came within 200ms") {
		t.Errorf("no packet came: %v\n%s", err, out.String())
	}
}

// A question that can't be answered is refused in one line.
func TestExplainErrors(t *testing.T) {
	t.Parallel()
	l := labtest.New(t, lab.Spec{Hosts: 1, Form: lab.FormCalico, PodsPerHost: 1})
	for _, c := range []struct {
		line  string
		code  int
		names string
	}{
		{"", 2, "destination"},
		{"x", 2, "x"},
		{"1.2.3.4 5.6.7.8", 2, "one destination"},
		{"fe80::1%eth0", 2, "fe80::1%eth0"},
		{"fe80::1 --from 1.2.3.4", 2, "--from"},
		{"1.2.3.4 --iif none", 1, "--iif none"},
		{"1.2.3.4 --iif lo", 1, "--from"},
		{"1.2.3.4 --from fe80::1", 2, "--from"},
		{"1.2.3.4 --len 5", 2, "--len 5"},
		{"1.2.3.4 --sport 65536", 2, "sport"},
		{"1.2.3.4 --tos -1", 2, "tos"},
		{"1.2.3.4 --proto nonsense", 2, "proto"},
		{"1.2.3.4 --workload [", 2, "workload"},
		{"1.2.3.4 --follow --punt 1.2.3.4/32", 2, "--follow"},
		{"1.2.3.4 --follow", 1, "--follow needs a daemon"},
		{"1.2.3.4 --follow -c 0", 2, "-c 0"},
		{"1.2.3.4 --timeout 1s", 2, "--follow"},
	} {
		out, errw, code := exec3(t, l, "host0", labtest.Binary(t), append([]string{"explain", "--control", "/nowhere/s"}, strings.Fields(c.line)...)...)
		if code != c.code || out != "" || !strings.Contains(errw, c.names) {
			t.Errorf("explain %s: exit %d, want %d naming %q\n%s%s", c.line, code, c.code, c.names, out, errw)
		}
		errorLine(t, errw)
	}
}
