package e2e

import (
	"archive/tar"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
)

type finding struct{ ID, Severity, Subject, What, Cure string }

// diagnosed is what doctor finds on host0, and its exit code.
func diagnosed(t *testing.T, l *lab.Lab, args ...string) ([]finding, int) {
	t.Helper()
	out, errw, code := exec3(t, l, "host0", labtest.Binary(t), append([]string{"doctor", "-o", "json"}, args...)...)
	var v struct{ Findings []finding }
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		t.Fatalf("doctor %v: exit %d: %v\n%s%s", args, code, err, out, errw)
	}
	bad := slices.ContainsFunc(v.Findings, func(f finding) bool { return f.Severity == "error" })
	if bad != (code == 1) || bad == (errw == "") {
		t.Errorf("doctor %v: exit %d with %+v\n%s", args, code, v.Findings, errw)
	}
	for _, f := range v.Findings {
		if f.ID == "" || f.What == "" || f.Cure == "" || !slices.Contains([]string{"error", "warning", "info"}, f.Severity) {
			t.Errorf("%+v", f)
		}
	}
	return v.Findings, code
}

// fault is one that doctor is to find, and not to find when it is cured.
type fault struct {
	group        int // those of one are planted together
	id, severity string
	node         string
	plant, cure  string
	args         string
	says         string // part of what tells it from others with its ID
}

func (c *fault) is(f finding) bool {
	return f.ID == c.id && f.Severity == c.severity && strings.Contains(f.Subject+": "+f.What, c.says)
}

// TestDoctor plants faults one by one and cures each as doctor says.
func TestDoctor(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "nft", "tc", "ip")
	l := labtest.New(t, lab.Spec{Hosts: 2, Form: lab.FormCalico, PodsPerHost: 2})
	d := labtest.Daemon(t, l, "host0")
	pod, other := labtest.Pods(l, 0)[0], labtest.Pods(l, 0)[1]
	dev, in, uplink := pod.Iface, pod.Peer, uplinkOf(t, l)
	// The status of a daemon would hide nothing: it is asked with each question.
	ask := func(args ...string) []finding {
		found, _ := diagnosed(t, l, append([]string{"--control", d.Control}, args...)...)
		return found
	}
	for _, f := range ask() {
		if f.Severity != "info" {
			t.Errorf("a good host: %+v", f)
		}
	}
	address := labtest.IP(pod)
	back6 := ""
	if pod.Addr6.IsValid() {
		back6 = "; ip -6 route add " + pod.Addr6.Addr().String() + " dev " + dev
	}
	faults := []fault{
		{1, "proxy-arp-too", "warning", "host0", "sysctl -qw net.ipv4.conf." + dev + ".proxy_arp=1", "sysctl -qw net.ipv4.conf." + dev + ".proxy_arp=0", "", dev},
		{1, "proxy-delay", "warning", "host0", "sysctl -qw net.ipv4.conf.all.proxy_arp=1", "sysctl -qw net.ipv4.conf.all.proxy_arp=0", "", ""},
		{1, "drop-gratuitous-arp", "warning", "host0", "sysctl -qw net.ipv4.conf.all.drop_gratuitous_arp=1", "sysctl -qw net.ipv4.conf.all.drop_gratuitous_arp=0", "", ""},
		{1, "arp-ignore", "warning", "host0", "sysctl -qw net.ipv4.conf." + uplink + ".arp_ignore=8", "sysctl -qw net.ipv4.conf." + uplink + ".arp_ignore=0", "", uplink},
		{1, "forward-hook-rules", "error", "host0", "nft add table ip t; nft add chain ip t f '{ type filter hook forward priority 0 ; }'; nft add rule ip t f drop", "nft delete table ip t", "", ""},
		{1, "nat-rules", "error", "host0", "nft add table ip u; nft add chain ip u p '{ type nat hook postrouting priority 100 ; }'; nft add rule ip u p masquerade", "nft delete table ip u", "", ""},
		{1, "shaping-qdisc", "error", "host0", "tc qdisc add dev " + dev + " root tbf rate 1mbit burst 10k latency 50ms", "tc qdisc del dev " + dev + " root", "", ""},
		{1, "mtu", "warning", "host0", "ip link set " + uplink + " mtu 1400", "ip link set " + uplink + " mtu 1500", "", ""},
		{1, "foreign-answer", "error", "host1", "ip addr add 169.254.1.1/32 dev " + uplink, "ip addr del 169.254.1.1/32 dev " + uplink, "", ""},
		{1, "address-twice", "error", other.Node, "ip addr add " + address + "/32 dev " + other.Peer, "ip addr del " + address + "/32 dev " + other.Peer, "", address},
		{2, "no-route", "warning", "host0", "ip route del " + address + " dev " + dev + "; ip -6 route flush dev " + dev + " root fd00::/8", "ip route add " + address + "/32 dev " + dev + back6, "", ""},
		{2, "pod-default-route", "error", other.Node, "ip route del default", "ip route add default via 169.254.1.1 dev " + other.Peer, "", "no IPv4"},
		{3, "pod-neighbour", "error", pod.Node, "ip neigh replace 169.254.1.1 lladdr 02:00:00:00:00:88 nud permanent dev " + in, "ip neigh del 169.254.1.1 dev " + in, "", "169.254.1.1"},
		{3, "pod-mtu", "error", pod.Node, "ip link set " + in + " mtu 9000", "ip link set " + in + " mtu 1500", "", ""},
		{4, "pod-gateway", "warning", other.Node, "ip route replace default dev " + other.Peer, "ip route replace default via 169.254.1.1 dev " + other.Peer, "", "IPv4"},
		{4, "pod-noarp", "error", pod.Node, "ip link set " + in + " arp off", "ip link set " + in + " arp on", "", ""},
		{5, "pod-address", "error", "host0", "ip route del " + address + " dev " + dev, "ip route add " + address + "/32 dev " + dev, "", address},
		{5, "pod-gateway", "error", pod.Node, "ip route add 169.254.9.9 dev " + in + "; ip route replace default via 169.254.9.9 dev " + in, "ip route replace default via 169.254.1.1 dev " + in, "", "169.254.9.9"},
		{6, "forward-hook-rules", "warning", "host0", "nft add table ip t; nft add chain ip t f '{ type filter hook forward priority 0 ; }'; nft add rule ip t f drop", "nft delete table ip t", "--bypass-policy", ""},
		{7, "arp-filter", "warning", "host0", "sysctl -qw net.ipv4.conf." + dev + ".arp_filter=1", "sysctl -qw net.ipv4.conf." + dev + ".arp_filter=0", "--proxy 10.65.0.0/16 --proxy 2001:db8:99::/64", ""},
		{8, "forwarding-off", "error", "host0", "true", "sysctl -qw net.ipv4.ip_forward=1", "--engine none", ""},
	}
	faults = append(faults, faults6(t, pod, other)...)
	slices.SortStableFunc(faults, func(a, b fault) int { return cmp.Compare(a.group, b.group) })
	for len(faults) > 0 {
		n := 1
		for n < len(faults) && faults[n].group == faults[0].group {
			n++
		}
		group := faults[:n]
		faults = faults[n:]
		args := strings.Fields(group[0].args)
		for _, c := range group {
			labtest.Run(t, l, c.node, "sh", "-ec", c.plant)
		}
		found := ask(args...)
		for _, c := range group {
			if !slices.ContainsFunc(found, c.is) {
				t.Errorf("%s: after %q: %+v", c.id, c.plant, found)
			}
			labtest.Run(t, l, c.node, "sh", "-ec", c.cure)
		}
		found = ask(args...)
		for _, c := range group {
			if slices.ContainsFunc(found, c.is) {
				t.Errorf("%s: after the cure %q: %+v", c.id, c.cure, found)
			}
		}
	}
	// A daemon that answers with another MAC than these flags say is foreign to them.
	found := ask("--mac", "02:00:00:00:00:99")
	if !slices.ContainsFunc(found, func(f finding) bool { return f.ID == "foreign-answer" && strings.Contains(f.Subject, in) }) {
		t.Errorf("another MAC: %+v", found)
	}
	d.Stop(t)
	found, _ = diagnosed(t, l, "--control", "/nowhere/s")
	if !slices.ContainsFunc(found, func(f finding) bool { return f.ID == "no-daemon" && f.Severity == "info" }) {
		t.Errorf("without a daemon: %+v", found)
	}
}

