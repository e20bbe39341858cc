package lab_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
)

// parts lists what there is of a lab in the file system.
func parts(t *testing.T, name string) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{"/run/netns/" + name + "-*", "/run/proxyarpd/lab-" + name + ".*"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, found...)
	}
	return all
}

// kernelForwards makes a lab's hosts do by the kernel what proxyarpd is for.
func kernelForwards(t *testing.T, l *lab.Lab) {
	t.Helper()
	for _, n := range l.Nodes() {
		if n.IsPod {
			continue
		}
		set := func(key, value string) {
			if err := l.SetSysctl(n.Name, key, value); err != nil {
				t.Fatal(err)
			}
		}
		set("net.ipv4.ip_forward", "1")
		set("net.ipv4.conf.all.proxy_arp", "1")
		set("net.ipv6.conf.all.forwarding", "1")
		// The kernel answers only for what it can route elsewhere.
		dev := "lo"
		for _, p := range l.Pods() {
			if p.Host == n.Host {
				set("net/ipv4/neigh/"+p.Iface+"/proxy_delay", "0")
				if p.MAC != "ee:ee:ee:ee:ee:ee" { // else the IPv6 gateway's address is the interface's own
					labtest.Run(t, l, n.Name, "ip", "addr", "add", "fe80::ecee:eeff:feee:eeee/64", "dev", p.Iface)
				}
			}
		}
		if l.Spec().Hosts == 2 {
			dev = "ens192"
		}
		labtest.Run(t, l, n.Name, "ip", "route", "add", "169.254.1.1", "dev", dev)
	}
}

func TestFormsAreWired(t *testing.T) {
	labtest.Need(t, "ip", "ping")
	for _, form := range lab.Forms() {
		t.Run(string(form), func(t *testing.T) {
			t.Parallel()
			l := labtest.New(t, lab.Spec{Form: form})
			kernelForwards(t, l)
			pods := l.Pods()
			from := pods[0]
			for _, to := range pods[1:] {
				out := labtest.Run(t, l, from.Node, "ping", "-c1", "-W5", to.Addr.Addr().String())
				ttl := "ttl=62"
				if to.Host == from.Host {
					ttl = "ttl=63"
				}
				if !strings.Contains(out, ttl) {
					t.Errorf("ping %s to %s: no %s in\n%s", from.Name, to.Name, ttl, out)
				}
				if !to.Addr6.IsValid() {
					t.Error("no IPv6")
					continue
				}
				if out := labtest.Run(t, l, from.Node, "ping", "-6", "-c1", "-W5", to.Addr6.Addr().String()); !strings.Contains(out, ttl) {
					t.Errorf("ping -6 %s to %s: no %s in\n%s", from.Name, to.Name, ttl, out)
				}
			}
		})
	}
}

func TestArticleFormIsTheArticles(t *testing.T) {
	labtest.Need(t, "ip")
	l := labtest.New(t, lab.Spec{})
	for _, c := range []struct{ node, routes string }{
		{"ns0", "default via 169.254.1.1 dev eth0\n10.20.1.0/24 dev eth0 proto kernel scope link src 10.20.1.2\n169.254.1.1 dev eth0 scope link\n"},
		{"ns1", "default via 169.254.1.1 dev eth0\n10.20.1.0/24 dev eth0 proto kernel scope link src 10.20.1.3\n169.254.1.1 dev eth0 scope link\n"},
		{"host0", "10.20.1.2 dev veth0 scope link\n10.20.1.3 via 192.168.1.16 dev ens192\n192.168.1.0/24 dev ens192 proto kernel scope link src 192.168.1.32\n"},
		{"host1", "10.20.1.2 via 192.168.1.32 dev ens192\n10.20.1.3 dev veth0 scope link\n192.168.1.0/24 dev ens192 proto kernel scope link src 192.168.1.16\n"},
	} {
		out := strings.ReplaceAll(labtest.Run(t, l, c.node, "ip", "route"), " \n", "\n")
		if out != c.routes {
			t.Errorf("%s# ip route\n%swant\n%s", c.node, out, c.routes)
		}
	}
	if a, b := l.Pods()[0].MAC, l.Pods()[1].MAC; a == b || strings.HasPrefix(a, "ee:ee") {
		t.Errorf("host ends have MACs %s and %s, not random ones", a, b)
	}
}

func TestNothingForwardsByItself(t *testing.T) {
	labtest.Need(t, "ping")
	l := labtest.New(t, lab.Spec{Form: lab.FormCalico})
	for _, n := range l.Nodes() {
		keys := []string{"ip_forward", "conf.all.proxy_arp", "conf.all.rp_filter", "conf.default.rp_filter"}
		for _, p := range l.Pods() {
			if p.Host == n.Host && !n.IsPod {
				keys = append(keys, "conf."+p.Iface+".forwarding", "conf."+p.Iface+".proxy_arp", "conf."+p.Iface+".rp_filter")
				if p.MAC != "ee:ee:ee:ee:ee:ee" || len(p.Iface) != len("cali")+11 {
					t.Errorf("%s has MAC %s", p.Iface, p.MAC)
				}
			}
		}
		for _, key := range keys {
			if value, err := l.Sysctl(n.Name, "net.ipv4."+key); err != nil || value != "0" {
				t.Errorf("%s: net.ipv4.%s = %q, %v", n.Name, key, value, err)
			}
		}
		for _, key := range []string{"forwarding", "proxy_ndp"} {
			if value, err := l.Sysctl(n.Name, "net.ipv6.conf.all."+key); err != nil || value != "0" {
				t.Errorf("%s: net.ipv6.conf.all.%s = %q, %v", n.Name, key, value, err)
			}
		}
	}
	for _, to := range []string{"10.65.0.3", "fd00:10:65::3"} {
		if out, err := labtest.Output(t, l, "pod0-0", "ping", "-c1", "-W1", to); err == nil {
			t.Errorf("a pod reaches another without proxyarpd:\n%s", out)
		}
	}
}

