package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
)

// TestLastDrops: drops are kept while nobody looks, by each engine, and shown as a
// capture would have shown them.
func TestLastDrops(t *testing.T) {
	for name, args := range map[string][]string{"af_packet": {"--engine", "af_packet"}, "ebpf": {"--engine", "ebpf"}, "workers": {"--engine", "af_packet", "--workers", "3"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lastDrops(t, args...)
		})
	}
}

// TestLastDropsARP: where nothing is forwarded, the responder's drops are kept.
func TestLastDropsARP(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "arping")
	l := labtest.New(t, lab.Spec{Hosts: 1, Form: lab.FormCalico, PodsPerHost: 1})
	d := labtest.Daemon(t, l, "host0", "--engine", "none")
	pod := labtest.Pods(l, 0)[0]
	_, _ = labtest.Output(t, l, pod.Node, "arping", "-c", "2", "-w", "2", "-I", pod.Peer, "-s", "127.0.0.1", "169.254.1.1")
	out, errw, code := exec3(t, l, "host0", labtest.Binary(t), "capture", "--control", d.Control, "--last-drops", "-n")
	if code != 0 || strings.Count(out, pod.Iface+" B   ARP, Request who-has 169.254.1.1") < 2 || strings.Count(out, "=> drop IP_LOCALNET") < 2 {
		t.Errorf("exit %d\n%s%s", code, out, errw)
	}
	if text := d.Status(t); !strings.Contains(text, "commonest drops: ARP IP_LOCALNET from "+pod.Iface+" ") {
		t.Errorf("%s", text)
	}
}

func lastDrops(t *testing.T, args ...string) {
	labtest.Need(t, "ping", "tcpdump", "arping")
	l := labtest.New(t, lab.Spec{Hosts: 1, Form: lab.FormCalico, PodsPerHost: 2})
	d := labtest.Daemon(t, l, "host0", args...)
	pod := labtest.Pods(l, 0)[0]
	capture := func(args ...string) (out, errw string) {
		t.Helper()
		out, errw, code := exec3(t, l, "host0", labtest.Binary(t), append([]string{"capture", "--control", d.Control, "--last-drops"}, args...)...)
		if code != 0 {
			t.Fatalf("%q: exit %d\n%s", args, code, errw)
		}
		return out, errw
	}
	if out, errw := capture("-n"); out != "" || !strings.Contains(errw, "0 drops shown, of 0 kept, of 0 since the daemon's start") {
		t.Errorf("before anything: %q\n%s", out, errw)
	}
	ping := func(args ...string) {
		_, _ = labtest.Output(t, l, pod.Node, "ping", append([]string{"-i", "0.05"}, args...)...)
	}
	ping("-c", "3", "-W", "1", "203.0.113.1") // no route
	labtest.Run(t, l, "host0", "ip", "route", "add", "10.99.0.9", "dev", labtest.Pods(l, 0)[1].Iface)
	ping("-c", "1", "-W", "5", "10.99.0.9") // nobody answers ARP for it
	labtest.Await(t, "a packet without neighbour is dropped", func() bool {
		out, _ := capture("-n", "--reason", "NEIGH_FAILED")
		return strings.Count(out, "\n") == 1
	})
	// An ARP request with a sender in 127/8 is the responder's to drop.
	_, _ = labtest.Output(t, l, pod.Node, "arping", "-c", "1", "-w", "1", "-I", pod.Peer, "-s", "127.0.0.1", "169.254.1.1")

	out, errw := capture("-n", "icmp", "and", "dst", "203.0.113.1")
	if strings.Count(out, "=> drop IP_INNOROUTES") != 3 || !strings.Contains(out, "icmp 3/0 #") || strings.Count(out, pod.Iface+" In  IP "+labtest.IP(pod)+" > 203.0.113.1: ICMP echo request") != 3 {
		t.Errorf("no route:\n%s%s", out, errw)
	}
	if out, _ := capture("-n", "--reason", "NEIGH_FAILED", "-v"); !strings.Contains(out, "=> drop NEIGH_FAILED "+labtest.Pods(l, 0)[1].Iface) || !strings.Contains(out, "nh 10.99.0.9 route 10.99.0.9/32 icmp 3/1") || !strings.Contains(out, "ttl 64") {
		t.Errorf("no neighbour:\n%s", out)
	}
	// The newest are taken, of those that are selected, and by their interface.
	if out, _ := capture("-ni", pod.Iface, "-c", "2", "icmp"); strings.Count(out, "\n") != 2 || !strings.Contains(out, "seq 3") == strings.Contains(out, "seq 1,") {
		t.Errorf("two of them:\n%s", out)
	}
	if out, _ := capture("-ni", "ens*"); out != "" {
		t.Errorf("of another interface:\n%s", out)
	}
	if text := d.Status(t); !strings.Contains(text, "commonest drops: IP_INNOROUTES from "+pod.Iface+" 3, ") {
		t.Errorf("the commonest are not named:\n%s", text)
	}
	file := filepath.Join(t.TempDir(), "drops.pcapng")
	capture("-w", file)
	again, _, code := exec3(t, l, "host0", labtest.Binary(t), "capture", "-nr", file, "--reason", "IP_INNOROUTES")
	if code != 0 || strings.Count(again, "=> drop IP_INNOROUTES") != 3 {
		t.Errorf("from the file: exit %d\n%s", code, again)
	}
	if theirs, code := labtest.Try(t, l, "host0", "tcpdump -nr "+file+" icmp and dst 203.0.113.1"); code != 0 || strings.Count(theirs, "ICMP echo request") != 3 {
		t.Errorf("tcpdump reads: %s", theirs)
	}
	if out, _ := capture("--verdict", "json", "-c", "1", "icmp"); !json.Valid([]byte(out)) {
		t.Errorf("JSON: %s", out)
	}
	if out, _ := capture("-n", "arp"); !strings.Contains(out, "=> drop IP_LOCALNET") {
		t.Errorf("of the responder:\n%s", out)
	}

	// The interface that it came by has gone: its name is kept.
	labtest.Run(t, l, "host0", "ip", "link", "del", pod.Iface)
	if out, _ := capture("-ni", pod.Iface, "icmp"); strings.Count(out, "\n") != 4 {
		t.Errorf("when the interface has gone:\n%s", out)
	}
	if out, _ := capture("-ni", pod.Iface, "arp"); !strings.Contains(out, "=> drop IP_LOCALNET") {
		t.Errorf("ARP when the interface has gone:\n%s", out)
	}
	if _, errw, code := exec3(t, l, "host0", labtest.Binary(t), "capture", "--control", filepath.Join(os.TempDir(), "none"), "--last-drops"); code != 1 || !strings.Contains(errw, "--last-drops need one") {
		t.Errorf("without a daemon: exit %d\n%s", code, errw)
	}
	if _, errw, code := exec3(t, l, "host0", labtest.Binary(t), "capture", "-r", file, "--last-drops"); code != 2 {
		t.Errorf("with -r: exit %d\n%s", code, errw)
	}
}