func uplinkOf(t *testing.T, l *lab.Lab) string {
	t.Helper()
	fields := strings.Fields(labtest.Run(t, l, "host0", "sh", "-c", "ip route | grep -v cali | head -1 | sed 's/.*dev //'"))
	return fields[0]
}

// TestDoctorBundle reads the archive for a bug report.
func TestDoctorBundle(t *testing.T) {
	t.Parallel()
	l := labtest.New(t, lab.Spec{Hosts: 1, Form: lab.FormCalico, PodsPerHost: 1})
	d := labtest.Daemon(t, l, "host0")
	file := filepath.Join(t.TempDir(), "report.tar.gz")
	diagnosed(t, l, "--control", d.Control, "--bundle", file)
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		texts[strings.TrimPrefix(h.Name, "proxyarpd-report/")] = string(text)
	}
	for name, want := range map[string]string{
		"findings.json": "[", "status.json": `"engine"`, "config.json": "cali*", "versions.txt": "Linux ", "links.txt": labtest.Pods(l, 0)[0].Iface, "routes.txt": labtest.IP(labtest.Pods(l, 0)[0]),
		"rules.txt": "32766", "neighbours.txt": "", "addresses.txt": "127.0.0.1", "sysctls.txt": "net.ipv4.conf.all.proxy_arp = 0",
	} {
		if text, ok := texts[name]; !ok || !strings.Contains(text, want) {
			t.Errorf("%s: no %q in %q", name, want, text)
		}
	}
	if _, errw, code := exec3(t, l, "host0", labtest.Binary(t), "doctor", "--bundle", "/nowhere/x"); code != 1 || !strings.Contains(errw, "/nowhere/x") {
		t.Errorf("exit %d, %s", code, errw)
	}
}