func TestSharedPods(t *testing.T) {
	labtest.Need(t, "ip", "ping")
	l := labtest.New(t, lab.Spec{Form: lab.FormCalico, PodsPerHost: 3, SharedPods: true})
	kernelForwards(t, l)
	labtest.Run(t, l, "pods0", "ping", "-c1", "-W5", "-I", "10.65.0.4", "10.65.1.3")
	if err := l.DelPod("pod0-2"); err != nil {
		t.Fatal(err)
	}
	p, err := l.AddPod(t.Context(), 0, lab.PodOptions{})
	if err != nil || p.Name != "pod0-2" {
		t.Fatalf("pod %+v, %v", p, err)
	}
	labtest.Run(t, l, "pods1", "ping", "-c1", "-W5", "-I", "10.65.1.2", p.Addr.Addr().String())
	labtest.Run(t, l, "pods1", "ping", "-6", "-c1", "-W5", "-I", "fd00:10:65:1::2", p.Addr6.Addr().String())
}

func TestPodsComeAndGo(t *testing.T) {
	labtest.Need(t, "ip", "ping")
	l := labtest.New(t, lab.Spec{Form: lab.FormSlash32, PodMTU: 1400, WireMTU: 1450})
	before := labtest.Run(t, l, "host0", "ip", "route") + labtest.Run(t, l, "host0", "ip", "-6", "route")
	pods, err := l.AddPods(t.Context(), 1, 3, lab.PodOptions{Down: true})
	if err != nil {
		t.Fatal(err)
	}
	if pods[0].Name != "ns3" || pods[0].Iface != "veth1" || !pods[0].HostDown {
		t.Errorf("the second pod of host1 is %+v", pods[0])
	}
	if err := l.Up(t.Context(), pods...); err != nil {
		t.Fatal(err)
	}
	kernelForwards(t, l)
	for _, p := range pods {
		labtest.Run(t, l, "ns0", "ping", "-c1", "-W5", p.Addr.Addr().String())
		if out := labtest.Run(t, l, p.Node, "ip", "link", "show", "dev", "eth0"); !strings.Contains(out, "mtu 1400") {
			t.Errorf("MTU of %s:\n%s", p.Name, out)
		}
	}
	for _, p := range pods {
		if err := l.DelPod(p.Name); err != nil {
			t.Error(err)
		}
	}
	labtest.Run(t, l, "host0", "ip", "route", "del", "169.254.1.1")
	if after := labtest.Run(t, l, "host0", "ip", "route") + labtest.Run(t, l, "host0", "ip", "-6", "route"); after != before {
		t.Errorf("routes of host0 after the pods went:\n%sbefore they came:\n%s", after, before)
	}
	if _, err := l.AddPod(t.Context(), 0, lab.PodOptions{Iface: "ens192"}); !errors.Is(err, syscall.EEXIST) {
		t.Errorf("a pod on ens192: %v", err)
	}
	if out := labtest.Run(t, l, "host0", "ip", "-br", "link", "show", "dev", "ens192"); !strings.Contains(out, "UP") {
		t.Errorf("ens192 after a pod could not have its name: %s", out)
	}
	if err := l.Do("ns2", func() error { return nil }); err == nil {
		t.Error("the pod that was not made is there")
	}
}

func TestCloseKillsOnlyItsProcesses(t *testing.T) {
	labtest.Need(t, "sh", "sleep", "ip")
	l := labtest.New(t, lab.Spec{})
	mine := l.Command(t.Context(), "host0", "sleep", "1000")
	orphaning := l.Command(t.Context(), "ns0", "sh", "-c", "sleep 1001 >/dev/null & echo $!")
	if err := mine.Start(); err != nil {
		t.Fatal(err)
	}
	out, err := orphaning.Output()
	if err != nil {
		t.Fatal(err)
	}
	again, err := lab.Open(l.Name())
	if err != nil {
		t.Fatal(err)
	}
	other := again.Command(t.Context(), "host0", "sleep", "1002")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		other.Process.Kill()
		other.Wait()
	})
	if procs, err := lab.Processes(l.Name()); err != nil || len(procs["host0"]) != 2 || len(procs["ns0"]) != 1 {
		t.Fatalf("processes %v, %v", procs, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if left := parts(t, l.Name()); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := mine.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("the process started in the lab ended with %v", err)
	}
	if state := processState(t, string(bytes.TrimSpace(out))); state != "" && state != "Z" {
		t.Errorf("the child it left is in state %s", state)
	}
	if err := other.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("a stranger's process in the namespace was killed: %v", err)
	}
	if err := l.Command(t.Context(), "host0", "true").Run(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a process in a closed lab: %v", err)
	}
}

// processState returns the state letter of a process, empty when there is none.
func processState(t *testing.T, pid string) string {
	t.Helper()
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return rest[:1]
}
